//! A descriptor that stands in for a pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::hub::Hub;
use crate::sys::event_fd::EventFd;
use crate::sys::fork;
use crate::sys::lock::Lock;
use crate::sys::pid_fd::{self, Child, Pid};
use crate::sys::signal_action::{CHILD_SIGNAL, Caught};

/// Readable once a child has ended, told by SIGCHLD: for systems that give no pidfd.
///
/// The signal is heard where there is a [`Port`](super::Port).
#[derive(Debug)]
pub(crate) struct StandIn {
    event: Arc<EventFd>,
    hub: &'static Lock<Hub>,
    process: usize,
    _caught: Caught,
}

impl StandIn {
    /// Waits for a child on behalf of an event, which is signalled at once if the child has ended.
    ///
    /// Fails for what is no child of this process.
    #[inline]
    pub(crate) fn expect(pid: Pid, event: EventFd) -> io::Result<Self> {
        let stand_in = Self {
            event: Arc::new(event),
            hub: Hub::get(),
            process: fork::process_id(),
            _caught: Caught::new(CHILD_SIGNAL)?,
        };
        Hub::lock(stand_in.hub).add_child(pid, &stand_in.event);
        // It is being waited for by now: a child that ends after this look is told of by the
        // signal.
        match pid_fd::peek_exit(pid)? {
            Child::Running => {}
            Child::Exited => stand_in.event.signal()?,
            Child::Unknown => {
                pid_fd::probe(pid)?;
                let why = "without pidfds (Linux 5.3) only children of this process can be watched";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
        Ok(stand_in)
    }

    /// Reaps a child in a way that tells nobody; `None`, and nothing is done, if anybody waits by a
    /// stand-in, who would have to be [told](Self::tell).
    pub(crate) fn unless_expected<R>(reap: impl FnOnce() -> R) -> Option<R> {
        let hub = Hub::lock(Hub::get());
        // The lock is held meanwhile, so that nobody begins to wait for a number that is given free.
        (!hub.expects_children()).then(reap)
    }

    /// Tells all who wait for this child that it has ended. To be called before it is reaped:
    /// afterwards its number may be another's, and a look at it would see that one run.
    #[inline]
    pub(crate) fn tell(pid: Pid) {
        Hub::lock(Hub::get()).end_child(pid);
    }
}

impl AsFd for StandIn {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for StandIn {
    #[inline]
    fn drop(&mut self) {
        // A forked child's copy is not known there.
        if self.process == fork::process_id() {
            Hub::lock(self.hub).remove_child(&self.event);
        }
    }
}
