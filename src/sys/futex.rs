//! futex(2): sleeping until a word in memory changes.

use std::ptr;
use std::sync::atomic::AtomicU32;

/// Sleeps until somebody wakes who waits at this word. It returns at once if the word is not
/// `value` any more, and may return without a reason.
pub(super) fn wait(word: &AtomicU32, value: u32) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the address is that of an aligned 32-bit integer that outlives the call, and there is
    // no time limit.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, forever) };
}

/// Wakes one of those who sleep at this word.
#[cold]
pub(super) fn wake_one(word: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the address names those who sleep, and is not read.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) };
}
