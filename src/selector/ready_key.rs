//! What `select` hands out.

use super::events::Events;
use super::signal_info::SignalInfo;
use super::token::Token;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// One registered descriptor that is ready, and what its kernel object said.
///
/// A key knows which registration it belongs to, not only which number: after `unregister` it is
/// stale, and finds nothing, even if the number has a new owner.
///
/// # Examples
///
/// ```
/// use selio::selector::{Events, ReadyKey, Selector};
/// use std::time::Duration;
///
/// let mut selector = Selector::new()?;
/// let timer = selector.register_timer(Duration::from_millis(1), true, "tea")?;
///
/// let mut keys = [ReadyKey::EMPTY; 8];
/// assert_eq!(selector.select_into(None, &mut keys)?, 1);
/// assert_eq!(keys[0].fd(), timer);
/// assert_eq!(keys[0].expirations(), 1);
/// assert_eq!(selector.get(&keys[0]), Some(&"tea"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct ReadyKey {
    pub(super) token: Token,
    fd: RawFd,
    events: Events,
    report: Report,
}

/// What a kernel object said when it was read. An enum, so that a key of a mere handle is made by
/// writing a few words.
#[derive(Clone, Copy)]
pub(super) enum Report {
    Nothing,
    Count(u64),
    Signal(SignalInfo),
    Unreadable(i32),
}

/// What reading a kernel object comes to: its report, nothing, or its kind with ERROR. An error is
/// a key, not a result of `select`, because it must not cost the other descriptors of the batch
/// their keys.
pub(super) fn outcome(kind: Events, read: io::Result<Option<Report>>) -> Option<(Events, Report)> {
    match read {
        Ok(report) => Some((kind, report?)),
        Err(error) => {
            Some((kind | Events::ERROR, Report::Unreadable(error.raw_os_error().unwrap_or(0))))
        }
    }
}

impl ReadyKey {
    /// A key of nothing, to fill the array that [`select_into`](super::Selector::select_into)
    /// writes to. Its descriptor is -1.
    pub const EMPTY: Self =
        Self { token: Token::NOBODY, fd: -1, events: Events::NONE, report: Report::Nothing };

    #[inline]
    pub(super) fn new(token: Token, fd: RawFd, events: Events, report: Report) -> Self {
        Self { token, fd, events, report }
    }

    /// Returns the number of the descriptor, as it was registered.
    ///
    /// # Examples
    ///
    /// See [`ReadyKey`].
    #[must_use]
    #[inline]
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Returns what has happened; never the empty set in a key that a selector wrote.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{Events, Selector};
    ///
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, ())?;
    /// let key = selector.select(None)?[0];
    /// assert!(key.events().contains(Events::WRITE));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn events(&self) -> Events {
        self.events
    }

    /// Returns how often a timer has expired since its last key; zero for whatever is no timer.
    ///
    /// # Examples
    ///
    /// See [`ReadyKey`].
    #[must_use]
    pub fn expirations(&self) -> u64 {
        self.count_of(Events::TIMER)
    }

    /// Returns how often a [`SelectEvent`](super::SelectEvent) was triggered since its last key;
    /// zero for whatever is no event.
    ///
    /// # Examples
    ///
    /// See [`SelectEvent`](super::SelectEvent).
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count_of(Events::USER)
    }

    fn count_of(&self, kind: Events) -> u64 {
        match self.report {
            Report::Count(count) if self.events.contains(kind) => count,
            _ => 0,
        }
    }

    /// Returns what the kernel said about a signal; `None` for whatever is no signal.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    pub fn signal_info(&self) -> Option<SignalInfo> {
        match self.report {
            Report::Signal(info) => Some(info),
            _ => None,
        }
    }

    /// The error number with which the kernel object refused to be read.
    pub(super) fn unreadable(&self) -> Option<i32> {
        match self.report {
            Report::Unreadable(code) => Some(code),
            _ => None,
        }
    }
}

impl Default for ReadyKey {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for ReadyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ReadyKey");
        debug.field("fd", &self.fd).field("events", &self.events);
        match &self.report {
            Report::Nothing => {}
            Report::Count(count) => _ = debug.field("count", count),
            Report::Signal(info) => _ = debug.field("signal_info", info),
            Report::Unreadable(code) => _ = debug.field("unreadable", code),
        }
        debug.finish_non_exhaustive()
    }
}
