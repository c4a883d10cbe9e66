//! What concerns the whole process: refused system calls, panic messages, descriptors, memory, CPU
//! time, and its exit.
#![allow(unsafe_code, reason = "the numbers of the system calls that shall be refused")]

use crate::kit;
use crate::kit::futures;
use futures::{Gate, message, on_drop, on_thread, own_waker, settle};
use selio::event::Event;
use selio::time::sleep;
use selio::{Async, Driver, JoinHandle, Timer, block_on, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{self, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        kit::case("no_eventfd_is_named", no_eventfd_is_named),
        kit::case("no_epoll_is_named", no_epoll_is_named),
        kit::case("no_descriptor_is_named", no_descriptor_is_named),
        kit::case("no_descriptor_is_an_error_elsewhere", no_descriptor_is_an_error_elsewhere),
        kit::case(
            "a_driver_that_was_refused_drives_nothing",
            a_driver_that_was_refused_drives_nothing,
        ),
        kit::case("a_spawn_outside_blames_its_caller", a_spawn_outside_blames_its_caller),
        kit::case("a_second_await_says_so", a_second_await_says_so),
        kit::case("a_foreign_wake_leaves_the_loop_quiet", a_foreign_wake_leaves_the_loop_quiet),
        kit::case("threads_leave_nothing_open", threads_leave_nothing_open),
        kit::case("handles_keep_nothing_open", handles_keep_nothing_open),
        kit::case(
            "the_number_that_was_registered_stays_the_one",
            the_number_that_was_registered_stays_the_one,
        ),
        kit::case("cycles_leave_no_memory", cycles_leave_no_memory),
        kit::case("late_wakes_leave_no_memory", late_wakes_leave_no_memory),
        kit::case("tasks_leave_no_memory", tasks_leave_no_memory),
        kit::case("an_abort_said_again_takes_no_memory", an_abort_said_again_takes_no_memory),
        kit::case("a_crowd_of_tasks_leaves_no_room", a_crowd_of_tasks_leaves_no_room),
        kit::case("exit_under_wakes", exit_under_wakes),
        kit::case("_returns_under_wakes", part_returns_under_wakes),
        kit::case("_exits_under_wakes", part_exits_under_wakes),
    ]
}

/// Who waits on another thread for an object of this one must not rely on what never began.
fn a_driver_that_was_refused_drives_nothing() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Arc::new(Async::new(near).unwrap());
    let ours = Arc::clone(&near);
    // It goes on waiting here, so that whoever comes waits here, too, if anybody drives this.
    let mut waits = Box::pin(ours.readable());
    block_on(async { assert!(kit::poll_with(&mut waits, Waker::noop()).is_pending()) });
    let before = kit::set_nofile_limit(0);
    let refused = Driver::new(async {}).map(drop);
    kit::set_nofile_limit(before);
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EMFILE));
    let thread = thread::spawn(move || block_on(near.readable()).unwrap());
    thread::sleep(Duration::from_millis(50));
    far.write_all(b"x").unwrap();
    thread.join().unwrap();
}

/// Asserts that `block_on` panics with a text that holds a word, twice, and on another thread too.
fn assert_block_on_names(word: &str) {
    let attempt = || message(&*catch_unwind(|| block_on(async {})).expect_err("it cannot wait"));
    for text in [attempt(), attempt(), on_thread(attempt)] {
        assert!(text.contains(word) && text.contains("selio"), "no `{word}` in: {text}");
    }
}

// B13
fn no_eventfd_is_named() {
    kit::refuse(&[(libc::SYS_eventfd2, libc::ENOSYS)]);
    let before = kit::open_fds();
    assert_block_on_names("eventfd");
    assert_eq!(kit::open_fds(), before);
}

// B13
fn no_epoll_is_named() {
    kit::refuse(&[(libc::SYS_epoll_create1, libc::EPERM)]);
    assert_block_on_names("epoll_create1");
}

// B13
fn no_descriptor_is_named() {
    // Inside a limit that holds the first descriptors and one more.
    let before = kit::set_nofile_limit(4);
    assert_block_on_names("eventfd");
    kit::set_nofile_limit(3);
    assert_block_on_names("epoll_create1");
    // What was refused once is tried again.
    kit::set_nofile_limit(before);
    assert_eq!(block_on(async { 1 }), 1);
}

// A27: where there is somebody to be told, it is no panic.
fn no_descriptor_is_an_error_elsewhere() {
    let open = kit::open_fds();
    // There is none for the epoll set, and none for the eventfd.
    for room in [3, 4] {
        let before = kit::set_nofile_limit(room);
        let error = Driver::new(async {}).map(drop).unwrap_err();
        kit::set_nofile_limit(before);
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        assert_eq!(kit::open_fds(), open);
    }
    let before = kit::set_nofile_limit(3);
    let errors = [
        Event::new().map(drop).unwrap_err(),
        selio::net::UnixStream::pair().map(drop).unwrap_err(),
        selio::net::UnixDatagram::unbound().map(drop).unwrap_err(),
        selio::net::Seqpacket::pair().map(drop).unwrap_err(),
    ];
    kit::set_nofile_limit(before);
    for error in errors {
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
    }
    assert_eq!(kit::open_fds(), open);
    let mut driver = Driver::new(async { 5 }).unwrap();
    assert_eq!(driver.turn(), std::task::Poll::Ready(5));
    // The thread has what waiting takes; who wants to connect or to listen has not.
    let before = kit::set_nofile_limit(3);
    block_on(async {
        let address = "127.0.0.1:0";
        let errors = [
            selio::net::TcpListener::bind(address).await.map(drop).unwrap_err(),
            selio::net::TcpStream::connect("127.0.0.1:9").await.map(drop).unwrap_err(),
            selio::net::UdpSocket::bind(address).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        }
    });
    kit::set_nofile_limit(before);
}

/// Where and with what words a closure panics.
fn panic_of(body: impl FnOnce() + panic::UnwindSafe) -> (String, u32, String) {
    let seen = Arc::new(Mutex::new(None));
    let sees = Arc::clone(&seen);
    panic::set_hook(Box::new(move |info| {
        let at = info.location().unwrap();
        let said = (at.file().to_string(), at.line(), message(info.payload()));
        *sees.lock().unwrap() = Some(said);
    }));
    assert!(catch_unwind(body).is_err());
    let _ = panic::take_hook();
    let said = seen.lock().unwrap().take();
    said.expect("the hook was called")
}

fn a_spawn_outside_blames_its_caller() {
    for inside_before in [false, true] {
        if inside_before {
            block_on(settle());
        }
        let line = line!() + 1;
        let (file, at, text) = panic_of(|| drop(spawn(async {})));
        assert_eq!((&*file, at), (file!(), line));
        // It says what was wrong and what to do.
        assert!(text.contains("`selio::spawn` was called outside of `selio::block_on`"), "{text}");
        assert!(text.contains("call it from a future that `block_on` runs"), "{text}");
    }
    // On another thread than the one that runs a call is outside as well.
    block_on(async { on_thread(|| assert!(catch_unwind(|| drop(spawn(async {}))).is_err())) });
}

// G12
fn a_second_await_says_so() {
    let (_, _, text) = panic_of(|| {
        block_on(async {
            let mut task = spawn(async {});
            (&mut task).await.unwrap();
            let _ = (&mut task).await;
        })
    });
    assert!(text.contains("`JoinHandle` was polled again after it gave its result"), "{text}");
    assert_eq!(block_on(async { spawn(async { 2 }).await.unwrap() }), 2);
}

// B02
fn a_foreign_wake_leaves_the_loop_quiet() {
    let gate = Gate::new();
    let thread = gate.opener();
    block_on(async {
        gate.pass().await;
        thread.join().unwrap();
        let wanted = Duration::from_millis(300);
        let waits = Timer::after(wanted);
        kit::assert_quiet(|| block_on(waits));
    });
}

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
}

/// A thread that keeps registered and set objects in a thread-local until it ends.
fn keeps_objects(touched_before: bool) {
    if touched_before {
        KEPT.with(|kept| kept.borrow_mut().reserve(8));
    }
    let (near, far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let mut timer = Timer::after(Duration::from_secs(60));
    block_on(async {
        assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
        let mut readable = Box::pin(near.readable());
        assert!(kit::poll_with(&mut readable, Waker::noop()).is_pending());
        drop(readable);
        let task = spawn(pending::<()>());
        KEPT.with(|kept| kept.borrow_mut().push(Box::new((near, far, timer, task))));
    });
    if !touched_before {
        let inside = on_drop(|| block_on(sleep(Duration::from_millis(1))));
        KEPT.with(|kept| kept.borrow_mut().push(Box::new(inside)));
    }
}

// B07
fn handles_keep_nothing_open() {
    let before = kit::open_fds();
    let ended = || on_thread(|| block_on(async { (spawn(async {}), own_waker().await) }));
    let kept: Vec<(JoinHandle<()>, Waker)> = (0..10).map(|_| ended()).collect();
    assert_eq!(kit::open_fds(), before, "of ten threads that have ended");
    drop(kept);
}

// I05, I03
fn threads_leave_nothing_open() {
    let before = kit::open_fds();
    for touched_before in [true, false] {
        for _ in 0..20 {
            on_thread(move || keeps_objects(touched_before));
        }
        assert_eq!(kit::open_fds(), before, "touched before: {touched_before}");
    }
    // Objects that live on elsewhere close what the thread had when they go.
    let moved = on_thread(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let near = Async::new(near).unwrap();
        block_on(async {
            let mut readable = Box::pin(near.readable());
            assert!(kit::poll_with(&mut readable, Waker::noop()).is_pending());
        });
        (near, far)
    });
    assert!(kit::open_fds().iter().any(|(fd, _)| *fd == moved.1.as_raw_fd()));
    drop(moved);
    assert_eq!(kit::open_fds(), before);
}

/// An object that shows another descriptor once it is told to.
struct Swapped {
    shown: [UnixStream; 2],
    second: Cell<bool>,
}

impl AsFd for Swapped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shown[usize::from(self.second.get())].as_fd()
    }
}

/// The numbers that the only epoll set of this process watches.
fn watched() -> Vec<i32> {
    let sets = kit::open_fds().into_iter().filter(|(_, name)| name.contains("eventpoll"));
    let infos: Vec<_> = sets.map(|(fd, _)| kit::fdinfo(fd)).collect();
    assert_eq!(infos.len(), 1);
    let lines = infos[0].lines().filter_map(|line| line.strip_prefix("tfd:"));
    lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

// H23
fn the_number_that_was_registered_stays_the_one() {
    let (first, mut first_end) = UnixStream::pair().unwrap();
    let (second, mut second_end) = UnixStream::pair().unwrap();
    let numbers = [first.as_raw_fd(), second.as_raw_fd()];
    let swapped = Async::new(Swapped { shown: [first, second], second: Cell::new(false) }).unwrap();
    block_on(async {
        let mut readable = Box::pin(swapped.readable());
        assert!(kit::poll_with(&mut readable, Waker::noop()).is_pending());
        assert!(watched().contains(&numbers[0]));
        swapped.get_ref().second.set(true);
        second_end.write_all(b"x").unwrap();
        sleep(Duration::from_millis(2)).await;
        assert!(kit::poll_with(&mut readable, Waker::noop()).is_pending());
        first_end.write_all(b"x").unwrap();
        readable.await.unwrap();
    });
    drop(swapped);
    assert!(!watched().iter().any(|number| numbers.contains(number)));
}

/// Futures that hold their own waker, their own handle, each other's, and timers that will not fire
/// in time.
fn cycles() {
    block_on(async {
        let own_handle = Rc::new(RefCell::new(None::<JoinHandle<()>>));
        let handle = Rc::clone(&own_handle);
        *own_handle.borrow_mut() = Some(spawn(async move {
            let _waker = own_waker().await;
            let timer = Timer::after(Duration::from_secs(60));
            let _handle = handle;
            timer.await;
        }));
        let each_others = Rc::new(RefCell::new(Vec::<JoinHandle<()>>::new()));
        for _ in 0..2 {
            let handles = Rc::clone(&each_others);
            let task = spawn(async move {
                settle().await;
                let other = handles.borrow_mut().pop();
                if let Some(other) = other {
                    let _ = other.await;
                }
            });
            each_others.borrow_mut().push(task);
        }
        let (near, far) = UnixStream::pair().unwrap();
        let near = Rc::new(Async::new(near).unwrap());
        drop(spawn(async move { near.read(&mut [0; 8]).await.map(|_| far) }));
        for _ in 0..5 {
            settle().await;
        }
    });
}

/// Asserts that memory does not grow while something is repeated, apart from what the first rounds
/// keep.
fn assert_flat(mut body: impl FnMut()) {
    (0..5).for_each(|_| body());
    let before = kit::allocated_bytes();
    (0..50).for_each(|_| body());
    let after = kit::allocated_bytes();
    // Not by a byte a round.
    assert!(after < before + 50, "{before} bytes have become {after}");
}

// H15
fn cycles_leave_no_memory() {
    let fds = kit::open_fds();
    assert_flat(|| on_thread(cycles));
    assert_eq!(kit::open_fds(), fds);
    cycles();
    assert_flat(cycles);
}

fn an_abort_said_again_takes_no_memory() {
    block_on(async {
        let task = spawn(std::future::pending::<()>());
        settle().await;
        let before = kit::allocated_bytes();
        (0..100_000).for_each(|_| task.abort());
        assert!(kit::allocated_bytes() < before + 1_000);
        let from_elsewhere = on_thread(move || {
            (0..100_000).for_each(|_| task.abort());
            task
        });
        assert!(kit::allocated_bytes() < before + 1_000);
        assert!(from_elsewhere.await.unwrap_err().is_aborted());
    });
}

/// What a large `block_on` needed is not kept for the small ones that follow.
fn a_crowd_of_tasks_leaves_no_room() {
    let few = || block_on(async { spawn(async {}).await.unwrap() });
    few();
    let before = kit::allocated_bytes();
    block_on(async {
        // The queue stays short, only the table does not.
        let mut tasks = Vec::new();
        for _ in 0..1_000 {
            tasks.extend((0..100).map(|_| spawn(std::future::pending::<()>())));
            yield_now().await;
        }
        // They end one by one: what is left at the end goes together with the table.
        for some in tasks.chunks(100) {
            some.iter().for_each(JoinHandle::abort);
            yield_now().await;
        }
        settle().await;
        assert!(tasks.iter().all(JoinHandle::is_finished));
    });
    few();
    assert!(kit::allocated_bytes() < before + 10_000);
}

// G10, H15
fn late_wakes_leave_no_memory() {
    let fds = kit::open_fds();
    let wakers = || {
        block_on(async {
            let (keep, kept) = std::sync::mpsc::channel();
            drop(spawn(async move {
                keep.send(own_waker().await).unwrap();
                pending::<()>().await;
            }));
            settle().await;
            [own_waker().await, kept.recv().unwrap(), spawn(own_waker()).await.unwrap()]
        })
    };
    // What a wake queues would hold its task, and that the queue, were the queue not closed.
    assert_flat(|| on_thread(wakers).into_iter().for_each(Waker::wake));
    assert_eq!(kit::open_fds(), fds);
    assert_flat(|| wakers().into_iter().for_each(Waker::wake));
    assert_flat(|| on_thread(move || wakers().into_iter().for_each(Waker::wake)));
}

// H15
fn tasks_leave_no_memory() {
    block_on(async {
        let one = async |wake_late: bool| {
            let mut task = spawn(own_waker());
            let waker = (&mut task).await.unwrap();
            drop(spawn(async {}));
            spawn(pending::<()>()).abort();
            settle().await;
            if wake_late {
                waker.wake();
                task.abort();
            }
        };
        for wake_late in [false, true] {
            for _ in 0..500 {
                one(wake_late).await;
            }
            let before = kit::allocated_bytes();
            for _ in 0..500 {
                one(wake_late).await;
            }
            let after = kit::allocated_bytes();
            assert!(after < before + 500, "{before} bytes have become {after}");
        }
    });
}

/// Threads that wake for as long as the process lives.
fn storm() {
    let wakers = block_on(async { [own_waker().await, spawn(own_waker()).await.unwrap()] });
    let (send, living) = std::sync::mpsc::channel();
    drop(thread::spawn(move || {
        block_on(async {
            let task = spawn(async {
                own_waker().await.wake();
                pending::<()>().await;
            });
            let gate = Gate::new();
            send.send([own_waker().await, spawn(own_waker()).await.unwrap()]).unwrap();
            gate.pass().await;
            drop(task);
        });
    }));
    let wakers: Vec<Waker> = wakers.into_iter().chain(living.recv().unwrap()).collect();
    for _ in 0..2 {
        let wakers = wakers.clone();
        drop(thread::spawn(move || {
            loop {
                wakers.iter().for_each(Waker::wake_by_ref);
                wakers.iter().cloned().for_each(drop);
            }
        }));
    }
    futures::a_moment();
}

fn part_returns_under_wakes() {
    storm();
    block_on(sleep(Duration::from_millis(1)));
}

fn part_exits_under_wakes() {
    storm();
    block_on(async { std::process::exit(0) });
}

// I06
fn exit_under_wakes() {
    for _ in 0..10 {
        kit::rerun("_returns_under_wakes").run().assert_success();
        kit::rerun("_exits_under_wakes").run().assert_success();
    }
}
