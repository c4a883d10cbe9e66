//! Whom timers wake: the last waker, on the last thread, once, also where wakers misbehave.

use crate::kit;
use crate::kit::timers;
use kit::{CountingWaker, hostile, poll_with};
use selio::time::sleep;
use selio::{Timer, block_on, spawn};
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};
use timers::{HOUR, WakeLog, ago, begin, ms, panic_message, poll_next, run_for, turn, until};

/// Timers that a waker's hook may reach.
type Shared = Arc<Mutex<Vec<Timer>>>;

fn empty(timers: &Shared) {
    let timers = mem::take(&mut *timers.lock().unwrap());
    drop(timers);
}

// B15
#[test]
fn the_same_waker_is_cloned_once() {
    let _guard = begin();
    let clones = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&clones);
    let count = move || _ = counts.fetch_add(1, Ordering::SeqCst);
    let waker = hostile().on_clone(count).waker();
    block_on(async {
        let mut timer = Timer::after(HOUR);
        for _ in 0..3 {
            assert!(poll_with(&mut timer, &waker).is_pending());
        }
    });
    assert_eq!(clones.load(Ordering::SeqCst), 1);
}

#[test]
fn what_has_long_been_due_goes_off_in_the_order_of_its_deadlines() {
    let _guard = begin();
    let log = WakeLog::new();
    block_on(async {
        let mut timers: Vec<_> = (1..=3).map(|hours| Timer::at(ago(HOUR * hours))).collect();
        for (number, timer) in timers.iter_mut().enumerate() {
            assert!(poll_with(timer, &log.waker(number)).is_pending());
        }
        turn().await;
    });
    assert_eq!(log.take(), [2, 1, 0]);
}

// B16
#[test]
fn the_last_waker_is_woken_and_no_other() {
    let _guard = begin();
    for as_stream in [false, true] {
        block_on(async {
            let (first, first_waker) = CountingWaker::new();
            let (last, last_waker) = CountingWaker::new();
            let mut timer = Timer::at(Instant::now());
            for waker in [&first_waker, &last_waker, &first_waker, &last_waker] {
                match as_stream {
                    true => assert!(poll_next(&mut timer, waker).is_pending()),
                    false => assert!(poll_with(&mut timer, waker).is_pending()),
                }
            }
            assert_eq!(first.wakers(), 1, "the former one is kept");
            turn().await;
            assert_eq!((first.wakes(), last.wakes()), (0, 1));
        });
    }
}

// J04, B16
#[test]
fn a_stream_handed_from_task_to_task_wakes_the_one_that_has_it() {
    let _guard = begin();
    block_on(async {
        let start = Instant::now();
        let mut ticks = Timer::interval_at(start, Duration::from_micros(10));
        for n in 0..100 {
            // One task leaves its waker, the next one takes the tick.
            let left = spawn(poll_fn(move |cx| {
                _ = poll_next(&mut ticks, cx.waker());
                Poll::Ready(mem::replace(&mut ticks, Timer::never()))
            }));
            ticks = left.await.unwrap();
            let (back, tick) = spawn(async move {
                let tick = ticks.next().await;
                (ticks, tick)
            })
            .await
            .unwrap();
            assert_eq!(tick, Some(start + n * Duration::from_micros(10)));
            ticks = back;
        }
    });
}

// B17: the timer goes off while the new waker is being cloned, and wakes the old one.
#[test]
fn a_timer_that_goes_off_under_a_change_of_wakers_is_ready() {
    let _guard = begin();
    block_on(async {
        let (old, old_waker) = CountingWaker::new();
        let mut timer = Timer::after(ms(1));
        assert!(poll_with(&mut timer, &old_waker).is_pending());
        let slow = hostile().on_clone(|| run_for(ms(5))).waker();
        assert!(poll_with(&mut timer, &slow).is_ready());
        assert_eq!(old.wakes(), 1);
    });
}

// B17: the deadline passes while the first waker is being cloned, and a turn with it.
#[test]
fn a_timer_whose_deadline_passes_while_it_is_set_goes_off() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        let wakes = log.clone();
        let slow = hostile().on_clone(|| run_for(ms(5))).on_wake(move || wakes.note(1)).waker();
        let mut timer = Timer::after(ms(1));
        assert!(poll_with(&mut timer, &slow).is_pending());
        turn().await;
        assert_eq!(log.take(), [1]);
        assert!(poll_with(&mut timer, &slow).is_ready());
    });
}

// C09
#[test]
fn a_waker_may_drop_the_timers_that_are_due_with_it() {
    let _guard = begin();
    let log = WakeLog::new();
    let timers = Shared::default();
    block_on(async {
        let now = Instant::now();
        let later = now + ms(20);
        for number in 0..100 {
            let (wakes, all) = (log.clone(), Arc::clone(&timers));
            let waker = kit::closure_waker(move || {
                wakes.note(number);
                empty(&all);
            });
            // Every other one is due only after the first ones have gone.
            let deadline = if number % 2 == 0 { now } else { later };
            let mut timer = Timer::at(deadline);
            assert!(poll_with(&mut timer, &waker).is_pending());
            timers.lock().unwrap().push(timer);
        }
        sleep(Duration::ZERO).await;
        let mut woken = log.take();
        assert_eq!(woken.first(), Some(&0));
        woken.dedup();
        assert!(woken.is_sorted(), "each once: {woken:?}");
        if Instant::now() < later {
            assert!(woken.iter().all(|number| number % 2 == 0), "{woken:?}");
        }
        assert!(timers.lock().unwrap().is_empty());
        until(later).await;
        assert_eq!(log.take(), [], "dropped timers woke later");
    });
}

// C09
#[test]
fn a_waker_may_set_and_make_timers() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        let timers = Shared::default();
        let (wakes, all) = (log.clone(), Arc::clone(&timers));
        let waker = kit::closure_waker(move || {
            let mut timer = Timer::after(Duration::ZERO);
            assert!(poll_with(&mut timer, &wakes.waker(1)).is_pending());
            let mut all = all.lock().unwrap();
            for other in all.iter_mut() {
                other.set_after(Duration::ZERO);
                assert!(poll_with(other, &wakes.waker(2)).is_pending());
            }
            all.push(timer);
        });
        let mut far = Timer::after(HOUR);
        let mut near = Timer::after(Duration::ZERO);
        assert!(poll_with(&mut far, &log.waker(9)).is_pending());
        assert!(poll_with(&mut near, &waker).is_pending());
        timers.lock().unwrap().push(far);
        turn().await;
        turn().await;
        let mut woken = log.take();
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
    });
}

/// A waker whose drop does something with the timers it shares.
fn on_drop(timers: &Shared, hook: fn(&Shared)) -> Waker {
    let timers = Arc::clone(timers);
    hostile().on_drop(move || hook(&timers)).waker()
}

// C09: wakers are dropped when timers are, when they are set anew, and when another waker comes.
#[test]
fn a_wakers_drop_may_drop_timers() {
    let _guard = begin();
    block_on(async {
        let ways: [fn(&mut Timer); 3] = [
            |timer| *timer = Timer::never(),
            |timer| timer.set_after(HOUR),
            |timer| assert!(poll_with(timer, &kit::noop_waker()).is_pending()),
        ];
        for way in ways {
            let timers = Shared::default();
            let mut sibling = Timer::after(HOUR);
            assert!(poll_with(&mut sibling, &kit::noop_waker()).is_pending());
            timers.lock().unwrap().push(sibling);
            let mut timer = Timer::after(HOUR);
            let waker = on_drop(&timers, empty);
            assert!(poll_with(&mut timer, &waker).is_pending());
            way(&mut timer);
            assert!(timers.lock().unwrap().is_empty());
        }
    });
}

// C10
#[test]
fn a_waker_that_panics_keeps_no_other_timer_from_going_off() {
    let _guard = begin();
    let log = WakeLog::new();
    let deadline = Instant::now();
    let mut timers = [deadline; 3].map(Timer::at);
    let message = panic_message(|| {
        block_on(async {
            let wakers = [log.waker(0), kit::panics_on_wake(), log.waker(2)];
            for (timer, waker) in timers.iter_mut().zip(&wakers) {
                assert!(poll_with(timer, waker).is_pending());
            }
            turn().await;
        });
    });
    assert!(message.contains("a waker panics when woken"), "{message}");
    assert_eq!(log.take(), [0, 2]);
    block_on(async {
        turn().await;
        for timer in &mut timers {
            let again = poll_with(timer, &log.waker(3));
            assert_eq!(again, Poll::Ready(deadline));
        }
    });
    assert_eq!(log.take(), [], "the entries are gone");
}

// C10
#[test]
fn a_waker_that_panics_when_cloned_leaves_the_timer_as_it_was() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        let mut timer = Timer::after(Duration::ZERO);
        panic_message(|| poll_with(&mut timer, &kit::panics_on_clone()));
        assert!(poll_with(&mut timer, &log.waker(1)).is_pending());
        panic_message(|| poll_with(&mut timer, &kit::panics_on_clone()));
        turn().await;
        assert_eq!(log.take(), [1]);
        assert!(poll_with(&mut timer, &log.waker(2)).is_ready());
    });
}

// C10: the panic comes when all is in order, so that the timer has what it was to have.
#[test]
fn a_waker_that_panics_when_dropped_spoils_no_timer() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        // Not dropped itself: its clones are what counts.
        let waker = mem::ManuallyDrop::new(kit::panics_on_drop());
        let mut replaced = Timer::after(Duration::ZERO);
        assert!(poll_with(&mut replaced, &waker).is_pending());
        panic_message(|| poll_with(&mut replaced, &log.waker(1)));
        let mut set = Timer::after(HOUR);
        assert!(poll_with(&mut set, &waker).is_pending());
        panic_message(|| set.set_after(Duration::ZERO));
        set.set_after(Duration::ZERO);
        assert!(poll_with(&mut set, &log.waker(2)).is_pending());
        let mut dropped = Timer::after(Duration::ZERO);
        assert!(poll_with(&mut dropped, &waker).is_pending());
        panic_message(move || drop(dropped));
        turn().await;
        assert_eq!(log.take(), [1, 2]);
    });
}

// C16
#[test]
fn a_timer_set_anew_by_the_first_of_a_batch_does_not_go_off() {
    let _guard = begin();
    block_on(async {
        let timers = Shared::default();
        let log = WakeLog::new();
        let now = Instant::now();
        let (mut first, mut second) = (Timer::at(now), Timer::at(now));
        let all = Arc::clone(&timers);
        let waker = kit::closure_waker(move || all.lock().unwrap()[0].set_at(now + ms(2)));
        assert!(poll_with(&mut first, &waker).is_pending());
        assert!(poll_with(&mut second, &log.waker(1)).is_pending());
        timers.lock().unwrap().push(second);
        turn().await;
        let mut second = timers.lock().unwrap().pop().unwrap();
        _ = log.take();
        let waker = log.waker(2);
        assert!(poll_with(&mut second, &waker).is_pending());
        until(now + ms(2)).await;
        assert_eq!(log.take(), [2]);
        assert_eq!(poll_with(&mut second, &waker), Poll::Ready(now + ms(2)));
    });
}

// C19
#[test]
fn a_timer_dropped_when_it_was_due_wakes_nobody_nor_does_its_place() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        for _ in 0..10 {
            let mut dropped = Timer::at(ago(HOUR));
            assert!(poll_with(&mut dropped, &log.waker(1)).is_pending());
            drop(dropped);
            let mut newcomer = Timer::after(HOUR);
            let waker = log.waker(2);
            assert!(poll_with(&mut newcomer, &waker).is_pending());
            turn().await;
            assert_eq!(log.take(), []);
            assert!(poll_with(&mut newcomer, &waker).is_pending());
        }
    });
}

// C19: now it has gone off, and is dropped before it is polled.
#[test]
fn the_place_of_a_timer_that_went_off_unseen_is_free() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        let mut unseen = Timer::at(ago(HOUR));
        assert!(poll_with(&mut unseen, &log.waker(1)).is_pending());
        turn().await;
        assert_eq!(log.take(), [1]);
        drop(unseen);
        let mut newcomer = Timer::after(HOUR);
        let waker = log.waker(2);
        assert!(poll_with(&mut newcomer, &waker).is_pending());
        turn().await;
        assert_eq!(log.take(), []);
        assert!(poll_with(&mut newcomer, &waker).is_pending());
    });
}

// H16
#[test]
fn forgotten_timers_are_a_leak_and_no_more() {
    let _guard = begin();
    let log = WakeLog::new();
    block_on(async {
        for duration in [Duration::ZERO, ms(2), HOUR] {
            let mut timer = Timer::after(duration);
            assert!(poll_with(&mut timer, &log.waker(1)).is_pending());
            mem::forget(timer);
        }
        let start = Instant::now();
        let mut ticks = Timer::interval_at(start, HOUR);
        poll_fn(|cx| {
            let mut next = Box::pin(ticks.next());
            assert!(next.as_mut().poll(cx).is_pending());
            mem::forget(next);
            Poll::Ready(())
        })
        .await;
        assert_eq!(ticks.next().await, Some(start));
    });
    run_for(ms(3));
    assert_eq!(log.take(), [1, 1]);
    run_for(ms(1));
    assert_eq!(log.take(), []);
}

// C20
#[test]
fn a_timer_made_and_polled_outside_goes_off_in_the_next_block_on() {
    let _guard = begin();
    let log = WakeLog::new();
    let mut timer = Timer::after(Duration::ZERO);
    assert!(poll_with(&mut timer, &log.waker(1)).is_pending());
    thread::sleep(ms(1));
    assert!(poll_with(&mut timer, &log.waker(2)).is_pending(), "nothing runs here");
    run_for(Duration::ZERO);
    assert_eq!(log.take(), [2]);
    assert!(poll_with(&mut timer, &log.waker(3)).is_ready());
    let made_outside = Timer::after(ms(1));
    block_on(made_outside);
}

// C20
#[test]
fn a_timer_left_by_one_block_on_goes_off_in_the_next() {
    let _guard = begin();
    let log = WakeLog::new();
    let deadline = Instant::now() + ms(2);
    let mut timer = Timer::at(deadline);
    block_on(async { assert!(poll_with(&mut timer, &log.waker(1)).is_pending()) });
    block_on(async { assert!(poll_with(&mut timer, &log.waker(2)).is_pending()) });
    // An inner loop drives the same reactor.
    block_on(async { block_on(until(deadline)) });
    assert_eq!(log.take(), [2]);
    assert_eq!(block_on(timer), deadline);
}

// C20
#[test]
fn a_timer_goes_off_on_each_thread_it_is_moved_to() {
    let _guard = begin();
    let mut ticks = Timer::interval(ms(1));
    let mut last = block_on(ticks.next());
    for turn in 0..6 {
        // Left waiting on one thread, which ends, and awaited on another.
        let left = move || {
            block_on(async { _ = poll_next(&mut ticks, &kit::noop_waker()) });
            ticks
        };
        ticks = if turn % 2 == 0 { thread::spawn(left).join().unwrap() } else { left() };
        let awaited = move || (block_on(ticks.next()), ticks);
        let tick;
        (tick, ticks) = if turn < 3 { thread::spawn(awaited).join().unwrap() } else { awaited() };
        assert_eq!(tick, last.map(|last| last + ms(1)));
        last = tick;
    }
}

/// Leaves timers waiting on a thread whose `block_on` goes on until it is told to end.
fn with_timers_elsewhere(timers: Vec<Timer>, waker: &Waker, test: impl FnOnce(Vec<Timer>)) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let end = Arc::new(Barrier::new(2));
    let (their_end, waker) = (Arc::clone(&end), waker.clone());
    let home = thread::spawn(move || {
        block_on(async {
            let mut timers = timers;
            for timer in &mut timers {
                assert!(poll_with(timer, &waker).is_pending());
            }
            turn().await;
            sender.send(timers).unwrap();
            // Whatever wakes here until then is noticed.
            while sender.send(Vec::new()).is_ok() {
                sleep(ms(1)).await;
            }
        });
        their_end.wait();
    });
    test(receiver.recv().unwrap());
    drop(receiver);
    end.wait();
    home.join().unwrap();
}

// C20
#[test]
fn a_timer_that_was_moved_wakes_only_where_it_is_now() {
    let _guard = begin();
    let (home, home_waker) = CountingWaker::new();
    let deadline = Instant::now() + ms(50);
    let timers = vec![Timer::at(deadline), Timer::at(ago(HOUR))];
    with_timers_elsewhere(timers, &home_waker, |mut timers| {
        assert!(home.wakes() >= 1, "one has gone off at home");
        block_on(async {
            assert!(poll_with(&mut timers[1], &kit::noop_waker()).is_ready());
            let (here, waker) = CountingWaker::new();
            let moved = poll_with(&mut timers[0], &waker).is_pending();
            // Else it may have gone off at home before it left.
            let in_time = Instant::now() < deadline;
            until(deadline).await;
            if moved && in_time {
                assert_eq!((home.wakes(), here.wakes()), (1, 1));
            }
            assert_eq!(poll_with(&mut timers[0], &waker), Poll::Ready(deadline));
        });
    });
}

// C20
#[test]
fn a_timer_dropped_or_set_on_another_thread_wakes_nobody_at_home() {
    let _guard = begin();
    let (home, waker) = CountingWaker::new();
    let deadline = Instant::now() + ms(50);
    let timers = vec![Timer::at(deadline), Timer::at(deadline)];
    with_timers_elsewhere(timers, &waker, |mut timers| {
        timers[0].set_after(HOUR);
        timers.pop();
        let in_time = Instant::now() < deadline;
        thread::sleep(ms(60));
        if in_time {
            kit::eventually("ours is left, and the thread's", || home.wakers() == 2);
            assert_eq!(home.wakes(), 0);
        }
    });
}

#[test]
fn a_timer_polled_before_the_threads_first_wait_goes_off_in_it() {
    let _guard = begin();
    let wakes = thread::spawn(|| {
        let (count, waker) = CountingWaker::new();
        let mut timer = Timer::after(ms(1));
        assert!(poll_with(&mut timer, &waker).is_pending());
        run_for(ms(20));
        count.wakes()
    });
    assert_eq!(wakes.join().unwrap(), 1);
}
