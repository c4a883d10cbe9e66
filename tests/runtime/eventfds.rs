//! The eventfds that wake a loop: full counters, loops that have ended, and signal handlers, which
//! may interrupt anything.
#![allow(unsafe_code, reason = "signal handlers, and counters that are filled by their numbers")]

use crate::kit;
use crate::kit::futures;
use futures::{a_moment, on_thread, own_waker, settle};
use selio::event::{Event, Trigger};
use selio::time::{sleep, timeout};
use selio::{block_on, spawn};
use std::collections::HashMap;
use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Seek};
use std::os::fd::FromRawFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("a_full_wake_counter_wakes_all_the_same", a_full_wake_counter_wakes_all_the_same),
        ("a_full_event_is_triggered_all_the_same", a_full_event_is_triggered_all_the_same),
        ("wakes_after_the_end_touch_no_descriptor", wakes_after_the_end_touch_no_descriptor),
        ("wakes_around_the_end_touch_no_descriptor", wakes_around_the_end_touch_no_descriptor),
        ("a_handler_triggers_whatever_it_interrupts", a_handler_triggers),
        ("a_trigger_is_one_write_at_most", a_trigger_is_one_write_at_most),
        ("_triggers", part_triggers),
    ])
}

/// The most that a counter holds (eventfd(2)).
const FULL: u64 = u64::MAX - 1;

/// The number of the eventfd of this process, of which there must be one.
fn the_eventfd() -> i32 {
    let fds = kit::open_fds();
    let mut found = fds.iter().filter(|(_, name)| name.contains("eventfd"));
    let (fd, _) = found.next().expect("an eventfd");
    assert!(found.next().is_none(), "two eventfds: {fds:?}");
    *fd
}

/// What a counter stands at.
fn counter(number: i32) -> u64 {
    let info = kit::fdinfo(number);
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"));
    u64::from_str_radix(count.expect("an eventfd").trim(), 16).unwrap()
}

/// Fills a counter behind the back of its owner.
fn fill(number: i32) {
    let missing = (FULL - counter(number)).to_ne_bytes();
    // SAFETY: the eight bytes live through the call.
    let written = unsafe { libc::write(number, missing.as_ptr().cast(), missing.len()) };
    assert_eq!((written, counter(number)), (8, FULL));
}

/// Three threads that do the same thing at the same time, in a moment.
fn three_threads(body: impl Fn() + Send + Sync + 'static) -> Vec<JoinHandle<()>> {
    let (body, together) = (Arc::new(body), Arc::new(Barrier::new(3)));
    let thread = |_| {
        let (body, together) = (Arc::clone(&body), Arc::clone(&together));
        thread::spawn(move || {
            a_moment();
            together.wait();
            body();
        })
    };
    (0..3).map(thread).collect()
}

fn join(threads: &mut Vec<JoinHandle<()>>) {
    threads.drain(..).for_each(|thread| thread.join().unwrap());
}

// B01
fn a_full_wake_counter_wakes_all_the_same() {
    block_on(settle());
    let number = the_eventfd();
    for _ in 0..10 {
        fill(number);
        block_on(async {
            // What the first wait finds is the write above, which is none of the threads'.
            sleep(Duration::from_millis(1)).await;
            assert_eq!(counter(number), FULL, "nobody has woken the loop yet");
            let mut threads = Vec::new();
            poll_fn(|cx| {
                if threads.is_empty() {
                    let waker = cx.waker().clone();
                    threads = three_threads(move || waker.wake_by_ref());
                    return Poll::Pending;
                }
                // One of the three has woken it; none of them hangs.
                join(&mut threads);
                Poll::Ready(())
            })
            .await;
            // Those that came meanwhile are one more wake, if they came late enough.
            let (mut polls, mut end) = (0, pin!(sleep(Duration::from_millis(10))));
            poll_fn(|cx| {
                polls += 1;
                Future::poll(end.as_mut(), cx)
            })
            .await;
            assert!(polls <= 3, "{polls} polls: the first, a late wake, and the timer");
        });
    }
}

// B01
fn a_full_event_is_triggered_all_the_same() {
    let event = Event::new().unwrap();
    let number = the_eventfd();
    let threads = || {
        let trigger = event.trigger();
        three_threads(move || trigger.trigger().unwrap())
    };
    block_on(async {
        for registered in [false, true] {
            fill(number);
            join(&mut threads());
            // Nobody waits, so that they are counted beside the counter that is full.
            assert_eq!(event.wait().await.unwrap(), 3, "registered: {registered}");
            assert_eq!(event.wait().await.unwrap(), FULL, "registered: {registered}");
            let again = timeout(Duration::from_millis(5), event.wait()).await;
            assert!(again.is_err(), "registered: {registered}");
        }
        // Somebody waits already when it becomes full and is triggered.
        let mut wait = pin!(event.wait());
        assert!(kit::poll_with(&mut wait, Waker::noop()).is_pending());
        fill(number);
        join(&mut threads());
        assert_eq!(wait.await.unwrap(), FULL);
        assert_eq!(counter(number), 0);
    });
}

/// A file of its own, in memory.
fn memory_file() -> File {
    // SAFETY: the name is a C string that lives through the call.
    let fd = unsafe { libc::memfd_create(c"stranger".as_ptr(), libc::MFD_CLOEXEC) };
    assert_ne!(fd, -1);
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { File::from_raw_fd(fd) }
}

/// Whatever number somebody's objects had is one of these now, if it is free.
struct Strangers {
    pipes: Vec<(File, File)>,
    files: Vec<File>,
}

impl Strangers {
    fn open() -> Self {
        let pipe = |(read, write)| (File::from(read), File::from(write));
        Strangers {
            pipes: (0..50).map(|_| pipe(kit::pipe())).collect(),
            files: (0..50).map(|_| memory_file()).collect(),
        }
    }

    #[track_caller]
    fn assert_got_nothing(self) {
        let mut got = Vec::new();
        for (mut read, write) in self.pipes {
            drop(write);
            read.read_to_end(&mut got).unwrap();
        }
        for mut file in self.files {
            file.rewind().unwrap();
            file.read_to_end(&mut got).unwrap();
        }
        assert_eq!(got, [], "bytes for a stranger");
    }
}

/// The wakers of the root and of a task, while their loop runs.
async fn wakers() -> [Waker; 2] {
    [own_waker().await, spawn(own_waker()).await.unwrap()]
}

// B07
fn wakes_after_the_end_touch_no_descriptor() {
    let wakers = on_thread(|| block_on(wakers()));
    let strangers = Strangers::open();
    for _ in 0..100_000 {
        wakers.iter().for_each(Waker::wake_by_ref);
    }
    drop(wakers);
    strangers.assert_got_nothing();
}

// B07
fn wakes_around_the_end_touch_no_descriptor() {
    for _ in 0..100 {
        let (send, running) = mpsc::channel();
        let owner = thread::spawn(move || {
            block_on(async {
                send.send(wakers().await).unwrap();
                // It sleeps, so that a wake writes to its eventfd, and ends in the midst of them.
                sleep(Duration::from_micros(300)).await;
            });
        });
        let wakers = running.recv().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let wakes = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                wakers.iter().for_each(Waker::wake_by_ref);
            }
        });
        owner.join().unwrap();
        let strangers = Strangers::open();
        stop.store(true, Ordering::Relaxed);
        wakes.join().unwrap();
        strangers.assert_got_nothing();
    }
}

static TRIGGER: OnceLock<Trigger> = OnceLock::new();
static RUNS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    if let Some(trigger) = TRIGGER.get() {
        if trigger.trigger().is_ok() {
            RUNS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn install() {
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: the handler makes one system call and touches an atomic, which is allowed in one;
    // none of the calls here is interrupted between its failure and a look at errno.
    let former = unsafe { libc::signal(libc::SIGALRM, handler as *const () as libc::sighandler_t) };
    assert_ne!(former, libc::SIG_ERR);
}

/// Has the signal come so often; never, if it is zero.
fn signal_every(microseconds: libc::suseconds_t) {
    let often = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: the value is valid for the call, and the former one is not asked for.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

// B12
fn a_handler_triggers() {
    let event = Event::new().unwrap();
    TRIGGER.set(event.trigger()).unwrap();
    install();
    signal_every(100);
    let mut told = 0;
    while told < 200 {
        // Most of the time is spent in the allocator, which must not be entered twice.
        for size in 0..2_000 {
            drop(std::hint::black_box(vec![0_u8; size]));
        }
        told += block_on(event.wait()).unwrap();
    }
    signal_every(0);
    if let Poll::Ready(rest) = block_on(async { kit::poll_once(pin!(event.wait())) }) {
        told += rest.unwrap();
    }
    assert_eq!(told, RUNS.load(Ordering::SeqCst), "each run is told once");
}

// B12, B01
fn a_trigger_is_one_write_at_most() {
    let Some((ended, trace)) = kit::rerun("_triggers").strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let writes = HashMap::from([("write".to_string(), 100)]);
    assert_eq!(trace.between("idle", "told").counts(), HashMap::new());
    assert_eq!(
        trace.between("streamed", "untold").counts(),
        HashMap::new(),
        "nobody waits any more"
    );
    let reads = trace.between("waits", "waited").count("read");
    assert!((100..=101).contains(&reads), "{reads} reads: one takes all that there is");
    assert_eq!(trace.between("awaited", "enough").counts(), writes);
    assert_eq!(trace.between("full", "end").counts(), writes);
}

fn part_triggers() {
    let mut event = Event::new().unwrap();
    let trigger = event.trigger();
    let number = the_eventfd();
    block_on(async {
        kit::mark("idle");
        for count in 1..=100 {
            (0..count).for_each(|_| trigger.trigger().unwrap());
            assert_eq!(event.wait().await.unwrap(), count);
        }
        kit::mark("told");
        {
            let mut next = pin!(event.next());
            assert!(kit::poll_with(&mut next, Waker::noop()).is_pending());
            trigger.trigger().unwrap();
            assert_eq!(next.await.unwrap().unwrap(), 1);
        }
        kit::mark("streamed");
        (0..100).for_each(|_| trigger.trigger().unwrap());
        kit::mark("untold");
        assert_eq!(event.wait().await.unwrap(), 100);
        kit::mark("waits");
        for _ in 0..100 {
            let mut wait = pin!(event.wait());
            assert!(kit::poll_with(&mut wait, Waker::noop()).is_pending());
            trigger.trigger().unwrap();
            assert_eq!(wait.await.unwrap(), 1);
        }
        kit::mark("waited");
        let mut wait = pin!(event.wait());
        assert!(kit::poll_with(&mut wait, Waker::noop()).is_pending());
        kit::mark("awaited");
        (0..100).for_each(|_| trigger.trigger().unwrap());
        kit::mark("enough");
        fill(number);
        kit::mark("full");
        (0..100).for_each(|_| trigger.trigger().unwrap());
        kit::mark("end");
    });
}
