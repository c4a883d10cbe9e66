//! Unix sockets that are non-blocking and close-on-exec from their first moment.

use super::cvt;
use libc::c_int;
use std::io;
use std::mem::{self, offset_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

/// Connects a new stream socket. For Unix sockets that succeeds or fails at once (connect(2));
/// `WouldBlock` says that the listener's queue is full.
pub(crate) fn connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: three integers, no memory.
    let fd = cvt(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let (raw, length) = to_raw(address)?;
    // SAFETY: `raw` is a `sockaddr_un` of which `length` bytes count, and lives through the call.
    cvt(unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) })?;
    Ok(socket)
}

/// The kernel's form of an address, and how long it is (unix(7)): a path ends with a zero, an
/// abstract name begins with one.
fn to_raw(address: &SocketAddr) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: `sockaddr_un` is made of integers, for which zeros are a value.
    let mut raw: libc::sockaddr_un = unsafe { mem::zeroed() };
    raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let (at, name) = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => (0, path.as_os_str().as_bytes()),
        (None, Some(name)) => (1, name),
        (None, None) => {
            let why = "an unnamed Unix socket cannot be connected to";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    };
    let room = raw.sun_path.get_mut(at..at + name.len());
    let room = room.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    for (to, from) in room.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // One more for the zero, which is at one end or the other.
    let length = (offset_of!(libc::sockaddr_un, sun_path) + name.len() + 1).min(size_of_val(&raw));
    Ok((raw, length as libc::socklen_t))
}

/// The peer of a connected Unix socket, as it was when it connected (`SO_PEERCRED`, unix(7)).
pub(crate) fn peer_credentials(socket: impl AsRawFd) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of_val(&credentials) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let target = (&raw mut credentials).cast();
    let fd: c_int = socket.as_raw_fd();
    // SAFETY: `target` points at `credentials`, `length` says its size, and both outlive the call.
    cvt(unsafe { libc::getsockopt(fd, level, name, target, &raw mut length) })?;
    Ok(credentials)
}
