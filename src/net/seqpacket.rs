//! Sequential packets: connections over which records keep their boundaries.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{self as std_net, SocketAddr};
use std::path::Path;

use super::accepting::Accepting;
use super::unix::{Accept, Credentials, patiently};
use crate::io::Async;
use crate::reactor::Direction;
use crate::sys::rights;
use crate::sys::unix::{self, Kind};

/// A Unix socket for sequential packets that listens (`SOCK_SEQPACKET`, unix(7)).
///
/// # Examples
///
/// See [`Seqpacket`].
// std has no type for these sockets. Its others ask the descriptor the same questions.
#[derive(Debug)]
pub struct SeqpacketListener(Async<std_net::UnixListener>);

/// A Unix connection over which records keep their boundaries and their order
/// (`SOCK_SEQPACKET`, unix(7)).
///
/// Writes to a peer that is gone are errors and raise no `SIGPIPE`, whatever the program does with
/// that signal. All methods take `&self`: one task may receive while another sends.
///
/// # Examples
///
/// ```
/// use selio::net::{Seqpacket, SeqpacketListener};
///
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("selio-records-{}", std::process::id()));
/// selio::block_on(async {
///     let listener = SeqpacketListener::bind(&path)?;
///     let client = Seqpacket::connect(&path).await?;
///     let (server, _) = listener.accept().await?;
///     client.send(b"one").await?;
///     client.send(b"and two").await?;
///     let mut buffer = [0; 64];
///     assert_eq!(server.recv(&mut buffer).await?, 3);
///     assert_eq!(server.recv(&mut buffer).await?, 7);
///     std::fs::remove_file(&path)
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Seqpacket(Async<std_net::UnixDatagram>);

impl SeqpacketListener {
    /// Binds a socket to a path, which must not exist, and begins to listen.
    ///
    /// # Errors
    ///
    /// As for [`UnixListener::bind`](super::UnixListener::bind).
    ///
    /// # Examples
    ///
    /// See [`Seqpacket`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Binds a socket to an address, for instance an abstract name, and begins to listen.
    ///
    /// # Errors
    ///
    /// Those of bind(2).
    ///
    /// # Examples
    ///
    /// See [`UnixListener::bind_addr`](super::UnixListener::bind_addr).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let socket = unix::listen(Kind::Seqpacket, address)?;
        Ok(Self(Async::new_nonblocking(socket.into())))
    }

    /// Waits for a connection and takes it, with the address of the peer, which is mostly unnamed.
    ///
    /// # Errors
    ///
    /// Those of accept(2), and those of [`readable`](Async::readable), after a pause; see
    /// [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Cancel safety
    ///
    /// The poll that takes a connection returns it, so none is lost.
    ///
    /// # Examples
    ///
    /// See [`Seqpacket`].
    pub async fn accept(&self) -> io::Result<(Seqpacket, SocketAddr)> {
        let (stream, peer) = Accepting::new(&self.0, Accept).await?;
        stream.set_nonblocking(true)?;
        Ok((Seqpacket::from_socket(stream.into()), peer))
    }

    /// The address at which it listens.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::SeqpacketListener;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let name = format!("records {}", std::process::id());
    /// let listener = SeqpacketListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    /// assert_eq!(listener.local_addr()?.as_abstract_name(), Some(name.as_bytes()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}

impl Seqpacket {
    /// Takes in a socket that is non-blocking.
    fn from_socket(socket: OwnedFd) -> Self {
        Self(Async::new_nonblocking(socket.into()))
    }

    pub(super) fn object(&self) -> &Async<std_net::UnixDatagram> {
        &self.0
    }

    /// Connects to the listener at a path, and waits for room in its queue.
    ///
    /// # Errors
    ///
    /// As for [`UnixStream::connect`](super::UnixStream::connect). A listener for streams is
    /// `EPROTOTYPE`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Examples
    ///
    /// See [`Seqpacket`].
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_addr(&SocketAddr::from_pathname(path)?).await
    }

    /// Connects to the listener at an address, as [`connect`](Self::connect) does.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As for [`connect`](Self::connect).
    ///
    /// # Examples
    ///
    /// See [`UnixListener::bind_addr`](super::UnixListener::bind_addr).
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        let connecting = patiently(|| unix::connect(Kind::Seqpacket, address));
        connecting.await.map(Self::from_socket)
    }

    /// Makes two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    ///
    /// # Examples
    ///
    /// See [`recv`](Self::recv).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = unix::record_pair()?;
        Ok((Self::from_socket(near), Self::from_socket(far)))
    }

    /// Sends a record, and returns its length: all of it or none.
    ///
    /// # Errors
    ///
    /// Those of send(2): [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the peer is gone, `EMSGSIZE`
    /// if the record is longer than the socket's buffer.
    ///
    /// # Cancel safety
    ///
    /// The poll that sends returns, so nothing is sent unknown to the caller.
    ///
    /// # Examples
    ///
    /// See [`recv`](Self::recv).
    pub async fn send(&self, record: &[u8]) -> io::Result<usize> {
        self.0.write_with(|socket| socket.send(record)).await
    }

    /// Receives a record, and returns its length. If that is more than the buffer's, the rest of the
    /// record is lost. Zero is the end, or an empty record.
    ///
    /// # Errors
    ///
    /// Those of recv(2), and those of [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// The poll that receives returns, so nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = selio::net::Seqpacket::pair()?;
    /// selio::block_on(async {
    ///     near.send(b"a record of 23 bytes...").await?;
    ///     let mut buffer = [0; 8];
    ///     assert_eq!(far.recv(&mut buffer).await?, 23);
    ///     assert_eq!(&buffer, b"a record");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = |socket: &_| rights::receive_record(socket, buffer);
        self.0.operation(Direction::Read, receive, |_| false).await
    }

    /// Ends one direction, or both. See shutdown(2).
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = selio::net::Seqpacket::pair()?;
    /// near.shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!(selio::block_on(far.recv(&mut [0; 8]))?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.get_ref().shutdown(how)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// See [`peer_addr`](Self::peer_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = selio::net::Seqpacket::pair()?;
    /// assert!(near.local_addr()?.is_unnamed() && near.peer_addr()?.is_unnamed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().peer_addr()
    }

    /// Says who is at the other end.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = selio::net::Seqpacket::pair()?;
    /// assert_eq!(near.peer_credentials()?.pid, Some(std::process::id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        Credentials::of_peer(self.as_fd())
    }
}

impl AsFd for SeqpacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl TryFrom<OwnedFd> for Seqpacket {
    type Error = io::Error;

    /// Takes in a connected socket for sequential packets, one that was inherited for instance, and
    /// makes it non-blocking.
    fn try_from(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(Async::new(socket.into())?))
    }
}
