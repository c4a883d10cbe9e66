//! How tasks end: dropped at home and once, aborted in odd places, and with panics of every part.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, on_drop, on_thread, own_waker, pend_once, settle};
use selio::net::TcpListener;
use selio::time::sleep;
use selio::{Async, JoinHandle, Timer, block_on, spawn, yield_now};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// A task that owns a checked value and never ends by itself, and its waker.
async fn endless(drops: &kit::DropLog) -> (JoinHandle<()>, Waker) {
    let check = drops.check();
    let (keep, kept) = mpsc::channel();
    let task = spawn(async move {
        let _check = check;
        keep.send(own_waker().await).unwrap();
        pending::<()>().await;
    });
    yield_now().await;
    (task, kept.recv().unwrap())
}

// H01
#[test]
fn a_future_is_dropped_at_home_whoever_holds_its_waker() {
    let _guard = kit::watchdog(20);
    let drops = kit::DropLog::new();
    for round in 0..400 {
        let (send, wakers) = mpsc::channel::<Waker>();
        let thread = thread::spawn(move || {
            let waker = wakers.recv().unwrap();
            let clone = waker.clone();
            match round % 4 {
                0 => waker.wake(),
                1 => drop(waker),
                2 => waker.wake_by_ref(),
                _ => (0..50).map(|_| waker.clone()).for_each(Waker::wake),
            }
            thread::yield_now();
            drop(clone);
        });
        block_on(async {
            let (task, waker) = endless(&drops).await;
            send.send(waker).unwrap();
            match round / 4 % 4 {
                0 => task.abort(),
                1 => drop(task),
                // The handle ends elsewhere; the future does not.
                2 => on_thread(move || {
                    task.abort();
                    drop(task);
                }),
                _ => std::mem::forget(task),
            }
            if round % 3 == 0 {
                yield_now().await;
            }
        });
        thread.join().unwrap();
    }
    assert_eq!(drops.made(), 400);
    drops.assert_all_dropped();
}

// H01, H02
#[test]
fn a_thread_may_end_while_others_hold_and_wake_its_tasks() {
    let _guard = kit::watchdog(20);
    let drops = kit::DropLog::new();
    for _ in 0..50 {
        let (send, wakers) = mpsc::channel::<Waker>();
        let theirs = drops.clone();
        let owner = thread::spawn(move || {
            block_on(async {
                for _ in 0..4 {
                    send.send(endless(&theirs).await.1).unwrap();
                }
                send.send(own_waker().await).unwrap();
                settle().await;
            });
        });
        let wakers: Vec<_> = wakers.iter().collect();
        for _ in 0..200 {
            wakers.iter().for_each(Waker::wake_by_ref);
        }
        drop(wakers);
        owner.join().unwrap();
    }
    drops.assert_all_dropped();
}

/// What a poll ends with.
#[derive(Clone, Copy)]
enum Outcome {
    Ready,
    Pending,
    Panic,
}

// H05
#[test]
fn a_task_may_abort_itself_in_its_poll() {
    let _guard = kit::watchdog(10);
    let drops = kit::DropLog::new();
    for outcome in [Outcome::Ready, Outcome::Pending, Outcome::Panic] {
        let own = Rc::new(RefCell::new(None::<JoinHandle<()>>));
        let (theirs, check, log) = (Rc::clone(&own), drops.check(), drops.clone());
        block_on(async {
            let living = drops.living();
            *own.borrow_mut() = Some(spawn(async move {
                let _check = check;
                theirs.borrow().as_ref().unwrap().abort();
                assert_eq!(log.living(), living, "dropped in its own poll");
                match outcome {
                    Outcome::Ready => {}
                    Outcome::Pending => pend_once().await,
                    Outcome::Panic => panic!("after it aborted itself"),
                }
            }));
            settle().await;
            drops.assert_all_dropped();
            let result = own.take().unwrap().await;
            match outcome {
                Outcome::Ready => result.unwrap(),
                Outcome::Pending => assert!(result.unwrap_err().is_aborted()),
                Outcome::Panic => assert!(!result.unwrap_err().is_aborted()),
            }
        });
    }
}

// H06
#[test]
fn two_tasks_may_end_each_other() {
    let _guard = kit::watchdog(10);
    let drops = kit::DropLog::new();
    block_on(async {
        let (a_handle, b_handle) =
            (Rc::new(RefCell::new(None::<JoinHandle<()>>)), Rc::new(RefCell::new(None)));
        let (waker_a, check) = (Rc::new(RefCell::new(None::<Waker>)), drops.check());
        let (handle, waker) = (Rc::clone(&a_handle), Rc::clone(&waker_a));
        let ends_a = on_drop(move || {
            handle.borrow().as_ref().unwrap().abort();
            waker.take().unwrap().wake();
        });
        *b_handle.borrow_mut() = Some(spawn(async move {
            let _owned = (check, ends_a);
            pending::<()>().await;
        }));
        yield_now().await;
        let (handle, check) = (Rc::clone(&b_handle), drops.check());
        *a_handle.borrow_mut() = Some(spawn(async move {
            let _check = check;
            *waker_a.borrow_mut() = Some(own_waker().await);
            handle.borrow().as_ref().map(JoinHandle::<()>::abort);
            pending::<()>().await;
        }));
        settle().await;
        drops.assert_all_dropped();
        let (a, b) = (a_handle.take().unwrap(), b_handle.take().unwrap());
        assert!(a.await.unwrap_err().is_aborted() && b.await.unwrap_err().is_aborted());
        assert_eq!(spawn(async { 3 }).await.unwrap(), 3, "the queue is whole");
    });
}

// H07
#[test]
fn what_a_task_owned_is_free_when_it_is_joined() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let shared = Rc::new(());
        for end in 0..3 {
            let theirs = Rc::clone(&shared);
            let mut task = spawn(async move {
                let _theirs = theirs;
                match end {
                    0 => {}
                    1 => panic!("it owns something meanwhile"),
                    _ => pending().await,
                }
            });
            yield_now().await;
            if end == 2 {
                task.abort();
            }
            let _ = (&mut task).await;
            assert_eq!(Rc::strong_count(&shared), 1);
            assert!(task.is_finished());
        }
    });
}

// H09
#[test]
fn a_panic_goes_to_the_handle_and_the_others_go_on() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let gate = Gate::new();
        let other = spawn(gate.pass());
        let error = spawn(async { panic_any(7_u8) }).await.unwrap_err();
        assert!(!error.is_aborted());
        assert_eq!(error.to_string(), "the task panicked");
        assert_eq!(error.into_panic().downcast_ref(), Some(&7_u8));
        drop(spawn(async { panic!("nobody asks") }));
        settle().await;
        gate.open();
        other.await.unwrap();
    });
}

/// Panics when it is dropped, unless its thread is panicking already.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        assert!(thread::panicking(), "an explosive is dropped");
    }
}

// H09
#[test]
fn a_payload_that_panics_in_its_turn_harms_nobody() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let other = spawn(sleep(Duration::from_millis(1)));
        drop(spawn(async { panic_any(Explosive) }));
        settle().await;
        let error = spawn(async { panic_any(Explosive) }).await.unwrap_err();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(error))).is_err());
        other.await.unwrap();
    });
}

// H10
#[test]
fn a_panicking_destructor_is_told_to_the_handle() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let other = spawn(sleep(Duration::from_millis(1)));
        for abort in [false, true] {
            let explosive = Explosive;
            let mut first = true;
            let task = spawn(poll_fn(move |_| {
                let _owned = &explosive;
                let done = !std::mem::take(&mut first) || !abort;
                if done { Poll::Ready(()) } else { Poll::Pending }
            }));
            yield_now().await;
            task.abort();
            let error = task.await.unwrap_err();
            assert_eq!(futures::message(&*error.into_panic()), "an explosive is dropped");
        }
        other.await.unwrap();
    });
}

// H10
#[test]
fn outputs_and_payloads_that_panic_beside_their_future_harm_nobody() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let other = spawn(sleep(Duration::from_millis(1)));
        // The future's destructor panics, so its result is dropped: an output, or what its poll
        // panicked with.
        for panics in [false, true] {
            let explosive = Explosive;
            let task = spawn(poll_fn(move |_| {
                let _owned = &explosive;
                if panics { panic_any(Explosive) } else { Poll::Ready(Explosive) }
            }));
            let error = task.await.map(std::mem::forget).unwrap_err();
            assert!(!error.is_aborted());
            // Whichever panic it is: it may be one that cannot be dropped.
            std::mem::forget(error);
        }
        other.await.unwrap();
    });
}

// H10
#[test]
fn an_output_nobody_awaits_may_panic_when_dropped() {
    let _guard = kit::watchdog(10);
    let drops = kit::DropLog::new();
    block_on(async {
        for _ in 0..5 {
            let check = drops.check();
            drop(spawn(async move { (check, Explosive) }));
        }
        settle().await;
        drops.assert_all_dropped();
        // The output of a finished task goes with its handle, whose owner gets the panic.
        let task = spawn(async { Explosive });
        yield_now().await;
        assert!(task.is_finished());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
        assert_eq!(spawn(async { 4 }).await.unwrap(), 4);
    });
}

// H16
#[test]
fn what_is_forgotten_is_leaked_and_no_more() {
    let _guard = kit::watchdog(10);
    let (near, far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    block_on(async {
        let mut timer = Timer::after(Duration::from_millis(1));
        let mut ticks = Timer::interval(Duration::from_millis(1));
        let (counter, waker) = kit::CountingWaker::new();
        assert!(kit::poll_with(&mut timer, &waker).is_pending());
        std::mem::forget(timer);
        let mut next = Box::pin(ticks.next());
        assert!(kit::poll_with(&mut next, &waker).is_pending());
        std::mem::forget(next);
        let mut readable = Box::pin(near.readable());
        assert!(kit::poll_with(&mut readable, &waker).is_pending());
        std::mem::forget(readable);
        std::mem::forget(spawn(pending::<()>()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut accept = Box::pin(listener.accept());
        assert!(kit::poll_with(&mut accept, &waker).is_pending());
        drop(far);
        sleep(Duration::from_millis(5)).await;
        assert_eq!(counter.wakes(), 3, "two timers and the hang-up");
        ticks.next().await;
        near.readable().await.unwrap();
        assert_eq!(near.read(&mut [0; 4]).await.unwrap(), 0);
    });
}
