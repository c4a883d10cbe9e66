//! The set of things that can be asked for, and can happen.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// A set of events: what a handle is watched for, or what a [`ReadyKey`](super::ReadyKey) reports.
///
/// Sets are combined with `|`, `&` and `-`. The flags are those of `epoll_ctl(2)`, under names of
/// their own, and the kinds of objects that a selector knows.
///
/// # Examples
///
/// ```
/// use selio::selector::Events;
///
/// let both = Events::READ | Events::WRITE;
/// assert!(both.contains(Events::READ));
/// assert_eq!(both - Events::READ, Events::WRITE);
/// assert_eq!(format!("{both:?}"), "READ | WRITE");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Events(u16);

impl Events {
    /// The empty set. A handle registered with it is kept, and watched for nothing.
    pub const NONE: Self = Self(0);
    /// There is something to read, or the reading side is at its end.
    pub const READ: Self = Self(1);
    /// There is room to write, or writing would fail at once.
    pub const WRITE: Self = Self(1 << 1);
    /// A timer of [`register_timer`](super::Selector::register_timer) has expired.
    pub const TIMER: Self = Self(1 << 2);
    /// A signal of [`register_signal`](super::Selector::register_signal) has come.
    pub const SIGNAL: Self = Self(1 << 3);
    /// A process of [`register_process`](super::Selector::register_process) has ended.
    pub const PROCESS: Self = Self(1 << 4);
    /// A [`SelectEvent`](super::SelectEvent) was triggered.
    pub const USER: Self = Self(1 << 5);
    /// The descriptor has an error, which [`take_error`](super::Selector::take_error) tells.
    pub const ERROR: Self = Self(1 << 6);
    /// Asked for: report once, then wait for `update_handle`. Reported: that was this time.
    pub const ONESHOT: Self = Self(1 << 7);
    /// Reported alone: this entry will never be ready again, and waits for `unregister`.
    pub const FINISHED: Self = Self(1 << 8);
    /// Reported alone: the peer has hung up, or shut down its writing side. Not an error by itself.
    pub const HANGUP: Self = Self(1 << 9);
    /// Exceptional data: out-of-band bytes of a TCP socket, a change of a file in `/proc` or `/sys`
    /// that supports it.
    pub const PRIORITY: Self = Self(1 << 10);
    /// Asked for alone: report a change, not a state (`EPOLLET`).
    pub const EDGE: Self = Self(1 << 11);
    /// Asked for alone: of several selectors that watch the same file, wake at least one, not all
    /// (`EPOLLEXCLUSIVE`).
    pub const EXCLUSIVE: Self = Self(1 << 12);

    /// Tells whether every event of `other` is in this set. The empty set is in every set.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::Events;
    /// assert!((Events::READ | Events::WRITE).contains(Events::READ));
    /// assert!(!Events::READ.contains(Events::READ | Events::WRITE));
    /// ```
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Tells whether this set and `other` have an event in common.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::Events;
    /// assert!(Events::READ.intersects(Events::READ | Events::WRITE));
    /// ```
    #[must_use]
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Tells whether there is no event in this set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(selio::selector::Events::NONE.is_empty());
    /// ```
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the events that are in this set or in `other`; the `const` form of `|`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::Events;
    /// const BOTH: Events = Events::READ.union(Events::WRITE);
    /// assert_eq!(BOTH, Events::READ | Events::WRITE);
    /// ```
    #[must_use]
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Events {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for Events {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Events {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Events {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// In the order of the bits.
const NAMES: [&str; 13] = [
    "READ",
    "WRITE",
    "TIMER",
    "SIGNAL",
    "PROCESS",
    "USER",
    "ERROR",
    "ONESHOT",
    "FINISHED",
    "HANGUP",
    "PRIORITY",
    "EDGE",
    "EXCLUSIVE",
];

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("NONE");
        }
        let mut separator = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{separator}{name}")?;
                separator = " | ";
            }
        }
        Ok(())
    }
}
