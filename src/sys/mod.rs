//! Every `unsafe` block and every `libc` name of the crate: one kernel object per file, each an
//! owned, safe type.
#![allow(unsafe_code)]

pub(crate) mod child;
pub(crate) mod descriptor;
pub(crate) mod epoll;
pub(crate) mod event_fd;
pub(crate) mod fork;
#[cfg(feature = "hyper")]
pub(crate) mod hyper_buffer;
pub(crate) mod inet;
pub(crate) mod lock;
pub(crate) mod pid_fd;
pub(crate) mod rights;
pub(crate) mod signal_action;
pub(crate) mod signal_fd;
pub(crate) mod signal_mask;
pub(crate) mod signal_number;
pub(crate) mod signal_pipe;
pub(crate) mod signal_record;
pub(crate) mod socket;
pub(crate) mod socket_option;
pub(crate) mod standard;
pub(crate) mod timer_fd;
pub(crate) mod unix;

use libc::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One more than the greatest number a signal can have; MIPS has 127, all others 64.
const MOST_SIGNALS: usize = 128;

/// Turns the -1 of a system call into the error that `errno` tells.
#[inline]
fn cvt(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Reads the eight bytes that an eventfd and a timerfd give: their counter. `None` says that it
/// stands at zero.
fn read_counter(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut counter = 0_u64;
    let target = (&raw mut counter).cast();
    // SAFETY: `target` points at `counter`, eight writable bytes that outlive the call.
    let count = unsafe { libc::read(fd.as_raw_fd(), target, size_of::<u64>()) };
    match count {
        8 => Ok(Some(counter)),
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
        // Neither object reads short: somebody has put another file under our number.
        _ => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}
