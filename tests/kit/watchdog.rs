//! A thread that ends the process if its guard lives too long.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The time a test gets unless it asks for another one.
pub const WATCHDOG_SECS: u64 = 20;

/// Set where everything takes so many times longer, as under a sanitizer.
const PATIENCE_VARIABLE: &str = "SELIO_TEST_PATIENCE";

/// A time limit as it is where this runs.
pub fn patience(secs: u64) -> Duration {
    let times = std::env::var(PATIENCE_VARIABLE).ok().and_then(|times| times.parse().ok());
    Duration::from_secs(secs * times.unwrap_or(1_u64))
}

/// Aborts the process, naming the test, unless it is dropped in time.
#[must_use = "the watchdog guards only as long as it lives"]
#[derive(Debug)]
pub struct Watchdog {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a watchdog for the running test.
///
/// It is for libtest's tests. A case of its own process has the parent's watchdog, and a second
/// thread would spoil what such a case is about.
pub fn watchdog(secs: u64) -> Watchdog {
    let test = super::case_name();
    let (done, wait) = mpsc::channel::<()>();
    let limit = patience(secs);
    let secs = limit.as_secs();
    let thread = thread::spawn(move || {
        if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln!`: libtest would capture it and the abort would lose it.
            let message =
                format!("\nwatchdog: test `{test}` still runs after {secs} s: it hangs\n");
            let _ = std::io::stderr().write_all(message.as_bytes());
            std::process::abort();
        }
    });
    Watchdog { done: Some(done), thread: Some(thread) }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
