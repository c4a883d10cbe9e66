//! Descriptors that travel with bytes over Unix sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::seqpacket::Seqpacket;
use super::unix::UnixStream;
use super::unix_datagram::UnixDatagram;
use crate::io::Async;
use crate::reactor::Direction;
use crate::sys::rights;

/// What [`UnixStream::recv_fds`] and its like have received.
///
/// # Examples
///
/// See [`UnixStream::send_fds`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// How many bytes have come. Of a datagram or a record that did not fit into the buffer this is
    /// the whole length, and what did not fit is lost.
    pub length: usize,
    /// The descriptors that came with them, close-on-exec, and closed when they are dropped.
    pub descriptors: Vec<OwnedFd>,
    /// Whether more were sent: this process has no room for them (`RLIMIT_NOFILE`), and they are
    /// lost.
    pub descriptors_lost: bool,
}

async fn send(
    socket: &Async<impl AsRawFd>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let fd = socket.get_ref().as_raw_fd();
    socket.write_with(|_| rights::send(fd, bytes, fds)).await
}

async fn receive(socket: &Async<impl AsRawFd>, buffer: &mut [u8]) -> io::Result<Received> {
    let fd = socket.get_ref().as_raw_fd();
    let op = |_: &_| rights::receive(fd, buffer);
    let message = socket.operation(Direction::Read, op, |_| false).await?;
    let rights::Message { length, descriptors, lost } = message;
    Ok(Received { length, descriptors, descriptors_lost: lost })
}

impl UnixStream {
    /// Sends bytes, and duplicates of descriptors with the first of them (`SCM_RIGHTS`, unix(7)).
    /// Returns how many bytes were sent; if that is not all, the descriptors have gone, and the rest
    /// can be [written](Async::write_all).
    ///
    /// # Errors
    ///
    /// Those of sendmsg(2), among them `ETOOMANYREFS` if too many descriptors are on their way.
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if there are more than 253 descriptors, or
    /// descriptors without a byte to carry them.
    ///
    /// # Cancel safety
    ///
    /// The poll that sends returns, so nothing is sent unknown to the caller.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::UnixStream;
    /// use std::fs::File;
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    /// use std::os::unix::net;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// selio::block_on(async {
    ///     let (near, far) = UnixStream::pair()?;
    ///     let (mut reader, writer) = net::UnixStream::pair()?;
    ///     near.send_fds(b"a line", &[writer.as_fd()]).await?;
    ///     drop(writer);
    ///
    ///     let mut bytes = [0; 16];
    ///     let mut received = far.recv_fds(&mut bytes).await?;
    ///     assert_eq!(&bytes[..received.length], b"a line");
    ///     let writer = received.descriptors.pop().unwrap();
    ///     File::from(writer).write_all(b"hello")?;
    ///     let mut heard = String::new();
    ///     reader.read_to_string(&mut heard)?;
    ///     assert_eq!(heard, "hello");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if bytes.is_empty() && !fds.is_empty() {
            let why = "descriptors travel over a stream with a byte, and there is none";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        send(self, bytes, fds).await
    }

    /// Receives bytes, and the descriptors that came with them. A length of zero is the end.
    ///
    /// What was sent with descriptors is never read together with what was sent after it, but it
    /// may be with what was sent before.
    /// Descriptors whose bytes are read in another way, by [`read`](Async::read) for instance, are
    /// closed by the kernel.
    ///
    /// # Errors
    ///
    /// Those of recvmsg(2), and those of [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// The poll that receives returns, so nothing is lost.
    ///
    /// # Examples
    ///
    /// See [`send_fds`](Self::send_fds).
    pub async fn recv_fds(&self, buffer: &mut [u8]) -> io::Result<Received> {
        receive(self, buffer).await
    }
}

impl UnixDatagram {
    /// Sends a datagram to the peer it is [connected](Self::connect) to, and duplicates of
    /// descriptors with it (`SCM_RIGHTS`, unix(7)).
    ///
    /// # Errors
    ///
    /// As for [`UnixStream::send_fds`], but there need be no byte.
    ///
    /// # Cancel safety
    ///
    /// As for [`UnixStream::send_fds`].
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::UnixDatagram;
    /// use std::os::fd::AsFd;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// selio::block_on(async {
    ///     let (near, far) = UnixDatagram::pair()?;
    ///     near.send_fds(b"", &[std::io::stdout().as_fd()]).await?;
    ///     assert_eq!(far.recv_fds(&mut []).await?.descriptors.len(), 1);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        send(self, bytes, fds).await
    }

    /// Receives a datagram, and the descriptors that came with it.
    ///
    /// # Errors
    ///
    /// As for [`UnixStream::recv_fds`].
    ///
    /// # Cancel safety
    ///
    /// As for [`UnixStream::recv_fds`].
    ///
    /// # Examples
    ///
    /// See [`send_fds`](Self::send_fds).
    pub async fn recv_fds(&self, buffer: &mut [u8]) -> io::Result<Received> {
        receive(self, buffer).await
    }
}

impl Seqpacket {
    /// Sends a record, and duplicates of descriptors with it (`SCM_RIGHTS`, unix(7)).
    ///
    /// # Errors
    ///
    /// As for [`UnixStream::send_fds`], but there need be no byte.
    ///
    /// # Cancel safety
    ///
    /// As for [`UnixStream::send_fds`].
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::Seqpacket;
    /// use std::os::fd::AsFd;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// selio::block_on(async {
    ///     let (near, far) = Seqpacket::pair()?;
    ///     near.send_fds(b"out", &[std::io::stdout().as_fd()]).await?;
    ///     assert_eq!(far.recv_fds(&mut [0; 8]).await?.descriptors.len(), 1);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        send(self.object(), bytes, fds).await
    }

    /// Receives a record, and the descriptors that came with it.
    ///
    /// # Errors
    ///
    /// As for [`UnixStream::recv_fds`].
    ///
    /// # Cancel safety
    ///
    /// As for [`UnixStream::recv_fds`].
    ///
    /// # Examples
    ///
    /// See [`send_fds`](Self::send_fds).
    pub async fn recv_fds(&self, buffer: &mut [u8]) -> io::Result<Received> {
        receive(self.object(), buffer).await
    }
}
