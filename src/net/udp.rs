//! What is special to UDP.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{ToAddresses, look_up};
use super::options::SocketOptions;
use crate::io::Async;

/// A UDP socket: an [`Async`] around std's.
///
/// - made by [`bind`](Self::bind), from std's by `TryFrom`, or by [`Async::new`]
/// - [`send_to`](Self::send_to), [`recv_from`](Self::recv_from), [`peek_from`](Self::peek_from)
/// - [`connect`](Self::connect), and then [`send`](Self::send), [`recv`](Self::recv),
///   [`peek`](Self::peek), [`peer_addr`](Self::peer_addr)
/// - [`local_addr`](Self::local_addr), [`broadcast`](Self::broadcast),
///   [`set_broadcast`](Self::set_broadcast), [`ttl`](Self::ttl), [`set_ttl`](Self::set_ttl),
///   [`take_error`](Self::take_error)
/// - [`join_multicast_v4`](Self::join_multicast_v4), [`leave_multicast_v4`](Self::leave_multicast_v4),
///   [`join_multicast_v6`](Self::join_multicast_v6), [`leave_multicast_v6`](Self::leave_multicast_v6);
///   the other multicast options are those of [`get_ref`](Async::get_ref)
/// - [`readable`](Async::readable), [`writable`](Async::writable) and what else `Async` has
///
/// A datagram that is longer than the buffer is cut, and the rest is lost (recv(2)). That a peer
/// is not there may be told once by an error of a later call on a connected socket
/// ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused), icmp(7)); the socket goes on.
///
/// All methods take `&self`: one task may receive while another sends.
///
/// # Examples
///
/// ```
/// use selio::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let server = UdpSocket::bind("127.0.0.1:0").await?;
///     let client = UdpSocket::bind("127.0.0.1:0").await?;
///     client.send_to(b"hello", server.local_addr()?).await?;
///
///     let mut buffer = [0; 1500];
///     let (length, from) = server.recv_from(&mut buffer).await?;
///     assert_eq!(&buffer[..length], b"hello");
///     assert_eq!(from, client.local_addr()?);
///     Ok(())
/// })
/// # }
/// ```
pub type UdpSocket = Async<std::net::UdpSocket>;

impl UdpSocket {
    /// Binds a socket; of several addresses to the first that can be bound. Port 0 takes a free
    /// port.
    ///
    /// # Errors
    ///
    /// Those of the look-up, and those of bind(2) for the last address.
    ///
    /// # Examples
    ///
    /// See [`UdpSocket`].
    pub async fn bind(at: impl ToAddresses) -> io::Result<Self> {
        SocketOptions::new().bind_udp(at).await
    }

    /// Sets the peer that [`send`](Self::send) sends to, and the only one that is received from; of
    /// several addresses the first that can be taken. Nothing is sent by this.
    ///
    /// # Errors
    ///
    /// Those of the look-up, and those of connect(2) for the last address.
    ///
    /// # Examples
    ///
    /// See [`send`](Self::send).
    pub async fn connect(&self, to: impl ToAddresses) -> io::Result<()> {
        let addresses = look_up(to).await?;
        self.get_ref().connect(&addresses[..])
    }

    /// Sends a datagram, and returns its length. Waits while the kernel has no room for it.
    ///
    /// # Errors
    ///
    /// Those of sendto(2), and those of [`writable`](Async::writable).
    ///
    /// # Cancel safety
    ///
    /// The poll that sends returns, so nothing is sent unknown to the caller.
    ///
    /// # Examples
    ///
    /// See [`UdpSocket`].
    pub fn send_to(
        &self,
        datagram: &[u8],
        to: SocketAddr,
    ) -> impl Future<Output = io::Result<usize>> {
        self.write_with(move |socket| socket.send_to(datagram, to))
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
    /// See [`UdpSocket`].
    pub fn recv_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.read_with(move |socket| socket.recv_from(buffer))
    }

    /// Waits for a datagram and copies it to the buffer without taking it.
    ///
    /// # Errors
    ///
    /// As for [`recv_from`](Self::recv_from).
    ///
    /// # Cancel safety
    ///
    /// Takes nothing, so nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.send_to(b"to myself", socket.local_addr()?).await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(socket.peek_from(&mut buffer).await?.0, 9);
    /// assert_eq!(socket.recv_from(&mut buffer).await?.0, 9);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn peek_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.read_with(move |socket| socket.peek_from(buffer))
    }

    /// Sends a datagram to the [connected](Self::connect) peer, and returns its length.
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
    /// ```
    /// # use selio::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// let (near, far) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// near.connect(far.local_addr()?).await?;
    /// far.connect(near.local_addr()?).await?;
    /// near.send(b"ping").await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(far.peek(&mut buffer).await?, 4);
    /// assert_eq!(far.recv(&mut buffer).await?, 4);
    /// assert_eq!(far.peer_addr()?, near.local_addr()?);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.write_with(move |socket| socket.send(datagram))
    }

    /// Waits for a datagram of the [connected](Self::connect) peer, and returns its length.
    ///
    /// # Errors
    ///
    /// Those of recv(2), and those of [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// As for [`recv_from`](Self::recv_from).
    ///
    /// # Examples
    ///
    /// See [`send`](Self::send).
    pub fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.read_with(move |socket| socket.recv(buffer))
    }

    /// Waits for a datagram of the [connected](Self::connect) peer and copies it to the buffer
    /// without taking it.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Takes nothing, so nothing is lost.
    ///
    /// # Examples
    ///
    /// See [`send`](Self::send).
    pub fn peek(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.read_with(move |socket| socket.peek(buffer))
    }

    /// The address to which it is bound.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// See [`UdpSocket`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// The address to which it is [connected](Self::connect).
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected), and what else getpeername(2) has.
    ///
    /// # Examples
    ///
    /// See [`send`](Self::send).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    /// Whether it may send to broadcast addresses (`SO_BROADCAST`, socket(7)).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// let socket = UdpSocket::bind("0.0.0.0:0").await?;
    /// assert!(!socket.broadcast()?);
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn broadcast(&self) -> io::Result<bool> {
        self.get_ref().broadcast()
    }

    /// Says whether it may send to broadcast addresses.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// See [`broadcast`](Self::broadcast).
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.get_ref().set_broadcast(broadcast)
    }

    /// The time to live of what it sends (`IP_TTL`, ip(7)).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.set_ttl(3)?;
    /// assert_eq!(socket.ttl()?, 3);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.get_ref().ttl()
    }

    /// Sets the time to live of what it sends.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// See [`ttl`](Self::ttl).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.get_ref().set_ttl(ttl)
    }

    /// Takes the pending error, which the kernel tells once (`SO_ERROR`, socket(7)).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// assert!(UdpSocket::bind("127.0.0.1:0").await?.take_error()?.is_none());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.get_ref().take_error()
    }

    /// Joins a multicast group, on the interface of this address
    /// ([`UNSPECIFIED`](Ipv4Addr::UNSPECIFIED): the system chooses; ip(7)).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// let socket = UdpSocket::bind("0.0.0.0:0").await?;
    /// let (group, interface) = (Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::LOCALHOST);
    /// socket.join_multicast_v4(&group, &interface)?;
    /// socket.leave_multicast_v4(&group, &interface)?;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.get_ref().join_multicast_v4(group, interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.get_ref().leave_multicast_v4(group, interface)
    }

    /// Joins a multicast group, on the interface of this number (zero: the system chooses; ipv6(7)).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.get_ref().join_multicast_v6(group, interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.get_ref().leave_multicast_v6(group, interface)
    }
}

impl TryFrom<std::net::UdpSocket> for UdpSocket {
    type Error = io::Error;

    /// Takes in std's socket and makes it non-blocking.
    fn try_from(socket: std::net::UdpSocket) -> io::Result<Self> {
        Async::new(socket)
    }
}

impl TryFrom<UdpSocket> for std::net::UdpSocket {
    type Error = io::Error;

    /// Gives std's socket back, non-blocking still.
    fn try_from(socket: UdpSocket) -> io::Result<Self> {
        socket.into_inner()
    }
}
