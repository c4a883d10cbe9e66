//! One deadline of one owner, with the reactor whose queue it stands in.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::{Reactor, warn_if_not_driven};

/// A deadline in a reactor's queue. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Alarm {
    reactor: Arc<Reactor>,
    key: usize,
    deadline: Instant,
}

impl Alarm {
    /// Sets an alarm in this thread's reactor. It goes off in the next turn that finds the deadline
    /// passed, never in this call.
    ///
    /// `None` if the thread is ending, or cannot have a reactor: then nothing would wake it.
    pub(crate) fn set(deadline: Instant, waker: &Waker) -> Option<Self> {
        // Foreign code, and therefore before the lock.
        let waker = waker.clone();
        let alarm = Reactor::with_current(|reactor| {
            warn_if_not_driven(reactor);
            let key = reactor.add_timer(deadline, waker);
            Alarm { reactor: Arc::clone(reactor), key, deadline }
        });
        alarm.ok()
    }

    /// Ready once it has gone off. Until then the waker is the one to wake, and the reactor of this
    /// thread the one to wake it.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let here = self.reactor.is_current();
        match self.reactor.timers().waker(self.key) {
            None => return Poll::Ready(()),
            Some(known) if here && known.will_wake(waker) => return Poll::Pending,
            Some(_) => {}
        }
        if here {
            self.replace_waker(waker.clone())
        } else {
            self.move_here(waker);
            Poll::Pending
        }
    }

    fn replace_waker(&mut self, waker: Waker) -> Poll<()> {
        let mut timers = self.reactor.timers();
        let Some(known) = timers.waker(self.key) else { return Poll::Ready(()) };
        let former = std::mem::replace(known, waker);
        drop(timers);
        drop(former);
        Poll::Pending
    }

    fn move_here(&mut self, waker: &Waker) {
        if let Some(moved) = Alarm::set(self.deadline, waker) {
            *self = moved;
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.reactor.poller.is_ours() {
            // A forked child: the lock may have been held at the fork, and would be for ever.
            return;
        }
        let waker = self.reactor.timers().remove(self.key);
        drop(waker);
    }
}
