//! Sending signals to threads, and looking at what a `Signals` has got.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(unsafe_code, reason = "signals to one thread, which the standard library lacks")]

use crate::kit;
use futures_core::Stream;
use selio::block_on;
use selio::signal::{SignalInfo, Signals};
use selio::time::{sleep, timeout};
use std::os::unix::thread::JoinHandleExt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

/// The code of a signal that was sent to one thread.
pub const SI_TKILL: i32 = -6;

/// Long enough for what has been sent to come.
const MOMENT: Duration = Duration::from_millis(30);

/// What comes next; a hang if nothing does.
#[track_caller]
pub fn next(signals: &mut Signals) -> SignalInfo {
    block_on(signals.next()).expect("it never ends").unwrap()
}

/// Whatever comes within a moment.
#[track_caller]
pub fn rest(signals: &mut Signals) -> Vec<SignalInfo> {
    block_on(async {
        let mut all = Vec::new();
        while let Ok(item) = timeout(MOMENT, signals.next()).await {
            all.push(item.expect("it never ends").unwrap());
        }
        all
    })
}

/// The numbers of whatever comes within a moment.
#[track_caller]
pub fn numbers(signals: &mut Signals) -> Vec<i32> {
    rest(signals).iter().map(SignalInfo::signo).collect()
}

/// The values of whatever comes within a moment.
#[track_caller]
pub fn values(signals: &mut Signals) -> Vec<i32> {
    rest(signals).iter().map(SignalInfo::value).collect()
}

/// Waits a while and sees no signal, nor a busy loop.
#[track_caller]
pub fn assert_silent(signals: &mut Signals) {
    assert_eq!(kit::assert_quiet(|| numbers(signals)), []);
}

/// Polls once, in a `block_on` of its own.
#[track_caller]
pub fn poll(signals: &mut Signals, waker: &Waker) -> Poll<SignalInfo> {
    block_on(async { poll_here(signals, waker) })
}

/// Polls once, wherever that is.
#[track_caller]
pub fn poll_here(signals: &mut Signals, waker: &Waker) -> Poll<SignalInfo> {
    try_poll(signals, waker).map(Result::unwrap)
}

/// Polls once, which may fail.
#[track_caller]
pub fn try_poll(signals: &mut Signals, waker: &Waker) -> Poll<std::io::Result<SignalInfo>> {
    let polled = Pin::new(signals).poll_next(&mut Context::from_waker(waker));
    polled.map(|item| item.expect("it never ends"))
}

/// Lets the reactor of this thread take in what is there, with nobody polled.
pub fn settle() {
    block_on(sleep(Duration::from_millis(3)));
}

/// Sends a signal to the calling thread alone.
pub fn raise_here(signo: i32) {
    // SAFETY: the call takes a number.
    assert_eq!(unsafe { libc::raise(signo) }, 0);
}

/// Sends a signal to a thread alone.
pub fn raise_in<T>(thread: &JoinHandle<T>, signo: i32) {
    // SAFETY: the thread has not been joined, for its handle is there.
    assert_eq!(unsafe { libc::pthread_kill(thread.as_pthread_t(), signo) }, 0);
}

/// Queues a signal with a value for this process, as soon as there is room.
pub fn queue(signo: i32, value: i32) {
    queue_to(std::process::id() as i32, signo, value);
}

/// Queues a signal with a value for a process, as soon as there is room.
pub fn queue_to(pid: i32, signo: i32, value: i32) {
    while let Err(error) = kit::sigqueue(pid, signo, value) {
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
        std::thread::yield_now();
    }
}

/// The user of this process.
pub fn own_uid() -> u32 {
    // SAFETY: the call takes nothing and always succeeds.
    unsafe { libc::getuid() }
}
