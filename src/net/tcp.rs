//! What is special to TCP: constructors, accepting, and the socket options that people expect.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::stream::{FusedStream, Stream};

use super::accepting::Accepting;
use super::address::ToAddresses;
use super::options::SocketOptions;
use crate::io::Async;
use crate::io::operation::Attempt;
use crate::reactor::{Direction, Source};
use crate::sys::{inet, socket};

/// A TCP socket that listens: an [`Async`] around std's.
///
/// - made by [`bind`](Self::bind), from std's by `TryFrom`, or by [`Async::new`]
/// - [`accept`](Self::accept), [`incoming`](Self::incoming), [`local_addr`](Self::local_addr)
/// - [`readable`](Async::readable), [`get_ref`](Async::get_ref), [`into_inner`](Async::into_inner)
///   and what else `Async` has
///
/// # Examples
///
/// ```
/// use selio::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (stream, peer) = listener.accept().await?;
///     assert_eq!(peer, client.local_addr()?);
///     stream.write_all(b"welcome").await
/// })
/// # }
/// ```
pub type TcpListener = Async<std::net::TcpListener>;

/// A TCP connection: an [`Async`] around std's.
///
/// - made by [`connect`](Self::connect) and [`TcpListener::accept`], or from std's by `TryFrom`
/// - [`read`](Async::read), [`read_exact`](Async::read_exact),
///   [`read_vectored`](Async::read_vectored), [`peek`](Self::peek)
/// - [`write`](Async::write), [`write_all`](Async::write_all),
///   [`write_vectored`](Async::write_vectored), [`flush`](Async::flush)
/// - [`shutdown`](Self::shutdown), [`peer_addr`](Self::peer_addr),
///   [`local_addr`](Self::local_addr), [`nodelay`](Self::nodelay),
///   [`set_nodelay`](Self::set_nodelay), [`ttl`](Self::ttl), [`set_ttl`](Self::set_ttl),
///   [`take_error`](Self::take_error)
/// - [`readable`](Async::readable), [`writable`](Async::writable) and what else `Async` has
///
/// A stream made in the first three ways knows that a short read or write means that nothing is
/// left for now, and saves the failing call that would tell. That does not hold for a socket with
/// an upper-layer protocol (`TCP_ULP`, as kernel TLS): make such a stream by [`Async::new`].
///
/// Nor does a write to a stream made in the first three ways raise `SIGPIPE`, whatever the program
/// does with that signal (`MSG_NOSIGNAL`, send(2)). For others, see [`write`](Async::write).
///
/// All methods take `&self`: one task may read while another writes.
///
/// # Examples
///
/// See [`TcpListener`].
pub type TcpStream = Async<std::net::TcpStream>;

impl TcpListener {
    /// Binds a socket and begins to listen; of several addresses at the first that can be bound.
    /// Port 0 takes a free port.
    ///
    /// `SO_REUSEADDR` is set, as std does it, so that a server may be started again at once. For
    /// other options, see [`SocketOptions`].
    ///
    /// # Errors
    ///
    /// Those of the look-up, and those of `bind(2)` and `listen(2)` for the last address.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    pub async fn bind(at: impl ToAddresses) -> io::Result<Self> {
        SocketOptions::new().listen(at).await
    }

    /// The address at which it listens.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// Waits for a connection and takes it, with the address of the peer.
    ///
    /// A connection that broke while it waited is passed over: errors of that kind (see
    /// `accept(2)`) are not told.
    ///
    /// # Errors
    ///
    /// Those of `accept4(2)` that are left, and those of [`readable`](Async::readable). Each is
    /// told after a pause of 50 ms, in which everything else runs: when descriptors or memory have
    /// run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), or a firewall refuses it (`EPERM`), the
    /// connection stays in the queue, and a loop that logs and goes on does not spin, and serves
    /// on as soon as it may.
    ///
    /// # Cancel safety
    ///
    /// The poll that takes a connection returns it, so none is lost.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        Accepting::new(self, Accept).await
    }

    /// Makes a stream of the connections that come. It never ends, and goes on after an error; see
    /// [`accept`](Self::accept).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let mut incoming = listener.incoming();
    /// while let Some(stream) = incoming.next().await {
    ///     assert_eq!(stream?.peer_addr()?, client.local_addr()?);
    ///     break;
    /// }
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { accepting: Accepting::new(self, Accept) }
    }
}

struct Peek<'b> {
    buffer: &'b mut [u8],
}

impl Attempt<std::net::TcpStream> for Peek<'_> {
    type Output = usize;

    fn direction(&self) -> Direction {
        Direction::Read
    }

    fn at_once(&mut self, _: &std::net::TcpStream) -> Option<io::Result<usize>> {
        self.buffer.is_empty().then_some(Ok(0))
    }

    fn run(&mut self, stream: &TcpStream) -> io::Result<usize> {
        stream.get_ref().peek(self.buffer)
    }
}

/// One connection that waits in the queue of a listener.
#[derive(Debug)]
struct Accept;

impl Attempt<std::net::TcpListener> for Accept {
    type Output = (TcpStream, SocketAddr);

    fn direction(&self) -> Direction {
        Direction::Read
    }

    fn run(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        match inet::accept(listener.as_fd()) {
            Ok((socket, peer)) => Ok((plain(socket.into()), peer)),
            // Tried again like an interrupted call, which costs budget: a flood of broken
            // connections lets other tasks run.
            Err(error) if inet::is_transient_accept_error(&error) => {
                Err(io::ErrorKind::Interrupted.into())
            }
            Err(error) => Err(error),
        }
    }

    fn drains(&self, listener: &TcpListener, _: &(TcpStream, SocketAddr)) -> bool {
        !listener.has_next()
    }
}

/// A stream that is non-blocking, and for which a short read or write tells that nothing is left.
pub(super) fn plain(stream: std::net::TcpStream) -> TcpStream {
    Async::from_source(Source::new(&stream).of_bare_socket().plain_stream(), stream)
}

/// The stream of [`TcpListener::incoming`].
///
/// # Examples
///
/// See [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    accepting: Accepting<'a, std::net::TcpListener, Accept>,
}

impl Incoming<'_> {
    /// Waits for the next connection. Always `Some`.
    ///
    /// # Cancel safety
    ///
    /// As for [`TcpListener::accept`].
    ///
    /// # Examples
    ///
    /// See [`TcpListener::incoming`].
    pub async fn next(&mut self) -> Option<io::Result<TcpStream>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.accepting)
            .poll(cx)
            .map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

/// It has no end.
impl FusedStream for Incoming<'_> {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl TcpStream {
    /// Connects; of several addresses to the first that answers.
    ///
    /// Addresses of both families are tried by turns, each 250 ms after the one before, or at once
    /// when one has failed (RFC 8305, "happy eyeballs").
    ///
    /// # Errors
    ///
    /// Those of the look-up, and what the kernel tells
    /// ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused),
    /// [`TimedOut`](io::ErrorKind::TimedOut), …). If several addresses were tried, the error has
    /// the kind of the first and its text tells all of them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives all attempts up and closes their sockets.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    pub async fn connect(to: impl ToAddresses) -> io::Result<Self> {
        SocketOptions::new().connect(to).await
    }

    /// Waits for data and copies it to the buffer without taking it. Zero is the end, or an empty
    /// buffer.
    ///
    /// # Errors
    ///
    /// Those of `recv(2)`, and those of [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// Takes nothing, so nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (stream, _) = listener.accept().await?;
    /// client.write_all(b"hello").await?;
    /// let mut buffer = [0; 8];
    /// assert_eq!(stream.peek(&mut buffer).await?, 5);
    /// assert_eq!(stream.read(&mut buffer).await?, 5);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn peek(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.attempt(Peek { buffer })
    }

    /// Ends one direction, or both: the peer reads an end, or its writes fail. See `shutdown(2)`.
    ///
    /// # Errors
    ///
    /// Those of `shutdown(2)`: [`NotConnected`](io::ErrorKind::NotConnected) if the connection is
    /// gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (stream, _) = listener.accept().await?;
    /// client.shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!(stream.read(&mut [0; 8]).await?, 0);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.get_ref().shutdown(how)
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// Those of `getpeername(2)`.
    ///
    /// # Examples
    ///
    /// See [`TcpListener::incoming`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// Tells whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Those of `getsockopt(2)`.
    ///
    /// # Examples
    ///
    /// See [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.get_ref().nodelay()
    }

    /// Chooses whether small writes are sent at once, or gathered while sent data is unacknowledged
    /// (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// client.set_nodelay(true)?;
    /// assert!(client.nodelay()?);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.get_ref().set_nodelay(nodelay)
    }

    /// The time to live of sent packets (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Those of `getsockopt(2)`.
    ///
    /// # Examples
    ///
    /// See [`set_ttl`](Self::set_ttl).
    pub fn ttl(&self) -> io::Result<u32> {
        self.get_ref().ttl()
    }

    /// Sets the time to live of sent packets (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// client.set_ttl(64)?;
    /// assert_eq!(client.ttl()?, 64);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.get_ref().set_ttl(ttl)
    }

    /// Takes the error that waits on the socket, if there is one (`SO_ERROR`). Asking clears it.
    ///
    /// # Errors
    ///
    /// Those of `getsockopt(2)`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # selio::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(client.take_error()?.is_none());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        socket::take_error(self.as_fd())
    }
}

impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    /// Takes in std's listener and makes it non-blocking.
    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        Async::new(listener)
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    /// Takes in std's stream and makes it non-blocking.
    fn try_from(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(plain(stream))
    }
}

impl TryFrom<TcpListener> for std::net::TcpListener {
    type Error = io::Error;

    /// Gives std's listener back, non-blocking still.
    fn try_from(listener: TcpListener) -> io::Result<Self> {
        listener.into_inner()
    }
}

impl TryFrom<TcpStream> for std::net::TcpStream {
    type Error = io::Error;

    /// Gives std's stream back, non-blocking still.
    fn try_from(stream: TcpStream) -> io::Result<Self> {
        stream.into_inner()
    }
}
