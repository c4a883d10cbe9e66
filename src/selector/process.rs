//! Processes that end: through a pidfd, or through SIGCHLD where the system gives none.

use super::Events;
use super::kind::Object;
use super::ready_key::Report;
use super::token::Token;
use crate::sys::epoll::{Epoll, mask};
use crate::sys::event_fd::EventFd;
use crate::sys::pid_fd::{self, Child, Pid, PidFd};
use crate::sys::signal_action::{CHILD_SIGNAL, ChildNotice, forward, forward_child_notice};
use crate::sys::signal_fd::SignalFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// The name under which epoll reports that children may have ended.
pub(super) const CHILD_NOTICE: Token = Token::reserved(1);
/// The name under which epoll reports a SIGCHLD that every thread blocks.
pub(super) const BLOCKED_CHILD_SIGNAL: Token = Token::reserved(2);

/// The descriptor that becomes readable when a process has ended.
#[derive(Debug)]
pub(super) enum Process {
    PidFd(PidFd),
    /// Stands in for a pidfd, and is written when SIGCHLD and waitid(2) have told of the exit.
    StandIn(Arc<EventFd>),
}

impl Object for Process {
    #[inline]
    fn fd(&self) -> RawFd {
        match self {
            Self::PidFd(fd) => fd.as_fd().as_raw_fd(),
            Self::StandIn(event) => event.as_fd().as_raw_fd(),
        }
    }

    /// There is nothing to read: the descriptor stays readable for ever, so the selector takes it
    /// out of epoll.
    #[inline]
    fn read(&self) -> Option<(Events, Report)> {
        Some((Events::PROCESS | Events::ONESHOT | Events::FINISHED, Report::Nothing))
    }

    #[inline]
    fn stand_in(&self) -> Option<&Arc<EventFd>> {
        match self {
            Self::PidFd(_) => None,
            Self::StandIn(event) => Some(event),
        }
    }
}

/// The children of one selector that have no pidfd, and what tells of their end while there are
/// any.
///
/// SIGCHLD merges: fifty exits may be one signal. So it only says when to look, and every child is
/// looked at.
#[derive(Debug, Default)]
pub(super) struct Children {
    watch: Option<ChildWatch>,
    /// Each child that is still running, and its stand-in.
    running: Vec<(Pid, Arc<EventFd>)>,
}

/// [`Children`] to a selector, which has some only once a child without a pidfd is registered: by this
/// trait, so that other programs need not have the code.
pub(super) trait ChildExits: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Waits for a child on behalf of its stand-in, which is triggered at once if the child has
    /// ended already.
    fn expect(&mut self, epoll: &Epoll, pid: Pid, stand_in: &Arc<EventFd>) -> io::Result<()>;

    /// Forgets the child of a stand-in that is being unregistered.
    fn forget(&mut self, epoll: &Epoll, stand_in: &Arc<EventFd>);

    /// Triggers the stand-in of every child that has ended. One that waitid(2) does not know any
    /// more was reaped by somebody.
    fn check(&mut self, epoll: &Epoll);

    /// Takes the SIGCHLDs that are pending because every thread blocks them; while one is pending a
    /// second makes no edge. Whoever wants to read them is given them. Stops at any error, because
    /// the number may be another file's by now.
    fn drain_signals(&self);

    /// Tells all selectors that children may have ended.
    fn tell_others(&self);

    /// Adds what is watched to another epoll set.
    fn join(&self, epoll: &Epoll) -> io::Result<()>;
}

impl ChildExits for Children {
    #[inline]
    fn expect(&mut self, epoll: &Epoll, pid: Pid, stand_in: &Arc<EventFd>) -> io::Result<()> {
        if self.watch.is_none() {
            self.watch = Some(ChildWatch::start(epoll)?);
        }
        // The watch stands by now: a child that ends after this look is told of by the signal.
        let seen = look(pid).and_then(|child| match child {
            Child::Running => {
                self.running.push((pid, Arc::clone(stand_in)));
                Ok(())
            }
            Child::Exited => stand_in.signal(),
            Child::Unknown => Err(not_a_child()),
        });
        self.stop_if_idle(epoll);
        seen
    }

    #[inline]
    fn forget(&mut self, epoll: &Epoll, stand_in: &Arc<EventFd>) {
        self.running.retain(|(_, known)| !Arc::ptr_eq(known, stand_in));
        self.stop_if_idle(epoll);
    }

    #[inline]
    fn check(&mut self, epoll: &Epoll) {
        self.running.retain(|(pid, stand_in)| {
            let running = matches!(pid_fd::peek_exit(*pid), Ok(Child::Running) | Err(_));
            if !running {
                // It fails only if the number was closed or replaced, and then nobody can be told.
                _ = stand_in.signal();
            }
            running
        });
        self.stop_if_idle(epoll);
    }

    #[inline]
    fn drain_signals(&self) {
        if let Some(watch) = &self.watch {
            while let Ok(Some(record)) = watch.signals.read() {
                forward(&record);
            }
        }
    }

    #[inline]
    fn tell_others(&self) {
        forward_child_notice();
    }

    #[inline]
    fn join(&self, epoll: &Epoll) -> io::Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.join(epoll))
    }
}

impl Children {
    #[inline]
    fn stop_if_idle(&mut self, epoll: &Epoll) {
        if self.running.is_empty() {
            if let Some(watch) = self.watch.take() {
                watch.leave(epoll);
            }
        }
    }
}

/// Looks at a process that is to be watched; nobody at all is an error.
#[inline]
fn look(pid: Pid) -> io::Result<Child> {
    let child = pid_fd::peek_exit(pid)?;
    if child == Child::Unknown {
        pid_fd::probe(pid)?;
    }
    Ok(child)
}

#[inline]
fn not_a_child() -> io::Error {
    let why = "without pidfds (Linux 5.3) only children of this process can be watched";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// The two ways in which a SIGCHLD shows: a handler runs in a thread that does not block it, and
/// where every thread does, a signalfd reads it. Nothing is blocked for this, and both are
/// edge-triggered: other selectors watch the same.
#[derive(Debug)]
struct ChildWatch {
    notice: ChildNotice,
    signals: SignalFd,
}

impl ChildWatch {
    #[inline]
    fn start(epoll: &Epoll) -> io::Result<Self> {
        let watch =
            Self { notice: ChildNotice::acquire()?, signals: SignalFd::new([CHILD_SIGNAL])? };
        watch.join(epoll)?;
        Ok(watch)
    }

    #[inline]
    fn join(&self, epoll: &Epoll) -> io::Result<()> {
        let (notice, signals) = (self.notice.as_fd().as_raw_fd(), self.signals.as_fd().as_raw_fd());
        epoll.add(notice, mask::IN | mask::ET, CHILD_NOTICE.to_data())?;
        let added = epoll.add(signals, mask::IN | mask::ET, BLOCKED_CHILD_SIGNAL.to_data());
        if added.is_err() {
            _ = epoll.delete(notice);
        }
        added
    }

    /// Leaves the set; the notice outlives this value, so closing does not do it. Silent: without
    /// children nobody is waiting.
    #[inline]
    fn leave(&self, epoll: &Epoll) {
        if epoll.is_ours() {
            _ = epoll.delete(self.notice.as_fd().as_raw_fd());
            _ = epoll.delete(self.signals.as_fd().as_raw_fd());
        }
    }
}
