//! Children that others have left to us: process 1 and subreapers inherit them (prctl(2),
//! `PR_SET_CHILD_SUBREAPER`).

use std::convert::Infallible;
use std::fs;
use std::io;
use std::time::Duration;

use super::started::{self, Stranger, reap_stranger};
use crate::future::yield_now;
use crate::signal::{SIGCHLD, Signals};
use crate::sys::pid_fd::{Child, Pid, peek_exit};
use crate::time::sleep;

/// About as long as it takes to start a program.
const A_START: Duration = Duration::from_millis(2);

/// Reaps whatever children have ended that nobody else will wait for, until it is dropped: for
/// process 1 and for subreapers (prctl(2)), to whom the orphans of others are given.
///
/// When SIGCHLD comes it looks at all children of the process. One that has ended is reaped by its
/// pid, unless it was started by a [`Command`](super::Command) of this crate, or `claim` says true
/// for its pid: then it is somebody's who will wait for it himself, for instance through
/// `std::process`. `claim` is asked at every look, so it must not block, and it must know a child
/// before that can have ended.
///
/// # Errors
///
/// It ends with an error only. [`Unsupported`](io::ErrorKind::Unsupported) if there is no
/// `/proc/self/task/*/children` (`CONFIG_PROC_CHILDREN`, Linux 3.5, proc(5)), and those of
/// [`Signals`].
///
/// # Cancel safety
///
/// Cancel-safe: the next call begins with a look at all children.
///
/// # Examples
///
/// ```
/// use selio::process::{Command, reap_orphans};
///
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let reaper = selio::spawn(reap_orphans(|_pid| false));
///     let status = Command::new("sh").args(["-c", "exit 3"]).status().await?;
///     assert_eq!(status.code(), Some(3));
///     reaper.abort();
///     Ok(())
/// })
/// # }
/// ```
pub async fn reap_orphans(mut claim: impl FnMut(u32) -> bool) -> io::Result<Infallible> {
    let mut signals = Signals::new([SIGCHLD])?;
    loop {
        match reap_once(&mut claim)? {
            // What ends during a look can hide others from it (proc(5)): look until there is
            // nothing left to do.
            Stranger::Reaped => {}
            Stranger::Unclear => sleep(A_START).await,
            Stranger::Left => {
                // A claim may start children itself, whose signals are there when it returns: the
                // others have their turn all the same.
                yield_now().await;
                _ = signals.next().await.transpose()?;
            }
        }
    }
}

/// Looks at all children once, and returns the most that became of any.
fn reap_once(claim: &mut impl FnMut(u32) -> bool) -> io::Result<Stranger> {
    let mut most = Stranger::Left;
    for number in children()? {
        let pid = Pid::new(number)?;
        let ended = matches!(peek_exit(pid), Ok(Child::Exited));
        // The claim is foreign code, and is asked before a lock is taken.
        if ended && !started::contains(pid) && !claim(number) {
            most = most.max(reap_stranger(pid));
        }
    }
    Ok(most)
}

/// The children of all threads of this process.
#[inline]
fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => {
                let pids = list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
                children.extend(pids);
            }
            // The thread has ended since, or the kernel tells of no children at all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => look_for_own()?,
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

#[inline]
fn look_for_own() -> io::Result<()> {
    fs::metadata("/proc/thread-self/children").map(drop).map_err(|_| {
        let why = "this kernel does not list children in /proc (CONFIG_PROC_CHILDREN)";
        io::Error::new(io::ErrorKind::Unsupported, why)
    })
}
