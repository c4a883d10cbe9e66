//! Timers that are dropped, set or awaited on another thread than the one they wait on.

use crate::kit;
use crate::kit::timers;
use kit::{CountingWaker, poll_with};
use selio::{Spin, Timer, block_on, spawn, spin};
use std::cell::RefCell;
use std::future::poll_fn;
use std::mem::{self, ManuallyDrop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
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

/// A timer of this thread, whose waker does this when it is dropped; and that it was dropped.
fn withdrawn(then: impl Fn() + Send + Sync + 'static) -> Arc<AtomicBool> {
    let dropped = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&dropped);
    let waker = kit::hostile().on_drop(move || {
        note.store(true, Ordering::SeqCst);
        then();
    });
    let waker = ManuallyDrop::new(waker.waker());
    let mut timer = Timer::after(HOUR);
    assert!(poll_with(&mut timer, &waker).is_pending());
    thread::spawn(move || drop(timer)).join().unwrap();
    dropped
}

#[test]
fn a_waker_that_is_let_go_before_the_sleep_makes_something_ready() {
    let _guard = begin();
    block_on(async {
        let waiting = Arc::new(Mutex::new(None::<Waker>));
        let theirs = Arc::clone(&waiting);
        let dropped =
            withdrawn(move || theirs.lock().unwrap().take().into_iter().for_each(Waker::wake));
        poll_fn(|cx| {
            *waiting.lock().unwrap() = Some(cx.waker().clone());
            if dropped.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
}

#[test]
fn a_waker_that_is_let_go_before_the_sleep_ends_a_spin() {
    thread_local! {
        static SPIN: RefCell<Option<Spin>> = const { RefCell::new(None) };
    }
    let _guard = begin();
    SPIN.set(Some(spin(HOUR)));
    block_on(async {
        let _dropped = withdrawn(|| drop(SPIN.take()));
        let woken = Arc::new(AtomicBool::new(false));
        let (send, receive) = mpsc::channel::<Waker>();
        let theirs = Arc::clone(&woken);
        let waking = thread::spawn(move || {
            let waker = receive.recv().unwrap();
            thread::sleep(ms(30));
            theirs.store(true, Ordering::SeqCst);
            waker.wake();
        });
        poll_fn(|cx| {
            _ = send.send(cx.waker().clone());
            if woken.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        waking.join().unwrap();
    });
    assert!(SPIN.take().is_none(), "it was not let go");
}

#[test]
fn a_thread_that_takes_no_turn_lets_go_when_it_sets_another() {
    let _guard = begin();
    let (count, waker) = CountingWaker::new();
    for _ in 0..100 {
        let mut timer = Timer::after(HOUR);
        assert!(poll_with(&mut timer, &waker).is_pending());
        thread::spawn(move || drop(timer)).join().unwrap();
    }
    assert!(count.wakers() <= 2, "{} wakers are kept", count.wakers());
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
