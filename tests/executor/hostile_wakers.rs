//! Wakers that panic when they are woken, cloned or dropped: whoever runs them is in order
//! afterwards, and the others of their batch have been woken.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, own_waker, settle};
use futures_core::Stream;
use selio::event::Event;
use selio::time::sleep;
use selio::{Async, Timer, block_on, spawn};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

fn pair() -> (Async<UnixStream>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Async::new(near).unwrap(), far)
}

fn poll_readable(socket: &Async<UnixStream>, waker: &Waker) {
    assert!(socket.poll_readable(&mut Context::from_waker(waker)).is_pending());
}

fn poll_next(event: &mut Event, waker: &Waker) -> Poll<Option<std::io::Result<u64>>> {
    Stream::poll_next(Pin::new(event), &mut Context::from_waker(waker))
}

/// Leaves three wakers, of which the second is hostile, and gives the counts of the other two.
fn around(hostile: &Waker, mut leave: impl FnMut(&Waker)) -> [Arc<kit::CountingWaker>; 2] {
    let (first, first_waker) = kit::CountingWaker::new();
    let (last, last_waker) = kit::CountingWaker::new();
    leave(&first_waker);
    leave(hostile);
    leave(&last_waker);
    [first, last]
}

/// Runs a call that must end with the panic of a waker, and finds the thread in order afterwards.
fn panics_through(body: impl Future<Output = ()>) {
    let panicked = catch_unwind(AssertUnwindSafe(|| block_on(body)));
    assert_eq!(futures::message(&*panicked.unwrap_err()), "a waker panics when woken");
    block_on(async {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(spawn(async { 1 }).await.unwrap(), 1);
    });
}

// H11
#[test]
fn a_panicking_waker_of_a_timer_spares_the_rest_of_the_batch() {
    let _guard = kit::watchdog(10);
    let due = std::time::Instant::now() + Duration::from_millis(1);
    let mut timers = Vec::new();
    let counts = RefCell::new(None);
    panics_through(async {
        let leave = |waker: &Waker| {
            let mut timer = Timer::at(due);
            assert!(kit::poll_with(&mut timer, waker).is_pending());
            timers.push(timer);
        };
        *counts.borrow_mut() = Some(around(&kit::panics_on_wake(), leave));
        pending().await
    });
    for count in counts.take().unwrap() {
        assert_eq!((count.wakes(), count.wakers()), (1, 0));
    }
    // All three have gone off, the hostile one's too.
    for timer in timers {
        assert_eq!(block_on(timer), due);
    }
}

// H11
#[test]
fn a_panicking_waker_of_a_descriptor_spares_the_rest_of_the_batch() {
    let _guard = kit::watchdog(10);
    let mut sockets = Vec::new();
    let counts = RefCell::new(None);
    panics_through(async {
        let leave = |waker: &Waker| {
            let (near, far) = pair();
            poll_readable(&near, waker);
            sockets.push((near, far));
        };
        *counts.borrow_mut() = Some(around(&kit::panics_on_wake(), leave));
        for (_, far) in &mut sockets {
            far.write_all(b"x").unwrap();
        }
        pending().await
    });
    for count in counts.take().unwrap() {
        assert_eq!((count.wakes(), count.wakers()), (1, 0));
    }
    for (near, _far) in sockets {
        assert_eq!(block_on(near.read(&mut [0; 2])).unwrap(), 1);
    }
}

// H11
#[test]
fn a_panicking_waker_of_an_event_spares_the_rest_of_the_batch() {
    let _guard = kit::watchdog(10);
    let mut events = Vec::new();
    let counts = RefCell::new(None);
    panics_through(async {
        let leave = |waker: &Waker| {
            let mut event = Event::new().unwrap();
            assert!(poll_next(&mut event, waker).is_pending());
            events.push(event);
        };
        *counts.borrow_mut() = Some(around(&kit::panics_on_wake(), leave));
        events.iter().for_each(|event| event.trigger().trigger().unwrap());
        pending().await
    });
    for count in counts.take().unwrap() {
        assert_eq!((count.wakes(), count.wakers()), (1, 0));
    }
    for mut event in events {
        assert_eq!(block_on(event.next()).unwrap().unwrap(), 1);
    }
}

// H11
#[test]
fn a_panicking_waker_of_one_event_keeps_no_other_waiter_from_it() {
    let _guard = kit::watchdog(10);
    let event = Event::new().unwrap();
    let counts = RefCell::new(None);
    let mut waits = Vec::new();
    panics_through(async {
        let leave = |waker: &Waker| {
            let mut wait = Box::pin(event.wait());
            assert!(kit::poll_with(&mut wait, waker).is_pending());
            waits.push(wait);
        };
        *counts.borrow_mut() = Some(around(&kit::panics_on_wake(), leave));
        event.trigger().trigger().unwrap();
        pending().await
    });
    for count in counts.take().unwrap() {
        assert_eq!((count.wakes(), count.wakers()), (1, 0));
    }
    let told = waits.iter_mut().filter_map(|wait| match kit::poll_with(wait, Waker::noop()) {
        Poll::Ready(count) => Some(count.unwrap()),
        Poll::Pending => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [1], "one of the three is told");
}

// H11
#[test]
fn a_panicking_waker_of_a_join_leaves_the_tasks_in_order() {
    let _guard = kit::watchdog(10);
    let drops = kit::DropLog::new();
    let task = Cell::new(None);
    panics_through(async {
        let checks = drops.check();
        drop(spawn(async move {
            let _checks = checks;
            pending::<()>().await;
        }));
        let gate = Gate::new();
        let (passes, check) = (gate.pass(), drops.check());
        let mut joined = spawn(async move {
            passes.await;
            drop(check);
            8
        });
        settle().await;
        assert!(kit::poll_with(&mut joined, &kit::panics_on_wake()).is_pending());
        task.set(Some(joined));
        gate.open();
        pending().await
    });
    drops.assert_all_dropped();
    assert_eq!(block_on(task.take().unwrap()).unwrap(), 8, "the result is not lost");
}

// H11
#[test]
fn a_panicking_clone_leaves_nothing_behind() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = pair();
    block_on(async {
        let hostile = kit::panics_on_clone();
        let mut timer = Timer::after(Duration::from_millis(1));
        let mut task = spawn(sleep(Duration::from_millis(1)));
        let mut attempts: [&mut dyn FnMut(); 3] = [
            &mut || assert!(kit::poll_with(&mut timer, &hostile).is_pending()),
            &mut || poll_readable(&near, &hostile),
            &mut || assert!(kit::poll_with(&mut task, &hostile).is_pending()),
        ];
        for attempt in &mut attempts {
            for _ in 0..2 {
                assert!(catch_unwind(AssertUnwindSafe(&mut *attempt)).is_err());
            }
        }
        // All three are as they were.
        far.write_all(b"x").unwrap();
        assert_eq!(near.read(&mut [0; 2]).await.unwrap(), 1);
        timer.await;
        task.await.unwrap();
    });
}

// H11
#[test]
fn a_panicking_drop_of_a_waker_leaves_the_rest_in_order() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = pair();
    block_on(async {
        let hostile = std::mem::ManuallyDrop::new(kit::panics_on_drop());
        let mut timer = Timer::after(Duration::from_millis(1));
        assert!(kit::poll_with(&mut timer, &hostile).is_pending());
        let (_, waker) = kit::CountingWaker::new();
        // Polled by another, the waker left before is dropped.
        let replaced = catch_unwind(AssertUnwindSafe(|| kit::poll_with(&mut timer, &waker)));
        assert!(replaced.is_err());
        poll_readable(&near, &hostile);
        assert!(catch_unwind(AssertUnwindSafe(|| poll_readable(&near, &waker))).is_err());
        far.write_all(b"x").unwrap();
        assert_eq!(near.read(&mut [0; 2]).await.unwrap(), 1);
        let mut given_up = Timer::after(Duration::from_secs(60));
        assert!(kit::poll_with(&mut given_up, &hostile).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(given_up))).is_err());
        timer.await;
    });
}

// H11, I01
#[test]
fn a_waker_may_empty_the_list_that_holds_the_batchs_other_timers() {
    let _guard = kit::watchdog(10);
    static WOKEN: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static TIMERS: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
    }
    let due = std::time::Instant::now() + Duration::from_millis(1);
    block_on(async {
        for _ in 0..100 {
            let mut timer = Timer::at(due);
            let waker = kit::closure_waker(|| {
                WOKEN.fetch_add(1, Ordering::SeqCst);
                drop(TIMERS.take());
            });
            assert!(kit::poll_with(&mut timer, &waker).is_pending());
            TIMERS.with_borrow_mut(|timers| timers.push(timer));
        }
        sleep(Duration::from_millis(5)).await;
    });
    // They were all due when the first of them dropped the others.
    assert_eq!(WOKEN.load(Ordering::SeqCst), 100);
}

// H11
#[test]
fn a_task_keeps_running_when_its_own_waker_is_used_by_a_hostile_one() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let mine = own_waker().await;
        let hostile = kit::closure_waker(move || mine.wake_by_ref());
        let mut timer = Timer::after(Duration::from_millis(1));
        let mut polls = 0;
        std::future::poll_fn(|_| {
            polls += 1;
            kit::poll_with(&mut timer, &hostile)
        })
        .await;
        assert_eq!(polls, 2);
    });
}

/// Waits on another thread for a socket that waits at home as well, with wakers of the caller's
/// choice.
fn wait_abroad(
    near: &Arc<Async<UnixStream>>,
    wakers: Vec<Waker>,
    left: Gate,
    until: Gate,
) -> thread::JoinHandle<()> {
    let near = Arc::clone(near);
    thread::spawn(move || {
        block_on(async {
            let mut waits: Vec<_> = wakers.iter().map(|_| Box::pin(near.readable())).collect();
            for (wait, waker) in waits.iter_mut().zip(&wakers) {
                assert!(kit::poll_with(wait, waker).is_pending());
            }
            left.open();
            until.pass().await;
        });
    })
}

/// Ends a call for which another thread waits, with a hostile waker between two others.
fn end_before_strangers(root_panics: bool) -> (Option<String>, Vec<usize>) {
    let (near, _far) = UnixStream::pair().unwrap();
    let near = Arc::new(Async::new(near).unwrap());
    let (counts, mut wakers): (Vec<_>, Vec<_>) = (0..2).map(|_| kit::CountingWaker::new()).unzip();
    wakers.insert(1, kit::panics_on_wake());
    let (left, until) = (Gate::new(), Gate::new());
    let mut thread = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            let mut home = pin!(near.readable());
            let polled = std::future::poll_fn(|cx| Poll::Ready(home.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            thread = Some(wait_abroad(&near, wakers, left.clone(), until.clone()));
            left.pass().await;
            assert!(!root_panics, "the root panics");
        });
    }));
    let woken = counts.iter().map(|count| count.wakes()).collect();
    until.open();
    thread.unwrap().join().unwrap();
    (ended.err().map(|payload| futures::message(&*payload)), woken)
}

// H11
#[test]
fn a_panicking_waker_of_a_stranger_spares_the_others_when_the_home_ends() {
    let _guard = kit::watchdog(10);
    let (message, woken) = end_before_strangers(false);
    assert_eq!(message.as_deref(), Some("a waker panics when woken"));
    assert_eq!(woken, [1, 1]);
    let (message, woken) = end_before_strangers(true);
    assert_eq!(message.as_deref(), Some("the root panics"), "the panic that was there goes on");
    assert_eq!(woken, [1, 1]);
}
