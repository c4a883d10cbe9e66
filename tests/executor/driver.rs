//! `Driver`: a loop around `poll(2)` that waits for selio.
#![allow(unsafe_code, reason = "poll(2)")]

use crate::kit;
use crate::kit::futures;
use futures::{Gate, message, on_drop, on_thread, settle};
use selio::net::{TcpListener, TcpStream};
use selio::time::{sleep, timeout};
use selio::{Async, Driver, Timer, block_on, spawn, unblock, yield_now};
use std::cell::RefCell;
use std::future::{Future, pending};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(5);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn it_goes_on_after_somebodys_waker_has_panicked() {
    let _guard = kit::watchdog(10);
    let mut driver = Driver::new(async {
        let bad = kit::hostile().on_wake(|| panic!("a bad waker")).waker();
        let mut timer = Timer::after(millis(5));
        assert!(kit::poll_with(&mut timer, &bad).is_pending());
        sleep(millis(5)).await;
        "gone on"
    })
    .unwrap();
    come_to_rest(&mut driver);
    thread::sleep(millis(10));
    let panicked = catch_unwind(AssertUnwindSafe(|| driver.turn())).unwrap_err();
    assert_eq!(message(&*panicked), "a bad waker");
    assert!(driver.next_deadline().is_some(), "it says that there is nothing to do");
    assert_eq!(drive(&mut driver).0, "gone on");
}

/// Waits as the driver asks, but no longer than this: whether its descriptor is readable.
fn poll_fd(driver: &Driver<impl Future>, limit: Duration) -> bool {
    let now = Instant::now();
    let left = driver.next_deadline().map_or(limit, |deadline| deadline - now).min(limit);
    let timeout = left.as_nanos().div_ceil(1_000_000) as i32;
    let mut watched = libc::pollfd { fd: driver.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one `pollfd`, which lives through the call.
    unsafe { libc::poll(&raw mut watched, 1, timeout) > 0 }
}

/// Turns until there is nothing to do. A socket that begins to be watched is writable, and that is an
/// event of its own.
fn come_to_rest(driver: &mut Driver<impl Future>) {
    for _ in 0..3 {
        assert!(driver.turn().is_pending());
        if !poll_fd(driver, Duration::ZERO) {
            return;
        }
    }
    panic!("it turns and turns");
}

/// Drives to the end by poll(2), and counts the turns.
fn drive<F: Future>(driver: &mut Driver<F>) -> (F::Output, usize) {
    let mut turns = 0;
    loop {
        turns += 1;
        if let Poll::Ready(output) = driver.turn() {
            return (output, turns);
        }
        poll_fd(driver, LONG);
    }
}

#[test]
fn sockets_timers_tasks_and_threads() {
    let _guard = kit::watchdog(10);
    let mut driver = Driver::new(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.unwrap();
            sleep(millis(5)).await;
            stream.write_all(&bytes).await.unwrap();
        });
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        timeout(LONG, client.read_exact(&mut bytes)).await.unwrap().unwrap();
        server.await.unwrap();
        assert!(timeout(millis(2), pending::<()>()).await.is_err());
        unblock(move || bytes).await
    })
    .unwrap();
    assert_eq!(&drive(&mut driver).0, b"ping");
}

#[test]
fn without_events_there_are_no_turns() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let mut driver = Driver::new(async move { near.read(&mut [0; 8]).await.unwrap() }).unwrap();
    assert!(driver.next_deadline().unwrap() <= Instant::now(), "the first poll is due");
    come_to_rest(&mut driver);
    assert_eq!(driver.next_deadline(), None);
    assert!(!poll_fd(&driver, millis(50)));
    far.write_all(b"word").unwrap();
    assert!(poll_fd(&driver, LONG));
    assert_eq!(driver.turn(), Poll::Ready(4));
    assert_eq!(driver.next_deadline(), None);
}

#[test]
fn the_next_deadline_is_the_nearest() {
    let _guard = kit::watchdog(10);
    let start = Instant::now();
    let mut driver = Driver::new(async {
        let far = spawn(sleep(Duration::from_secs(3600)));
        sleep(millis(60)).await;
        far.abort();
    })
    .unwrap();
    come_to_rest(&mut driver);
    let deadline = driver.next_deadline().unwrap();
    assert!(deadline >= start + millis(60), "the nearest, not before its time");
    assert!(deadline <= Instant::now() + millis(60));
    let ((), turns) = drive(&mut driver);
    kit::assert_at_least(start.elapsed(), millis(60));
    assert!(turns <= 6, "{turns} turns for one timer");
}

#[test]
fn a_wake_from_another_thread_makes_it_readable() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let mut driver = Driver::new(gate.pass()).unwrap();
    for _ in 0..2 {
        assert!(driver.turn().is_pending());
        assert!(!poll_fd(&driver, millis(10)));
    }
    let opener = gate.clone();
    on_thread(move || opener.open());
    assert!(poll_fd(&driver, LONG));
    assert!(driver.turn().is_ready());
}

#[test]
fn a_wake_from_another_thread_arrives_among_tasks_that_never_rest() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let passed = gate.pass();
    let mut driver = Driver::new(async {
        drop(spawn(async {
            loop {
                yield_now().await;
            }
        }));
        passed.await;
    })
    .unwrap();
    assert!(driver.turn().is_pending());
    on_thread(move || gate.open());
    while driver.turn().is_pending() {}
}

#[test]
fn a_wake_between_two_turns_makes_it_readable() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let mut driver = Driver::new(gate.pass()).unwrap();
    assert!(driver.turn().is_pending());
    gate.open();
    assert!(poll_fd(&driver, LONG));
    assert!(driver.turn().is_ready());
}

#[test]
fn tasks_that_never_rest_leave_the_loop_its_share() {
    let _guard = kit::watchdog(10);
    let mut driver = Driver::new(async {
        for _ in 0..3 {
            spawn(async {
                loop {
                    yield_now().await;
                }
            });
        }
        sleep(millis(100)).await;
    })
    .unwrap();
    let mut turns = 0;
    while driver.turn().is_pending() {
        turns += 1;
        assert!(driver.next_deadline().unwrap() <= Instant::now(), "there is more to do");
    }
    assert!(turns > 3, "{turns}");
}

#[test]
fn what_is_left_is_dropped_in_order() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(Vec::new()));
    let note = |what: &'static str| {
        let log = Rc::clone(&log);
        on_drop(move || log.borrow_mut().push(what))
    };
    let (root, first, second) = (note("root"), note("first"), note("second"));
    let mut driver = Driver::new(async move {
        let _root = root;
        for guard in [first, second] {
            spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
        }
        settle().await;
        pending::<()>().await;
    })
    .unwrap();
    assert!(driver.turn().is_pending());
    assert!(log.borrow().is_empty());
    drop(driver);
    assert_eq!(*log.borrow(), ["root", "first", "second"]);
}

#[test]
fn what_is_dropped_with_it_may_spawn() {
    let _guard = kit::watchdog(10);
    let spawned = Rc::new(RefCell::new(Vec::new()));
    let theirs = Rc::clone(&spawned);
    let root = on_drop(move || {
        theirs.borrow_mut().push(spawn(async {}));
        let theirs = Rc::clone(&theirs);
        let late = on_drop(move || theirs.borrow_mut().push(spawn(async {})));
        drop(spawn(async move { drop(late) }));
    });
    let mut driver = Driver::new(async move {
        let _root = root;
        pending::<()>().await;
    })
    .unwrap();
    assert!(driver.turn().is_pending());
    drop(driver);
    let spawned = spawned.take();
    assert_eq!(spawned.len(), 2, "by the future, and by a task that was left");
    for task in spawned {
        assert!(block_on(task).unwrap_err().is_aborted());
    }
}

#[test]
fn a_panic_of_what_is_left_goes_to_who_drops() {
    let _guard = kit::watchdog(10);
    let mut driver = Driver::new(async {
        let bomb = on_drop(|| panic!("in a destructor"));
        drop(spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        }));
        pending::<()>().await;
    })
    .unwrap();
    assert!(driver.turn().is_pending());
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(driver))).unwrap_err();
    assert_eq!(message(&*panicked), "in a destructor");
    block_on(sleep(millis(1)));
}

#[test]
fn a_panic_goes_to_who_turns() {
    let _guard = kit::watchdog(10);
    let mut driver = Driver::new(async {
        let task = spawn(async { panic!("in a task") });
        assert!(!task.await.unwrap_err().is_aborted());
        panic!("in the root");
    })
    .unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| _ = drive::<_>(&mut driver))).unwrap_err();
    assert_eq!(message(&*panic), "in the root");
    // The thread is as it was.
    assert!(catch_unwind(|| _ = spawn(async {})).is_err(), "no executor is left behind");
    drop(driver);
    block_on(sleep(millis(1)));
}

#[test]
fn a_turn_after_the_end_says_so() {
    let _guard = kit::watchdog(10);
    let mut driver = Driver::new(async {}).unwrap();
    assert!(driver.turn().is_ready());
    let panic = catch_unwind(AssertUnwindSafe(|| _ = driver.turn())).unwrap_err();
    assert!(message(&*panic).contains("after the future had ended"));
}

#[test]
fn block_on_between_two_turns() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let mut driver = Driver::new(async move {
        let timer = spawn(sleep(millis(5)));
        near.readable().await.unwrap();
        timer.await.unwrap();
        near.get_ref().read(&mut [0; 8]).unwrap()
    })
    .unwrap();
    come_to_rest(&mut driver);
    far.write_all(b"abc").unwrap();
    // It takes the events and the deadline that the driver waits for, and hands them on.
    block_on(async {
        spawn(sleep(millis(10))).await.unwrap();
        sleep(millis(10)).await;
    });
    assert!(poll_fd(&driver, LONG), "what a block_on has found makes it readable");
    assert_eq!(drive(&mut driver).0, 3);
}

#[test]
fn inside_of_block_on_and_beyond_it() {
    let _guard = kit::watchdog(10);
    let (near, far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let mut driver = block_on(async {
        let mut driver = Driver::new(async move {
            let task = spawn(async move { near.read(&mut [0; 8]).await.unwrap() });
            task.await.unwrap()
        })
        .unwrap();
        assert!(driver.turn().is_pending());
        // Its tasks are not those of the call around it.
        spawn(async {}).await.unwrap();
        driver
    });
    come_to_rest(&mut driver);
    on_thread(move || (&far).write_all(b"12345").unwrap());
    assert_eq!(drive(&mut driver).0, 5);
}

#[test]
fn two_drivers_share_a_thread() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let (opener, waiter) = (gate.clone(), gate);
    let mut one = Driver::new(async move {
        sleep(millis(5)).await;
        opener.open();
    })
    .unwrap();
    let mut two = Driver::new(async move { waiter.pass().await }).unwrap();
    come_to_rest(&mut two);
    drive(&mut one);
    assert!(poll_fd(&two, LONG));
    assert!(two.turn().is_ready());
}

#[test]
fn selio_drives_selio() {
    let _guard = kit::watchdog(10);
    // A loop on another thread may wait for the descriptor, too.
    let gate = Gate::new();
    let mut driver = Driver::new(gate.pass()).unwrap();
    assert!(driver.turn().is_pending());
    let watched = Async::new(driver.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let opener = gate.clone();
    let thread = thread::spawn(move || {
        block_on(async {
            let waited = timeout(LONG, watched.readable());
            let open = async {
                sleep(millis(20)).await;
                opener.open();
            };
            selio::join(waited, open).await.0.unwrap().unwrap();
        });
    });
    thread.join().unwrap();
    assert!(driver.turn().is_ready());
}

#[test]
fn what_others_share_with_it_wakes_them() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = std::sync::Arc::new(Async::new(near).unwrap());
    let here = std::sync::Arc::clone(&near);
    let mut driver = Driver::new(async move { here.readable().await.unwrap() }).unwrap();
    assert!(driver.turn().is_pending());
    // Another thread waits for the same object, relying on this one; which then goes.
    let thread = thread::spawn(move || block_on(timeout(LONG, near.readable())));
    thread::sleep(millis(50));
    drop(driver);
    far.write_all(b"x").unwrap();
    thread.join().unwrap().expect("sent home, it waits by itself").unwrap();
}

// B02: whatever the moment, no wake is lost.
#[test]
fn each_of_many_wakes_arrives() {
    const ROUNDS: u32 = 3_000;
    let _guard = kit::watchdog(20);
    let mut driver = Driver::new(async {
        let handle = selio::handle();
        let (done, all) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            for round in 0..ROUNDS {
                let done = done.clone();
                handle.spawn(move || async move { _ = done.send(round) });
                assert_eq!(all.recv(), Ok(round));
            }
        });
        unblock(move || thread.join().unwrap()).await;
    })
    .unwrap();
    let mut turns = 0_u32;
    while driver.turn().is_pending() {
        turns += 1;
        if turns % 7 == 0 {
            block_on(yield_now());
        }
        // A turn that left something to do has made it due.
        let due = driver.next_deadline().is_some();
        assert!(poll_fd(&driver, LONG) || due, "a wake was lost after {turns} turns");
    }
}
