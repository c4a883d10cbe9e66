//! Moving bytes at a pace at which other tasks run in between.

use crate::future::yield_now;

/// How many bytes are moved before other tasks may run: copied in memory, they take some dozens of
/// microseconds. A count of operations would not do, since one may move a lot.
const BYTES_PER_TURN: u64 = 256 * 1024;

/// Lets others run, now and then.
pub(super) struct Pace {
    /// The count of bytes at which others may run.
    next: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { next: BYTES_PER_TURN }
    }

    /// Lets others run if enough was moved since they did.
    pub(super) async fn keep(&mut self, moved: u64) {
        if moved >= self.next {
            self.next = moved.saturating_add(BYTES_PER_TURN);
            yield_now().await;
        }
    }
}
