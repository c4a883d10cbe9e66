//! One `block_on` after the other, and one inside of the other.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, a_moment, counted, own_waker, settle};
use selio::net::{TcpListener, TcpStream};
use selio::time::{sleep, timeout};
use selio::{Async, block_on, spawn, yield_now};
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

// G15
#[test]
fn nesting_in_the_root_in_a_task_and_three_deep() {
    let _guard = kit::watchdog(10);
    let inner = || {
        block_on(async { spawn(async { sleep(Duration::from_millis(1)).await }).await.unwrap() })
    };
    let depth = block_on(async {
        inner();
        spawn(async move { inner() }).await.unwrap();
        block_on(async {
            yield_now().await;
            block_on(async {
                inner();
                sleep(Duration::from_millis(1)).await;
                3
            })
        })
    });
    assert_eq!(depth, 3);
}

/// Connects through a reactor, in whichever `block_on` it is called.
async fn talk() -> u8 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        sleep(Duration::from_millis(1)).await;
        stream.write_all(&[7]).await.unwrap();
    });
    let client = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).await.unwrap();
    server.await.unwrap();
    byte[0]
}

// G15
#[test]
fn sockets_timers_and_tasks_work_inside() {
    let _guard = kit::watchdog(10);
    block_on(async {
        // The outer one's own objects wait in the same reactor meanwhile.
        let outer = spawn(talk());
        let timer = spawn(sleep(Duration::from_millis(1)));
        yield_now().await;
        assert_eq!(block_on(talk()), 7);
        assert_eq!(spawn(async { block_on(talk()) }).await.unwrap(), 7);
        timer.await.unwrap();
        assert_eq!(outer.await.unwrap(), 7);
    });
}

// G15
#[test]
fn an_object_that_waited_outside_may_be_awaited_inside() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    block_on(async {
        let mut byte = [0];
        {
            let mut read = pin!(near.read(&mut byte));
            let polled = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            far.write_all(b"y").unwrap();
            assert_eq!(block_on(read).unwrap(), 1);
        }
        assert_eq!(&byte, b"y");
    });
}

// G15
#[test]
fn outer_tasks_wait_until_the_inner_call_returns() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    let gate = Gate::new();
    block_on(async {
        let mut task = spawn(counted(&polls, gate.pass()));
        yield_now().await;
        assert_eq!(polls.get(), 1);
        block_on(async {
            gate.open();
            let theirs = gate.clone();
            drop(spawn(async move { theirs.open() }));
            settle().await;
            let in_vain = timeout(Duration::from_millis(5), &mut task).await;
            assert!(in_vain.is_err(), "the outer task ran inside");
        });
        assert_eq!(polls.get(), 1);
        task.await.unwrap();
    });
    assert_eq!(polls.get(), 2, "woken twice before it could run: once is enough");
}

// G15
#[test]
fn a_thread_wakes_outer_and_inner_during_the_inner_call() {
    let _guard = kit::watchdog(10);
    let (outer, inner) = (Gate::new(), Gate::new());
    let theirs = (outer.clone(), inner.clone());
    let thread = thread::spawn(move || {
        kit::eventually("both wait", || theirs.0.is_awaited() && theirs.1.is_awaited());
        theirs.0.open();
        a_moment();
        theirs.1.open();
    });
    block_on(async {
        let task = spawn(outer.pass());
        yield_now().await;
        block_on(inner.pass());
        assert!(!task.is_finished());
        task.await.unwrap();
    });
    thread.join().unwrap();
}

// G15
#[test]
fn inner_tasks_end_with_the_inner_call() {
    let _guard = kit::watchdog(10);
    let drops = kit::DropLog::new();
    block_on(async {
        let theirs = drops.check();
        let mut left = None;
        block_on(async {
            left = Some(spawn(async move {
                let _theirs = theirs;
                pending::<()>().await;
            }));
        });
        drops.assert_all_dropped();
        assert!(left.unwrap().await.unwrap_err().is_aborted());
    });
}

// G15
#[test]
fn a_panic_inside_leaves_the_outer_call_in_order() {
    let _guard = kit::watchdog(10);
    let drops = kit::DropLog::new();
    block_on(async {
        let before = spawn(sleep(Duration::from_millis(1)));
        let theirs = drops.check();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            block_on(async {
                drop(spawn(async move {
                    let _theirs = theirs;
                    pending::<()>().await;
                }));
                sleep(Duration::from_millis(1)).await;
                panic!("the inner root panics");
            })
        }));
        assert!(panicked.is_err());
        drops.assert_all_dropped();
        before.await.unwrap();
        assert_eq!(spawn(async { 5 }).await.unwrap(), 5, "spawning is the outer one's again");
    });
}

// G15, G16
#[test]
fn an_inner_waker_outlives_its_call() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    block_on(counted(&polls, async {
        let root = block_on(own_waker());
        let task = block_on(async { spawn(own_waker()).await.unwrap() });
        for _ in 0..3 {
            root.wake_by_ref();
            task.wake_by_ref();
            yield_now().await;
        }
        sleep(Duration::from_millis(1)).await;
    }));
    assert_eq!(polls.get(), 1 + 3 + 1, "the wakers of the inner call woke the outer one");
}

// G16
#[test]
fn a_wake_of_the_first_call_does_not_reach_the_second() {
    let _guard = kit::watchdog(10);
    let first = block_on(own_waker());
    let polls = Rc::new(Cell::new(0));
    let theirs = first.clone();
    let storm = Arc::new(AtomicBool::new(true));
    let blows = Arc::clone(&storm);
    let thread = thread::spawn(move || {
        while blows.load(Ordering::SeqCst) {
            theirs.wake_by_ref();
            thread::yield_now();
        }
    });
    first.wake_by_ref();
    block_on(counted(&polls, async {
        first.wake_by_ref();
        sleep(Duration::from_millis(5)).await;
    }));
    storm.store(false, Ordering::SeqCst);
    thread.join().unwrap();
    assert_eq!(polls.get(), 2);
}

// G16
#[test]
fn a_wake_before_the_end_does_not_reach_the_next_call() {
    let _guard = kit::watchdog(10);
    block_on(async {
        own_waker().await.wake();
        spawn(own_waker()).await.unwrap().wake();
    });
    let polls = Rc::new(Cell::new(0));
    let in_vain = timeout(Duration::from_millis(5), counted(&polls, pending::<()>()));
    assert!(block_on(in_vain).is_err());
    // Once at first, and once more because the timeout polls its future before it looks at the
    // time.
    assert_eq!(polls.get(), 2);
}

#[test]
fn who_nests_has_no_more_budget_than_others() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let near = Async::new(UnixStream::pair().unwrap().0).unwrap();
        let ran = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&ran);
        drop(spawn(async move { theirs.set(true) }));
        let mut rounds = 0;
        while !ran.get() {
            rounds += 1;
            assert!(rounds < 10_000, "others starve");
            near.writable().await.unwrap();
            block_on(async {});
        }
    });
}

#[test]
fn each_poll_has_a_budget_of_its_own() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let near = Rc::new(Async::new(UnixStream::pair().unwrap().0).unwrap());
        // So much that one poll can do it, and that what it leaves is too little for another.
        const OPERATIONS: usize = 100;
        for round in 0..4 {
            let (polls, near) = (Rc::new(Cell::new(0)), Rc::clone(&near));
            let writes = async move {
                for _ in 0..OPERATIONS {
                    near.writable().await.unwrap();
                }
            };
            spawn(counted(&polls, writes)).await.unwrap();
            assert_eq!(polls.get(), 1, "round {round}");
        }
    });
}
