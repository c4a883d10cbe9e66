//! Deadlines for timers, the same for all, and what became of them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::os;

/// How long a program sleeps after it has made timers, so that its loop has seen them once, as a loop
/// that runs has.
pub const TURN: Duration = Duration::from_millis(1);

/// How long a timer runs that does not go off while the program runs: somewhere within an hour.
pub fn far(i: u64) -> Duration {
    Duration::from_secs(60) + Duration::from_micros(i.wrapping_mul(2_654_435_761) % 3_600_000_000)
}

/// Deadlines within one second, and how late whoever waited for them was.
pub struct Burst {
    start: Instant,
    cpu: Duration,
    n: u64,
    latest: Cell<Duration>,
    early: Cell<u64>,
}

impl Burst {
    /// N deadlines, of which the first comes no sooner than it takes to make them.
    pub fn new(n: u64) -> Self {
        let start = Instant::now() + Duration::from_micros(3 * n);
        let cpu = os::cpu_time();
        Self { start, cpu, n, latest: Cell::default(), early: Cell::default() }
    }

    /// The I-th deadline.
    pub fn deadline(&self, i: u64) -> Instant {
        self.start + Duration::from_nanos(i.wrapping_mul(2_654_435_761) % 1_000_000_000)
    }

    /// Takes note that the timer of a deadline has gone off now.
    pub fn gone_off(&self, deadline: Instant) {
        let now = Instant::now();
        if now < deadline {
            self.early.set(self.early.get() + 1);
        }
        self.latest.set(self.latest.get().max(now.saturating_duration_since(deadline)));
    }

    /// CPU time of each, how late the latest was, and how many were early.
    pub fn results(&self) -> Vec<f64> {
        let cpu = (os::cpu_time() - self.cpu).as_nanos() as f64;
        vec![cpu / self.n as f64, self.latest.get().as_nanos() as f64, self.early.get() as f64]
    }
}
