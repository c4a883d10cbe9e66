//! What is special to Unix sockets.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self as std_net, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::accepting::Accepting;
use crate::io::Async;
use crate::io::operation::Attempt;
use crate::reactor::{Direction, Source};
use crate::sys::unix::{self, Kind};
use crate::time::sleep;

/// How long to wait for room in somebody's queue, where the kernel tells nobody when there is some:
/// at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A Unix socket that listens: an [`Async`] around std's.
///
/// - made by [`bind`](Self::bind) and [`bind_addr`](Self::bind_addr), from std's by `TryFrom`, or by
///   [`Async::new`]
/// - [`accept`](Self::accept), [`local_addr`](Self::local_addr)
/// - [`readable`](Async::readable), [`get_ref`](Async::get_ref), [`into_inner`](Async::into_inner)
///   and what else `Async` has
///
/// # Examples
///
/// ```
/// use selio::net::{UnixListener, UnixStream};
///
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("selio-doc-{}", std::process::id()));
/// selio::block_on(async {
///     let listener = UnixListener::bind(&path)?;
///     let client = UnixStream::connect(&path).await?;
///     let (stream, _) = listener.accept().await?;
///     stream.write_all(b"welcome").await?;
///     assert_eq!(stream.peer_credentials()?.pid, Some(std::process::id()));
/// #   drop(client);
///     std::fs::remove_file(&path)
/// })
/// # }
/// ```
pub type UnixListener = Async<std_net::UnixListener>;

/// A Unix stream socket: an [`Async`] around std's.
///
/// - made by [`connect`](Self::connect), [`connect_addr`](Self::connect_addr), [`pair`](Self::pair)
///   and [`UnixListener::accept`], or from std's by `TryFrom`
/// - [`read`](Async::read), [`write`](Async::write) and what else [`Async`] has
/// - [`shutdown`](Self::shutdown), [`local_addr`](Self::local_addr), [`peer_addr`](Self::peer_addr),
///   [`peer_credentials`](Self::peer_credentials), [`take_error`](Self::take_error)
///
/// If it was not made by [`Async::new`], no write to it raises `SIGPIPE`, whatever the program does
/// with that signal; but for [`write`](Async::write) that is so from Rust 1.90 on only.
///
/// # Examples
///
/// See [`UnixListener`].
pub type UnixStream = Async<std_net::UnixStream>;

/// Who is at the other end of a Unix stream: as it was when it connected, or made the pair
/// (`SO_PEERCRED`, unix(7)).
///
/// # Examples
///
/// See [`UnixListener`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The process, unless it is in a pid namespace that cannot be seen from here.
    pub pid: Option<u32>,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

impl Credentials {
    pub(super) fn of_peer(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let peer = unix::peer_credentials(socket)?;
        let pid = u32::try_from(peer.pid).ok().filter(|&pid| pid > 0);
        Ok(Credentials { pid, uid: peer.uid, gid: peer.gid })
    }
}

/// A stream to which std's `writev` is not to be trusted with `SIGPIPE`.
fn bare(stream: std_net::UnixStream) -> UnixStream {
    Async::from_source(Source::new(&stream).of_bare_socket(), stream)
}

/// One connection that waits in the queue of a listener.
#[derive(Debug)]
pub(super) struct Accept;

impl Attempt<std_net::UnixListener> for Accept {
    type Output = (std_net::UnixStream, SocketAddr);

    fn direction(&self) -> Direction {
        Direction::Read
    }

    fn run(&mut self, listener: &UnixListener) -> io::Result<Self::Output> {
        listener.get_ref().accept()
    }

    fn drains(&self, listener: &UnixListener, _: &Self::Output) -> bool {
        !listener.has_next()
    }
}

impl UnixListener {
    /// Binds a socket to a path, which must not exist, and begins to listen.
    ///
    /// # Errors
    ///
    /// Those of bind(2): [`AddrInUse`](io::ErrorKind::AddrInUse) if there is such a path. A path
    /// of more than 107 bytes, or with a zero byte in it, is
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Binds a socket to an address, for instance an abstract name
    /// (`std::os::linux::net::SocketAddrExt`), and begins to listen.
    ///
    /// # Errors
    ///
    /// Those of bind(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::{UnixListener, UnixStream};
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let name = SocketAddr::from_abstract_name(format!("example {}", std::process::id()))?;
    /// selio::block_on(async {
    ///     let listener = UnixListener::bind_addr(&name)?;
    ///     let client = UnixStream::connect_addr(&name).await?;
    ///     let (stream, _) = listener.accept().await?;
    ///     client.write_all(b"hello").await
    /// })
    /// # }
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Ok(Async::new_nonblocking(unix::listen(Kind::Stream, address)?.into()))
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
    /// See [`UnixListener`].
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = Accepting::new(self, Accept).await?;
        Ok((UnixStream::try_from(stream)?, peer))
    }

    /// The address at which it listens.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }
}

impl UnixStream {
    /// Connects to the listener at a path, and waits for room in its queue.
    ///
    /// # Errors
    ///
    /// Those of connect(2): [`NotFound`](io::ErrorKind::NotFound) if there is no such path,
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if nobody listens there. A path of
    /// more than 107 bytes, or with a zero byte in it, is
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
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
    /// See [`UnixListener::bind_addr`].
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        // The kernel does not tell when there is room in the queue: a socket that could not be
        // connected is called writable, and hung up.
        patiently(|| unix::connect(Kind::Stream, address)).await.map(|socket| bare(socket.into()))
    }

    /// Makes two streams that are connected to each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = selio::net::UnixStream::pair()?;
    /// selio::block_on(near.write_all(b"hello"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = std_net::UnixStream::pair()?;
        Ok((near.try_into()?, far.try_into()?))
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
    /// let (near, far) = selio::net::UnixStream::pair()?;
    /// near.shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!(selio::block_on(far.read(&mut [0; 8]))?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.get_ref().shutdown(how)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = selio::net::UnixStream::pair()?;
    /// assert!(near.local_addr()?.is_unnamed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    ///
    /// # Examples
    ///
    /// See [`local_addr`](Self::local_addr).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    /// Says who is at the other end.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        Credentials::of_peer(self.as_fd())
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
    /// # fn main() -> std::io::Result<()> {
    /// assert!(selio::net::UnixStream::pair()?.0.take_error()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.get_ref().take_error()
    }
}

/// Tries what nobody is woken for: again after a pause, as long as it would block.
pub(super) async fn patiently<R>(mut op: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    let mut pause = FIRST_PAUSE;
    loop {
        match op() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(pause).await,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => return done,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl TryFrom<std_net::UnixStream> for UnixStream {
    type Error = io::Error;

    /// Takes in std's stream and makes it non-blocking.
    fn try_from(stream: std_net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(bare(stream))
    }
}

impl TryFrom<std_net::UnixListener> for UnixListener {
    type Error = io::Error;

    /// Takes in std's listener and makes it non-blocking.
    fn try_from(listener: std_net::UnixListener) -> io::Result<Self> {
        Async::new(listener)
    }
}
