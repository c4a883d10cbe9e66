//! The half of a selector that waits.

use crate::sys::epoll::{Epoll, EventBuffer};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// The half of a [`Selector`](super::Selector) that waits, for who shares one between threads.
///
/// It knows the epoll set and nothing of the table, so it may wait while another thread registers:
/// keep the selector in a `Mutex`, wait without holding the lock, then lock it for
/// [`take`](super::Selector::take). What is registered during a wait takes part in it at once. A
/// poller outlives its selector, and then waits for what the user left registered and open, or for
/// ever.
///
/// # Examples
///
/// ```
/// use selio::selector::{RawEvents, ReadyKey, Selector};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// let selector = Selector::new()?;
/// let poller = selector.poller();
/// let shared = Arc::new(Mutex::new(selector));
///
/// let other = Arc::clone(&shared);
/// let helper = std::thread::spawn(move || {
///     other.lock().unwrap().register_timer(Duration::from_millis(1), true, "tea")
/// });
///
/// let mut events = RawEvents::new();
/// let mut keys = [ReadyKey::EMPTY; 8];
/// poller.wait(None, &mut events)?;
/// let mut selector = shared.lock().unwrap();
/// assert_eq!(selector.take(&mut events, &mut keys), 1);
/// assert_eq!(selector.get(&keys[0]), Some(&"tea"));
/// # drop(selector);
/// # helper.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Poller {
    pub(super) epoll: Arc<Epoll>,
    pub(super) selector: usize,
}

impl Poller {
    /// Waits until something is ready or the time is up, and fills `events`.
    ///
    /// `None` waits for ever, and a timeout of zero only looks. A timeout is kept to the nanosecond
    /// from Linux 5.11 on, and rounded up to a millisecond (of at most 24 days) before. The wait
    /// may also end early without events: a signal handler that ran ends it, so the caller who
    /// minds must look at the clock.
    ///
    /// If `events` still holds some that [`take`](super::Selector::take) left there, it returns at
    /// once and asks the kernel nothing.
    ///
    /// # Errors
    ///
    /// Those of epoll_wait(2) other than EINTR; none is known to happen in a program that leaves
    /// the descriptor alone.
    ///
    /// # Examples
    ///
    /// See [`Poller`].
    #[inline]
    pub fn wait(&self, timeout: Option<Duration>, events: &mut RawEvents) -> io::Result<()> {
        if !events.is_empty() {
            return Ok(());
        }
        self.wait_limited(timeout, events, usize::MAX)
    }

    /// As [`wait`](Self::wait), whatever `events` still holds.
    #[inline]
    pub(crate) fn wait_anew(
        &self,
        timeout: Option<Duration>,
        events: &mut RawEvents,
    ) -> io::Result<()> {
        self.wait_limited(timeout, events, usize::MAX)
    }

    /// Whether this process made the epoll set; a forked child did not.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.epoll.is_ours()
    }

    /// Waits for at most `limit` events; what `events` held is gone.
    #[inline]
    pub(super) fn wait_limited(
        &self,
        timeout: Option<Duration>,
        events: &mut RawEvents,
        limit: usize,
    ) -> io::Result<()> {
        events.next = 0;
        events.selector = self.selector;
        self.epoll.wait(timeout, &mut events.buffer, limit)
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Room for what one [`Poller::wait`] brings, before [`take`](super::Selector::take) makes keys of
/// it.
///
/// # Examples
///
/// ```
/// let events = selio::selector::RawEvents::with_capacity(256);
/// assert!(events.is_empty());
/// ```
#[derive(Debug)]
pub struct RawEvents {
    buffer: EventBuffer,
    /// The first event that was not taken yet.
    next: usize,
    /// The selector that waited for them.
    pub(super) selector: usize,
}

impl RawEvents {
    /// Makes room for 64 events.
    ///
    /// # Examples
    ///
    /// See [`Poller`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(64)
    }

    /// Makes room for `capacity` events per wait, and for one if that is zero.
    ///
    /// # Examples
    ///
    /// See [`RawEvents`].
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: EventBuffer::with_capacity(capacity), next: 0, selector: 0 }
    }

    /// Returns how many events have not been taken yet. Some of them may turn out to be stale.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(selio::selector::RawEvents::new().len(), 0);
    /// ```
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.next
    }

    /// Tells whether every event has been taken.
    ///
    /// # Examples
    ///
    /// See [`RawEvents`].
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all events of the last wait: their epoll masks and their data.
    #[inline]
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.next = self.buffer.len();
        self.buffer.iter()
    }

    /// Takes the next event: its epoll mask and its data.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u32, u64)> {
        let event = self.buffer.get(self.next)?;
        self.next += 1;
        Some(event)
    }
}

impl Default for RawEvents {
    fn default() -> Self {
        Self::new()
    }
}
