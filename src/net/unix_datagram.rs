//! Datagrams between Unix sockets.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self as std_net, SocketAddr};
use std::path::Path;

use super::unix::patiently;
use crate::io::Async;

/// A Unix datagram socket: an [`Async`] around std's.
///
/// - made by [`bind`](Self::bind), [`bind_addr`](Self::bind_addr), [`unbound`](Self::unbound) and
///   [`pair`](Self::pair), from std's by `TryFrom`, or by [`Async::new`]
/// - [`send_to`](Self::send_to), [`send_to_addr`](Self::send_to_addr),
///   [`recv_from`](Self::recv_from)
/// - [`connect`](Self::connect), [`connect_addr`](Self::connect_addr), and then
///   [`send`](Self::send), [`recv`](Self::recv), [`peer_addr`](Self::peer_addr)
/// - [`send_fds`](Self::send_fds), [`recv_fds`](Self::recv_fds), [`local_addr`](Self::local_addr),
///   [`shutdown`](Self::shutdown), [`take_error`](Self::take_error)
/// - [`readable`](Async::readable), [`writable`](Async::writable) and what else `Async` has
///
/// # Examples
///
/// ```
/// use selio::net::UnixDatagram;
///
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let (near, far) = UnixDatagram::pair()?;
///     near.send(b"hello").await?;
///     let mut buffer = [0; 64];
///     assert_eq!(far.recv(&mut buffer).await?, 5);
///     Ok(())
/// })
/// # }
/// ```
pub type UnixDatagram = Async<std_net::UnixDatagram>;

impl UnixDatagram {
    /// Makes a socket at a path, which must not exist.
    ///
    /// # Errors
    ///
    /// As for [`UnixListener::bind`](super::UnixListener::bind).
    ///
    /// # Examples
    ///
    /// See [`send_to`](Self::send_to).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Async::new(std_net::UnixDatagram::bind(path)?)
    }

    /// Makes a socket at an address, for instance an abstract name
    /// (`std::os::linux::net::SocketAddrExt`).
    ///
    /// # Errors
    ///
    /// Those of bind(2).
    ///
    /// # Examples
    ///
    /// See [`send_to_addr`](Self::send_to_addr).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Async::new(std_net::UnixDatagram::bind_addr(address)?)
    }

    /// Makes a socket without a name: it can send, and nobody can answer.
    ///
    /// # Errors
    ///
    /// Those of socket(2).
    ///
    /// # Examples
    ///
    /// See [`send_to`](Self::send_to).
    pub fn unbound() -> io::Result<Self> {
        Async::new(std_net::UnixDatagram::unbound()?)
    }

    /// Makes two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = std_net::UnixDatagram::pair()?;
        Ok((Async::new(near)?, Async::new(far)?))
    }

    /// Sets the peer that [`send`](Self::send) sends to, and the only one that is received from.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    ///
    /// # Examples
    ///
    /// See [`send_to`](Self::send_to).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.get_ref().connect(path)
    }

    /// Sets the peer by its address; see [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    ///
    /// # Examples
    ///
    /// See [`send_to_addr`](Self::send_to_addr).
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        self.get_ref().connect_addr(address)
    }

    /// Sends a datagram to the socket at a path, and returns its length.
    ///
    /// While that one's queue is full it is tried again after some milliseconds: who is not
    /// [connected](Self::connect) to it is not told by the kernel when there is room.
    ///
    /// # Errors
    ///
    /// Those of sendto(2).
    ///
    /// # Cancel safety
    ///
    /// The poll that sends returns, so nothing is sent unknown to the caller.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::UnixDatagram;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let path = std::env::temp_dir().join(format!("selio-datagrams-{}", std::process::id()));
    /// selio::block_on(async {
    ///     let server = UnixDatagram::bind(&path)?;
    ///     let client = UnixDatagram::unbound()?;
    ///     client.send_to(b"one", &path).await?;
    ///     client.connect(&path)?;
    ///     client.send(b"two").await?;
    ///     let mut buffer = [0; 64];
    ///     let (length, from) = server.recv_from(&mut buffer).await?;
    ///     assert!(length == 3 && from.is_unnamed());
    ///     std::fs::remove_file(&path)
    /// })
    /// # }
    /// ```
    pub async fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        patiently(|| self.get_ref().send_to(datagram, &path)).await
    }

    /// Sends a datagram to the socket at an address; see [`send_to`](Self::send_to).
    ///
    /// # Errors
    ///
    /// Those of sendto(2).
    ///
    /// # Cancel safety
    ///
    /// As for [`send_to`](Self::send_to).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::UnixDatagram;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// selio::block_on(async {
    ///     let name = SocketAddr::from_abstract_name(format!("selio-{}", std::process::id()))?;
    ///     let server = UnixDatagram::bind_addr(&name)?;
    ///     let client = UnixDatagram::unbound()?;
    ///     client.send_to_addr(b"one", &name).await?;
    ///     client.connect_addr(&name)?;
    ///     client.send(b"two").await?;
    ///     let mut buffer = [0; 64];
    ///     assert_eq!(server.recv(&mut buffer).await?, 3);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn send_to_addr(&self, datagram: &[u8], address: &SocketAddr) -> io::Result<usize> {
        patiently(|| self.get_ref().send_to_addr(datagram, address)).await
    }

    /// Sends a datagram to the [connected](Self::connect) peer, and returns its length. Waits while
    /// the peer's queue is full.
    ///
    /// # Errors
    ///
    /// Those of send(2), and those of [`writable`](Async::writable).
    ///
    /// # Cancel safety
    ///
    /// As for [`send_to`](Self::send_to).
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.write_with(move |socket| socket.send(datagram))
    }

    /// Waits for a datagram, and returns its length and its sender.
    ///
    /// # Errors
    ///
    /// Those of recvfrom(2), and those of [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// The poll that receives returns the datagram, so none is lost.
    ///
    /// # Examples
    ///
    /// See [`send_to`](Self::send_to).
    pub fn recv_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.read_with(move |socket| socket.recv_from(buffer))
    }

    /// Waits for a datagram, and returns its length.
    ///
    /// # Errors
    ///
    /// As for [`recv_from`](Self::recv_from).
    ///
    /// # Cancel safety
    ///
    /// As for [`recv_from`](Self::recv_from).
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.read_with(move |socket| socket.recv(buffer))
    }

    /// The address to which it is bound.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(selio::net::UnixDatagram::unbound()?.local_addr()?.is_unnamed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// The address of the [connected](Self::connect) peer.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2): [`NotConnected`](io::ErrorKind::NotConnected) if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = selio::net::UnixDatagram::pair()?;
    /// assert!(near.peer_addr()?.is_unnamed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    /// Ends one direction, or both: who receives is told an end, a datagram of length zero.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = selio::net::UnixDatagram::pair()?;
    /// near.shutdown(std::net::Shutdown::Read)?;
    /// let error = selio::block_on(far.send(b"hello")).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.get_ref().shutdown(how)
    }

    /// Takes the pending error of the socket (`SO_ERROR`, socket(7)), if there is one.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(selio::net::UnixDatagram::unbound()?.take_error()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.get_ref().take_error()
    }
}

impl TryFrom<std_net::UnixDatagram> for UnixDatagram {
    type Error = io::Error;

    /// Takes in std's socket and makes it non-blocking.
    fn try_from(socket: std_net::UnixDatagram) -> io::Result<Self> {
        Async::new(socket)
    }
}
