//! What the timers' tests share: polls by hand, turns of the loop, a log of wakes, chance with a
//! seed.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use crate::kit;
use futures_core::Stream;
use selio::Timer;
use selio::time::sleep;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Set in a process whose `epoll_pwait2` shall fail, as it does before Linux 5.11.
pub const REFUSED_VARIABLE: &str = "SELIO_TEST_NO_EPOLL_PWAIT2";

pub const HOUR: Duration = Duration::from_secs(3600);

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Whether this process runs the tests once more without `epoll_pwait2`, or has none to begin with.
pub fn is_refused() -> bool {
    std::env::var_os(REFUSED_VARIABLE).is_some() || !kit::has_call(libc::SYS_epoll_pwait2)
}

/// Refuses `epoll_pwait2` if this is such a process: as an old kernel does, or as an old sandbox
/// does.
pub fn refuse_if_asked() {
    static ONCE: Once = Once::new();
    if let Some(how) = std::env::var_os(REFUSED_VARIABLE) {
        let errno = if how == "EPERM" { libc::EPERM } else { libc::ENOSYS };
        ONCE.call_once(|| kit::refuse(&[(libc::SYS_epoll_pwait2, errno)]));
    }
}

/// Begins a libtest test.
pub fn begin() -> kit::Watchdog {
    refuse_if_asked();
    kit::watchdog(10)
}

/// Runs the whole libtest binary once more in a process where `epoll_pwait2` is refused.
pub fn all_again_refused() {
    if is_refused() {
        return;
    }
    let again = kit::rerun("again").env(REFUSED_VARIABLE, "1").secs(60);
    let ended = again.run();
    match ended.passed_over() {
        Some(reason) => println!("passed over: {reason}"),
        None => _ = ended.assert_success(),
    }
}

/// What a case is called when it runs without `epoll_pwait2`.
const REFUSED_SUFFIX: &str = "_without_epoll_pwait2";

/// The first cases with and without `epoll_pwait2`, the others once.
pub fn twice(cases: &[(&'static str, fn())], others: &[kit::Case]) -> Vec<kit::Case> {
    let once = cases.iter().map(|&(name, body)| kit::case(name, body).first(refuse_if_asked));
    let again = cases.iter().map(|&(name, _)| {
        kit::case(name, once_more_refused).named(|name| format!("{name}{REFUSED_SUFFIX}"))
    });
    let others = others.iter().map(|case| case.first(refuse_if_asked));
    once.chain(again).chain(others).collect()
}

fn once_more_refused() {
    let name = kit::case_name();
    let base = name.strip_suffix(REFUSED_SUFFIX).expect("a case of `run_twice`");
    let again = kit::rerun(base).env(REFUSED_VARIABLE, "1");
    again.run().assert_success();
}

/// Polls once as a stream.
pub fn poll_next(timer: &mut Timer, waker: &Waker) -> Poll<Option<Instant>> {
    Pin::new(timer).poll_next(&mut Context::from_waker(waker))
}

/// Lets one turn of the loop pass, in which whatever is due by now goes off.
pub async fn turn() {
    sleep(Duration::ZERO).await;
}

/// Waits until a deadline has passed for certain: what was due by then has gone off.
pub async fn until(deadline: Instant) {
    Timer::at(deadline).await;
    turn().await;
}

/// Runs a loop of the reactor from outside of `block_on`, until the time has passed.
pub fn run_for(duration: Duration) {
    selio::block_on(until(Instant::now() + duration));
}

/// An instant this far back.
pub fn ago(duration: Duration) -> Instant {
    Instant::now().checked_sub(duration).expect("a clock that can be set back")
}

/// The message of a panic.
#[track_caller]
pub fn panic_message<T>(body: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(body)) else {
        panic!("it was to panic");
    };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast::<&str>().expect("a text").to_string(),
    }
}

/// Which wakers were woken, in order.
#[derive(Clone, Debug, Default)]
pub struct WakeLog(Arc<Mutex<Vec<usize>>>);

impl WakeLog {
    pub fn new() -> Self {
        Self::default()
    }

    /// A waker that notes its number.
    pub fn waker(&self, number: usize) -> Waker {
        let log = self.clone();
        kit::closure_waker(move || log.note(number))
    }

    pub fn note(&self, number: usize) {
        self.0.lock().unwrap().push(number);
    }

    /// What was noted since the last call.
    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Chance that can be repeated: xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}
