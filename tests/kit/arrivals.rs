//! Waiting for signals in a stream, and for their absence, with a limit to both.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use crate::kit;
use selio::signal::{SignalInfo, Signals};
use selio::time::timeout;
use std::future::Future;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);

/// Runs a future that ends soon.
#[track_caller]
pub fn soon<F: Future>(future: F) -> F::Output {
    selio::block_on(timeout(LONG, future)).expect("it ends within 5 s")
}

/// The next signal of a stream.
#[track_caller]
pub fn next(signals: &mut Signals) -> SignalInfo {
    soon(signals.next()).unwrap().unwrap()
}

/// The next signal is this one.
#[track_caller]
pub fn expect(signals: &mut Signals, signo: i32) {
    assert_eq!(next(signals).signo(), signo);
}

/// Nothing comes in a while, and nobody is busy meanwhile.
#[track_caller]
pub fn assert_none(signals: &mut Signals) {
    let waits = timeout(Duration::from_millis(50), signals.next());
    if let Ok(come) = kit::assert_quiet(|| selio::block_on(waits)) {
        panic!("{come:?} was not to be expected");
    }
}

/// A stream of these signals.
#[track_caller]
pub fn of<const N: usize>(signals: [i32; N]) -> Signals {
    Signals::new(signals).unwrap()
}
