//! Wakes from other threads: none is lost, none is counted twice, and what was written before one
//! is seen.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, counted, own_waker};
use selio::time::sleep;
use selio::{block_on, spawn, yield_now};
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// Numbers that look random and are the same each time (a linear congruential generator).
fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for end in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        items.swap(end, (state >> 33) as usize % (end + 1));
    }
}

// B08, G13
#[test]
fn a_hundred_thousand_tasks_woken_once_each_are_polled_once_each() {
    let _guard = kit::watchdog(20);
    const TASKS: usize = 100_000;
    let (first, second) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (send, wakers) = mpsc::channel::<Vec<Waker>>();
    let thread = thread::spawn(move || {
        let mut wakers = wakers.recv().unwrap();
        shuffle(&mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    });
    block_on(async {
        let wakers = Rc::new(Cell::new(Vec::new()));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (first, second) = (Rc::clone(&first), Rc::clone(&second));
                let wakers = Rc::clone(&wakers);
                let mut polled = false;
                spawn(poll_fn(move |cx| {
                    if std::mem::replace(&mut polled, true) {
                        second.set(second.get() + 1);
                        return Poll::Ready(());
                    }
                    first.set(first.get() + 1);
                    let mut all = wakers.take();
                    all.push(cx.waker().clone());
                    wakers.set(all);
                    Poll::Pending
                }))
            })
            .collect();
        yield_now().await;
        assert_eq!((first.get(), second.get()), (TASKS, 0));
        send.send(wakers.take()).unwrap();
        for task in tasks {
            task.await.unwrap();
        }
    });
    thread.join().unwrap();
    assert_eq!((first.get(), second.get()), (TASKS, TASKS));
}

// B08
#[test]
fn many_wakes_from_threads_are_one_poll() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    block_on(async {
        let (keep, kept) = mpsc::channel();
        drop(spawn(counted(&polls, async move {
            keep.send(own_waker().await).unwrap();
            pending::<()>().await;
        })));
        yield_now().await;
        let waker = kept.recv().unwrap();
        // While this task computes, nothing is polled: all of the wakes come to one poll.
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..1000).for_each(|_| waker.wake_by_ref()));
            }
        });
        assert_eq!(polls.get(), 1);
        sleep(Duration::from_millis(2)).await;
    });
    assert_eq!(polls.get(), 2);
}

/// Threads raise a number and wake; the task must see each round through, however close the wakes
/// come to its sleep.
fn storm(threads: usize, rounds: usize, root: bool) {
    let raised = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let (send, wakers) = mpsc::channel::<Waker>();
    let (theirs, watched) = (Arc::clone(&raised), Arc::clone(&seen));
    let thread = thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let mine = theirs.fetch_add(1, Ordering::Relaxed) + 1;
                        waker.wake_by_ref();
                        // A lost wake shows here: nobody else will wake if all wait.
                        while watched.load(Ordering::Relaxed) < mine {
                            thread::yield_now();
                        }
                    }
                });
            }
        });
    });
    let mut send = Some(send);
    let listens = poll_fn(move |cx| {
        if let Some(send) = send.take() {
            send.send(cx.waker().clone()).unwrap();
        }
        // Read with no more order than the wake itself gives.
        let now = raised.load(Ordering::Relaxed);
        seen.store(now, Ordering::Relaxed);
        if now == threads * rounds { Poll::Ready(()) } else { Poll::Pending }
    });
    match root {
        true => block_on(listens),
        false => block_on(async { spawn(listens).await.unwrap() }),
    }
    thread.join().unwrap();
}

// B02, B03, B05, G03
#[test]
fn no_wake_of_the_root_is_lost() {
    let _guard = kit::watchdog(30);
    storm(1, 5_000, true);
    storm(3, 2_000, true);
}

// B02, B03, B05, G03
#[test]
fn no_wake_of_a_task_is_lost() {
    let _guard = kit::watchdog(30);
    storm(1, 5_000, false);
    storm(3, 2_000, false);
}

// B02
#[test]
fn a_storm_that_never_waits_stalls_nothing() {
    let _guard = kit::watchdog(30);
    const WAKES: usize = 50_000;
    let done = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&done);
    let polls = Rc::new(Cell::new(0_usize));
    let (send, wakers) = mpsc::channel::<Waker>();
    let thread = thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..WAKES {
                        theirs.fetch_add(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                });
            }
        });
    });
    let mut send = Some(send);
    block_on(counted(&polls, async {
        spawn(poll_fn(move |cx| {
            if let Some(send) = send.take() {
                send.send(cx.waker().clone()).unwrap();
            }
            if done.load(Ordering::Relaxed) == 4 * WAKES { Poll::Ready(()) } else { Poll::Pending }
        }))
        .await
        .unwrap();
    }));
    thread.join().unwrap();
    assert_eq!(polls.get(), 2, "the root slept through it");
}

// B06, G14
#[test]
fn what_was_written_before_a_wake_is_seen_by_the_poll_that_follows() {
    let _guard = kit::watchdog(10);
    let plain = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        plain.store(0, Ordering::Relaxed);
        let theirs = Arc::clone(&plain);
        let polls = Rc::new(Cell::new(0));
        block_on(async {
            let (keep, kept) = mpsc::channel();
            let mine = Arc::clone(&plain);
            let task = spawn(counted(
                &polls,
                poll_fn(move |cx| {
                    let _ = keep.send(cx.waker().clone());
                    let seen = mine.load(Ordering::Relaxed);
                    if seen > 0 { Poll::Ready(seen) } else { Poll::Pending }
                }),
            ));
            yield_now().await;
            let waker = kept.recv().unwrap();
            // Queued by a wake that says nothing; the second one finds it queued, and must not be
            // lost with what it says.
            waker.wake_by_ref();
            let thread = thread::spawn(move || {
                theirs.store(7, Ordering::Relaxed);
                waker.wake_by_ref();
            });
            thread.join().unwrap();
            assert_eq!(task.await.unwrap(), 7);
        });
        assert_eq!(polls.get(), 2);
    }
}

// B05, G03
#[test]
fn a_wakers_drop_may_be_what_wakes() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let theirs = gate.clone();
    let hostile = kit::hostile().on_drop(move || theirs.open()).waker();
    let (send, wakers) = mpsc::channel::<Waker>();
    let thread = thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        futures::a_moment();
        drop(waker);
    });
    block_on(async move {
        send.send(hostile).unwrap();
        gate.pass().await;
    });
    thread.join().unwrap();
}

// B02
#[test]
fn two_loops_may_wake_each_other_for_ever() {
    let _guard = kit::watchdog(20);
    const ROUNDS: usize = 3_000;
    let ball = Arc::new(AtomicUsize::new(0));
    let (to_a, from_b) = mpsc::channel::<Waker>();
    let (to_b, from_a) = mpsc::channel::<Waker>();
    let play = |own: usize, give: mpsc::Sender<Waker>, take: mpsc::Receiver<Waker>| {
        let ball = Arc::clone(&ball);
        move || {
            let mut other = None;
            block_on(poll_fn(|cx| {
                let waker: &Waker = other.get_or_insert_with(|| {
                    give.send(cx.waker().clone()).unwrap();
                    take.recv().unwrap()
                });
                let at = ball.load(Ordering::SeqCst);
                if at % 2 == own && at < ROUNDS {
                    ball.store(at + 1, Ordering::SeqCst);
                    waker.wake_by_ref();
                }
                if at + 1 >= ROUNDS { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
    };
    let (a, b) = (thread::spawn(play(0, to_a, from_a)), thread::spawn(play(1, to_b, from_b)));
    a.join().unwrap();
    b.join().unwrap();
}
