//! Events that the program triggers itself: from another thread, from a task, from a signal
//! handler.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use crate::io::Async;
use crate::io::operation::Attempt;
use crate::reactor::{self, Direction};
use crate::sys::event_fd::EventFd;
use crate::sys::fork;

/// Waits for triggers, and counts them: a stream of how often it was triggered since the last item.
///
/// Triggers are merged, never lost: however many come while nobody looks, they are one item with
/// their count. While nobody waits they are counted in memory; who waits is woken by an eventfd(2),
/// which a forked child shares with its parent. The stream never ends of itself, not even when all
/// [`Trigger`]s are dropped, for the event can always make another.
///
/// An `Event` may be made and used like any [`Async`]: before and between calls of
/// [`block_on`](crate::block_on), on any thread, by several tasks at once. Each trigger reaches one
/// of those who wait.
///
/// # Examples
///
/// ```
/// use selio::event::Event;
///
/// # fn main() -> std::io::Result<()> {
/// let event = Event::new()?;
/// let trigger = event.trigger();
/// let worker = std::thread::spawn(move || trigger.trigger());
///
/// assert_eq!(selio::block_on(event.wait())?, 1);
/// worker.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Event {
    counter: Async<Arc<Counter>>,
    /// Whether the stream counts as one who waits: since it had nothing to give, until it has.
    stream_waits: bool,
}

/// How often the event was triggered, here and, while somebody waits, in the kernel.
///
/// Who waits says so and *then* looks at the count; who triggers counts and *then* looks whether
/// somebody waits, and if so takes the count to the kernel, which wakes. So one of the two sees the
/// other. Atomics and one `write`, for a signal handler may trigger at any time.
#[derive(Debug)]
struct Counter {
    event: EventFd,
    /// The process whose memory this is. A forked child has a copy, and knows the kernel only.
    process: usize,
    pending: AtomicUsize,
    waiting: AtomicUsize,
    /// Whether something was taken to the kernel since that was read. It is a hint, for who has a
    /// count already and need not wait: whoever waits is told by the eventfd itself.
    moved: AtomicBool,
}

impl Counter {
    fn new() -> io::Result<Self> {
        Ok(Self {
            event: EventFd::new()?,
            process: fork::process_id(),
            pending: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            moved: AtomicBool::new(false),
        })
    }

    fn trigger(&self) -> io::Result<()> {
        if self.process != fork::process_id() {
            return self.event.signal();
        }
        let before = self.pending.fetch_add(1, Ordering::SeqCst);
        // The kernel has room for more than a word of 32 bits.
        let full = before >= usize::MAX / 2;
        if full || self.waiting.load(Ordering::SeqCst) > 0 {
            let count = self.take_pending();
            if count != 0 {
                self.moved.store(true, Ordering::Relaxed);
                return self.event.add(count);
            }
        }
        Ok(())
    }

    fn take_pending(&self) -> u64 {
        // Not written without need: others may be triggering. And what a forked child has copied is
        // its parent's.
        if self.pending.load(Ordering::SeqCst) == 0 || self.process != fork::process_id() {
            return 0;
        }
        self.pending.swap(0, Ordering::SeqCst) as u64
    }

    /// Takes what there is, if something was counted here.
    fn take(&self) -> Option<io::Result<u64>> {
        let here = Some(self.take_pending()).filter(|&count| count > 0)?;
        if !self.moved.swap(false, Ordering::Relaxed) {
            return Some(Ok(here));
        }
        Some(self.event.read().map(|there| here.saturating_add(there.unwrap_or(0))))
    }

    /// Takes what there is, if something was counted in the kernel.
    fn read(&self) -> io::Result<u64> {
        self.moved.store(false, Ordering::Relaxed);
        let there = self.event.read()?.ok_or(io::ErrorKind::WouldBlock)?;
        Ok(there.saturating_add(self.take_pending()))
    }

    fn begin_wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    fn end_wait(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsFd for Counter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// One who waits, as long as this lives.
struct Waiting<'a>(&'a Counter);

impl<'a> Waiting<'a> {
    fn begin(counter: &'a Counter) -> Self {
        counter.begin_wait();
        Self(counter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.end_wait();
    }
}

/// Takes the count of an event whose taker counts as one who waits.
struct Take;

impl Attempt<Arc<Counter>> for Take {
    type Output = u64;

    fn direction(&self) -> Direction {
        Direction::Read
    }

    fn at_once(&mut self, counter: &Arc<Counter>) -> Option<io::Result<u64>> {
        counter.take()
    }

    fn run(&mut self, counter: &Async<Arc<Counter>>) -> io::Result<u64> {
        counter.get_ref().read()
    }

    /// An eventfd gives all that it has.
    fn drains(&self, _: &Async<Arc<Counter>>, _: &u64) -> bool {
        true
    }
}

impl Event {
    /// Makes an event that has not been triggered.
    ///
    /// # Errors
    ///
    /// Those of eventfd(2), for example when the process has no descriptor left.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    pub fn new() -> io::Result<Self> {
        let counter = Async::new_nonblocking(Arc::new(Counter::new()?));
        Ok(Event { counter, stream_waits: false })
    }

    /// Makes a trigger for this event. It may be cloned, sent to other threads, and outlive the
    /// event.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        Trigger(Arc::clone(self.counter.get_ref()))
    }

    /// Waits until the event is triggered, and returns how often it was since somebody last waited.
    ///
    /// # Errors
    ///
    /// Those of [`Async::readable`].
    ///
    /// # Cancel safety
    ///
    /// The poll that takes the count returns it, so no trigger is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let event = selio::event::Event::new()?;
    /// for _ in 0..3 {
    ///     event.trigger().trigger()?;
    /// }
    /// assert_eq!(selio::block_on(event.wait())?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(&self) -> io::Result<u64> {
        poll_fn(reactor::spend_budget).await;
        let counter = self.counter.get_ref();
        if let Some(count) = counter.take() {
            return count;
        }
        let _waiting = Waiting::begin(counter);
        self.counter.attempt(Take).await
    }

    /// Waits as [`wait`](Self::wait) does. Always `Some`.
    ///
    /// # Cancel safety
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut event = selio::event::Event::new()?;
    /// event.trigger().trigger()?;
    /// assert_eq!(selio::block_on(event.next()).unwrap()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<io::Result<u64>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn set_stream_waits(&mut self, waits: bool) {
        let counter = self.counter.get_ref();
        match (self.stream_waits, waits) {
            (false, true) => counter.begin_wait(),
            (true, false) => counter.end_wait(),
            _ => {}
        }
        self.stream_waits = waits;
    }
}

impl Stream for Event {
    type Item = io::Result<u64>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(reactor::spend_budget(cx));
        let mut taken = self.counter.get_ref().take();
        if taken.is_none() {
            self.set_stream_waits(true);
            taken = self.counter.get_ref().take();
        }
        let count = match taken {
            Some(count) => count,
            None => ready!(self.counter.poll(cx, &mut Take)),
        };
        self.set_stream_waits(false);
        Poll::Ready(Some(count))
    }
}

/// It has no end.
impl FusedStream for Event {
    fn is_terminated(&self) -> bool {
        false
    }
}

/// Triggers an [`Event`], from wherever.
///
/// # Examples
///
/// See [`Event`].
#[derive(Clone, Debug)]
pub struct Trigger(Arc<Counter>);

impl Trigger {
    /// Triggers the event: one of those who wait for it is told.
    ///
    /// This is at most one `write(2)` that never blocks, and none while nobody waits. It takes no
    /// lock and allocates nothing, so a signal handler may call it (signal-safety(7)), if it saves
    /// and restores `errno`. It is no use to wake a [`Waker`](std::task::Waker) there, which may take locks: trigger an event
    /// instead.
    ///
    /// # Errors
    ///
    /// Those of write(2), if the descriptor was closed or replaced through its number.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    pub fn trigger(&self) -> io::Result<()> {
        self.0.trigger()
    }
}
