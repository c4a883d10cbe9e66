//! The traits of hyper's `rt`, for every [`Async`].

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;

use super::Async;
use super::read_write::write_slices;
use crate::reactor::Direction;
use crate::sys::{hyper_buffer, socket};

/// How much is read at once from what is no bare socket, by way of the stack.
const PIECE: usize = 16 * 1024;

/// With the feature `hyper`. The task of the last call is woken.
impl<T> hyper::rt::Read for Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let this = self.into_ref().get_ref();
        let short = |&got: &usize| got > 0 && got < room;
        let got = match this.source().bare_socket() {
            // hyper offers memory that was never written, and lots of it: to fill it with zeros
            // costs more than the call.
            Some(socket) => {
                let receive = |_: &T| hyper_buffer::receive(socket, &mut buffer);
                this.poll_trusting(Direction::Read, cx, receive, short)
            }
            None => this.poll_with(Direction::Read, cx, |io| read_piece(io, &mut buffer)),
        };
        got.map_ok(drop)
    }
}

/// Reads into memory that is initialised, as std's trait demands, and copies.
fn read_piece<T>(mut io: &T, buffer: &mut ReadBufCursor<'_>) -> io::Result<usize>
where
    for<'a> &'a T: Read,
{
    let mut piece = [0; PIECE];
    let room = buffer.remaining().min(PIECE);
    let got = io.read(&mut piece[..room])?;
    buffer.put_slice(&piece[..got]);
    Ok(got)
}

/// With the feature `hyper`. The task of the last call is woken. Shutting down flushes, and tells
/// the peer of a socket that nothing more will come (`SHUT_WR`, shutdown(2)).
impl<T> hyper::rt::Write for Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.into_ref().get_ref();
        let short = |&put: &usize| put < bytes.len();
        this.poll_trusting(Direction::Write, cx, |mut io| io.write(bytes), short)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let this = self.into_ref().get_ref();
        let socket = this.source().bare_socket();
        this.poll_with(Direction::Write, cx, |io| write_slices(io, socket, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.into_ref().get_ref();
        if this.source().bare_socket().is_some() {
            // The kernel has it all.
            return Poll::Ready(Ok(()));
        }
        this.poll_with(Direction::Write, cx, |mut io| io.flush())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Poll::Ready(socket::shutdown_write(self.source().fd()))
    }
}
