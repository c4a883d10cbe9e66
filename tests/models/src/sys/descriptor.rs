//! What poll(2) says.

use std::io;
use std::os::fd::RawFd;

pub(crate) struct Polled {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) failed: bool,
}

pub(crate) fn is_readable(fd: RawFd) -> io::Result<bool> {
    Ok(std::kernel::is_readable(fd))
}

pub(crate) fn is_writable(_: RawFd) -> io::Result<bool> {
    Ok(true)
}

pub(crate) fn poll_both(fd: RawFd) -> io::Result<Polled> {
    Ok(Polled { readable: is_readable(fd)?, writable: true, failed: false })
}
