//! Every `unsafe` block and every `libc` name of the crate: one kernel object per file, each an
//! owned, safe type.
#![allow(unsafe_code)]

pub(crate) mod abort;
pub(crate) mod child;
pub(crate) mod descriptor;
pub(crate) mod epoll;
pub(crate) mod event_fd;
pub(crate) mod fifo;
pub(crate) mod fork;
mod futex;
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
pub(crate) mod sigpipe;
pub(crate) mod socket;
pub(crate) mod socket_option;
pub(crate) mod splice;
pub(crate) mod standard;
pub(crate) mod task_cell;
pub(crate) mod timer_fd;
pub(crate) mod timer_slack;
pub(crate) mod unix;

use libc::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// Makes a pipe that is non-blocking and close-on-exec: the end to read from and the end to write
/// to.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    cvt(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((reader, writer))
}

/// Asks for a pipe of this many bytes (pipe(7)). A refusal leaves it as it is, which will do.
fn ask_for_capacity(pipe: &OwnedFd, capacity: c_int) {
    // SAFETY: F_SETPIPE_SZ takes an integer and touches no memory.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, capacity) };
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
