//! Sockets in the states that several test files need.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "the file is a module of several tests")]
#![allow(unsafe_code, reason = "std does not offer these states")]

use crate::kit;
use selio::net::TcpStream;
use selio::time::timeout;
use selio::{Async, block_on};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An end under test, and the other one, which is std's and does not block either.
pub fn pair() -> (Async<UnixStream>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    (Async::new(near).unwrap(), far)
}

/// Lets a stream without data join the reactor of this thread.
pub fn register(near: &Async<UnixStream>) {
    assert!(kit::poll_once(near.read(&mut [0; 8])).is_pending());
}

/// Reads until nothing is left, past any adapter.
pub fn drain(mut stream: &UnixStream) -> usize {
    let mut buffer = [0; 65_536];
    let mut drained = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(count) => drained += count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return drained;
            }
        }
    }
}

/// Writes until there is no room, past any adapter.
pub fn fill(mut stream: &UnixStream) {
    while let Ok(count) = stream.write(&[0; 65_536]) {
        assert!(count > 0);
    }
}

/// A listener whose queue is full, so that the kernel drops what asks for a connection; and what
/// fills it.
pub fn deaf_listener() -> (std::net::TcpListener, Vec<TcpStream>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: the call takes two numbers, and the descriptor is open.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let to = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = block_on(timeout(Duration::from_millis(100), TcpStream::connect(to))) {
        queued.push(stream.unwrap());
    }
    (listener, queued)
}

/// Closes a connection by a reset instead of an end.
pub fn reset(stream: std::net::TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let value = (&raw const linger).cast();
    // SAFETY: `value` points at a `linger` of that size, which outlives the call.
    let returned = unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, value, size) };
    assert_eq!(returned, 0, "SO_LINGER");
    drop(stream);
}

/// Sends one urgent byte.
pub fn send_urgent(stream: &std::net::TcpStream, byte: u8) {
    let (fd, flags) = (stream.as_raw_fd(), libc::MSG_OOB | libc::MSG_NOSIGNAL);
    // SAFETY: the buffer is the one byte, which lives through the call.
    let sent = unsafe { libc::send(fd, (&raw const byte).cast(), 1, flags) };
    assert_eq!(sent, 1);
}
