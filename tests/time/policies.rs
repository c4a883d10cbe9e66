//! What a repeating timer does about the ticks that nobody took in time.
//!
//! Where it can be, ticks are missed by beginning in the past; how late the loop is changes nothing
//! then.

use crate::kit;
use crate::kit::timers;
use futures_core::stream::FusedStream;
use kit::poll_with;
use selio::time::{MissedTicks, interval, sleep, timeout};
use selio::{Timer, block_on, spawn};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use timers::{HOUR, ago, begin, ms, poll_next, turn};

const POLICIES: [MissedTicks; 3] = [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip];

/// An hourly timer that began ten and a half hours ago.
fn eleven_missed(policy: MissedTicks) -> (Instant, Timer) {
    let start = ago(HOUR * 10 + HOUR / 2);
    (start, Timer::interval_at(start, HOUR).missed_ticks(policy))
}

/// The ticks that can be had at once, by a poll and a turn each.
fn ready_ticks(timer: &mut Timer) -> Vec<Instant> {
    let waker = kit::noop_waker();
    let mut ticks = Vec::new();
    block_on(async {
        loop {
            assert_eq!(poll_next(timer, &waker), Poll::Pending, "no turn has passed");
            turn().await;
            match poll_next(timer, &waker) {
                Poll::Ready(tick) => ticks.push(tick.expect("ticks never end")),
                Poll::Pending => return ticks,
            }
        }
    })
}

/// Whether a tick is at a multiple of the period.
fn is_aligned(tick: Instant, start: Instant, period: Duration) -> bool {
    (tick - start).as_nanos() % period.as_nanos() == 0
}

// C14, C11
#[test]
fn burst_gives_each_missed_tick_one_by_one() {
    let _guard = begin();
    let (start, mut timer) = eleven_missed(MissedTicks::Burst);
    let all: Vec<_> = (0..11).map(|n| start + HOUR * n).collect();
    assert_eq!(ready_ticks(&mut timer), all);
    assert!(timer.will_fire());
}

// C14, C11
#[test]
fn delay_and_skip_give_one_tick_for_all_that_were_missed() {
    let _guard = begin();
    for policy in [MissedTicks::Delay, MissedTicks::Skip] {
        let (start, mut timer) = eleven_missed(policy);
        assert_eq!(ready_ticks(&mut timer), [start], "{policy:?}");
        assert!(timer.will_fire());
    }
}

#[test]
fn a_burst_is_what_one_gets_without_a_choice() {
    let _guard = begin();
    assert_eq!(MissedTicks::default(), MissedTicks::Burst);
    let mut timer = Timer::interval_at(ago(HOUR * 2 + HOUR / 2), HOUR);
    assert_eq!(ready_ticks(&mut timer).len(), 3);
}

// C14
#[test]
fn delay_starts_a_full_period_from_the_late_tick() {
    let _guard = begin();
    let period = ms(10);
    let start = ago(ms(1007));
    let mut timer = Timer::interval_at(start, period).missed_ticks(MissedTicks::Delay);
    block_on(async {
        let before = Instant::now();
        assert_eq!(timer.next().await, Some(start));
        let after = Instant::now();
        let second = timer.next().await.unwrap();
        assert!(second >= before + period && second <= after + period);
    });
}

// C14
#[test]
fn skip_goes_on_at_the_next_multiple_of_the_period() {
    let _guard = begin();
    let period = ms(10);
    let start = ago(ms(1007));
    let mut timer = Timer::interval_at(start, period).missed_ticks(MissedTicks::Skip);
    block_on(async {
        let before = Instant::now();
        assert_eq!(timer.next().await, Some(start));
        let after = Instant::now();
        let second = timer.next().await.unwrap();
        assert!(second > before && second <= after + period);
        assert!(is_aligned(second, start, period), "{:?}", second - start);
    });
}

// C14: the same with a loop that stalls between two ticks, three times.
#[test]
fn after_a_stalled_loop_each_policy_does_as_it_says() {
    let _guard = begin();
    for policy in POLICIES {
        block_on(async {
            let (period, start) = (ms(4), Instant::now());
            let mut timer = Timer::interval_at(start, period).missed_ticks(policy);
            let mut last = timer.next().await.unwrap();
            let mut taken = Instant::now();
            for _ in 0..3 {
                thread::sleep(ms(18));
                for _ in 0..3 {
                    let tick = timer.next().await.unwrap();
                    check_step(policy, (start, period), (last, taken), tick);
                    (last, taken) = (tick, Instant::now());
                }
            }
        });
    }
}

/// What holds of a tick, after the last one and the time at which that was taken, however late.
fn check_step(
    policy: MissedTicks,
    (start, period): (Instant, Duration),
    (last, taken): (Instant, Instant),
    tick: Instant,
) {
    assert!(tick <= Instant::now(), "{policy:?} went off early");
    assert!(tick <= taken + period, "{policy:?} left out what it need not");
    match policy {
        MissedTicks::Burst => assert_eq!(tick - last, period),
        MissedTicks::Delay => assert!(tick - last >= period),
        MissedTicks::Skip => assert!(is_aligned(tick, start, period) && tick > last),
    }
}

// C14: a tick that is taken before the next one is due is followed by that one, whatever the
// policy.
#[test]
fn without_missed_ticks_all_policies_are_the_same() {
    let _guard = begin();
    for policy in POLICIES {
        block_on(async {
            let (period, start) = (ms(3), Instant::now());
            let mut timer = Timer::interval_at(start, period).missed_ticks(policy);
            let mut last = timer.next().await.unwrap();
            for _ in 0..5 {
                let in_time = Instant::now() < last + period;
                let tick = timer.next().await.unwrap();
                if in_time {
                    assert_eq!(tick, last + period, "{policy:?}");
                }
                last = tick;
            }
        });
    }
}

// C14
#[test]
fn an_interval_ticks_first_after_one_period_and_interval_at_at_its_start() {
    let _guard = begin();
    block_on(async {
        for make in [interval, Timer::interval] {
            let before = Instant::now();
            let mut timer = make(ms(5));
            let after = Instant::now();
            let tick = timer.next().await.unwrap();
            assert!(tick >= before + ms(5) && tick <= after + ms(5));
            assert!(tick <= Instant::now(), "early");
        }
        let start = Instant::now() + ms(2);
        let mut timer = Timer::interval_at(start, HOUR);
        assert_eq!(timer.next().await, Some(start));
        assert!(start.elapsed() > Duration::ZERO);
    });
}

// C11: nobody could wait for the end of a loop over the missed ones.
#[test]
fn a_century_of_missed_nanoseconds_is_one_step() {
    let _guard = begin();
    let start = ago(Duration::from_secs(100 * 365 * 24 * 3600));
    for policy in POLICIES {
        let mut timer = Timer::interval_at(start, Duration::from_nanos(1)).missed_ticks(policy);
        block_on(async {
            let before = Instant::now();
            assert_eq!(timer.next().await, Some(start));
            let after = Instant::now();
            let second = timer.next().await.unwrap();
            match policy {
                MissedTicks::Burst => assert_eq!(second, start + Duration::from_nanos(1)),
                _ => assert!(second > before && second <= after + Duration::from_nanos(1)),
            }
            assert!(timer.next().await.unwrap() > second);
        });
    }
}

// C17
#[test]
fn no_policy_subtracts_beyond_the_ends_of_time() {
    let _guard = begin();
    for policy in POLICIES {
        let now = Instant::now();
        // A period that ends past all instants, from now and from long ago.
        for start in [now, ago(HOUR * 10)] {
            let mut timer = Timer::interval_at(start, Duration::MAX).missed_ticks(policy);
            assert_eq!(ready_ticks(&mut timer), [start], "{policy:?}");
            assert!(!timer.will_fire());
        }
        // A period longer than the time that has passed since a start long ago.
        let start = ago(HOUR * 10);
        let mut timer = Timer::interval_at(start, HOUR * 20).missed_ticks(policy);
        assert_eq!(ready_ticks(&mut timer), [start], "{policy:?}");
        assert!(timer.will_fire());
    }
}

#[test]
fn the_policy_stays_when_a_timer_is_set_anew() {
    let _guard = begin();
    let start = ago(HOUR * 3 + HOUR / 2);
    let mut timer = Timer::never().missed_ticks(MissedTicks::Skip);
    timer.set_after(HOUR);
    timer.set_at(start);
    timer.set_interval(HOUR);
    timer.set_interval_at(start, HOUR);
    assert_eq!(ready_ticks(&mut timer), [start]);
    let mut burst = timer.missed_ticks(MissedTicks::Burst);
    burst.set_interval_at(start, HOUR);
    assert_eq!(ready_ticks(&mut burst).len(), 4);
}

#[test]
fn a_policy_changes_nothing_about_a_single_tick() {
    let _guard = begin();
    for policy in POLICIES {
        let deadline = ago(HOUR);
        let mut timer = Timer::at(deadline).missed_ticks(policy);
        assert_eq!(ready_ticks_of_one(&mut timer), Some(deadline));
        assert!(!timer.will_fire());
    }
}

/// The one tick, as a future gives it.
fn ready_ticks_of_one(timer: &mut Timer) -> Option<Instant> {
    block_on(async {
        let waker = kit::noop_waker();
        assert!(poll_with(timer, &waker).is_pending());
        turn().await;
        match poll_with(timer, &waker) {
            Poll::Ready(tick) => Some(tick),
            Poll::Pending => None,
        }
    })
}

// J01, J02: cancelled again and again, and not polled for a while, a burst still is all of them.
#[test]
fn ticks_that_were_waited_for_in_vain_are_not_lost() {
    let _guard = begin();
    block_on(async {
        let (period, start) = (ms(1), Instant::now());
        let mut timer = Timer::interval_at(start, period);
        let mut taken = 0;
        for round in 0..40 {
            if round % 8 == 0 {
                sleep(ms(4)).await;
            }
            // Sometimes the timeout wins, sometimes the tick does.
            let next = timeout(Duration::from_micros(700), timer.next()).await;
            if let Ok(tick) = next {
                assert_eq!(tick, Some(start + period * taken));
                taken += 1;
            }
        }
        assert!(taken > 0);
    });
}

// C14: the tasks of others run between the ticks of a burst.
#[test]
fn a_burst_lets_others_run_between_its_ticks() {
    let _guard = begin();
    block_on(async {
        let (_, mut timer) = eleven_missed(MissedTicks::Burst);
        for _ in 0..11 {
            let other = spawn(async {});
            timer.next().await;
            assert!(other.is_finished());
        }
    });
}

#[test]
fn a_timer_that_will_not_go_off_has_ended_as_a_stream() {
    let _guard = begin();
    let ended = |timer: &Timer| FusedStream::is_terminated(timer);
    assert!(ended(&Timer::never()));
    let mut timer = Timer::after(ms(1));
    assert!(!ended(&timer));
    block_on(timer.next());
    assert!(ended(&timer));
    timer.set_interval(ms(1));
    for _ in 0..3 {
        assert!(!ended(&timer));
        block_on(timer.next());
    }
}
