//! A clock that goes on by a microsecond whenever somebody looks at it.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static LOOKS: AtomicU64 = AtomicU64::new(0);

/// Puts the clock back, for the next run to see what this one has seen.
pub(crate) fn reset() {
    LOOKS.store(0, Ordering::Relaxed);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        Instant(Duration::from_micros(1_000_000 + LOOKS.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn elapsed(&self) -> Duration {
        Self::now() - *self
    }

    pub fn checked_add(&self, more: Duration) -> Option<Self> {
        self.0.checked_add(more).map(Instant)
    }

    pub fn checked_duration_since(&self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, more: Duration) -> Self {
        Instant(self.0 + more)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}
