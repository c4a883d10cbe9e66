//! What can be asked of any descriptor: whether it is non-blocking, and whether a try would block.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::cvt;

/// Tells whether a read would not block, by `poll(2)`: there is data, an end, a hang-up or an error
/// to be had.
pub(crate) fn is_readable(fd: RawFd) -> io::Result<bool> {
    poll(fd, libc::POLLIN | libc::POLLRDHUP)
}

/// Tells whether a write would not block, by `poll(2)`.
pub(crate) fn is_writable(fd: RawFd) -> io::Result<bool> {
    poll(fd, libc::POLLOUT)
}

/// Any answer counts: an error, a hang-up or a closed number is something that the call to come
/// will report.
fn poll(fd: RawFd, events: libc::c_short) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd, events, revents: 0 };
    loop {
        // SAFETY: `asked` is one valid `pollfd`, as the count says, and lives through the call.
        match cvt(unsafe { libc::poll(&raw mut asked, 1, 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer.map(|count| count > 0),
        }
    }
}

/// Tells whether the open file has `O_NONBLOCK`.
pub(crate) fn is_nonblocking(fd: RawFd) -> io::Result<bool> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// Gives the open file `O_NONBLOCK`, if it does not have it yet. All descriptors of that open file
/// share the flag.
pub(crate) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: F_SETFL takes an integer and touches no memory.
        cvt(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// Takes `O_NONBLOCK` from the open file, and with it from all descriptors of it.
pub(crate) fn set_blocking(file: &impl AsFd) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an integer and touches no memory.
    cvt(unsafe { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK) })?;
    Ok(())
}
