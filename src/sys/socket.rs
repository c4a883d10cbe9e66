//! Questions to sockets, and the one way to send that std lacks.

use super::cvt;
use super::descriptor::is_of_kind;
use libc::c_int;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};

/// Tells whether a descriptor is a socket. A closed one is not.
pub(crate) fn is_socket(fd: impl AsRawFd) -> bool {
    is_of_kind(fd.as_raw_fd(), libc::S_IFSOCK)
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

/// Writes from several buffers to a socket, as `writev(2)` does, but raises no `SIGPIPE` if nobody
/// is there to read (`MSG_NOSIGNAL`, send(2)). std's `write` sees to that, its `write_vectored` does
/// not.
pub(crate) fn send_vectored(socket: RawFd, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: `msghdr` is made of integers and pointers, for which zeros are a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = buffers.as_ptr().cast_mut().cast();
    // More are refused (EMSGSIZE). The C libraries do not agree on the type.
    message.msg_iovlen = buffers.len().min(libc::UIO_MAXIOV as usize) as _;
    // SAFETY: an `IoSlice` is an `iovec` (std promises it for Unix), there are as many as the
    // message says, and they and what they point at live through the call, which only reads them.
    let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Says that nothing more will be written. What is no socket, or is not connected any more, has
/// nothing to be told.
pub(crate) fn shutdown_write(fd: impl AsRawFd) -> io::Result<()> {
    // SAFETY: two integers, no memory.
    match cvt(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOTSOCK | libc::ENOTCONN)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}
