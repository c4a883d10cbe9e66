//! Timers at the ends of their ranges: deadlines past the end of time, periods of nothing.

use crate::kit;
use crate::kit::timers;
use kit::{CountingWaker, poll_with};
use selio::time::{interval, sleep, timeout};
use selio::{Timer, block_on, spawn, yield_now};
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};
use timers::{begin, ms, panic_message, poll_next, until};

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const QUARTER: Duration = Duration::from_secs(u64::MAX / 4);

/// Timers that will not go off while anybody looks.
fn far_timers() -> Vec<Timer> {
    let mut timers = vec![Timer::never(), interval(Duration::MAX)];
    for duration in [Duration::MAX, QUARTER, CENTURY] {
        let mut set_after = Timer::after(Duration::ZERO);
        set_after.set_after(duration);
        let mut set_interval = Timer::never();
        set_interval.set_interval(duration);
        let made = [Timer::after(duration), Timer::interval(duration)];
        timers.extend(made.into_iter().chain([set_after, set_interval]));
    }
    timers
}

// C05
#[test]
fn timers_at_the_end_of_time_stay_pending_and_hold_up_nobody() {
    let _guard = begin();
    block_on(async {
        let mut timers = far_timers();
        let (woken, waker) = CountingWaker::new();
        for timer in &mut timers {
            assert_eq!(poll_with(timer, &waker), Poll::Pending, "{timer:?}");
        }
        let mut far_sleep = sleep(Duration::MAX);
        let mut far_timeout = timeout(QUARTER, pending::<()>());
        assert!(poll_with(&mut far_sleep, &waker).is_pending());
        assert!(poll_with(&mut far_timeout, &waker).is_pending());
        sleep(ms(2)).await;
        for timer in &mut timers {
            assert_eq!(poll_next(timer, &waker), Poll::Pending, "{timer:?}");
        }
        assert!(poll_with(&mut far_sleep, &waker).is_pending());
        assert!(poll_with(&mut far_timeout, &waker).is_pending());
        assert_eq!(woken.wakes(), 0);
        assert_eq!(timeout(Duration::MAX, async { 7 }).await, Ok(7));
    });
}

// C05: only far timers are left, so that it is their own deadline that the wait has to bear.
#[test]
fn a_wait_bears_a_deadline_centuries_away() {
    let _guard = begin();
    for duration in [QUARTER, CENTURY, Duration::MAX] {
        block_on(async {
            let (mut far, stop) = (sleep(duration), DelayedWake::start(ms(5)));
            poll_fn(|cx| {
                assert!(poll_with(&mut far, cx.waker()).is_pending());
                stop.poll(cx.waker())
            })
            .await;
        });
    }
}

/// A wake from another thread, for tests that may have no second timer.
struct DelayedWake {
    sender: Sender<Waker>,
    done: Arc<AtomicBool>,
}

impl DelayedWake {
    fn start(delay: Duration) -> Self {
        let (sender, wakers) = mpsc::channel::<Waker>();
        let done = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&done);
        thread::spawn(move || {
            let waker = wakers.recv().expect("a first poll");
            thread::sleep(delay);
            theirs.store(true, Ordering::SeqCst);
            waker.wake();
        });
        DelayedWake { sender, done }
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.done.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        _ = self.sender.send(waker.clone());
        Poll::Pending
    }
}

// C05
#[test]
fn a_timer_that_never_can_will_not_fire() {
    assert!(!Timer::never().will_fire());
    assert!(!Timer::after(Duration::MAX).will_fire());
    assert!(!Timer::interval(Duration::MAX).will_fire());
    assert!(Timer::after(CENTURY).will_fire());
    assert!(Timer::interval_at(Instant::now(), Duration::MAX).will_fire());
    let mut timer = Timer::after(Duration::ZERO);
    timer.set_after(Duration::MAX);
    assert!(!timer.will_fire());
    timer.set_at(Instant::now());
    assert!(timer.will_fire());
    timer.set_interval(Duration::MAX);
    assert!(!timer.will_fire());
}

// C05
#[test]
fn an_interval_longer_than_time_ticks_once() {
    let _guard = begin();
    let start = Instant::now();
    let mut ticks = Timer::interval_at(start, Duration::MAX);
    block_on(async {
        assert_eq!(ticks.next().await, Some(start));
        assert!(!ticks.will_fire());
        assert!(timeout(ms(2), ticks.next()).await.is_err());
    });
}

// C12
#[test]
fn a_zero_period_is_refused_with_a_reason() {
    let _guard = begin();
    let (zero, now) = (Duration::ZERO, Instant::now());
    let refusals = [
        panic_message(|| Timer::interval(zero)),
        panic_message(|| Timer::interval_at(now, zero)),
        panic_message(|| interval(zero)),
        panic_message(|| Timer::never().set_interval(zero)),
        panic_message(|| Timer::never().set_interval_at(now, zero)),
    ];
    for message in refusals {
        assert!(message.contains("period greater than zero"), "{message}");
    }
}

// C12
#[test]
fn a_timer_is_as_before_when_a_zero_period_was_refused() {
    let _guard = begin();
    let deadline = Instant::now() + ms(2);
    let mut timer = Timer::at(deadline);
    block_on(async {
        let (woken, waker) = CountingWaker::new();
        assert!(poll_with(&mut timer, &waker).is_pending());
        panic_message(|| timer.set_interval(Duration::ZERO));
        panic_message(|| timer.set_interval_at(Instant::now(), Duration::ZERO));
        until(deadline).await;
        assert_eq!(woken.wakes(), 1);
        assert_eq!(poll_with(&mut timer, &waker), Poll::Ready(deadline));
        assert!(!timer.will_fire());
    });
}

// C12, C11: the shortest period there is misses a tick at every look.
#[test]
fn an_interval_of_a_nanosecond_does_not_keep_others_from_running() {
    let _guard = begin();
    block_on(async {
        let done = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&done);
        _ = spawn(async move {
            for _ in 0..100 {
                yield_now().await;
            }
            sleep(ms(2)).await;
            theirs.set(true);
        });
        let mut ticks = Timer::interval(Duration::from_nanos(1));
        while !done.get() {
            ticks.next().await;
        }
    });
}

// C15
#[test]
fn no_source_file_reads_the_wall_clock() {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let mut folders = vec![Path::new(&root).join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What an editor keeps beside them is no source file.
            if path.extension().is_none_or(|it| it != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in ["SystemTime", "CLOCK_REALTIME", "gettimeofday"] {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 5, "the sources are elsewhere");
}
