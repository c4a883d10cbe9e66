//! Questions to sockets.

use super::cvt;
use libc::c_int;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;

/// Tells whether a descriptor is a socket. A closed one is not.
pub(crate) fn is_socket(fd: impl AsRawFd) -> bool {
    // SAFETY: `stat` is made of integers, for which zeros are a value.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: `status` is a writable `stat` that outlives the call; a number that is no descriptor
    // is EBADF.
    let result = unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) };
    result == 0 && status.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Takes the pending error of a socket, which the kernel tells once (`SO_ERROR`, socket(7)).
pub(crate) fn take_error(fd: impl AsRawFd) -> io::Result<Option<io::Error>> {
    let mut code: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ERROR);
    let target = (&raw mut code).cast();
    // SAFETY: `target` points at `code`, `length` says its size, and both outlive the call.
    cvt(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, target, &raw mut length) })?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}
