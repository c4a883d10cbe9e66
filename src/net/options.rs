//! Sockets with options: listening, connecting and binding, for all of TCP and UDP.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::address::{ToAddresses, look_up};
use super::connect;
use super::tcp::{TcpListener, TcpStream, plain};
use super::udp::UdpSocket;
use crate::io::Async;
use crate::reactor::Direction;
use crate::sys::socket_option::SocketOption;
use crate::sys::{inet, socket};

/// What is asked of a socket before it listens, connects or is bound.
///
/// Make one with [`new`](Self::new), say what is wanted, and end with [`listen`](Self::listen),
/// [`connect`](Self::connect) or [`bind_udp`](Self::bind_udp). An option that the kernel refuses is
/// an error of these, which names it; so is a value that cannot be. It may be used again, and
/// cloned.
///
/// Connections that a listener accepts inherit its options (on Linux; see socket(7) and tcp(7)).
///
/// # Examples
///
/// ```
/// use selio::net::SocketOptions;
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let options = SocketOptions::new().nodelay(true).keepalive(Duration::from_secs(60));
///     // Several listeners at one port, each with a share of the connections.
///     let shared = options.clone().reuse_port(true);
///     let one = shared.listen("127.0.0.1:0").await?;
///     let two = shared.listen(one.local_addr()?).await?;
///     let client = options.connect(two.local_addr()?).await?;
///     assert!(client.nodelay()?);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOptions {
    options: Vec<SocketOption>,
    backlog: Option<u32>,
    local_addr: Option<SocketAddr>,
}

impl SocketOptions {
    /// Asks for nothing, which is what [`TcpListener::bind`], [`TcpStream::connect`] and
    /// [`UdpSocket::bind`] do.
    ///
    /// # Examples
    ///
    /// See [`SocketOptions`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, option: SocketOption) -> Self {
        self.options.push(option);
        self
    }

    /// Whether a port may be bound where connections of an earlier socket linger
    /// (`SO_REUSEADDR`, socket(7)); unasked, it is for listeners.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let options = selio::net::SocketOptions::new().reuse_address(false);
    /// selio::block_on(options.listen("127.0.0.1:0"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reuse_address(self, on: bool) -> Self {
        self.with(SocketOption::ReuseAddress(on))
    }

    /// Whether several sockets of one user may have the same address, each with a share of the
    /// connections or datagrams (`SO_REUSEPORT`, socket(7)). All of them have to ask for it.
    ///
    /// # Examples
    ///
    /// See [`SocketOptions`].
    #[must_use]
    pub fn reuse_port(self, on: bool) -> Self {
        self.with(SocketOption::ReusePort(on))
    }

    /// How many connections may wait to be accepted; more than `net.core.somaxconn` is that
    /// number, which is also what is had unasked (listen(2)).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let options = selio::net::SocketOptions::new().backlog(16);
    /// selio::block_on(options.listen("127.0.0.1:0"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// The size of the buffer for what has come, in bytes (`SO_RCVBUF`, socket(7)). The kernel
    /// doubles it for its own needs, and takes no more than `net.core.rmem_max`; with it, TCP does
    /// not tune the size by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let options = selio::net::SocketOptions::new().recv_buffer(64 * 1024).send_buffer(64 * 1024);
    /// selio::block_on(options.bind_udp("127.0.0.1:0"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recv_buffer(self, bytes: usize) -> Self {
        self.with(SocketOption::ReceiveBuffer(bytes))
    }

    /// The size of the buffer for what is to be sent, in bytes (`SO_SNDBUF`, socket(7)); as for
    /// [`recv_buffer`](Self::recv_buffer), with `net.core.wmem_max`.
    ///
    /// # Examples
    ///
    /// See [`recv_buffer`](Self::recv_buffer).
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Self {
        self.with(SocketOption::SendBuffer(bytes))
    }

    /// Asks a peer that has been silent for this long whether it is still there
    /// (`SO_KEEPALIVE`, `TCP_KEEPIDLE`, tcp(7)). In whole seconds, rounded up, 1 to 32,767.
    ///
    /// # Examples
    ///
    /// See [`keepalive_probes`](Self::keepalive_probes).
    #[must_use]
    pub fn keepalive(self, idle: Duration) -> Self {
        self.with(SocketOption::KeepAlive(true)).with(SocketOption::KeepAliveIdle(idle))
    }

    /// How long to wait for an answer before it is asked again (`TCP_KEEPINTVL`, tcp(7)); the range
    /// is that of [`keepalive`](Self::keepalive).
    ///
    /// # Examples
    ///
    /// See [`keepalive_probes`](Self::keepalive_probes).
    #[must_use]
    pub fn keepalive_interval(self, interval: Duration) -> Self {
        self.with(SocketOption::KeepAliveInterval(interval))
    }

    /// How often to ask in vain, 1 to 127, before the connection is given up
    /// (`TCP_KEEPCNT`, tcp(7)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// // A peer whose plug was pulled is noticed after a minute and a half.
    /// let options = selio::net::SocketOptions::new()
    ///     .keepalive(Duration::from_secs(60))
    ///     .keepalive_interval(Duration::from_secs(10))
    ///     .keepalive_probes(3);
    /// selio::block_on(options.listen("127.0.0.1:0"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn keepalive_probes(self, count: u32) -> Self {
        self.with(SocketOption::KeepAliveProbes(count))
    }

    /// Whether small writes are sent at once instead of being gathered (`TCP_NODELAY`, tcp(7)).
    ///
    /// # Examples
    ///
    /// See [`SocketOptions`].
    #[must_use]
    pub fn nodelay(self, on: bool) -> Self {
        self.with(SocketOption::NoDelay(on))
    }

    /// Whether a socket of IPv6 leaves IPv4 alone (`IPV6_V6ONLY`, ipv6(7)). Sockets of IPv4 are not
    /// asked. Unasked, `net.ipv6.bindv6only` says.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let options = selio::net::SocketOptions::new().only_v6(true);
    /// # if std::net::TcpListener::bind("[::]:0").is_err() { return Ok(()); }
    /// selio::block_on(options.listen("[::]:0"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn only_v6(self, on: bool) -> Self {
        self.with(SocketOption::OnlyV6(on))
    }

    /// Uses one network device only, such as `"eth0"` (`SO_BINDTODEVICE`, socket(7)). Before Linux
    /// 5.7 that takes `CAP_NET_RAW`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let options = selio::net::SocketOptions::new().device("eth0");
    /// selio::block_on(options.listen("0.0.0.0:80"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn device(self, name: &str) -> Self {
        self.with(SocketOption::Device(name.to_owned()))
    }

    /// Connects from this address; port 0 takes a free port. Addresses of the other family are then
    /// not connected to.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let listener = selio::block_on(selio::net::TcpListener::bind("127.0.0.1:0"))?;
    /// let from = selio::net::SocketOptions::new().local_addr(([127, 0, 0, 2], 0).into());
    /// let client = selio::block_on(from.connect(listener.local_addr()?))?;
    /// assert_eq!(client.local_addr()?.ip().to_string(), "127.0.0.2");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn local_addr(mut self, address: SocketAddr) -> Self {
        self.local_addr = Some(address);
        self
    }

    /// Listens for connections, as [`TcpListener::bind`] does.
    ///
    /// # Errors
    ///
    /// Those of [`TcpListener::bind`], and those of setsockopt(2), with the option's name;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a value cannot be.
    ///
    /// # Examples
    ///
    /// See [`SocketOptions`].
    pub async fn listen(&self, at: impl ToAddresses) -> io::Result<TcpListener> {
        let listener = first_that_can(look_up(at).await?, |address| {
            let socket = inet::stream(address)?;
            SocketOption::ReuseAddress(true).set(socket.as_fd())?;
            self.set(&socket, address)?;
            inet::bind(socket.as_fd(), address)?;
            // std asks for a queue of 128, which a burst of clients fills: what finds it full is
            // dropped and comes back a second later.
            inet::listen(socket.as_fd(), self.backlog.unwrap_or(u32::MAX))?;
            Ok(socket)
        })?;
        Ok(Async::new_nonblocking(listener.into()))
    }

    /// Connects, as [`TcpStream::connect`] does.
    ///
    /// # Errors
    ///
    /// Those of [`TcpStream::connect`], and as for [`listen`](Self::listen).
    ///
    /// # Cancel safety
    ///
    /// As for [`TcpStream::connect`].
    ///
    /// # Examples
    ///
    /// See [`SocketOptions`].
    pub async fn connect(&self, to: impl ToAddresses) -> io::Result<TcpStream> {
        connect::first(look_up(to).await?, |address| self.connect_one(address)).await
    }

    async fn connect_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = inet::stream(&address)?;
        self.set(&socket, &address)?;
        if let Some(own) = &self.local_addr {
            inet::bind(socket.as_fd(), own)?;
        }
        // Registered after connect(2) at the earliest: before it, epoll calls a fresh socket
        // writable and hung up.
        inet::connect(socket.as_fd(), &address)?;
        let stream = plain(socket.into());
        let mut waiter = stream.waiter(Direction::Write);
        let may_have_failed = poll_fn(|cx| waiter.poll_connected(cx)).await?;
        drop(waiter);
        if !may_have_failed {
            return Ok(stream);
        }
        match socket::take_error(stream.as_fd())? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Makes a socket for datagrams, as [`UdpSocket::bind`] does.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::bind`], and as for [`listen`](Self::listen): options of TCP are
    /// refused.
    ///
    /// # Examples
    ///
    /// See [`recv_buffer`](Self::recv_buffer).
    pub async fn bind_udp(&self, at: impl ToAddresses) -> io::Result<UdpSocket> {
        let socket = first_that_can(look_up(at).await?, |address| {
            let socket = inet::datagram(address)?;
            self.set(&socket, address)?;
            inet::bind(socket.as_fd(), address)?;
            Ok(socket)
        })?;
        Ok(Async::new_nonblocking(socket.into()))
    }

    /// Sets all that was asked for, in that order.
    fn set(&self, socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
        let of_other_family =
            |option: &&SocketOption| matches!(option, SocketOption::OnlyV6(_)) && address.is_ipv4();
        let mut options = self.options.iter().filter(|option| !of_other_family(option));
        options.try_for_each(|option| option.set(socket.as_fd()))
    }
}

/// What comes of the first address with which it goes well, else the last error.
fn first_that_can<R>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(&SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for address in &addresses {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("a look-up gives one address at least"))
}
