//! Streams of signals and wakers: who is woken, how often, and whatever wakers do.

use crate::kit;
use crate::kit::deliveries;
use crate::kit::futures;
use crate::kit::keys;
use deliveries::{assert_silent, next, numbers, poll, poll_here, queue, settle, values};
use keys::{millis, raise};
use selio::block_on;
use selio::signal::{SIGHUP, SIGRTMIN, SIGUSR1, SIGUSR2, Signals};
use selio::time::sleep;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::task::Waker;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("the_last_waker_is_woken", the_last_waker_is_woken),
        ("handed_from_task_to_task", handed_from_task_to_task),
        ("woken_once_for_each_delivery", woken_once_for_each_delivery),
        ("not_woken_by_its_own_poll", not_woken_by_its_own_poll),
        ("comes_while_the_waker_is_left", comes_while_the_waker_is_left),
        ("a_hostile_waker_disturbs_no_other", a_hostile_waker_disturbs_no_other),
        ("a_waker_may_do_whatever_it_likes", a_waker_may_do_whatever_it_likes),
        ("a_busy_stream_lets_others_run", a_busy_stream_lets_others_run),
        ("heard_of_beside_a_task_that_never_sleeps", heard_of_beside_a_busy_task),
        ("polled_too_often", polled_too_often),
        ("waits_quietly", waits_quietly),
    ])
}

// B16
fn the_last_waker_is_woken() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        let (first, first_waker) = kit::CountingWaker::new();
        let (last, last_waker) = kit::CountingWaker::new();
        assert!(poll(&mut signals, &first_waker).is_pending());
        assert!(poll(&mut signals, &last_waker).is_pending());
        assert_eq!((first.wakers(), last.wakers()), (1, 2), "the former is given back");
        raise(SIGUSR1);
        settle();
        assert_eq!((first.wakes(), last.wakes()), (0, 1));
        assert_eq!(last.wakers(), 1);
        assert!(poll(&mut signals, &last_waker).is_ready());
        assert!(poll(&mut signals, &last_waker).is_pending());
        signals.remove(SIGUSR1);
        signals.add(SIGUSR1).unwrap();
        raise(SIGUSR1);
        settle();
        assert_eq!(last.wakes(), 2);
        next(&mut signals);
    }
    let (last, waker) = kit::CountingWaker::new();
    assert!(poll(&mut signals, &waker).is_pending());
    drop(signals);
    assert_eq!((last.wakers(), last.wakes()), (1, 0));
}

// J04
fn handed_from_task_to_task() {
    let signals = Rc::new(RefCell::new(Signals::new([SIGUSR1]).unwrap()));
    block_on(async {
        for _ in 0..20 {
            // Each task but the last polls once and waits for something else.
            for _ in 0..3 {
                let signals = Rc::clone(&signals);
                let polls = async move {
                    assert!(kit::poll_once(signals.borrow_mut().next()).is_pending());
                    let waker = futures::own_waker().await;
                    assert!(poll_here(&mut signals.borrow_mut(), &waker).is_pending());
                };
                selio::spawn(polls).await.unwrap();
            }
            let last = Rc::clone(&signals);
            let waits = selio::spawn(std::future::poll_fn(move |cx| {
                let polled = poll_here(&mut last.borrow_mut(), cx.waker());
                polled.map(|info| info.signo())
            }));
            futures::settle().await;
            raise(SIGUSR1);
            assert_eq!(waits.await.unwrap(), SIGUSR1);
        }
    });
}

fn woken_once_for_each_delivery() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo]).unwrap();
    let mut other = Signals::new([signo, SIGUSR2]).unwrap();
    let (counter, waker) = kit::CountingWaker::new();
    let (others, others_waker) = kit::CountingWaker::new();
    for round in 1..=20 {
        assert!(poll(&mut signals, &waker).is_pending());
        assert!(poll(&mut other, &others_waker).is_pending());
        // What is not wanted wakes nobody.
        raise(SIGUSR2);
        settle();
        assert_eq!((counter.wakes(), others.wakes()), (round - 1, 2 * round - 1));
        next(&mut other);
        assert!(poll(&mut other, &others_waker).is_pending());
        // Three at once: the first wakes, and then nobody waits any more.
        (0..3).for_each(|value| queue(signo, value));
        settle();
        assert_eq!((counter.wakes(), others.wakes()), (round, 2 * round));
        assert_eq!((values(&mut signals), values(&mut other)), (vec![0, 1, 2], vec![0, 1, 2]));
    }
}

fn not_woken_by_its_own_poll() {
    // A poll on another thread reads what has come meanwhile: no reason to poll again.
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    let (counter, waker) = kit::CountingWaker::new();
    assert!(poll(&mut signals, &waker).is_pending());
    raise(SIGUSR1);
    std::thread::spawn(move || {
        assert!(poll(&mut signals, &waker).is_ready());
        assert_eq!(counter.wakes(), 0);
        assert_eq!(counter.wakers(), 1);
    })
    .join()
    .unwrap();
}

// B17
fn comes_while_the_waker_is_left() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    assert!(poll(&mut signals, Waker::noop()).is_pending());
    let hostile = kit::hostile().on_clone(|| {
        raise(SIGUSR1);
        // Whoever begins to wait reads what is there, and hands it out.
        drop(Signals::new([SIGUSR2]).unwrap());
    });
    assert!(poll(&mut signals, &hostile.waker()).is_ready());
    assert_eq!(numbers(&mut signals), []);
}

// H11
fn a_hostile_waker_disturbs_no_other() {
    let new = || Signals::new([SIGUSR1]).unwrap();
    let mut all = [new(), new(), new()];
    for hostile in [kit::panics_on_wake(), kit::panics_on_drop(), kit::panics_on_clone()] {
        let hears = || {
            let (first, first_waker) = kit::CountingWaker::new();
            let (last, last_waker) = kit::CountingWaker::new();
            assert!(poll(&mut all[0], &first_waker).is_pending());
            let left = catch_unwind(AssertUnwindSafe(|| poll(&mut all[1], &hostile)));
            assert!(!left.is_ok_and(|polled| polled.is_ready()));
            assert!(poll(&mut all[2], &last_waker).is_pending());
            raise(SIGUSR1);
            let _ = catch_unwind(settle);
            assert_eq!((first.wakes(), last.wakes()), (1, 1));
            for signals in &mut all {
                assert_eq!(numbers(signals), [SIGUSR1]);
            }
        };
        let mut hears = hears;
        hears();
        hears();
        std::mem::forget(hostile);
    }
}

// H11: nothing is locked while foreign code runs.
fn a_waker_may_do_whatever_it_likes() {
    let other = Mutex::new(Some(Signals::new([SIGUSR1, SIGUSR2]).unwrap()));
    let meddle = move || {
        let mut new = Signals::new([SIGUSR1, SIGHUP]).unwrap();
        assert!(poll_here(&mut new, Waker::noop()).is_pending());
        assert!(new.remove(SIGUSR1));
        drop(other.lock().unwrap().take());
    };
    let meddle = std::sync::Arc::new(meddle);
    let hooks = [0; 3].map(|_| std::sync::Arc::clone(&meddle));
    let [on_clone, on_wake, on_drop] = hooks;
    let hostile = kit::hostile()
        .on_clone(move || on_clone())
        .on_wake(move || on_wake())
        .on_drop(move || on_drop())
        .waker();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for _ in 0..3 {
        assert!(poll(&mut signals, &hostile).is_pending());
        assert!(poll(&mut signals, &hostile).is_pending());
        raise(SIGUSR1);
        settle();
        assert_eq!(numbers(&mut signals), [SIGUSR1]);
    }
    assert!(poll(&mut signals, &hostile).is_pending());
    drop(signals);
    assert!(kit::disposition(SIGUSR1).is_default());
}

fn a_busy_stream_lets_others_run() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo]).unwrap();
    (0..5_000).for_each(|value| queue(signo, value));
    let taken = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&taken);
    block_on(async {
        let watcher = selio::spawn(async move {
            selio::yield_now().await;
            *seen.borrow()
        });
        for _ in 0..5_000 {
            signals.next().await.unwrap().unwrap();
            *taken.borrow_mut() += 1;
        }
        let seen = watcher.await.unwrap();
        assert!(seen < 5_000, "it had to wait for all {seen}");
    });
}

// G06
fn heard_of_beside_a_busy_task() {
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        block_on(async {
            let waits = selio::spawn(async move {
                assert_eq!(signals.next().await.unwrap().unwrap().signo(), SIGUSR1);
            });
            futures::settle().await;
            raise(SIGUSR1);
            let mut polls = 0;
            while !waits.is_finished() && polls < 100_000 {
                polls += 1;
                selio::yield_now().await;
            }
            assert!(polls <= 400, "{polls} polls went before the signal");
            waits.await.unwrap();
        });
    }
}

// G12
fn polled_too_often() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        block_on(async {
            let (counter, waker) = kit::CountingWaker::new();
            for _ in 0..1000 {
                assert!(poll_here(&mut signals, &waker).is_pending());
            }
            assert_eq!(counter.wakers(), 2, "one is kept");
            let mut asked = Box::pin(selio::signal::shutdown());
            for _ in 0..1000 {
                assert!(kit::poll_with(&mut asked, &waker).is_pending());
            }
            assert_eq!(counter.wakers(), 3, "one is kept for each");
            // Now and then the budget of the task is used up.
            assert!(counter.wakes() <= 20, "{} wakes for nothing", counter.wakes());
        });
        raise(SIGUSR1);
        assert_eq!(numbers(&mut signals), [SIGUSR1]);
    }
}

fn waits_quietly() {
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    assert_silent(&mut signals);
    // What is pending and nobody's to read, and what nobody takes, keeps nobody busy either.
    kit::block_signal(SIGHUP);
    kit::block_signal(SIGUSR2);
    raise(SIGHUP);
    let idle = Signals::new([SIGUSR1]).unwrap();
    raise(SIGUSR1);
    assert_eq!(numbers(&mut signals), [SIGUSR1]);
    kit::assert_quiet(|| block_on(sleep(millis(100))));
    raise(SIGUSR1);
    raise(SIGUSR2);
    kit::assert_quiet(|| block_on(sleep(millis(100))));
    drop(idle);
    kit::assert_quiet(|| block_on(sleep(millis(100))));
    assert_eq!(numbers(&mut signals).len(), 2);
    assert_silent(&mut signals);
}
