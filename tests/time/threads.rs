//! Timers that are dropped, set or awaited on another thread than the one they wait on.

use crate::kit;
use crate::kit::timers;
use kit::{CountingWaker, poll_with};
use selio::{Timer, block_on, spawn};
use std::mem;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use timers::{HOUR, Random, begin, ms, run_for, turn, until};

/// Timers that wait on this thread, one of them due.
fn waiting(waker: &std::task::Waker) -> Vec<Timer> {
    let mut timers = vec![Timer::after(HOUR), Timer::after(Duration::ZERO), Timer::after(HOUR)];
    block_on(async {
        for timer in &mut timers {
            assert!(poll_with(timer, waker).is_pending());
        }
        turn().await;
    });
    timers
}

#[test]
fn what_is_dropped_elsewhere_is_let_go_at_the_next_turn() {
    let _guard = begin();
    let (woken, waker) = CountingWaker::new();
    let timers = waiting(&waker);
    assert_eq!((woken.wakes(), woken.wakers()), (1, 3));
    thread::spawn(move || drop(timers)).join().unwrap();
    run_for(Duration::ZERO);
    assert_eq!((woken.wakes(), woken.wakers()), (1, 1));
}

#[test]
fn what_is_set_elsewhere_does_not_go_off_at_home() {
    let _guard = begin();
    let (woken, waker) = CountingWaker::new();
    let mut timer = Timer::after(Duration::ZERO);
    assert!(poll_with(&mut timer, &waker).is_pending());
    let set = move || {
        timer.set_after(HOUR);
        timer
    };
    let timer = thread::spawn(set).join().unwrap();
    // It was due, but not any more.
    run_for(ms(1));
    assert_eq!((woken.wakes(), woken.wakers()), (0, 1));
    assert!(timer.will_fire());
}

#[test]
fn a_thread_that_ends_lets_go_of_the_wakers_of_timers_that_live_on() {
    let _guard = begin();
    let (woken, waker) = CountingWaker::new();
    let theirs = waker.clone();
    let mut timers = thread::spawn(move || waiting(&theirs)).join().unwrap();
    assert_eq!((woken.wakes(), woken.wakers()), (1, 1));
    block_on(async {
        assert!(poll_with(&mut timers[0], &waker).is_pending());
        assert!(poll_with(&mut timers[1], &waker).is_ready());
    });
    assert_eq!(woken.wakers(), 2);
    drop(timers);
    assert_eq!((woken.wakes(), woken.wakers()), (1, 1));
}

#[test]
fn a_waker_that_panics_when_it_is_let_go_disturbs_nobody_at_home() {
    let _guard = begin();
    let waker = mem::ManuallyDrop::new(kit::panics_on_drop());
    let (mut timer, mut stays) = (Timer::after(HOUR), Timer::after(ms(2)));
    assert!(poll_with(&mut timer, &waker).is_pending());
    thread::spawn(move || drop(timer)).join().unwrap();
    block_on(async {
        assert!(poll_with(&mut stays, &kit::noop_waker()).is_pending());
        let deadline = (&mut stays).await;
        assert!(deadline <= Instant::now());
    });
}

#[test]
fn a_waker_that_panics_when_its_thread_ends_does_no_harm() {
    let _guard = begin();
    let (woken, good) = CountingWaker::new();
    let ends = thread::spawn(move || {
        let bad = mem::ManuallyDrop::new(kit::panics_on_drop());
        for waker in [&*bad, &good, &*bad] {
            let mut timer = Timer::after(HOUR);
            assert!(poll_with(&mut timer, waker).is_pending());
            mem::forget(timer);
        }
    });
    ends.join().unwrap();
    assert_eq!(woken.wakers(), 0);
}

// C20, C22
#[test]
fn timers_handed_round_between_threads_go_off_each_once() {
    let _guard = begin();
    let (to_there, there) = mpsc::channel::<Vec<Timer>>();
    let (to_here, here) = mpsc::channel::<Vec<Timer>>();
    let far = thread::spawn(move || hand_round(2, &there, &to_here));
    let start = Instant::now();
    to_there.send((0..200).map(|n| Timer::at(start + n * ms(1) / 10)).collect()).unwrap();
    hand_round(1, &here, &to_there);
    drop(to_there);
    far.join().unwrap();
    for mut timer in here.into_iter().flatten() {
        // Those that have not gone off yet still do.
        block_on(&mut timer);
        assert!(!timer.will_fire());
    }
}

/// Polls what comes, awaits some, drops some, and gives the rest on.
fn hand_round(seed: u64, from: &mpsc::Receiver<Vec<Timer>>, to: &mpsc::Sender<Vec<Timer>>) {
    let mut random = Random::new(seed);
    for _ in 0..30 {
        let Ok(mut timers) = from.recv() else { return };
        block_on(async {
            for timer in &mut timers {
                if let Poll::Ready(deadline) = poll_with(timer, &kit::noop_waker()) {
                    assert!(deadline <= Instant::now());
                }
            }
            until(Instant::now() + Duration::from_micros(random.below(500))).await;
            if let Some(timer) = timers.pop() {
                let deadline = spawn(timer);
                assert!(deadline.await.unwrap() <= Instant::now());
            }
            random.shuffle(&mut timers);
            timers.truncate(timers.len().saturating_sub(2));
        });
        if to.send(timers).is_err() {
            return;
        }
    }
}
