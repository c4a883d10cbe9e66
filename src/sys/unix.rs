//! Unix sockets that are non-blocking and close-on-exec from their first moment.

use super::cvt;
use libc::c_int;
use std::io;
use std::mem::{self, offset_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

/// What sort of Unix socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Stream = libc::SOCK_STREAM as isize,
    Seqpacket = libc::SOCK_SEQPACKET as isize,
}

fn socket(kind: Kind) -> io::Result<OwnedFd> {
    let kind = kind as c_int | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: three integers, no memory.
    let fd = cvt(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Connects a new socket. For Unix sockets that succeeds or fails at once (connect(2));
/// `WouldBlock` says that the listener's queue is full.
pub(crate) fn connect(kind: Kind, address: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(kind)?;
    let (raw, length) = to_raw(address)?;
    // SAFETY: `raw` is a `sockaddr_un` of which `length` bytes count, and lives through the call.
    cvt(unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) })?;
    Ok(socket)
}

/// Binds a new socket and begins to listen, with the longest queue there is.
pub(crate) fn listen(kind: Kind, address: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(kind)?;
    let (raw, length) = to_raw(address)?;
    // SAFETY: `raw` is a `sockaddr_un` of which `length` bytes count, and lives through the call.
    cvt(unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw).cast(), length) })?;
    // SAFETY: two integers, no memory.
    cvt(unsafe { libc::listen(socket.as_raw_fd(), c_int::MAX) })?;
    Ok(socket)
}

/// Makes two record sockets that are connected to each other.
pub(crate) fn record_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let mut pair = [-1; 2];
    // SAFETY: the kernel writes two numbers, for which there is room.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made these descriptors for us, and nobody else owns them.
    Ok(pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into())
}

/// Locks a file or a directory, until it is closed, against others who do so; `WouldBlock` says that
/// one has (flock(2)).
pub(crate) fn try_lock(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: two integers, no memory.
    cvt(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })?;
    Ok(())
}

/// The kernel's form of an address, and how long it is (unix(7)): a path ends with a zero, an
/// abstract name begins with one.
fn to_raw(address: &SocketAddr) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: `sockaddr_un` is made of integers, for which zeros are a value.
    let mut raw: libc::sockaddr_un = unsafe { mem::zeroed() };
    raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let path = offset_of!(libc::sockaddr_un, sun_path);
    let (at, name) = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => (0, path.as_os_str().as_bytes()),
        (None, Some(name)) => (1, name),
        // Who binds it is given a name; who connects to it is told that it cannot be.
        (None, None) => return Ok((raw, path as libc::socklen_t)),
    };
    let room = raw.sun_path.get_mut(at..at + name.len());
    let room = room.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    for (to, from) in room.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // One more for the zero, which is at one end or the other.
    let length = (path + name.len() + 1).min(size_of_val(&raw));
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
