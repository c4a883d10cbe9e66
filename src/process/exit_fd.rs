//! The descriptor that becomes readable when a process has ended.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;

use crate::io::Async;
use crate::reactor::{self, Source};
use crate::signal::{Port, StandIn};
use crate::sys::event_fd::EventFd;
use crate::sys::pid_fd::{Child, Pid, PidFd, peek_exit};

/// A pidfd, or what stands in for it. It is never read.
#[derive(Debug)]
pub(super) enum ExitFd {
    PidFd(PidFd),
    StandIn(StandIn),
    /// For a child that somebody else has reaped before it could be watched: readable at once.
    Gone(EventFd),
}

/// A place among the descriptors, kept for one that is to be opened later.
#[derive(Debug)]
pub(super) enum Spare {
    /// Of no use but to be given up.
    Place(OwnedFd),
    /// Can stand in for a pidfd itself.
    Event(EventFd),
}

impl Spare {
    /// Fails without room for a descriptor. A duplicate costs a fraction of what it costs to make
    /// and to close an eventfd, which most often would be for nothing.
    #[inline]
    pub(super) fn keep() -> io::Result<Self> {
        match reactor::duplicate_here() {
            Some(place) => Ok(Self::Place(place)),
            None => EventFd::new().map(Self::Event),
        }
    }

    #[inline]
    fn into_event(self) -> io::Result<EventFd> {
        match self {
            Self::Place(place) => {
                drop(place);
                EventFd::new()
            }
            Self::Event(event) => Ok(event),
        }
    }
}

impl ExitFd {
    /// Opens the descriptor of a process. `spare` keeps a place for it, and stands in for a pidfd
    /// where the system gives none.
    #[inline]
    pub(super) fn open(pid: Pid, spare: Spare) -> io::Result<Self> {
        let (mut opened, mut spare) = (PidFd::open(pid), Some(spare));
        if opened.as_ref().is_err_and(PidFd::is_lack_of_room) {
            // The spare has the last place.
            spare = None;
            opened = PidFd::open(pid);
        }
        match opened {
            Ok(Some(pid_fd)) => Ok(Self::PidFd(pid_fd)),
            Err(error) if !PidFd::is_lack_of_room(&error) => Err(error),
            Ok(None) | Err(_) => {
                let event = spare.map_or_else(EventFd::new, Spare::into_event)?;
                StandIn::expect(pid, event).map(Self::StandIn)
            }
        }
    }

    /// As [`open`](Self::open), for a child that was started a moment ago, and that somebody else
    /// may have reaped meanwhile: the kernel, if SIGCHLD is ignored.
    #[inline]
    pub(super) fn of_child(pid: Pid, spare: Spare) -> io::Result<Self> {
        match Self::open(pid, spare) {
            Err(_) if matches!(peek_exit(pid), Ok(Child::Unknown)) => {
                let event = EventFd::new()?;
                event.signal()?;
                Ok(Self::Gone(event))
            }
            opened => opened,
        }
    }

    /// Looks whether a child has ended, and takes nothing.
    #[inline]
    pub(super) fn peek(&self, pid: Pid) -> io::Result<Child> {
        match self {
            Self::PidFd(pid_fd) => pid_fd.peek_exit(pid),
            Self::StandIn(_) => peek_exit(pid),
            // The number may be anybody's.
            Self::Gone(_) => Ok(Child::Unknown),
        }
    }

    #[inline]
    pub(super) fn watch(self) -> Async<Self> {
        // Whether it blocks does not matter to what is never read.
        Async::from_source(Source::new(&self), self)
    }

    /// What is to be held on a thread so that it hears of the exit.
    #[inline]
    pub(super) fn port_here(&self) -> io::Result<Option<Arc<Port>>> {
        match self {
            Self::PidFd(_) | Self::Gone(_) => Ok(None),
            Self::StandIn(_) => Port::here().map(Some),
        }
    }
}

/// Awaits a future that waits for this descriptor, wherever it is polled.
pub(super) async fn heard<R>(
    watch: &Async<ExitFd>,
    future: impl Future<Output = io::Result<R>>,
) -> io::Result<R> {
    let mut future = pin!(future);
    let mut port = None;
    poll_fn(move |cx| {
        let former = std::mem::replace(&mut port, watch.get_ref().port_here()?);
        drop(former);
        future.as_mut().poll(cx)
    })
    .await
}

impl AsFd for ExitFd {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::PidFd(pid_fd) => pid_fd.as_fd(),
            Self::StandIn(stand_in) => stand_in.as_fd(),
            Self::Gone(event) => event.as_fd(),
        }
    }
}
