//! prctl(2): how late the kernel may wake the calling thread from a wait that has a timeout.

use libc::{c_long, c_ulong};
use std::io;

use super::cvt;

/// The greatest slack that the kernel can say back.
const MOST: u64 = c_long::MAX as u64;

/// The slack of the calling thread, in nanoseconds. It is zero if the thread's scheduling policy is
/// a real-time one, which knows none.
pub(crate) fn get() -> io::Result<u64> {
    let operation = c_long::from(libc::PR_GET_TIMERSLACK);
    // By number, because the C library's `prctl` cuts the result down to an `int`.
    // SAFETY: this operation takes no pointer, nor anything else.
    let slack = unsafe { libc::syscall(libc::SYS_prctl, operation) };
    u64::try_from(slack).map_err(|_| io::Error::last_os_error())
}

/// Sets the slack of the calling thread, in nanoseconds. Zero sets what the thread began with.
pub(crate) fn set(slack: u64) -> io::Result<()> {
    let slack = slack.min(MOST) as c_ulong;
    // SAFETY: this operation takes a number and no pointer.
    cvt(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) })?;
    Ok(())
}
