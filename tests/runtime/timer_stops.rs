//! Timers of a process that is stopped and continued: a long stall, and an interruption without any
//! handler.

use crate::kit;
use crate::kit::timers;
use selio::time::{MissedTicks, sleep};
use selio::{Timer, block_on};
use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use timers::ms;

pub(crate) fn cases() -> Vec<kit::Case> {
    let cases: [(&str, fn()); 5] = [
        ("a_stop_shortens_no_sleep", a_stop_shortens_no_sleep),
        ("after_a_stop_burst_catches_up", after_a_stop_burst_catches_up),
        ("after_a_stop_delay_starts_anew", after_a_stop_delay_starts_anew),
        ("after_a_stop_skip_stays_aligned", after_a_stop_skip_stays_aligned),
        ("a_fork_takes_no_timer_away", a_fork_takes_no_timer_away),
    ];
    timers::twice(&cases, &[])
}

// A21
fn a_stop_shortens_no_sleep() {
    let child = kit::in_child(|| {
        let ((), elapsed) = kit::took(|| block_on(sleep(ms(100))));
        kit::assert_at_least(elapsed, ms(100));
    });
    for _ in 0..3 {
        std::thread::sleep(ms(10));
        kit::kill(child, libc::SIGSTOP).unwrap();
        std::thread::sleep(ms(10));
        kit::kill(child, libc::SIGCONT).unwrap();
    }
    assert!(kit::wait_status(child).success());
}

const PERIOD: Duration = ms(10);
const STOP: Duration = ms(200);
/// What shows the child that it was stopped. Anything else that holds it up as long does as well.
const STALL: Duration = ms(150);

/// Runs a child with a ticking timer, whose first tick is at its start, and stops it once it has
/// ticked.
fn stopped(policy: MissedTicks, child: fn(Timer, Instant)) {
    let (reader, writer) = kit::pipe();
    let pid = kit::in_child(|| {
        let start = Instant::now();
        let mut timer = Timer::interval_at(start, PERIOD).missed_ticks(policy);
        assert_eq!(block_on(timer.next()), Some(start));
        File::from(writer).write_all(b"x").unwrap();
        child(timer, start);
    });
    File::from(reader).read_exact(&mut [0]).unwrap();
    kit::kill(pid, libc::SIGSTOP).unwrap();
    std::thread::sleep(STOP);
    kit::kill(pid, libc::SIGCONT).unwrap();
    assert!(kit::wait_status(pid).success());
}

// C14
fn after_a_stop_burst_catches_up() {
    stopped(MissedTicks::Burst, |mut timer, start| {
        block_on(async {
            let (mut last, mut stalled) = (start, false);
            // Until it was behind, and is no more.
            while !stalled || last.elapsed() > PERIOD {
                let tick = timer.next().await.unwrap();
                assert_eq!(tick, last + PERIOD);
                stalled |= tick.elapsed() >= STALL;
                last = tick;
            }
        });
    });
}

/// Checks ticks until two are as far apart as the stall was long, which never happens if missed
/// ones are made up for. What holds of a tick, after the last one and the time at which that was
/// taken, is up to `check`.
fn until_a_gap(mut timer: Timer, start: Instant, check: fn(Instant, Instant)) {
    block_on(async {
        let (mut last, mut taken) = (start, Instant::now());
        loop {
            let tick = timer.next().await.unwrap();
            assert!(tick <= Instant::now(), "early");
            assert!(tick <= taken + PERIOD, "a tick is left out that need not");
            check(last, tick);
            if tick - last >= STALL {
                return;
            }
            (last, taken) = (tick, Instant::now());
        }
    });
}

// C14
fn after_a_stop_delay_starts_anew() {
    stopped(MissedTicks::Delay, |timer, start| {
        until_a_gap(timer, start, |last, tick| assert!(tick - last >= PERIOD));
    });
}

// C14
fn after_a_stop_skip_stays_aligned() {
    stopped(MissedTicks::Skip, |timer, start| {
        until_a_gap(timer, start, |last, tick| {
            assert!(tick > last);
            assert_eq!((tick - last).as_nanos() % PERIOD.as_nanos(), 0);
        });
    });
}

// I07: the child has a copy of the queue, and shares the parent's descriptors.
fn a_fork_takes_no_timer_away() {
    let (woken, waker) = kit::CountingWaker::new();
    let deadline = Instant::now() + ms(400);
    let mut timers = [Timer::at(deadline), Timer::at(deadline)];
    for timer in &mut timers {
        block_on(async { assert!(kit::poll_with(timer, &waker).is_pending()) });
    }
    let [kept, other] = timers;
    let mut other = Some(other);
    let child = kit::in_child(|| {
        // A borrow: what the closure owned would be dropped in the parent, too.
        drop(other.take());
        block_on(sleep(ms(450)));
        assert_eq!(woken.wakes(), 0, "the parent's timer went off in the child");
    });
    assert!(kit::wait_status(child).success());
    block_on(timers::until(deadline));
    assert_eq!(woken.wakes(), 2);
    for timer in [Some(kept), other] {
        assert_eq!(timer.map(block_on), Some(deadline));
    }
}
