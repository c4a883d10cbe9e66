//! Spawning on a loop from other threads.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, on_thread};
use kit::watchdog;
use selio::time::sleep;
use selio::{Handle, JoinError, block_on, handle};
use std::future::pending;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs a thread with a handle beside the loop, until it has ended, and gives its result.
fn beside<T: Send + 'static>(body: impl FnOnce(Handle) -> T + Send + 'static) -> T {
    block_on(async {
        let handle = handle();
        let event = selio::event::Event::new().unwrap();
        let trigger = event.trigger();
        let thread = thread::spawn(move || {
            let result = body(handle);
            trigger.trigger().unwrap();
            result
        });
        event.wait().await.unwrap();
        thread.join().unwrap()
    })
}

#[test]
fn the_future_is_made_and_run_on_the_loops_thread() {
    let _guard = watchdog(10);
    let here = thread::current().id();
    let (made, run) = beside(move |handle| {
        let task = handle.spawn(|| {
            let made = Rc::new(thread::current().id());
            async move {
                sleep(Duration::from_millis(1)).await;
                (*made, thread::current().id())
            }
        });
        block_on(task).unwrap()
    });
    assert_eq!((made, run), (here, here));
}

#[test]
fn orders_from_many_threads_are_all_carried_out() {
    let _guard = watchdog(20);
    let total = beside(|handle| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let handle = handle.clone();
                thread::spawn(move || {
                    let tasks: Vec<_> =
                        (0..1000).map(|i| handle.spawn(move || async move { i })).collect();
                    block_on(async {
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap();
                        }
                        sum
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(total, 4 * 499_500);
}

#[test]
fn a_detached_order_is_carried_out() {
    let _guard = watchdog(10);
    let gate = Gate::new();
    block_on(async {
        let (handle, theirs) = (handle(), gate.clone());
        on_thread(move || drop(handle.spawn(move || async move { theirs.open() })));
        gate.pass().await;
    });
}

#[test]
fn an_executor_that_has_ended_says_so() {
    let _guard = watchdog(10);
    let kept = block_on(async { handle() });
    let ran = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&ran);
    let late = kept.spawn(move || async move { theirs.fetch_add(1, Ordering::SeqCst) });
    assert!(late.is_finished());
    assert!(block_on(late).unwrap_err().is_aborted());
    assert_eq!((ran.load(Ordering::SeqCst), Arc::strong_count(&ran)), (0, 1), "let go of at once");
}

#[test]
fn an_order_that_finds_the_executor_ending_says_so() {
    let _guard = watchdog(10);
    let (orders, ordered) = mpsc::channel();
    let (task,) = block_on(async {
        let handle = handle();
        let thread = thread::spawn(move || orders.send(handle.spawn(pending::<()>)).unwrap());
        thread.join().unwrap();
        (ordered.recv().unwrap(),)
    });
    assert!(block_on(task).unwrap_err().is_aborted());
}

#[test]
fn a_panic_comes_back_to_who_ordered() {
    let _guard = watchdog(10);
    let text = |error: JoinError| *error.into_panic().downcast::<&str>().unwrap();
    let (making, running, after) = beside(move |handle| {
        let making = handle.spawn(|| -> std::future::Ready<()> { panic!("while it is made") });
        let running = handle.spawn(|| async {
            if true {
                panic!("while it runs")
            }
        });
        let after = handle.spawn(|| async { "served on" });
        block_on(async { (making.await, running.await, after.await) })
    });
    assert_eq!(text(making.unwrap_err()), "while it is made");
    assert_eq!(text(running.unwrap_err()), "while it runs");
    assert_eq!(after.unwrap(), "served on");
}

// G20
#[test]
fn an_order_can_be_aborted_before_and_after_it_is_carried_out() {
    let _guard = watchdog(20);
    for round in 0..200 {
        let aborted = beside(move |handle| {
            let task = handle.spawn(pending::<()>);
            if round % 2 == 0 {
                thread::sleep(Duration::from_micros(round * 5));
            }
            task.abort();
            block_on(task).unwrap_err().is_aborted()
        });
        assert!(aborted);
    }
}

#[test]
fn what_was_ordered_is_done_though_the_handles_are_gone() {
    let _guard = watchdog(10);
    block_on(async {
        let first = handle();
        let clone = first.clone();
        drop(first);
        let made = clone.spawn(|| async { 7 });
        drop(clone);
        assert_eq!(made.await.unwrap(), 7);
    });
}

#[test]
fn a_handle_outside_blames_its_caller() {
    let _guard = watchdog(10);
    let error = catch_unwind(handle).unwrap_err();
    let text = futures::message(&*error);
    assert!(text.contains("selio::handle") && text.contains("block_on"), "{text}");
}

// H03
#[test]
fn handles_may_change_threads() {
    fn sendable<T: Send + Sync + Unpin + Clone + 'static>() {}
    sendable::<Handle>();
}

// H13
#[test]
fn an_order_from_a_left_over_destructor_is_refused_at_once() {
    let _guard = watchdog(10);
    let (sender, refused) = mpsc::channel();
    block_on(async {
        selio::spawn(async move {
            let handle = handle();
            let _at_the_end = futures::on_drop(move || {
                let late = handle.spawn(|| async {});
                sender.send(block_on(late).unwrap_err().is_aborted()).unwrap();
            });
            pending::<()>().await
        });
        selio::yield_now().await;
    });
    assert!(refused.recv().unwrap());
}

// H10
#[test]
fn left_over_orders_may_panic_when_they_are_dropped() {
    let _guard = watchdog(10);
    let tasks = Arc::new(std::sync::Mutex::new(Vec::new()));
    let theirs = Arc::clone(&tasks);
    let ended = catch_unwind(move || {
        block_on(async {
            let handle = handle();
            for _ in 0..3 {
                let bomb = futures::on_drop(|| panic!("in a closure's destructor"));
                let order = handle.spawn(move || {
                    drop(bomb);
                    async {}
                });
                theirs.lock().unwrap().push(order);
            }
        });
    });
    assert_eq!(futures::message(&*ended.unwrap_err()), "in a closure's destructor");
    let tasks = std::mem::take(&mut *tasks.lock().unwrap());
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        assert!(block_on(task).unwrap_err().is_aborted());
    }
}
