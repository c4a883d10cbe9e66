//! Work that blocks, on threads that come and go with it.
#![allow(unsafe_code, reason = "a process with threads forks, which the kit does not offer")]

use crate::kit;
use crate::kit::futures;
use kit::{CountingWaker, case, poll_with};
use selio::time::{sleep, timeout};
use selio::{block_on, spawn, unblock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("no_thread_before_the_first_use", no_thread_before_the_first_use),
        case("idle_threads_leave", idle_threads_leave),
        case("threads_are_bounded_and_all_work_is_done", threads_are_bounded),
        case("the_loop_runs_on_meanwhile", the_loop_runs_on_meanwhile),
        case("a_panic_comes_back", a_panic_comes_back),
        case("a_dropped_future_detaches_its_work", a_dropped_future_detaches_its_work),
        case("the_last_waker_is_woken", the_last_waker_is_woken),
        case("a_hostile_waker_costs_no_thread", a_hostile_waker_costs_no_thread),
        case("it_works_outside_of_block_on", it_works_outside_of_block_on),
        case("the_end_of_the_program_does_not_wait", the_end_does_not_wait),
        case("a_forked_child_has_threads_of_its_own", a_forked_child),
        case("a_child_that_is_forked_while_the_pool_is_in_use_has_its_own", a_fork_in_the_midst),
        case("without_a_thread_the_caller_works", without_a_thread),
        case("_exits_during_work", part_exits_during_work),
    ]
}

fn no_thread_before_the_first_use() {
    block_on(async { spawn(sleep(Duration::from_millis(1))).await.unwrap() });
    assert_eq!(kit::threads(), 1);
    assert_eq!(block_on(unblock(|| 6 * 7)), 42);
    assert!(kit::threads() <= 2, "one for one piece of work");
    // The idle one serves again. It may be a moment before it is idle.
    for _ in 0..200 {
        assert_eq!(block_on(unblock(|| 6 * 7)), 42);
    }
    assert!(kit::threads() < 50, "{} threads", kit::threads());
}

fn idle_threads_leave() {
    let all: Vec<_> = (0..10).map(|i| unblock(move || i)).collect();
    let sum = block_on(async {
        let mut sum = 0;
        for one in all {
            sum += one.await;
        }
        sum
    });
    assert_eq!(sum, 45);
    kit::eventually("they have left", || kit::threads() == 1);
    assert_eq!(block_on(unblock(|| "and come again")), "and come again");
}

/// How many threads the pool may have, as its page says.
const MOST_THREADS: usize = 128;

/// A door that keeps everybody who comes, and counts them.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    opened: Condvar,
    came: AtomicUsize,
}

impl Door {
    fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

fn threads_are_bounded() {
    let door = Arc::new(Door::default());
    let all: Vec<_> = (0..300)
        .map(|_| {
            let door = Arc::clone(&door);
            unblock(move || door.pass())
        })
        .collect();
    kit::eventually("as many as may be are busy", || {
        door.came.load(Ordering::SeqCst) == MOST_THREADS
    });
    assert_eq!(kit::threads(), MOST_THREADS + 1);
    door.open();
    block_on(async {
        for one in all {
            one.await;
        }
    });
    assert_eq!(door.came.load(Ordering::SeqCst), 300);
}

fn the_loop_runs_on_meanwhile() {
    let (sender, receiver) = mpsc::channel();
    block_on(async {
        let work = spawn(unblock(move || receiver.recv().unwrap()));
        // The work waits for what only the loop can do.
        sleep(Duration::from_millis(5)).await;
        sender.send("from the loop").unwrap();
        assert_eq!(work.await.unwrap(), "from the loop");
    });
}

fn a_panic_comes_back() {
    let result = catch_unwind(|| block_on(unblock(|| -> i32 { panic!("in the work") })));
    assert_eq!(futures::message(&*result.unwrap_err()), "in the work");
    // The pool serves on.
    assert_eq!(block_on(unblock(|| 7)), 7);
}

fn a_dropped_future_detaches_its_work() {
    let (sender, receiver) = mpsc::channel();
    let (awaiting, waker) = CountingWaker::new();
    let (start, started) = mpsc::channel();
    let mut work = unblock(move || {
        started.recv().unwrap();
        sender.send("done").unwrap();
    });
    assert!(poll_with(&mut work, &waker).is_pending());
    drop(work);
    start.send(()).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(5)).unwrap(), "done");
    block_on(async { _ = timeout(Duration::from_millis(5), std::future::pending::<()>()).await });
    assert_eq!(awaiting.wakes(), 0);
}

// B16
fn the_last_waker_is_woken() {
    let (go, goes) = mpsc::channel();
    let mut work = unblock(move || goes.recv().unwrap());
    let (first, first_waker) = CountingWaker::new();
    let (last, last_waker) = CountingWaker::new();
    assert!(poll_with(&mut work, &first_waker).is_pending());
    assert!(poll_with(&mut work, &last_waker).is_pending());
    assert_eq!((first.wakers(), last.wakers()), (1, 2));
    go.send(5).unwrap();
    kit::eventually("the last is woken", || last.wakes() == 1);
    assert_eq!(first.wakes(), 0);
    assert_eq!(poll_with(&mut work, &last_waker), Poll::Ready(5));
}

// H11
fn a_hostile_waker_costs_no_thread() {
    assert_eq!(block_on(unblock(|| 1)), 1);
    for hostile in [kit::panics_on_wake(), kit::panics_on_drop(), kit::panics_on_clone()] {
        let (go, goes) = mpsc::channel();
        let mut work = unblock(move || (thread::current().id(), goes.recv().unwrap()));
        let poll = || poll_with(&mut work, &hostile).is_ready();
        assert!(!catch_unwind(AssertUnwindSafe(poll)).unwrap_or(false));
        go.send(7).unwrap();
        // The waker has panicked by then, or is let go here.
        let mut done = None;
        kit::eventually("it is done", || {
            let poll = || match poll_with(&mut work, Waker::noop()) {
                Poll::Ready(output) => done = Some(output),
                Poll::Pending => {}
            };
            _ = catch_unwind(AssertUnwindSafe(poll));
            done.is_some()
        });
        let (its_thread, output) = done.unwrap();
        assert_eq!(output, 7);
        // It may be a moment before the thread is idle; then it serves again.
        kit::eventually("the thread serves on", || {
            block_on(unblock(|| thread::current().id())) == its_thread
        });
        std::mem::forget(hostile);
    }
    kit::eventually("they have left", || kit::threads() == 1);
}

fn it_works_outside_of_block_on() {
    let (counting, waker) = CountingWaker::new();
    let (done, is_done) = mpsc::channel();
    let mut work = unblock(move || is_done.recv().unwrap());
    assert!(poll_with(&mut work, &waker).is_pending());
    done.send(()).unwrap();
    kit::eventually("it is woken", || counting.wakes() == 1);
    assert!(poll_with(&mut work, &waker).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(|| poll_with(&mut work, &waker))).is_err());
}

fn the_end_does_not_wait() {
    let ended = kit::rerun("_exits_during_work").run();
    ended.assert_success();
    assert!(ended.elapsed < Duration::from_secs(5), "it waited for the work");
}

fn part_exits_during_work() {
    let (sender, begun) = mpsc::channel();
    drop(unblock(move || {
        sender.send(()).unwrap();
        thread::sleep(Duration::from_secs(60));
    }));
    begun.recv().unwrap();
    exit(0);
}

fn a_forked_child() {
    assert_eq!(block_on(unblock(|| 1)), 1);
    kit::eventually("the thread has left", || kit::threads() == 1);
    let child = kit::in_child(|| {
        assert_eq!(block_on(unblock(|| 2)), 2);
        assert_eq!(kit::threads(), 2);
    });
    assert!(kit::wait_status(child).success());
    assert_eq!(block_on(unblock(|| 3)), 3);
}

/// Forked while another thread holds the pool's lock, as often as that may be.
///
/// No thread begins or ends meanwhile: both take a lock of std's, and a child that was forked while
/// it was held can start no thread.
fn a_fork_in_the_midst() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let door = Arc::new(Door::default());
    let keep = |_| {
        let door = Arc::clone(&door);
        unblock(move || door.pass())
    };
    let all: Vec<_> = (0..MOST_THREADS).map(keep).collect();
    let (begun, begins) = mpsc::channel();
    let busy = thread::spawn(move || {
        begun.send(()).unwrap();
        while !STOP.load(Ordering::Relaxed) {
            // Many at once, so that the lock is nearly always held, and no thread goes idle.
            let work: Vec<_> = (0..1_000).map(|_| unblock(|| ())).collect();
            work.into_iter().for_each(block_on);
        }
    });
    begins.recv().unwrap();
    kit::eventually("all threads run", || door.came.load(Ordering::SeqCst) == MOST_THREADS);
    door.open();
    all.into_iter().for_each(block_on);
    for _ in 0..200 {
        // SAFETY: what the child does below needs no lock but the allocator's, which the C library
        // gives back to a forked child.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let got = block_on(unblock(|| 2));
            // SAFETY: this takes a number, and does not return.
            unsafe { libc::_exit(got) };
        }
        assert_eq!(kit::wait_status(child).code(), Some(2));
    }
    STOP.store(true, Ordering::Relaxed);
    busy.join().unwrap();
}

fn without_a_thread() {
    // A new thread is a clone with this flag; older C libraries ask by the first call.
    kit::refuse(&[(libc::SYS_clone3, libc::ENOSYS), (libc::SYS_clone, libc::EAGAIN)]);
    let here = thread::current().id();
    let start = Instant::now();
    assert_eq!(block_on(unblock(move || thread::current().id())), here);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(kit::threads(), 1);
}
