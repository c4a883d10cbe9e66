//! The room that hyper offers to a read: memory that may never have been written.

use std::io;
use std::os::fd::RawFd;

use hyper::rt::ReadBufCursor;

/// Receives what is there into the room, as a read of the socket does, and tells how much it was.
/// Zero is the end, or a buffer without room.
pub(crate) fn receive(socket: RawFd, buffer: &mut ReadBufCursor<'_>) -> io::Result<usize> {
    // SAFETY: nothing is written to it but by the call below, and by that only what was received:
    // no byte becomes uninitialised.
    let room = unsafe { buffer.as_mut() };
    // SAFETY: `room` is writable memory of that length, and is borrowed through the call.
    let received = unsafe { libc::recv(socket, room.as_mut_ptr().cast(), room.len(), 0) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written as many bytes, from the beginning of the room on.
    unsafe { buffer.advance(received) };
    Ok(received)
}
