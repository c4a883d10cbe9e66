//! The traits of tokio's `io`, for every [`Async`] and for a [`Duplex`]. Nothing else of tokio is used, or needed.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::read_write::write_slices;
use super::{Async, Duplex};
use crate::reactor::Direction;
use crate::sys::socket;

/// With the feature `tokio-io`. The task of the last call is woken.
impl<T> AsyncRead for Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let this = self.into_ref().get_ref();
        let space = buffer.initialize_unfilled();
        let room = space.len();
        let short = |&got: &usize| got > 0 && got < room;
        let read = |mut io: &T| io.read(space);
        let got = ready!(this.poll_trusting(Direction::Read, cx, read, short))?;
        buffer.advance(got);
        Poll::Ready(Ok(()))
    }
}

/// With the feature `tokio-io`. The task of the last call is woken. Shutting down flushes, and tells
/// the peer of a socket that nothing more will come (`SHUT_WR`, shutdown(2)).
impl<T> AsyncWrite for Async<T>
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
        this.poll_with(Direction::Write, cx, |mut io| io.flush())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Poll::Ready(socket::shutdown_write(self.source().fd()))
    }
}

/// With the feature `tokio-io`. The task of the last call is woken.
impl AsyncRead for Duplex {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let got = ready!(Duplex::poll_read(&self, cx, buffer.initialize_unfilled()))?;
        buffer.advance(got);
        Poll::Ready(Ok(()))
    }
}

/// With the feature `tokio-io`. The task of the last call is woken. Shutting down is
/// [`shutdown`](Duplex::shutdown).
impl AsyncWrite for Duplex {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Duplex::poll_write(&self, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown();
        Poll::Ready(Ok(()))
    }
}
