//! A forked child has copies of everything, and shares the kernel's side of it: whatever it drops
//! or wakes, the parent keeps.
#![allow(unsafe_code, reason = "a thread of a parent forks, which the kit does not offer")]

use crate::kit;
use crate::kit::futures;
use futures::{Gate, on_drop, on_thread, own_waker, settle};
use selio::net::{TcpListener, TcpStream};
use selio::time::sleep;
use selio::{Async, JoinHandle, Timer, block_on, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        kit::case("a_child_that_drops_all_leaves_the_parent_whole", a_child_that_drops_all),
        kit::case("a_child_that_wakes_all_leaves_the_parent_whole", a_child_that_wakes_all),
        kit::case("a_child_that_returns_leaves_the_parent_whole", a_child_that_returns),
        kit::case("a_child_that_just_exits_leaves_the_parent_whole", a_child_that_exits),
        kit::case("a_child_gets_a_reactor_of_its_own", a_child_gets_a_reactor_of_its_own),
        kit::case("a_child_of_a_child_as_well", a_child_of_a_child_as_well),
        kit::case("what_was_registered_waits_in_no_child", what_was_registered_waits_in_no_child),
        kit::case("what_was_not_registered_works_in_a_child", what_was_not_registered_works),
        kit::case("a_child_triggers_its_parents_event", a_child_triggers_its_parents_event),
        kit::case("a_child_of_a_waiting_parent_may_wake", a_child_of_a_waiting_parent_may_wake),
        kit::case("a_child_that_is_forked_while_a_waker_is_cloned", a_child_of_a_clone),
        kit::case("a_child_is_not_told_what_its_parent_counted", a_child_is_not_told),
    ]
}

#[track_caller]
fn assert_child_succeeds(body: impl FnOnce()) {
    let status = kit::wait_status(kit::in_child(body));
    assert!(status.success(), "the child ended with {status}");
}

/// One of each kind, all of them waited for.
struct Objects {
    socket: Async<UnixStream>,
    far: UnixStream,
    listener: TcpListener,
    timer: Timer,
    due: Instant,
    task: JoinHandle<u8>,
    gate: Gate,
    waker: Waker,
}

async fn objects() -> Objects {
    let (near, far) = UnixStream::pair().unwrap();
    let socket = Async::new(near).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for waits in [
        Box::pin(socket.readable()) as std::pin::Pin<Box<dyn Future<Output = _>>>,
        Box::pin(listener.readable()),
    ] {
        let mut waits = waits;
        assert!(kit::poll_with(&mut waits, Waker::noop()).is_pending());
    }
    let due = Instant::now() + Duration::from_millis(100);
    let mut timer = Timer::at(due);
    assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
    let gate = Gate::new();
    let passes = gate.pass();
    let task = spawn(async {
        passes.await;
        9
    });
    settle().await;
    Objects { socket, far, listener, timer, due, task, gate, waker: own_waker().await }
}

impl Objects {
    /// Everything arrives that should: bytes, a connection, the time, a result, a wake of another
    /// thread.
    async fn work(mut self) {
        let far = &mut self.far;
        let read = async {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).await.unwrap();
            byte[0]
        };
        let says = async {
            sleep(Duration::from_millis(1)).await;
            far.write_all(b"p").unwrap();
        };
        assert_eq!(selio::join(read, says).await.0, b'p');
        let address = self.listener.local_addr().unwrap();
        let (accepted, connected) =
            selio::join(self.listener.accept(), TcpStream::connect(address)).await;
        assert_eq!(accepted.unwrap().1, connected.unwrap().local_addr().unwrap());
        assert_eq!((&mut self.timer).await, self.due);
        let gate = self.gate.clone();
        let thread = thread::spawn(move || {
            futures::a_moment();
            gate.open();
        });
        assert_eq!(self.task.await.unwrap(), 9);
        thread.join().unwrap();
    }
}

// I07
fn a_child_that_drops_all() {
    block_on(async {
        let objects = RefCell::new(Some(objects().await));
        assert_child_succeeds(|| drop(objects.take().unwrap()));
        objects.take().unwrap().work().await;
    });
}

// I07
fn a_child_that_wakes_all() {
    block_on(async {
        let objects = objects().await;
        assert_child_succeeds(|| {
            objects.waker.wake_by_ref();
            objects.gate.open();
            objects.task.abort();
            let waker = objects.waker.clone();
            on_thread(move || waker.wake());
        });
        kit::assert_quiet(|| block_on(sleep(Duration::from_millis(50))));
        objects.work().await;
    });
}

// I07
fn a_child_that_returns() {
    // Here the call itself ends in the child as well: it drops its tasks, and what they own.
    let drops = Rc::new(Cell::new(0));
    let counts = Rc::clone(&drops);
    let parent = std::process::id();
    let child = block_on(async {
        let objects = objects().await;
        let counted = on_drop(move || counts.set(counts.get() + 1));
        drop(spawn(async move {
            let _counted = counted;
            pending::<()>().await;
        }));
        settle().await;
        let pid = kit::fork();
        if pid != 0 {
            assert!(kit::wait_status(pid).success());
            objects.work().await;
        }
        pid
    });
    assert_eq!(drops.get(), 1);
    if child == 0 {
        assert_ne!(std::process::id(), parent);
        assert_eq!(block_on(async { spawn(async { 4 }).await.unwrap() }), 4);
        std::process::exit(0);
    }
}

// I07
fn a_child_that_exits() {
    block_on(async {
        let objects = objects().await;
        assert_child_succeeds(|| std::process::exit(0));
        objects.work().await;
    });
}

/// A call of the process's own, with all there is.
fn works() {
    block_on(async { objects().await.work().await });
}

// I07
fn a_child_gets_a_reactor_of_its_own() {
    works();
    let timer = RefCell::new(Timer::after(Duration::from_secs(60)));
    block_on(async {
        assert!(kit::poll_with(&mut *timer.borrow_mut(), Waker::noop()).is_pending());
    });
    assert_child_succeeds(works);
    works();
    // Inside of a call the child's own, nested one has one of its own, too.
    block_on(async {
        let objects = objects().await;
        assert_child_succeeds(|| {
            works();
            timer.borrow_mut().set_after(Duration::from_millis(1));
            block_on(&mut *timer.borrow_mut());
        });
        objects.work().await;
    });
}

// I07
fn a_child_of_a_child_as_well() {
    works();
    assert_child_succeeds(|| {
        assert_child_succeeds(works);
        works();
        assert_child_succeeds(works);
    });
    works();
}

// I07
fn what_was_registered_waits_in_no_child() {
    block_on(async {
        let objects = objects().await;
        assert_child_succeeds(|| {
            // Still under the parent's call: nothing here waits for the child, and it is told so.
            let mut waits = Box::pin(objects.listener.accept());
            if let std::task::Poll::Ready(result) = kit::poll_with(&mut waits, Waker::noop()) {
                assert!(result.is_err());
            }
        });
        yield_now().await;
        objects.work().await;
    });
}

// I07
fn what_was_not_registered_works() {
    block_on(sleep(Duration::from_millis(1)));
    let (near, far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let child = kit::in_child(|| {
        block_on(async {
            near.write_all(b"c").await.unwrap();
            let mut byte = [0];
            near.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"p");
        });
    });
    let far = Async::new(far).unwrap();
    block_on(async {
        let mut byte = [0];
        far.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"c");
        // The child waits meanwhile, with the descriptor that it shares with us, in its own epoll
        // set.
        sleep(Duration::from_millis(10)).await;
        far.write_all(b"p").await.unwrap();
    });
    assert!(kit::wait_status(child).success());
}

// I07
fn a_child_triggers_its_parents_event() {
    let event = selio::event::Event::new().unwrap();
    let trigger = event.trigger();
    block_on(async {
        for waited in [false, true] {
            if waited {
                let mut wait = Box::pin(event.wait());
                assert!(kit::poll_with(&mut wait, Waker::noop()).is_pending());
            }
            // What was counted before is the parent's alone.
            trigger.trigger().unwrap();
            assert_child_succeeds(|| (0..2).for_each(|_| trigger.trigger().unwrap()));
            let mut told = 0;
            while told < 3 {
                told += event.wait().await.unwrap();
            }
            assert_eq!(told, 3);
        }
    });
}

// I07
fn a_child_is_not_told() {
    let event = selio::event::Event::new().unwrap();
    event.trigger().trigger().unwrap();
    assert_child_succeeds(|| {
        block_on(async { assert!(kit::poll_once(event.wait()).is_pending()) })
    });
    assert_eq!(block_on(event.wait()).unwrap(), 1);
}

// I07: the child has a reactor of its own when the timer is about to take the waker.
fn a_child_of_a_clone() {
    const PARENT: i32 = -1;
    let forked = Arc::new(AtomicI32::new(PARENT));
    let pid = Arc::clone(&forked);
    let forks = move || {
        if pid.load(Ordering::Relaxed) == PARENT {
            pid.store(kit::fork(), Ordering::Relaxed);
            block_on(yield_now());
        }
    };
    let woken = Arc::new(AtomicBool::new(false));
    let notes = Arc::clone(&woken);
    let waker =
        kit::hostile().on_clone(forks).on_wake(move || notes.store(true, Ordering::Relaxed));
    let waker = waker.waker();
    let keeps = || {
        block_on(async {
            let mut timer = Timer::after(Duration::from_millis(400));
            assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
            // It may take the child so long to come here that the timer has gone off.
            let waits = kit::poll_with(&mut timer, &waker).is_pending();
            block_on(sleep(Duration::from_millis(450)));
            !waits || woken.load(Ordering::Relaxed)
        })
    };
    let waits = catch_unwind(AssertUnwindSafe(keeps)).unwrap_or(false);
    let child = forked.load(Ordering::Relaxed);
    if child == 0 {
        // SAFETY: the call does not return. Nothing of the parent's is to be dropped in the child.
        unsafe { libc::_exit(i32::from(!waits)) };
    }
    assert!(waits);
    assert!(kit::wait_status(child).success());
}

// I07: it forks while another thread of this process sleeps in a call, and wakes it from the child.
fn a_child_of_a_waiting_parent_may_wake() {
    let gate = Gate::new();
    let theirs = gate.clone();
    let polls = thread::spawn(move || {
        let polls = Rc::new(Cell::new(0));
        block_on(futures::counted(&polls, theirs.pass()));
        polls.get()
    });
    kit::eventually("the thread sleeps", || gate.is_awaited());
    futures::a_moment();
    // SAFETY: the child makes system calls and exits; the other thread holds no lock that it takes.
    let pid = unsafe { libc::fork() };
    assert_ne!(pid, -1);
    if pid == 0 {
        gate.open();
        // SAFETY: the call does not return.
        unsafe { libc::_exit(0) };
    }
    assert!(kit::wait_status(pid).success());
    futures::a_moment();
    assert!(!gate.is_open(), "the child's gate is another one");
    gate.open();
    assert_eq!(polls.join().unwrap(), 2);
}
