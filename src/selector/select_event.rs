//! An event that a program triggers itself, from any thread.

use super::Events;
use super::kind::Object;
use super::ready_key::{Report, outcome};
use crate::sys::event_fd::EventFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

/// An event that a program triggers itself, to wake a selector from another thread or from a signal
/// handler.
///
/// It is a counter in the kernel (eventfd(2)): every [`trigger`](Self::trigger) adds one, and the
/// selector that reports the event takes the sum, which the key's [`count`](super::ReadyKey::count)
/// tells. An event that is registered with several selectors wakes one of them per trigger: the
/// first to look takes the count, the others stay silent. A trigger before the registration counts.
///
/// Clones are the same event. The counter is freed with the last clone, and a selector holds one
/// while the event is registered. A forked child shares the counter with its parent.
///
/// # Examples
///
/// ```
/// use selio::selector::{Events, SelectEvent, Selector};
///
/// let mut selector = Selector::new()?;
/// let event = SelectEvent::new()?;
/// selector.register_event(&event, "work")?;
///
/// let trigger = event.clone();
/// std::thread::spawn(move || trigger.trigger()).join().unwrap()?;
///
/// let keys = selector.select(None)?;
/// assert_eq!(keys[0].events(), Events::USER);
/// assert_eq!(keys[0].count(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SelectEvent(Arc<EventFd>);

impl SelectEvent {
    /// Makes an event that has not been triggered.
    ///
    /// # Errors
    ///
    /// Those of eventfd(2), for example when the process has no descriptor left.
    ///
    /// # Examples
    ///
    /// See [`SelectEvent`].
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::new()?)))
    }

    /// Adds one to the counter, which wakes a selector.
    ///
    /// This is one `write(2)` that never blocks, so a signal handler may call it
    /// (signal-safety(7)), if it saves and restores `errno`. A counter that is full, after 2⁶⁴
    /// - 2 triggers, stays full, and that is success: the event is triggered already.
    ///
    /// # Errors
    ///
    /// Those of write(2), if the descriptor was closed or replaced through its number.
    ///
    /// # Examples
    ///
    /// See [`SelectEvent`].
    #[inline]
    pub fn trigger(&self) -> io::Result<()> {
        self.0.signal()
    }
}

impl Object for SelectEvent {
    fn fd(&self) -> RawFd {
        self.as_raw_fd()
    }

    fn read(&self) -> Option<(Events, Report)> {
        outcome(Events::USER, self.0.read().map(|count| count.map(Report::Count)))
    }
}

impl AsFd for SelectEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SelectEvent {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
