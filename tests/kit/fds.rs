//! Descriptors: pipes, socket pairs, duplicates, and the ways to break them.

use super::must;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A blocking pipe: the end to read from and the end to write to.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two numbers.
    let returned = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    must("pipe2", returned);
    (own(ends[0]), own(ends[1]))
}

/// A pair of blocking Unix sockets of a kind, such as `libc::SOCK_SEQPACKET`.
pub fn socketpair(kind: i32) -> (OwnedFd, OwnedFd) {
    let mut ends = [-1; 2];
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two numbers.
    let returned = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    must("socketpair", returned);
    (own(ends[0]), own(ends[1]))
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller has just got the number from the kernel and given it to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A connected pair of blocking TCP sockets on loopback: the client's end, the server's end.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// A loopback address where nobody listens: bound a moment ago, and closed. It is not the one where
/// others listen, whichever port they get by now.
pub fn refused_addr() -> SocketAddr {
    let [a, b, ..] = super::random().to_ne_bytes();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1, a, b), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Sets or clears `O_NONBLOCK`, which belongs to the open file and so to all its duplicates.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) {
    let flags = flags(&fd);
    let flags = match nonblocking {
        true => flags | libc::O_NONBLOCK,
        false => flags & !libc::O_NONBLOCK,
    };
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, for it is borrowed; the flags are a number.
    must("F_SETFL", unsafe { libc::fcntl(fd, libc::F_SETFL, flags) });
}

/// Whether `O_NONBLOCK` is set.
pub fn is_nonblocking(fd: impl AsFd) -> bool {
    flags(&fd) & libc::O_NONBLOCK != 0
}

fn flags(fd: &impl AsFd) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, for it is borrowed.
    must("F_GETFL", unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// Another descriptor of the same open file.
pub fn dup(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().expect("a free descriptor")
}

/// Puts a duplicate under a number, over whatever has it. Whoever owns that number now owns the
/// duplicate: that is what the tests want to see survived.
pub fn dup2(fd: impl AsFd, number: RawFd) {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the call has no memory to break; that it breaks the promise of an owner of `number`
    // is what its callers are about.
    must("dup3", unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) });
}

/// Closes a number behind the back of its owner, who must be forgotten or expect it.
pub fn raw_close(number: RawFd) {
    // SAFETY: the call has no memory to break; that it breaks the promise of an owner of `number`
    // is what its callers are about.
    must("close", unsafe { libc::close(number) });
}

/// Whether a number is open.
pub fn open_number(number: RawFd) -> bool {
    // SAFETY: the call takes numbers, and says EBADF if nothing is open there.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}
