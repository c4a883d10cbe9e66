//! What can be registered.

use super::Events;
use super::handle::Handle;
use super::process::Process;
use super::ready_key::{Report, outcome};
use super::select_event::SelectEvent;
use super::signal::Signal;
use super::timer::Timer;
use crate::sys::epoll::mask;
use std::os::fd::{AsRawFd, RawFd};

/// What is registered, and owned where the selector has made it. Small, for there may be many.
pub(super) enum Kind {
    Handle(Handle),
    Timer(Timer),
    Signal(Box<Signal>),
    Process(Process),
    Event(SelectEvent),
}

impl Kind {
    pub(super) fn fd(&self) -> RawFd {
        match self {
            Self::Handle(handle) => handle.fd,
            Self::Timer(timer) => timer.fd(),
            Self::Signal(signal) => signal.fd(),
            Self::Process(process) => process.fd(),
            Self::Event(event) => event.as_raw_fd(),
        }
    }

    pub(super) fn epoll_mask(&self) -> u32 {
        match self {
            Self::Handle(handle) => handle.epoll_mask(),
            _ => mask::IN,
        }
    }

    /// Whether an event of it, left in the set by a descriptor that was closed too early, would
    /// come at every wait.
    pub(super) fn is_level_triggered(&self) -> bool {
        match self {
            Self::Handle(handle) => handle.is_level_triggered(),
            _ => true,
        }
    }

    /// Reads the kernel object behind an event. `None` says that there is nothing to tell, because
    /// somebody else was first; a handle is its owner's to read.
    pub(super) fn read(&self) -> Option<(Events, Report)> {
        match self {
            Self::Handle(_) => None,
            Self::Timer(timer) => timer.read(),
            Self::Signal(signal) => signal.read(),
            Self::Process(process) => Some(process.report()),
            Self::Event(event) => {
                let count = event.take().map(|count| count.map(Report::Count));
                outcome(Events::USER, count)
            }
        }
    }
}
