//! Descriptors that one can await, [`Async`]; what moves bytes: [`copy`](copy()),
//! [`sendfile`](sendfile()); and streams in memory: [`duplex`](duplex()).

mod attempts;
mod copy;
mod duplex;
#[cfg(feature = "futures-io")]
mod futures_traits;
#[cfg(feature = "hyper")]
mod hyper_traits;
pub(crate) mod operation;
mod pace;
mod read_write;
mod sendfile;
mod split;
mod standard;
#[cfg(feature = "tokio-io")]
mod tokio_traits;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};

pub use copy::copy;
pub use duplex::{Duplex, duplex};
pub use sendfile::sendfile;
pub use split::{ReadHalf, ReuniteError, WriteHalf};
pub use standard::{StandardInput, StandardOutput, stderr, stdin, stdout};

use crate::reactor::{Direction, Source, Waiter};
use crate::sys::descriptor;

/// Makes any descriptor's operations awaitable: try, wait until it is worth another try, try again.
///
/// Only [`selio::block_on`](crate::block_on) wakes whoever waits here. Under another executor an
/// `Async` may be used as long as nothing has to wait, but a wait there ends only when a `block_on`
/// of selio runs on the same thread; a debug build says so once.
///
/// `T` is anything with a descriptor that `epoll(7)` can watch: sockets, pipes, terminals,
/// eventfds, inotify, another epoll. It is made non-blocking. An `Async` may be made anywhere, used
/// before, in and after `block_on`, moved to another thread, and shared between threads: it joins
/// the reactor of the thread that first has to wait for it. A descriptor that is never waited for
/// is never registered, and one that is stays registered until it is dropped, so that waiting costs
/// no system call.
///
/// While several threads wait for one shared `Async`, the first one's `block_on` wakes them all. As
/// long as that thread computes, the others wait.
///
/// A future that waits may be moved to another thread as well. It has to be polled there once, as
/// any executor does with a future it is given: so the `Async` learns where it is awaited.
///
/// Regular files and the like (`/dev/null`) are always ready: `epoll` refuses them, and they are
/// never waited for.
///
/// The descriptor must stay what it is: closing its number, or putting another file under it with
/// `dup2(2)`, behind the back of the `Async` leaves those who wait for it without an event.
///
/// # Examples
///
/// ```
/// use selio::Async;
/// use std::os::unix::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// let (near, far) = UnixStream::pair()?;
/// let (near, far) = (Async::new(near)?, Async::new(far)?);
/// selio::block_on(async {
///     near.write_all(b"ping").await?;
///     let mut buffer = [0; 4];
///     far.read_exact(&mut buffer).await?;
///     assert_eq!(&buffer, b"ping");
///     Ok(())
/// })
/// # }
/// ```
pub struct Async<T> {
    // Dropped first: the source leaves its reactor before `io` closes the descriptor, whose number
    // may then be another's.
    registration: Registration,
    io: T,
}

/// A source for as long as its object lives.
#[derive(Debug)]
struct Registration(Arc<Source>);

impl Drop for Registration {
    fn drop(&mut self) {
        drop(self.0.leave());
    }
}

impl<T: AsFd> Async<T> {
    /// Takes an object in and makes its open file non-blocking, for all descriptors that share it.
    ///
    /// # Errors
    ///
    /// Those of `fcntl(2)`.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = std::os::unix::net::UnixStream::pair()?;
    /// let reader = selio::Async::new(reader)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(io: T) -> io::Result<Self> {
        descriptor::set_nonblocking(io.as_fd().as_raw_fd())?;
        Ok(Self::from_source(Source::new(&io), io))
    }

    /// Takes in an object whose open file is non-blocking already, without a system call.
    ///
    /// # Panics
    ///
    /// In a debug build, if it is not: an operation would block the whole thread.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = std::os::unix::net::UnixStream::pair()?;
    /// reader.set_nonblocking(true)?;
    /// let reader = selio::Async::new_nonblocking(reader);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn new_nonblocking(io: T) -> Self {
        debug_assert!(
            descriptor::is_nonblocking(io.as_fd().as_raw_fd()).unwrap_or(true),
            "`Async::new_nonblocking` was given a blocking descriptor; use `Async::new`"
        );
        Self::from_source(Source::new(&io), io)
    }
}

impl<T> Async<T> {
    pub(crate) fn from_source(source: Source, io: T) -> Self {
        Async { registration: Registration(Arc::new(source)), io }
    }

    fn source(&self) -> &Arc<Source> {
        &self.registration.0
    }

    /// The number of the descriptor; see [`Source::fd`].
    fn fd(&self) -> RawFd {
        self.source().fd()
    }

    /// Asks whether another connection waits in the queue of a listener. For `accept(2)` to find
    /// none takes ten times as long: it makes the new socket first.
    pub(crate) fn has_next(&self) -> bool {
        descriptor::is_readable(self.fd()).unwrap_or(true)
    }

    /// Whether it is registered with a reactor that is driven.
    pub(crate) fn is_watched(&self) -> bool {
        self.source().is_watched()
    }

    /// Whether an operation that reads begins with a try.
    pub(crate) fn is_worth_reading(&self) -> bool {
        self.source().worth_a_try(Direction::Read).is_some()
    }

    pub(crate) fn waiter(&self, direction: Direction) -> Waiter<'_> {
        self.source().waiter(direction)
    }

    /// Gives a reference to the object.
    ///
    /// Whatever is done with it, [`readable`](Self::readable) and [`writable`](Self::writable) stay
    /// truthful: they ask the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let listener = selio::Async::new(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// assert!(listener.get_ref().local_addr()?.port() > 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Gives the object back. It stays non-blocking, and is registered nowhere any more.
    ///
    /// # Errors
    ///
    /// None today; reserved for what taking a descriptor back may need.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// let near: std::os::unix::net::UnixStream = near.into_inner()?;
    /// near.set_nonblocking(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_inner(self) -> io::Result<T> {
        let Async { registration, io } = self;
        drop(registration);
        Ok(io)
    }

    /// Waits until a read would not block: there is data, an end, a hang-up or an error.
    ///
    /// # Errors
    ///
    /// If the descriptor cannot be waited for: the limit of watches or of memory is reached (see
    /// `epoll_ctl(2)`), the thread has no descriptor left for its reactor, or another `Async` waits
    /// for the same number ([`AlreadyExists`](io::ErrorKind::AlreadyExists)).
    ///
    /// # Cancel safety
    ///
    /// Takes nothing from the descriptor, so nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::{Read, Write};
    /// let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// far.write_all(b"x")?;
    /// selio::block_on(near.readable())?;
    /// assert_eq!(near.get_ref().read(&mut [0; 8])?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        let mut waiter = self.waiter(Direction::Read);
        poll_fn(|cx| waiter.poll_ready(cx)).await
    }

    /// Waits until a write would not block: there is room, a hang-up or an error.
    ///
    /// # Errors
    ///
    /// As for [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// Gives nothing to the descriptor, so nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// selio::block_on(selio::Async::new(near)?.writable())?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        let mut waiter = self.waiter(Direction::Write);
        poll_fn(|cx| waiter.poll_ready(cx)).await
    }

    /// Is ready when a read would not block; otherwise the task of the *last* call is woken when
    /// that may have changed.
    ///
    /// Several tasks that wait at once use [`readable`](Self::readable), which keeps a waker for
    /// each.
    ///
    /// # Errors
    ///
    /// As for [`readable`](Self::readable).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::Write;
    /// let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// far.write_all(b"x")?;
    /// selio::block_on(std::future::poll_fn(|cx| near.poll_readable(cx)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source().poll_ready(Direction::Read, cx)
    }

    /// Is ready when a write would not block; otherwise the task of the *last* call is woken when
    /// that may have changed.
    ///
    /// # Errors
    ///
    /// As for [`readable`](Self::readable).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// selio::block_on(std::future::poll_fn(|cx| near.poll_writable(cx)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source().poll_ready(Direction::Write, cx)
    }

    /// Runs an operation that reads: now, and again whenever a read may have become possible, until
    /// it does not say [`WouldBlock`](io::ErrorKind::WouldBlock).
    /// [`Interrupted`](io::ErrorKind::Interrupted) is tried again.
    ///
    /// The operation must read from this descriptor until it would block, or return: saying
    /// `WouldBlock` while there is something to read makes the call wait for more.
    ///
    /// # Errors
    ///
    /// Those of the operation, and those of [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// As far as the operation: the poll in which it succeeds returns its result.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let listener = selio::Async::new(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// let _client = std::net::TcpStream::connect(listener.get_ref().local_addr()?)?;
    /// let (_stream, _peer) = selio::block_on(listener.read_with(|listener| listener.accept()))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_with<R>(
        &self,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>> {
        self.operation(Direction::Read, op, |_| false)
    }

    /// Runs an operation that writes: now, and again whenever a write may have become possible,
    /// until it does not say [`WouldBlock`](io::ErrorKind::WouldBlock).
    /// [`Interrupted`](io::ErrorKind::Interrupted) is tried again.
    ///
    /// # Errors
    ///
    /// Those of the operation, and those of [`writable`](Self::writable).
    ///
    /// # Cancel safety
    ///
    /// As far as the operation: the poll in which it succeeds returns its result.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::Write;
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// let written = selio::block_on(near.write_with(|mut near| near.write(b"hello")))?;
    /// assert_eq!(written, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_with<R>(
        &self,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>> {
        self.operation(Direction::Write, op, |_| false)
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsRawFd> AsRawFd for Async<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

impl<T: AsFd + From<OwnedFd>> TryFrom<OwnedFd> for Async<T> {
    type Error = io::Error;

    /// Takes a descriptor in, as [`Async::new`] does.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Async::new(T::from(fd))
    }
}

impl<T: Into<OwnedFd>> From<Async<T>> for OwnedFd {
    /// Gives the descriptor back, non-blocking and registered nowhere.
    fn from(object: Async<T>) -> OwnedFd {
        let Async { registration, io } = object;
        drop(registration);
        io.into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Async").field("io", &self.io).finish_non_exhaustive()
    }
}
