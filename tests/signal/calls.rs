//! System calls of signals, counted and delayed: what waiting costs, what is never called, and the
//! gaps between two calls in which a signal could be lost.
#![allow(unsafe_code, reason = "the size of a pipe")]

use crate::kit;
use crate::kit::deliveries;
use crate::kit::keys;
use deliveries::{next, poll, poll_here, queue, raise_here};
use keys::{millis, raise};
use selio::block_on;
use selio::signal::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGRTMIN, SIGTERM, SIGUSR1, SIGUSR2,
    SIGWINCH, Signals,
};
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Waker;
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("one_signalfd_for_a_thread", one_signalfd_for_a_thread),
        ("a_delivery_costs_few_calls", a_delivery_costs_few_calls),
        ("no_mask_is_touched", no_mask_is_touched),
        ("idle_costs_nothing", idle_costs_nothing),
        ("full_when_the_handler_writes", full_when_the_handler_writes),
        ("full_when_the_reader_looks", full_when_the_reader_looks),
        ("_one_signalfd", part_one_signalfd),
        ("_delivery", part_delivery),
        ("_masks", part_masks),
        ("_idle", part_idle),
        ("_full", part_full),
    ])
}

const TEN: [i32; 10] =
    [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCHLD, SIGCONT, SIGWINCH];

/// Runs a part under strace, with arguments, and returns the log.
fn trace(part: kit::Rerun, arguments: &[&str]) -> kit::Trace {
    let Some((ended, trace)) = part.strace_with(arguments) else {
        kit::pass_over("there is no strace that may trace");
    };
    ended.assert_success();
    trace
}

// D17
fn one_signalfd_for_a_thread() {
    let trace = trace(kit::rerun("_one_signalfd"), &[]);
    assert_eq!(trace.between("make", "poll").count("signalfd4"), 0, "nobody waits yet");
    assert_eq!(trace.between("poll", "more").count("signalfd4"), 1);
    let more = trace.between("more", "done");
    // The next stream wants what is read already, but for one signal.
    assert_eq!(more.count("signalfd4"), 1, "{:?}", more.calls("signalfd4"));
    assert!(!more.calls("signalfd4")[0].contains("signalfd4(-1"));
    assert_eq!(more.count("pipe2") + more.count("dup") + more.count("epoll_ctl"), 0);
}

fn part_one_signalfd() {
    kit::mark("make");
    let mut all: Vec<_> = (0..3).map(|_| Signals::new(TEN).unwrap()).collect();
    kit::mark("poll");
    all.iter_mut().for_each(|it| assert!(poll(it, Waker::noop()).is_pending()));
    kit::mark("more");
    let mut another = Signals::new(TEN.into_iter().chain([SIGRTMIN()])).unwrap();
    assert!(poll(&mut another, Waker::noop()).is_pending());
    kit::mark("done");
    raise(SIGTERM);
    for signals in all.iter_mut().chain([&mut another]) {
        assert_eq!(next(signals).signo(), SIGTERM);
    }
}

fn a_delivery_costs_few_calls() {
    let trace = trace(kit::rerun("_delivery"), &[]);
    // To a thread that runs: the handler's write, and the read that brings it to all the streams of
    // the thread. It is not waited for; but a look at the kernel now and then may come in between, and
    // then the pipe is read in vain.
    let counts = trace.between("begin", "asleep").counts();
    let count = |call: &str| counts.get(call).copied().unwrap_or(0);
    assert_eq!(count("write"), 100, "{counts:?}");
    assert!(waits(&counts) < 10, "{counts:?}");
    assert!((100..=100 + waits(&counts)).contains(&count("read")), "{counts:?}");
    assert_eq!((count("epoll_ctl"), count("signalfd4")), (0, 0), "{counts:?}");
    // To a thread that sleeps: one wait, which the signal interrupts, or the signalfd ends, which is
    // readable until the handler runs. Then it is read too, in vain. On a busy machine a signal may come
    // before it has fallen asleep.
    let counts = trace.between("asleep", "done").counts();
    let count = |call: &str| counts.get(call).copied().unwrap_or(0);
    assert_eq!(count("write"), 100, "{counts:?}");
    assert!((100..=200).contains(&count("read")), "{counts:?}");
    assert!((1..=210).contains(&waits(&counts)), "{counts:?}");
    assert_eq!((count("epoll_ctl"), count("signalfd4")), (0, 0), "{counts:?}");
}

fn waits(counts: &HashMap<String, u64>) -> u64 {
    let calls = ["epoll_pwait2", "epoll_pwait", "epoll_wait"];
    calls.iter().filter_map(|&call| counts.get(call)).sum()
}

fn part_delivery() {
    let mut all: Vec<_> = (0..3).map(|_| Signals::new([SIGUSR1]).unwrap()).collect();
    all.iter_mut().for_each(|it| assert!(poll(it, Waker::noop()).is_pending()));
    let (go, begun) = mpsc::channel();
    let sender = thread::spawn(move || {
        // Only the thread that waits takes signals.
        kit::block_signal(SIGUSR1);
        begun.iter().for_each(|()| {
            thread::sleep(millis(1));
            raise(SIGUSR1);
        });
    });
    block_on(async {
        kit::mark("begin");
        for _ in 0..100 {
            raise(SIGUSR1);
            for signals in &mut all {
                assert_eq!(signals.next().await.unwrap().unwrap().signo(), SIGUSR1);
            }
        }
        kit::mark("asleep");
        for _ in 0..100 {
            go.send(()).unwrap();
            for signals in &mut all {
                assert_eq!(signals.next().await.unwrap().unwrap().signo(), SIGUSR1);
            }
        }
        kit::mark("done");
    });
    drop(go);
    sender.join().unwrap();
}

// D19: not even for a moment, but for those in which the handler itself runs.
fn no_mask_is_touched() {
    let trace = trace(kit::rerun("_masks"), &[]).between("begin", "done");
    assert_eq!(trace.count("rt_sigprocmask"), 0, "{:?}", trace.calls("rt_sigprocmask"));
    assert_ne!(trace.count("rt_sigaction"), 0);
}

fn part_masks() {
    kit::block_signal(SIGUSR2);
    kit::mark("begin");
    let mut signals = Signals::new([SIGTERM, SIGUSR2]).unwrap();
    for signo in [SIGTERM, SIGUSR2] {
        raise(signo);
        assert_eq!(next(&mut signals).signo(), signo);
    }
    drop(signals);
    drop((selio::signal::ctrl_c(), selio::signal::shutdown()));
    kit::mark("done");
}

fn idle_costs_nothing() {
    let trace = trace(kit::rerun("_idle"), &[]).between("begin", "done");
    let counts = trace.counts();
    // The two sleeps, and what a stream asks when it is polled although nothing has come.
    let allowed = ["epoll_pwait2", "epoll_pwait", "epoll_wait", "gettid", "getpid"];
    let others: Vec<_> = counts.keys().filter(|call| !allowed.contains(&call.as_str())).collect();
    assert!(others.is_empty(), "{counts:?}");
    assert!(counts.values().sum::<u64>() < 20, "{counts:?}");
}

fn part_idle() {
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    kit::block_signal(SIGUSR2);
    let idle = Signals::new([SIGUSR1]).unwrap();
    raise(SIGUSR1);
    raise(SIGUSR2);
    assert_ne!(next(&mut signals).signo(), next(&mut signals).signo());
    assert!(poll(&mut signals, Waker::noop()).is_pending());
    block_on(async {
        kit::mark("begin");
        for _ in 0..2 {
            selio::time::sleep(millis(20)).await;
            for _ in 0..10 {
                assert!(poll_here(&mut signals, Waker::noop()).is_pending());
            }
        }
        kit::mark("done");
    });
    drop(idle);
}

/// Set by the thread that reads, when it is about to.
static READING: AtomicBool = AtomicBool::new(false);
/// Set by the thread that sends, when it is about to send what does not fit.
static FULL: AtomicBool = AtomicBool::new(false);
/// Tells the part that the reader begins.
const READ_FIRST: &str = "SELIO_READ_FIRST";

// D22: the handler has found the pipe full and has not said so yet; the reader empties it and finds
// that nothing was missed. The delay is that of the write that is refused.
fn full_when_the_handler_writes() {
    trace(kit::rerun("_full"), &["-e", "inject=write:delay_exit=100000:when=65"]);
}

// D22: the reader is about to empty the pipe; the handler still finds it full, twice. The delay is
// that of the reads.
fn full_when_the_reader_looks() {
    let reads_first = kit::rerun("_full").env(READ_FIRST, "1");
    trace(reads_first, &["-e", "inject=read:delay_enter=100000"]);
}

/// Fills the pipe in another thread, and sends one more while the reader is about to read.
fn part_full() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo, SIGUSR2]).unwrap();
    shrink();
    assert!(poll(&mut signals, Waker::noop()).is_pending());
    let sends = thread::spawn(move || {
        (0..64).for_each(|_| raise_here(signo));
        FULL.store(true, Ordering::SeqCst);
        if std::env::var_os(READ_FIRST).is_some() {
            kit::eventually("the other reads", || READING.load(Ordering::SeqCst));
            // It is in the delay of its call by now.
            thread::sleep(millis(20));
        }
        raise_here(SIGUSR2);
    });
    kit::eventually("the pipe is full", || FULL.load(Ordering::SeqCst));
    if std::env::var_os(READ_FIRST).is_none() {
        // The other is in the delay of its call by now.
        thread::sleep(millis(20));
    }
    READING.store(true, Ordering::SeqCst);
    while next(&mut signals).signo() != SIGUSR2 {}
    sends.join().unwrap();
    // It may have been both written and said to be missing.
    deliveries::rest(&mut signals);
    queue(signo, 5);
    assert_eq!(next(&mut signals).value(), 5);
}

/// Makes the pipe from the handler hold 64 signals.
fn shrink() {
    let pipes = kit::open_fds().into_iter().filter(|(_, name)| name.starts_with("pipe:"));
    let mut writers = pipes.filter(|&(fd, _)| kit::fdinfo(fd).contains("flags:\t02004001"));
    let writer: RawFd = writers.next().expect("a non-blocking end to write to").0;
    // SAFETY: the call takes numbers.
    let bytes = unsafe { libc::fcntl(writer, libc::F_SETPIPE_SZ, 4096) };
    if bytes != 4096 {
        kit::pass_over("this system has greater pages");
    }
}
