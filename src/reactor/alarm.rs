//! One deadline of one owner, and the queue it stands in.

use std::num::NonZeroU64;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::queue::{self, withdraw};
use super::{Reactor, warn_if_not_driven};

/// A deadline in a thread's queue. Dropping it takes it out.
///
/// Packed, it leaves its owner room for something small.
#[derive(Debug)]
#[repr(Rust, packed(4))]
pub(crate) struct Alarm {
    queue: NonZeroU64,
    key: u32,
}

impl Alarm {
    /// Sets an alarm in this thread's queue. It goes off in the next turn that finds the deadline
    /// passed, never in this call.
    ///
    /// `None` if the thread is ending, or cannot have a reactor: then nothing would wake it.
    #[inline]
    pub(crate) fn set(deadline: Instant, waker: &Waker) -> Option<Self> {
        if cfg!(debug_assertions) {
            _ = Reactor::with_current(|reactor| warn_if_not_driven(reactor));
        }
        if queue::is_any_withdrawn() {
            // The thread may never take a turn, and would keep them for ever.
            queue::let_withdrawn_go();
        }
        // Foreign code, and therefore before the queue is borrowed.
        let waker = waker.clone();
        let waker = match Self::enqueue(deadline, waker) {
            Ok(alarm) => return Some(alarm),
            Err(waker) => waker,
        };
        Self::set_first(deadline, waker)
    }

    /// Gives the waker back if the thread has no queue.
    #[inline]
    fn enqueue(deadline: Instant, waker: Waker) -> Result<Self, Waker> {
        queue::with(|queue| match queue.number {
            Some(number) => Ok(Alarm { queue: number, key: queue.timers.insert(deadline, waker) }),
            None => Err(waker),
        })
    }

    /// Makes the thread's reactor, and its queue with it.
    #[cold]
    fn set_first(deadline: Instant, waker: Waker) -> Option<Self> {
        Reactor::with_current(|_| {}).ok()?;
        Self::enqueue(deadline, waker).ok()
    }

    /// Ready once it has gone off. Until then the waker is the one to wake, and this thread's queue
    /// the one to stand in, with the deadline it was set to.
    #[inline]
    pub(crate) fn poll(&mut self, deadline: Instant, waker: &Waker) -> Poll<()> {
        enum Known {
            Due,
            Same,
            Other,
            Elsewhere,
        }
        let known = queue::with(|queue| {
            if queue.number != Some(self.queue) {
                return Known::Elsewhere;
            }
            match queue.timers.waker(self.key) {
                None => Known::Due,
                Some(known) if known.will_wake(waker) => Known::Same,
                Some(_) => Known::Other,
            }
        });
        match known {
            Known::Due => Poll::Ready(()),
            Known::Same => Poll::Pending,
            Known::Other => self.replace_waker(deadline, waker.clone()),
            Known::Elsewhere => self.move_here(deadline, waker),
        }
    }

    /// Cloning the waker may have let a turn pass, or be where a forked child got a queue of its own.
    fn replace_waker(&mut self, deadline: Instant, waker: Waker) -> Poll<()> {
        let former = queue::with(|queue| {
            if queue.number != Some(self.queue) {
                return Err(waker);
            }
            match queue.timers.waker(self.key) {
                Some(known) => Ok(std::mem::replace(known, waker)),
                None => Err(waker),
            }
        });
        match former {
            Ok(_) => Poll::Pending,
            Err(waker) => self.move_here(deadline, &waker),
        }
    }

    /// Whether it has gone off on the thread where it stands is not asked: if the deadline has
    /// passed, it has or is about to.
    #[cold]
    fn move_here(&mut self, deadline: Instant, waker: &Waker) -> Poll<()> {
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        if let Some(moved) = Alarm::set(deadline, waker) {
            *self = moved;
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    #[inline]
    fn drop(&mut self) {
        let waker = queue::with(|queue| {
            (queue.number == Some(self.queue)).then(|| queue.timers.remove(self.key))
        });
        match waker {
            Some(waker) => drop(waker),
            None => withdraw(self.queue, self.key),
        }
    }
}
