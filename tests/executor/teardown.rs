//! The end of a `block_on` and of its thread: what is left over is dropped once, at home, in order,
//! whatever it does meanwhile.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, OnDrop, on_drop, own_waker, settle};
use selio::net::{TcpListener, TcpStream};
use selio::time::sleep;
use selio::{Async, JoinHandle, Timer, block_on, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::thread;
use std::time::Duration;

/// A task that never ends by itself, with what it owns.
fn endless(owned: impl Sized + 'static) -> JoinHandle<()> {
    spawn(async move {
        let _owned = owned;
        pending::<()>().await;
    })
}

/// Writes its name into a log when it is dropped.
fn names(log: &Rc<RefCell<String>>, name: char) -> OnDrop<impl FnMut() + use<>> {
    let log = Rc::clone(log);
    on_drop(move || log.borrow_mut().push(name))
}

/// A left-over task per name, each with one more thing to do in its destructor.
fn leave_behind(log: &Rc<RefCell<String>>, and: impl Fn(char) + Clone + 'static) {
    for name in 'a'..='f' {
        let (note, and) = (names(log, name), and.clone());
        drop(endless(on_drop(move || {
            let _note = &note;
            and(name);
        })));
    }
}

// H13
#[test]
fn what_is_left_is_dropped_in_the_order_of_creation() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    block_on(async {
        // Slots that are free in the midst of the table, last freed first used.
        let early: Vec<_> = (0..4).map(|_| spawn(async {})).collect();
        drop(endless(names(&log, '1')));
        let late: Vec<_> = (0..4).map(|_| spawn(async {})).collect();
        for task in early.into_iter().chain(late) {
            task.await.unwrap();
        }
        for name in '2'..='9' {
            drop(endless(names(&log, name)));
        }
        settle().await;
    });
    assert_eq!(*log.borrow(), "123456789");
}

// H13
#[test]
fn destructors_may_wake_send_and_spawn() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    let (wakers, refused) = (Rc::new(RefCell::new(Vec::<Waker>::new())), Rc::new(Cell::new(0)));
    let (send, sent) = mpsc::channel();
    let drops = kit::DropLog::new();
    block_on(async {
        let (theirs, count, log_of) = (Rc::clone(&wakers), Rc::clone(&refused), drops.clone());
        leave_behind(&log, move |name| {
            theirs.borrow().iter().for_each(Waker::wake_by_ref);
            send.send(name).unwrap();
            let (check, living) = (log_of.check(), log_of.living());
            let mut late = spawn(async move { drop(check) });
            // Refused at once, and said so.
            assert_eq!(log_of.living(), living - 1);
            assert!(late.is_finished());
            let result = kit::poll_with(&mut late, Waker::noop());
            assert!(matches!(result, std::task::Poll::Ready(Err(error)) if error.is_aborted()));
            count.set(count.get() + 1);
        });
        let keeps = Rc::clone(&wakers);
        for _ in 0..3 {
            let keeps = Rc::clone(&keeps);
            drop(spawn(async move {
                let waker = own_waker().await;
                keeps.borrow_mut().push(waker);
                pending::<()>().await;
            }));
        }
        settle().await;
    });
    assert_eq!(*log.borrow(), "abcdef");
    assert_eq!(sent.iter().collect::<String>(), "abcdef");
    assert_eq!(refused.get(), 6);
    drops.assert_all_dropped();
}

/// A conversation over a socket, with timers and tasks.
async fn talk() -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        Timer::after(Duration::from_millis(1)).await;
        stream.write_all(b"hi").await.unwrap();
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let got = stream.read(&mut [0; 8]).await.unwrap();
    server.await.unwrap();
    got
}

// H13, I09, G15
#[test]
fn destructors_may_nest_and_wait_for_timers_and_sockets() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    let done = Rc::new(Cell::new(0));
    block_on(async {
        let count = Rc::clone(&done);
        leave_behind(&log, move |_| {
            block_on(sleep(Duration::from_millis(1)));
            assert_eq!(block_on(talk()), 2);
            count.set(count.get() + 1);
        });
        settle().await;
    });
    assert_eq!((done.get(), &**log.borrow()), (6, "abcdef"));
    // And the thread is as good as new.
    assert_eq!(block_on(talk()), 2);
}

// H13
#[test]
fn destructors_may_use_objects_of_the_ending_call() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let log = Rc::new(RefCell::new(String::new()));
    block_on(async {
        let near = Rc::new(Async::new(near).unwrap());
        let timer = Rc::new(RefCell::new(Timer::after(Duration::from_millis(1))));
        // Both have been waited for, here, before.
        let (reads, waits) = (Rc::clone(&near), Rc::clone(&timer));
        drop(spawn(async move { reads.read(&mut [0; 8]).await.map(drop) }));
        settle().await;
        assert!(kit::poll_with(&mut *waits.borrow_mut(), Waker::noop()).is_pending());
        let note = names(&log, 'x');
        drop(endless(on_drop(move || {
            let _note = &note;
            far.write_all(b"late").unwrap();
            let near = &near;
            assert_eq!(block_on(async { near.read(&mut [0; 8]).await.unwrap() }), 4);
            block_on(&mut *timer.borrow_mut());
            timer.borrow_mut().set_after(Duration::from_millis(1));
            block_on(&mut *timer.borrow_mut());
        })));
        settle().await;
    });
    assert_eq!(*log.borrow(), "x");
}

// H10
#[test]
fn the_first_panic_of_a_destructor_goes_on_after_the_last_drop() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            leave_behind(&log, |name| {
                if "bce".contains(name) {
                    panic_any(name);
                }
            });
            settle().await;
        });
    }));
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&'b'));
    assert_eq!(*log.borrow(), "abcdef");
    assert_eq!(block_on(talk()), 2);
}

// H10
#[test]
fn destructors_may_panic_while_the_roots_panic_goes_on() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            leave_behind(&log, |name| panic_any(name));
            settle().await;
            panic_any('r');
        });
    }));
    assert_eq!(
        result.unwrap_err().downcast_ref(),
        Some(&'r'),
        "the root's panic is the one that goes on"
    );
    assert_eq!(*log.borrow(), "abcdef");
    assert_eq!(block_on(talk()), 2);
}

// H10, H13
#[test]
fn a_nested_call_that_panics_in_a_destructor_harms_nobody() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            let inner = Rc::clone(&log);
            leave_behind(&log, move |name| {
                let note = names(&inner, name.to_ascii_uppercase());
                block_on(async move {
                    drop(endless(note));
                    sleep(Duration::from_millis(1)).await;
                    panic_any(name);
                })
            });
            settle().await;
        });
    }));
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&'a'));
    assert_eq!(*log.borrow(), "AaBbCcDdEeFf");
}

// H13
#[test]
fn handles_that_outlive_the_call_say_aborted() {
    let _guard = kit::watchdog(10);
    let (polled, fresh, awaited) = block_on(async {
        let polled = endless(());
        let mut awaited = endless(());
        settle().await;
        assert!(kit::poll_with(&mut awaited, Waker::noop()).is_pending());
        (polled, endless(()), awaited)
    });
    for task in [polled, fresh, awaited] {
        assert!(task.is_finished());
        task.abort();
        assert!(block_on(task).unwrap_err().is_aborted());
    }
}

// H13
#[test]
fn whoever_awaits_on_another_thread_is_told_of_the_end() {
    let _guard = kit::watchdog(10);
    for panics in [false, true] {
        let (send, handles) = mpsc::channel::<JoinHandle<()>>();
        let awaiting = Gate::new();
        let theirs = awaiting.clone();
        let thread = thread::spawn(move || {
            let task = handles.recv().unwrap();
            block_on(async {
                let result = selio::join(task, async { theirs.open() }).await.0;
                assert!(result.unwrap_err().is_aborted());
            });
        });
        let _ = catch_unwind(AssertUnwindSafe(|| {
            block_on(async {
                send.send(endless(on_drop(move || assert!(!panics)))).unwrap();
                awaiting.pass().await;
                assert!(!panics, "the root panics, too");
            });
        }));
        thread.join().unwrap();
    }
}

/// Spawns tasks each of which owns what ends the next one, and ends the first.
fn chain(tasks: usize, drops: &Arc<AtomicUsize>) {
    let mut next: Option<JoinHandle<()>> = None;
    for _ in 0..tasks {
        let (drops, handle) = (Arc::clone(drops), next.take());
        next = Some(endless(on_drop(move || {
            drops.fetch_add(1, Ordering::SeqCst);
            if let Some(handle) = &handle {
                handle.abort();
            }
        })));
    }
    next.unwrap().abort();
}

// H14
#[test]
fn a_long_chain_of_tasks_needs_little_stack() {
    let _guard = kit::watchdog(20);
    const TASKS: usize = 100_000;
    for rounds in [0, TASKS + 1] {
        let drops = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&drops);
        let small = thread::Builder::new().stack_size(256 * 1024);
        let thread = small.spawn(move || {
            block_on(async {
                chain(TASKS, &theirs);
                // Either one ends the next at each round of the queue, or all of them are left
                // over.
                for _ in 0..rounds {
                    yield_now().await;
                }
                assert_eq!(theirs.load(Ordering::SeqCst), rounds.min(TASKS));
            });
        });
        thread.unwrap().join().unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), TASKS);
    }
}

/// What a thread-local does in its destructor.
struct AtExit(Box<dyn FnOnce()>, Arc<AtomicUsize>);

impl Drop for AtExit {
    fn drop(&mut self) {
        std::mem::replace(&mut self.0, Box::new(|| {}))();
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static AT_EXIT: RefCell<Vec<AtExit>> = const { RefCell::new(Vec::new()) };
}

/// Runs a closure in the destructor of a thread-local, after `first` has been done on the same
/// thread: the thread-local is touched before, and so destroyed after what `first` has touched, or
/// the other way round.
fn at_thread_exit<T: 'static>(
    first: impl Fn() -> T + Send + Copy + 'static,
    body: impl Fn(T) + Send + Copy + 'static,
) {
    for touched_before in [true, false] {
        let done = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&done);
        let thread = thread::spawn(move || {
            if touched_before {
                AT_EXIT.with(|it| it.borrow_mut().reserve(1));
            }
            let value = first();
            let exit = AtExit(Box::new(move || body(value)), theirs);
            AT_EXIT.with(|it| it.borrow_mut().push(exit));
        });
        thread.join().unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1, "touched before: {touched_before}");
    }
}

/// An object that is registered, a timer that is set, a handle and a waker, all used on this
/// thread.
fn used_objects() -> (Async<UnixStream>, Timer, JoinHandle<()>, Waker, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let mut timer = Timer::after(Duration::from_secs(60));
    block_on(async {
        assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
        let mut readable = Box::pin(near.readable());
        assert!(kit::poll_with(&mut readable, Waker::noop()).is_pending());
        drop(readable);
        let waker = spawn(own_waker()).await.unwrap();
        (near, timer, endless(()), waker, far)
    })
}

// I03, I05
#[test]
fn objects_may_be_kept_until_the_thread_ends() {
    let _guard = kit::watchdog(10);
    at_thread_exit(used_objects, |objects| {
        objects.2.abort();
        objects.3.wake_by_ref();
        drop(objects);
    });
}

// I04
#[test]
fn thread_local_destructors_may_run_a_call_of_their_own() {
    let _guard = kit::watchdog(10);
    for prepared in [false, true] {
        let first = move || {
            if prepared {
                block_on(sleep(Duration::from_millis(1)));
            }
        };
        at_thread_exit(first, |()| {
            assert_eq!(block_on(async { spawn(async { 5 }).await.unwrap() }), 5);
            block_on(sleep(Duration::from_millis(1)));
            assert_eq!(block_on(talk()), 2);
        });
    }
}

// I04
#[test]
fn thread_local_destructors_may_use_old_objects() {
    let _guard = kit::watchdog(10);
    at_thread_exit(used_objects, |(near, mut timer, task, waker, mut far)| {
        // Without a call there is nobody who could wake: refused or pending, but no abort.
        assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
        let mut readable = Box::pin(near.readable());
        let refused = kit::poll_with(&mut readable, Waker::noop());
        assert!(!matches!(refused, std::task::Poll::Ready(Ok(()))));
        drop(readable);
        waker.wake_by_ref();
        task.abort();
        assert!(block_on(task).unwrap_err().is_aborted());
        far.write_all(b"x").unwrap();
        assert_eq!(block_on(near.read(&mut [0; 8])).unwrap(), 1);
        timer.set_after(Duration::from_millis(1));
        block_on(timer);
        waker.wake();
    });
}

// I04
#[test]
fn thread_local_destructors_are_refused_a_spawn() {
    let _guard = kit::watchdog(10);
    at_thread_exit(
        || block_on(yield_now()),
        |()| {
            let refused = catch_unwind(|| drop(spawn(async {})));
            let message = futures::message(&*refused.unwrap_err());
            assert!(message.contains("outside of `selio::block_on`"), "{message}");
        },
    );
}

// I04
#[test]
fn thread_local_destructors_may_drop_and_wake_what_is_anothers() {
    let _guard = kit::watchdog(10);
    let home = thread::spawn(|| {
        block_on(async {
            let gate = Gate::new();
            let (near, _far) = UnixStream::pair().unwrap();
            let near = Async::new(near).unwrap();
            let mut timer = Timer::after(Duration::from_secs(60));
            assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
            let mut readable = Box::pin(near.readable());
            assert!(kit::poll_with(&mut readable, Waker::noop()).is_pending());
            drop(readable);
            let task = spawn(gate.pass());
            let waker = own_waker().await;
            let exits = thread::spawn(move || {
                let exit = move || {
                    drop((near, timer));
                    waker.wake();
                    gate.open();
                };
                AT_EXIT.with(|it| it.borrow_mut().push(AtExit(Box::new(exit), Arc::default())));
            });
            task.await.unwrap();
            exits.join().unwrap();
        });
    });
    home.join().unwrap();
}

// I03
#[test]
fn futures_may_be_kept_until_the_thread_ends() {
    let _guard = kit::watchdog(10);
    at_thread_exit(
        || {
            let (near, far) = UnixStream::pair().unwrap();
            let near = Rc::new(Async::new(near).unwrap());
            let reads = Rc::clone(&near);
            let mut read = Box::pin(async move {
                let _far = far;
                reads.read(&mut [0; 8]).await.map(drop).unwrap();
            });
            block_on(async { assert!(kit::poll_with(&mut read, Waker::noop()).is_pending()) });
            read
        },
        drop,
    );
}
