//! Children: started like std's, awaited like everything else.
//!
//! A [`Command`] starts a [`Child`], whose end, pipes and resource usage can be awaited, and whose
//! process group can share its fate. No thread is needed for it, no signal mask is changed, and
//! children that others have started are left to them. [`exited`] waits for any process, and
//! [`reap_orphans`] is for programs that are process 1.

mod child;
mod command;
mod dropped;
mod exit_fd;
mod orphans;
mod running;
mod started;
mod usage;

use std::future::Future;
use std::io;

pub use child::{Child, Pipe};
pub use command::Command;
use exit_fd::{ExitFd, Spare, heard};
pub use orphans::reap_orphans;
pub use usage::Usage;

use crate::io::Async;
use crate::sys::pid_fd::Pid;

/// Waits until a process has ended: a child or any other. Nothing is reaped.
///
/// The process is looked up by the call: what is awaited is the one that has this id then, even if
/// another one gets the id later. A child that has ended, but was not reaped, ends the wait at once.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no process id: zero, more than an
/// `i32`, or a thread that leads no process. `ESRCH` if there is no such process.
/// [`Unsupported`](io::ErrorKind::Unsupported) where there are no pidfds (before Linux 5.3, or in
/// some sandboxes) and it is not a child of this process. Else those of pidfd_open(2) and
/// [`Async::readable`].
///
/// # Cancel safety
///
/// Cancel-safe: nothing is taken from the process.
///
/// # Examples
///
/// ```
/// use selio::process::{Command, exited};
///
/// # fn main() -> std::io::Result<()> {
/// let mut child = Command::new("true").spawn()?;
/// selio::block_on(exited(child.id()))?;
/// assert!(child.try_status()?.is_some());
/// # Ok(())
/// # }
/// ```
#[inline]
pub fn exited(pid: u32) -> impl Future<Output = io::Result<()>> + use<> {
    let watch = watch(pid);
    async move {
        let watch = watch?;
        heard(&watch, watch.readable()).await
    }
}

#[inline]
fn watch(pid: u32) -> io::Result<Async<ExitFd>> {
    ExitFd::open(Pid::new(pid)?, Spare::keep()?).map(ExitFd::watch)
}
