//! Timers, sleeps and timeouts: when they go off, what they give, and what becomes of them
//! afterwards.

use crate::kit;
use crate::kit::timers;
use kit::{CountingWaker, DropLog, poll_with};
use selio::time::{Elapsed, sleep, timeout};
use selio::{Async, Timer, block_on, spawn, yield_now};
use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use timers::{HOUR, Random, WakeLog, ago, begin, ms, poll_next, turn, until};

/// Timers that are due at once, or nearly so.
fn due_timers() -> Vec<Timer> {
    let now = Instant::now();
    vec![
        Timer::after(Duration::ZERO),
        Timer::after(Duration::from_nanos(1)),
        Timer::at(now),
        Timer::at(ago(HOUR)),
        Timer::interval_at(now, HOUR),
        Timer::interval_at(ago(HOUR), HOUR),
        Timer::interval(Duration::from_nanos(1)),
    ]
}

// C01
#[test]
fn what_is_due_goes_off_in_the_next_turn_and_not_in_the_poll_that_sets_it() {
    let _guard = begin();
    for mut timer in due_timers() {
        block_on(async {
            let (woken, waker) = CountingWaker::new();
            assert_eq!(poll_with(&mut timer, &waker), Poll::Pending, "{timer:?}");
            assert_eq!(poll_with(&mut timer, &waker), Poll::Pending, "{timer:?}");
            assert_eq!(woken.wakes(), 0, "{timer:?} woke before the turn");
            turn().await;
            assert_eq!(woken.wakes(), 1, "{timer:?}");
            assert!(poll_with(&mut timer, &waker).is_ready(), "{timer:?}");
            turn().await;
            assert_eq!(woken.wakes(), 1, "{timer:?}");
        });
    }
}

// C01
#[test]
fn a_zero_sleep_lets_everything_else_run_once() {
    let _guard = begin();
    block_on(async {
        let runs = Rc::new(Cell::new(0));
        for _ in 0..10 {
            let runs = Rc::clone(&runs);
            _ = spawn(async move { runs.set(runs.get() + 1) });
        }
        sleep(Duration::ZERO).await;
        assert_eq!(runs.get(), 10);
    });
}

// C01
#[test]
fn a_timer_gives_its_deadline() {
    let _guard = begin();
    let deadline = Instant::now() + ms(2);
    assert_eq!(block_on(Timer::at(deadline)), deadline);
    assert_eq!(block_on(Timer::at(deadline)), deadline, "one that has passed");
    let mut stream = Timer::at(deadline);
    assert_eq!(block_on(stream.next()), Some(deadline));
}

// C02
#[test]
fn no_timer_goes_off_early() {
    let _guard = begin();
    block_on(async {
        let tasks = (0..20).map(|seed| {
            spawn(async move {
                let mut random = Random::new(seed + 1);
                for _ in 0..50 {
                    let duration = Duration::from_nanos(random.below(5_000_000));
                    let start = Instant::now();
                    sleep(duration).await;
                    kit::assert_at_least(start.elapsed(), duration);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

// C23, G12
#[test]
fn what_has_gone_off_says_the_same_when_it_is_polled_again() {
    let _guard = begin();
    block_on(async {
        let (woken, waker) = CountingWaker::new();
        let deadline = Instant::now();
        let (mut timer, mut sleep) = (Timer::at(deadline), sleep(Duration::ZERO));
        let mut timeout = timeout(Duration::ZERO, pending::<()>());
        assert!(poll_with(&mut timer, &waker).is_pending());
        assert!(poll_with(&mut sleep, &waker).is_pending());
        assert!(poll_with(&mut timeout, &waker).is_pending());
        turn().await;
        for _ in 0..1000 {
            assert_eq!(poll_with(&mut timer, &waker), Poll::Ready(deadline));
            assert_eq!(poll_with(&mut sleep, &waker), Poll::Ready(()));
            assert!(matches!(poll_with(&mut timeout, &waker), Poll::Ready(Err(_))));
        }
        assert_eq!(woken.wakes(), 3);
        assert_eq!(woken.wakers(), 1, "none is kept");
        assert!(!timer.will_fire());
    });
}

// G12
#[test]
fn polling_a_thousand_times_more_keeps_one_waker_each() {
    let _guard = begin();
    block_on(async {
        let (woken, waker) = CountingWaker::new();
        let deadline = Instant::now() + ms(50);
        let (mut timer, mut ticks) = (Timer::at(deadline), Timer::interval_at(deadline, HOUR));
        let mut sleep = sleep(ms(50));
        let mut timeout = timeout(ms(50), pending::<()>());
        let mut ready = 0;
        for _ in 0..1000 {
            ready += usize::from(poll_with(&mut timer, &waker).is_ready());
            ready += usize::from(poll_next(&mut ticks, &waker).is_ready());
            ready += usize::from(poll_with(&mut sleep, &waker).is_ready());
            ready += usize::from(poll_with(&mut timeout, &waker).is_ready());
        }
        assert_eq!(ready, 0, "nothing goes off without a turn");
        assert_eq!(woken.wakers(), 5, "one for each, and the one at hand");
        sleep.await;
        until(deadline + ms(1)).await;
        assert!(poll_next(&mut ticks, &waker).is_ready());
        assert!(woken.wakes() <= 4, "{} wakes", woken.wakes());
    });
}

// J01
#[test]
fn a_tick_outlives_the_futures_that_were_to_take_it() {
    let _guard = begin();
    block_on(async {
        let start = Instant::now();
        let mut ticks = Timer::interval_at(start, HOUR);
        // Dropped before its poll, after the poll that sets, and after the tick.
        drop(ticks.next());
        for _ in 0..2 {
            poll_fn(|cx| {
                let mut next = std::pin::pin!(ticks.next());
                assert!(next.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        turn().await;
        drop(ticks.next());
        assert_eq!(ticks.next().await, Some(start));
    });
}

// J03
#[test]
fn a_timers_stream_is_never_at_its_end() {
    let _guard = begin();
    block_on(async {
        let deadline = Instant::now();
        for mut timer in [Timer::at(deadline), Timer::interval_at(deadline, Duration::MAX)] {
            assert_eq!(timer.next().await, Some(deadline));
            for _ in 0..10 {
                assert!(timeout(Duration::ZERO, timer.next()).await.is_err());
            }
            // As a future it has gone off all the same.
            assert_eq!((&mut timer).await, deadline);
            timer.set_at(deadline + ms(1));
            assert_eq!(timer.next().await, Some(deadline + ms(1)));
        }
        assert!(timeout(Duration::ZERO, Timer::never().next()).await.is_err());
    });
}

// J05
#[test]
fn a_timers_stream_promises_no_number_of_ticks() {
    use futures_core::Stream;
    let _guard = begin();
    block_on(async {
        let mut timers = due_timers();
        timers.push(Timer::never());
        for timer in &mut timers {
            assert_eq!(timer.size_hint(), (0, None));
            if timer.will_fire() {
                timer.next().await;
            }
            assert_eq!(timer.size_hint(), (0, None));
        }
    });
}

#[test]
fn setting_a_timer_anew_forgets_what_it_was() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        let start = Instant::now();
        let mut timer = Timer::at(start);
        assert!(poll_with(&mut timer, &log.waker(0)).is_pending());
        timer.set_at(start + HOUR);
        turn().await;
        assert!(poll_with(&mut timer, &log.waker(1)).is_pending());
        timer.set_interval_at(start, ms(1));
        assert!(poll_with(&mut timer, &log.waker(2)).is_pending());
        turn().await;
        assert_eq!(log.take(), [2]);
        assert_eq!(timer.next().await, Some(start));
        assert_eq!(timer.next().await, Some(start + ms(1)));
        timer.set_after(Duration::ZERO);
        timer.next().await;
        assert!(!timer.will_fire(), "it repeats no more");
        timer.set_after(Duration::ZERO);
        assert!(timer.will_fire());
        let waker = log.waker(3);
        assert!(poll_with(&mut timer, &waker).is_pending(), "it has not gone off since");
    });
}

// C18
#[test]
fn tasks_that_are_always_ready_do_not_hold_a_timer_up() {
    let _guard = begin();
    block_on(async {
        let stop = Rc::new(Cell::new(false));
        for _ in 0..100 {
            let stop = Rc::clone(&stop);
            _ = spawn(async move {
                while !stop.get() {
                    yield_now().await;
                }
            });
        }
        sleep(ms(10)).await;
        stop.set(true);
    });
}

// C18
#[test]
fn zero_sleeps_do_not_hold_a_socket_up() {
    let _guard = begin();
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Async::new(ours).unwrap(), Async::new(theirs).unwrap());
        let talk = spawn(async move {
            let mut byte = [0];
            for n in 0..50 {
                ours.write_all(&[n]).await.unwrap();
                theirs.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [n]);
                theirs.write_all(&[n]).await.unwrap();
                ours.read_exact(&mut byte).await.unwrap();
            }
        });
        while !talk.is_finished() {
            sleep(Duration::ZERO).await;
        }
        talk.await.unwrap();
    });
}

// C18
#[test]
fn sockets_that_are_always_ready_do_not_hold_a_timer_up() {
    let _guard = begin();
    block_on(async {
        let stop = Rc::new(Cell::new(false));
        for _ in 0..64 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (ours, theirs) = (Async::new(ours).unwrap(), Async::new(theirs).unwrap());
            let stop = Rc::clone(&stop);
            _ = spawn(async move {
                let mut byte = [0];
                while !stop.get() {
                    ours.write_all(&byte).await.unwrap();
                    theirs.read_exact(&mut byte).await.unwrap();
                }
            });
        }
        sleep(ms(10)).await;
        stop.set(true);
    });
}

#[test]
fn a_future_that_is_ready_beats_its_timeout() {
    let _guard = begin();
    block_on(async {
        assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
        // Both have come by the time it is polled again.
        let mut both = timeout(ms(1), sleep(ms(1)));
        assert!(poll_with(&mut both, &kit::noop_waker()).is_pending());
        std::thread::sleep(ms(5));
        turn().await;
        assert_eq!(both.await, Ok(()));
        let slow = timeout(ms(1), timeout(HOUR, pending::<()>()));
        assert!(slow.await.is_err(), "the outer one is nearer");
    });
}

// C23
#[test]
fn a_timeout_that_has_passed_may_be_given_another_chance() {
    let _guard = begin();
    block_on(async {
        let come = Cell::new(false);
        let mut late = timeout(
            Duration::ZERO,
            poll_fn(|_| if come.get() { Poll::Ready(7) } else { Poll::Pending }),
        );
        assert!((&mut late).await.is_err());
        assert!((&mut late).await.is_err());
        come.set(true);
        assert_eq!((&mut late).await, Ok(7));
        assert_eq!((&mut late).await, Ok(7), "the future's own answer");
    });
}

#[test]
fn a_timeout_that_has_passed_says_so() {
    let _guard = begin();
    let elapsed: Elapsed = block_on(timeout(ms(1), pending::<()>())).unwrap_err();
    assert_eq!(elapsed.to_string(), "the time has passed");
    let error = io::Error::from(elapsed);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()));
}

#[test]
fn a_timeout_drops_its_future_with_itself_and_no_sooner() {
    let _guard = begin();
    let log = DropLog::new();
    let check = log.check();
    let mut passed = Box::pin(timeout(Duration::ZERO, async move {
        pending::<()>().await;
        drop(check);
    }));
    block_on(async {
        assert!(passed.as_mut().await.is_err());
    });
    assert_eq!(log.living(), 1);
    drop(passed);
    log.assert_all_dropped();
}
