//! Who wants to hear of which signal, and what has come for each.
//!
//! There is one hub per process. A signal comes to it in one of two ways: from the pipe that our
//! handler writes, or from a signalfd, where every thread blocks it; the kernel gives each delivery
//! to one of them, once. Whichever thread reads it puts it into the inbox of every subscriber, on
//! whatever thread that one waits.
//!
//! The lock is held while reading, so that every subscriber is told in the order of the pipe. No
//! foreign code runs under it: wakers are handed to the caller, to be woken or dropped.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::iter;
use std::mem;
use std::sync::{Arc, Weak};
use std::task::Waker;

use slab::Slab;

use crate::selector::SignalInfo;
use crate::sys::event_fd::EventFd;
use crate::sys::fork::PerProcess;
use crate::sys::lock::{Guard, Lock};
use crate::sys::pid_fd::{self, Child, Pid};
use crate::sys::signal_action::{CHILD_SIGNAL, Caught, forward_child_notice};
use crate::sys::signal_fd::SignalFd;
use crate::sys::signal_pipe::SignalPipe;
use crate::sys::signal_record::SignalRecord;

/// How many deliveries an inbox holds one by one.
const MOST_WAITING: usize = 8192;

static HUB: PerProcess<Lock<Hub>> = PerProcess::new();

#[derive(Debug, Default)]
pub(super) struct Hub {
    inboxes: Slab<Inbox>,
    /// All that the inboxes want, which is what the signalfds read.
    wanted: SignalSet,
    /// What the handler writes, once it was read.
    pipe: Option<&'static SignalPipe>,
    /// One of each thread that waits for signals.
    signal_fds: Vec<Weak<SignalFd>>,
    /// Children that have no pidfd, and what to signal when they have ended.
    children: Vec<(Pid, Arc<EventFd>)>,
}

/// What one subscriber has not taken yet.
#[derive(Debug, Default)]
struct Inbox {
    wanted: SignalSet,
    waiting: VecDeque<SignalInfo>,
    /// Signals that came when there was no room.
    merged: SignalSet,
    waker: Option<Waker>,
}

/// Signals by their numbers, which are below 128 everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SignalSet(u128);

impl SignalSet {
    #[inline]
    fn of(signal: i32) -> Self {
        Self(u32::try_from(signal).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0))
    }

    #[inline]
    fn contains(self, signal: i32) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    #[inline]
    fn add(&mut self, signal: i32) {
        self.0 |= Self::of(signal).0;
    }

    #[inline]
    fn remove(&mut self, signal: i32) {
        self.0 &= !Self::of(signal).0;
    }

    /// The lowest one.
    #[inline]
    fn first(self) -> Option<i32> {
        (self != Self::default()).then(|| self.0.trailing_zeros() as i32)
    }

    #[inline]
    fn iter(self) -> impl Iterator<Item = i32> {
        let mut left = self;
        iter::from_fn(move || left.first().inspect(|&signal| left.remove(signal)))
    }
}

impl Hub {
    /// Returns the hub of this process, made at the first call.
    #[inline]
    pub(super) fn get() -> &'static Lock<Self> {
        let Ok(hub) = HUB.get_or_make(|| Ok::<_, Infallible>(Lock::default()));
        hub
    }

    #[inline]
    pub(super) fn lock(hub: &Lock<Self>) -> Guard<'_, Self> {
        hub.lock()
    }

    #[inline]
    pub(super) fn open_inbox(&mut self) -> usize {
        self.inboxes.insert(Inbox::default())
    }

    /// Closes an inbox, and gives up who waits for it.
    #[inline]
    pub(super) fn close_inbox(&mut self, inbox: usize) -> Option<Waker> {
        let inbox = self.inboxes.try_remove(inbox);
        self.update_wanted();
        inbox.and_then(|inbox| inbox.waker)
    }

    #[inline]
    pub(super) fn wants(&self, inbox: usize, signal: i32) -> bool {
        self.inboxes[inbox].wanted.contains(signal)
    }

    /// Catches a signal for an inbox. What was caught before goes to those who wanted it then, and
    /// whose wakers are given up.
    #[inline]
    pub(super) fn want(
        &mut self,
        inbox: usize,
        signal: i32,
        woken: &mut Vec<Waker>,
    ) -> io::Result<Caught> {
        self.read_pipe(woken)?;
        let caught = Caught::new(signal)?;
        self.inboxes[inbox].wanted.add(signal);
        self.update_wanted();
        Ok(caught)
    }

    /// Takes a signal out of an inbox, with what has come of it.
    #[inline]
    pub(super) fn refuse(&mut self, inbox: usize, signal: i32) {
        let inbox = &mut self.inboxes[inbox];
        inbox.wanted.remove(signal);
        inbox.merged.remove(signal);
        inbox.waiting.retain(|info| info.signo() != signal);
        self.update_wanted();
    }

    /// Takes what came first.
    #[inline]
    pub(super) fn take(&mut self, inbox: usize) -> Option<SignalInfo> {
        let inbox = &mut self.inboxes[inbox];
        inbox.waiting.pop_front().or_else(|| {
            let signal = inbox.merged.first()?;
            inbox.merged.remove(signal);
            Some(SignalInfo::new(SignalRecord::of(signal)))
        })
    }

    /// Takes what came first, also of what the handler has caught and nobody has handed out yet.
    #[inline]
    pub(super) fn take_unread(
        &mut self,
        inbox: usize,
        woken: &mut Vec<Waker>,
    ) -> io::Result<Option<SignalInfo>> {
        let taken = self.take(inbox);
        if taken.is_some() {
            return Ok(taken);
        }
        self.read_unread(woken)?;
        Ok(self.take(inbox))
    }

    /// Leaves a waker for an inbox, or none, and gives up the one that was left before.
    #[inline]
    pub(super) fn replace_waker(&mut self, inbox: usize, waker: Option<Waker>) -> Option<Waker> {
        mem::replace(&mut self.inboxes[inbox].waker, waker)
    }

    /// Makes a signalfd that reads what is blocked of all that anybody wants, now and later.
    #[inline]
    pub(super) fn open_signal_fd(&mut self) -> io::Result<Arc<SignalFd>> {
        let signal_fd = Arc::new(SignalFd::new(self.wanted.iter())?);
        self.signal_fds.retain(|it| it.strong_count() > 0);
        self.signal_fds.push(Arc::downgrade(&signal_fd));
        Ok(signal_fd)
    }

    #[inline]
    fn update_wanted(&mut self) {
        let mut wanted = SignalSet::default();
        for (_, inbox) in &self.inboxes {
            wanted.0 |= inbox.wanted.0;
        }
        if !self.children.is_empty() {
            wanted.add(CHILD_SIGNAL);
        }
        if wanted == self.wanted {
            return;
        }
        self.wanted = wanted;
        for signal_fd in self.signal_fds.iter().filter_map(Weak::upgrade) {
            // It fails only if the number was closed or replaced, which the next read will tell.
            _ = signal_fd.set(wanted.iter());
        }
    }

    /// Hands out whatever the handler has caught, and gives the wakers of those who got something.
    #[inline]
    pub(super) fn read_pipe(&mut self, woken: &mut Vec<Waker>) -> io::Result<()> {
        let pipe = match self.pipe {
            Some(pipe) => pipe,
            None => *self.pipe.insert(SignalPipe::get()?),
        };
        let mut children_changed = false;
        let read = pipe.drain(|record| {
            children_changed |= record.signo == CHILD_SIGNAL;
            hand_out(&mut self.inboxes, record, woken);
        });
        if children_changed {
            self.look_at_children();
        }
        read
    }

    /// Hands out what the handler says that it has caught, if it does.
    #[inline]
    pub(super) fn read_unread(&mut self, woken: &mut Vec<Waker>) -> io::Result<()> {
        if self.pipe.is_some_and(SignalPipe::is_unread) { self.read_pipe(woken) } else { Ok(()) }
    }

    /// Hands out whatever is pending because it is blocked.
    #[inline]
    pub(super) fn read_blocked(
        &mut self,
        signals: &SignalFd,
        woken: &mut Vec<Waker>,
    ) -> io::Result<()> {
        while let Some(record) = signals.read()? {
            hand_out(&mut self.inboxes, record, woken);
            if record.signo == CHILD_SIGNAL {
                forward_child_notice();
                self.look_at_children();
            }
        }
        Ok(())
    }

    /// Gives up the wakers of all who wait.
    #[inline]
    pub(super) fn all_wakers(&mut self) -> Vec<Waker> {
        self.inboxes.iter_mut().filter_map(|(_, inbox)| inbox.waker.take()).collect()
    }

    #[inline]
    pub(super) fn add_child(&mut self, pid: Pid, event: &Arc<EventFd>) {
        self.children.push((pid, Arc::clone(event)));
        self.update_wanted();
    }

    #[inline]
    pub(super) fn expects_children(&self) -> bool {
        !self.children.is_empty()
    }

    #[inline]
    pub(super) fn remove_child(&mut self, event: &Arc<EventFd>) {
        self.children.retain(|(_, known)| !Arc::ptr_eq(known, event));
        self.update_wanted();
    }

    /// Signals all who wait for this child, which has ended and is not reaped yet.
    #[inline]
    pub(super) fn end_child(&mut self, pid: Pid) {
        self.children.retain(|(known, event)| {
            let running = *known != pid;
            if !running {
                // As in `look_at_children`.
                _ = event.signal();
            }
            running
        });
    }

    /// SIGCHLD merges: fifty exits may be one signal. So every child is looked at. One that
    /// waitid(2) does not know any more was reaped by somebody.
    #[inline]
    fn look_at_children(&mut self) {
        self.children.retain(|(pid, event)| {
            let running = matches!(pid_fd::peek_exit(*pid), Ok(Child::Running) | Err(_));
            if !running {
                // It fails only if the number was closed or replaced, and then nobody can be told.
                _ = event.signal();
            }
            running
        });
    }
}

/// Puts a delivery into every inbox that wants it.
#[inline]
fn hand_out(inboxes: &mut Slab<Inbox>, record: SignalRecord, woken: &mut Vec<Waker>) {
    for (_, inbox) in inboxes {
        if !inbox.wanted.contains(record.signo) {
            continue;
        }
        if inbox.waiting.len() < MOST_WAITING {
            inbox.waiting.push_back(SignalInfo::new(record));
        } else {
            inbox.merged.add(record.signo);
        }
        woken.extend(inbox.waker.take());
    }
}
