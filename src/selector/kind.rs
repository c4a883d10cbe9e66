//! What can be registered.

use super::Events;
use super::handle::Handle;
use super::ready_key::Report;
use crate::sys::epoll::mask;
use crate::sys::event_fd::EventFd;
use std::os::fd::RawFd;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// What is registered, and owned where the selector has made it. Small, for there may be many.
pub(super) enum Kind {
    Handle(Handle),
    /// By its trait, so that a program has in it only what it registers: under the runtime that is
    /// nothing but handles.
    Object(Box<dyn Object>),
}

/// A kernel object that stands for something other than itself: a timer, a signal, a process or an
/// event.
pub(super) trait Object: Send + Sync + UnwindSafe + RefUnwindSafe {
    fn fd(&self) -> RawFd;

    /// Reads what has happened. `None` says that there is nothing to tell, because somebody else
    /// was first.
    fn read(&self) -> Option<(Events, Report)>;

    /// The signal, if it is one.
    fn signal(&self) -> Option<i32> {
        None
    }

    /// What stands in for a pidfd, if it is a process without one.
    fn stand_in(&self) -> Option<&Arc<EventFd>> {
        None
    }
}

impl Kind {
    pub(super) fn fd(&self) -> RawFd {
        match self {
            Self::Handle(handle) => handle.fd,
            Self::Object(object) => object.fd(),
        }
    }

    pub(super) fn epoll_mask(&self) -> u32 {
        match self {
            Self::Handle(handle) => handle.epoll_mask(),
            Self::Object(_) => mask::IN,
        }
    }

    /// Whether an event of it, left in the set by a descriptor that was closed too early, would
    /// come at every wait.
    pub(super) fn is_level_triggered(&self) -> bool {
        match self {
            Self::Handle(handle) => handle.is_level_triggered(),
            Self::Object(_) => true,
        }
    }

    /// Reads the kernel object behind an event; see [`Object::read`]. A handle is its owner's to
    /// read.
    pub(super) fn read(&self) -> Option<(Events, Report)> {
        match self {
            Self::Handle(_) => None,
            Self::Object(object) => object.read(),
        }
    }
}
