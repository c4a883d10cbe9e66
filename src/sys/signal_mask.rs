//! The signal mask of the calling thread, one signal at a time, and which signals can be waited for
//! at all.

use libc::c_int;
use std::io;
use std::mem;
use std::ptr;

/// Says why a signal cannot be waited for, or nothing if it can.
#[inline]
pub(crate) fn refusal(signal: c_int) -> Option<&'static str> {
    match signal {
        libc::SIGKILL => Some("SIGKILL cannot be blocked, caught or read"),
        libc::SIGSTOP => Some("SIGSTOP cannot be blocked, caught or read"),
        libc::SIGSEGV => Some("SIGSEGV is a fault of the instruction that causes it"),
        libc::SIGBUS => Some("SIGBUS is a fault of the instruction that causes it"),
        libc::SIGFPE => Some("SIGFPE is a fault of the instruction that causes it"),
        libc::SIGILL => Some("SIGILL is a fault of the instruction that causes it"),
        // The C library keeps the first real-time signals, from 32 on, for its threads.
        _ if (32..libc::SIGRTMIN()).contains(&signal) => Some("it belongs to the C library"),
        _ if signal < 1 || signal > libc::SIGRTMAX() => Some("there is no signal of this number"),
        _ => None,
    }
}

/// Whether a signal of this number can be sent.
#[inline]
pub(crate) fn exists(signal: c_int) -> bool {
    (1..=libc::SIGRTMAX()).contains(&signal)
}

/// Returns the set of these signals. A number that is none is left out, which `sigaddset` checks.
pub(super) fn set_of(signals: impl IntoIterator<Item = c_int>) -> libc::sigset_t {
    // SAFETY: `sigset_t` is made of integers, for which zeros are a value.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a writable `sigset_t`.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is initialised, and a number out of range is an error that leaves it as it
        // is.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks a signal in the calling thread, and tells whether it was blocked before.
#[inline]
pub(crate) fn block(signal: c_int) -> bool {
    change(libc::SIG_BLOCK, signal)
}

/// Unblocks a signal in the calling thread. If one is pending its action takes place before this
/// returns.
#[inline]
pub(crate) fn unblock(signal: c_int) {
    change(libc::SIG_UNBLOCK, signal);
}

/// Whether a signal that the calling thread blocks is pending, sent to the thread or to the process.
#[inline]
pub(super) fn is_pending(signal: c_int) -> bool {
    let mut pending = set_of([]);
    // SAFETY: `pending` is a writable `sigset_t`.
    unsafe { libc::sigpending(&raw mut pending) };
    // SAFETY: `pending` is initialised.
    unsafe { libc::sigismember(&raw const pending, signal) == 1 }
}

/// Takes whatever is pending of a signal that the calling thread blocks, sent to the thread or to
/// the process, so that nothing acts when it is unblocked.
#[inline]
pub(crate) fn take_pending(signal: c_int) {
    while take_one(signal) {}
}

/// Takes one of what [`take_pending`] takes, what was sent to the thread first, and tells whether
/// there was any.
#[inline]
pub(super) fn take_one(signal: c_int) -> bool {
    let set = set_of([signal]);
    // SAFETY: `timespec` is made of integers, and of padding on some architectures, for which zeros
    // are a value: no time to wait.
    let no_time: libc::timespec = unsafe { mem::zeroed() };
    loop {
        let (set, no_time) = (ptr::from_ref(&set), ptr::from_ref(&no_time));
        // SAFETY: both outlive the call, and the details of the signal are not asked for.
        let taken = unsafe { libc::sigtimedwait(set, ptr::null_mut(), no_time) };
        let interrupted = || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if taken == signal || !interrupted() {
            return taken == signal;
        }
    }
}

/// Changes the mask and tells whether the signal was in it before. `pthread_sigmask` fails for a
/// wrong `how` alone.
#[inline]
fn change(how: c_int, signal: c_int) -> bool {
    let set = set_of([signal]);
    // SAFETY: `sigset_t` is made of integers, for which zeros are a value.
    let mut before: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: both sets are initialised and outlive the call, which changes this thread's mask
    // only.
    unsafe { libc::pthread_sigmask(how, ptr::from_ref(&set), &raw mut before) };
    // SAFETY: `before` is initialised.
    unsafe { libc::sigismember(&raw const before, signal) == 1 }
}
