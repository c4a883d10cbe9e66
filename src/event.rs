//! Events that the program triggers itself: from another thread, from a task, from a signal
//! handler.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::stream::{FusedStream, Stream};

use crate::io::Async;
use crate::reactor::Direction;
use crate::selector::SelectEvent;

/// Waits for triggers, and counts them: a stream of how often it was triggered since the last item.
///
/// It is an eventfd(2), so triggers are merged, never lost: however many come while nobody looks,
/// they are one item with their count. The stream never ends of itself, not even when all
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
    event: Async<SelectEvent>,
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
        Ok(Event { event: Async::new_nonblocking(SelectEvent::new()?) })
    }

    /// Makes a trigger for this event. It may be cloned, sent to other threads, and outlive the
    /// event.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        Trigger(self.event.get_ref().clone())
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
        self.event.read_with(take).await
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
}

fn take(event: &SelectEvent) -> io::Result<u64> {
    event.take()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

impl Stream for Event {
    type Item = io::Result<u64>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.event.poll_with(Direction::Read, cx, take).map(Some)
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
pub struct Trigger(SelectEvent);

impl Trigger {
    /// Triggers the event: one of those who wait for it is told.
    ///
    /// This is one `write(2)` that never blocks, takes no lock and allocates nothing, so a signal
    /// handler may call it (signal-safety(7)), if it saves and restores `errno`. It is no use
    /// to wake a [`Waker`](std::task::Waker) there, which may take locks: trigger an event
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
