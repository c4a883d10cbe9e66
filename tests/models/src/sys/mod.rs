//! The objects of selio's `sys` that the models need: its own files where they are over calls that
//! the modelled kernel has, and else something in their place.

#[path = "../../target/house/sys/abort.rs"]
pub(crate) mod abort;
pub(crate) mod descriptor;
#[path = "../../target/house/sys/event_fd.rs"]
pub(crate) mod event_fd;
#[path = "../../target/house/sys/fifo.rs"]
pub(crate) mod fifo;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
#[path = "../../target/house/sys/lock.rs"]
pub(crate) mod lock_itself;
pub(crate) mod pid_fd;
pub(crate) mod signal_action;
pub(crate) mod signal_fd;
#[path = "../../target/house/sys/signal_number.rs"]
pub(crate) mod signal_number;
#[path = "../../target/house/sys/signal_pipe.rs"]
pub(crate) mod signal_pipe;
#[path = "../../target/house/sys/signal_record.rs"]
pub(crate) mod signal_record;
#[path = "../../target/house/sys/task_cell/mod.rs"]
pub(crate) mod task_cell;

/// As epoll(7) has them.
pub(crate) mod epoll {
    pub(crate) mod mask {
        pub(crate) const IN: u32 = libc::EPOLLIN as u32;
        pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
        pub(crate) const PRI: u32 = libc::EPOLLPRI as u32;
        pub(crate) const ERR: u32 = libc::EPOLLERR as u32;
        pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
        pub(crate) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
    }
}

/// No signal is refused.
pub(crate) mod signal_mask {
    pub(crate) fn refusal(_: i32) -> Option<&'static str> {
        None
    }
}

pub(crate) mod timer_slack {
    use std::io;

    pub(crate) fn get() -> io::Result<u64> {
        Ok(0)
    }

    pub(crate) fn set(_: u64) -> io::Result<()> {
        Ok(())
    }
}

use libc::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MOST_SIGNALS: usize = 128;

fn cvt(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two.
    cvt(unsafe { libc::pipe2(ends.as_mut_ptr(), 0) })?;
    // SAFETY: they are new.
    let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((reader, writer))
}

/// The models say how much it holds.
fn ask_for_capacity(_: &OwnedFd, _: c_int) {}

fn read_counter(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut counter = 0_u64;
    // SAFETY: the target is writable and as long.
    let count = unsafe { libc::read(fd.as_raw_fd(), (&raw mut counter).cast(), 8) };
    match count {
        8 => Ok(Some(counter)),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
    }
}
