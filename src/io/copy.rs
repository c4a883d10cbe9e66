//! Moving bytes from one descriptor to another, inside the kernel where it can.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;

use super::Async;
use super::operation::would_block;
use super::pace::Pace;
use crate::reactor::Direction;
use crate::sys::descriptor;
use crate::sys::fork::PerProcess;
use crate::sys::lock::{Guard, Lock};
use crate::sys::sigpipe::Sigpipe;
use crate::sys::splice::{self, CAPACITY, Pipe, is_refusal};

/// The size of the buffer that stands in for splice(2).
pub(super) const BUFFER: usize = 64 * 1024;

/// How many empty pipes are kept for the next who needs one.
const MOST_IDLE: usize = 4;

/// Moves bytes until `from` ends, and returns how many.
///
/// The bytes stay in the kernel where it can move them by splice(2): directly if one of the two is
/// a pipe, else through a pipe that the call takes while bytes are on their way. Where the kernel,
/// a filter of system calls or the kind of file refuses that, or no descriptor is left for a pipe,
/// they go through a buffer of 64 KiB. Either way they go from descriptor to descriptor, past the
/// two objects: what one of them has buffered for itself is not seen.
///
/// `to` is not shut down; that is up to the caller, who may have more to write. An error of `from`
/// comes after all that was read before it has been written. Whether somebody still reads what is
/// written to `to` shows at the next write: as long as `from` gives nothing, nothing tells.
///
/// If nobody does, that is a [`BrokenPipe`](io::ErrorKind::BrokenPipe), for pipes as for sockets,
/// and no `SIGPIPE`. For that, a program in which the signal is at its default action (signal(7))
/// pays four more system calls for each step: the thread blocks it meanwhile. Programs in Rust begin
/// with it ignored, and pay nothing. What the signal does is looked at once, when the copy begins.
///
/// However fast both sides are, other tasks run in between. The order of what is moved holds only
/// if nobody else reads `from` or writes to `to` meanwhile. Datagrams and packets are not kept
/// apart, and an empty one passes for the end.
///
/// # Errors
///
/// Those of read(2) and write(2), and those of [`Async::readable`];
/// [`WriteZero`](io::ErrorKind::WriteZero) if `to` takes nothing any more. How many bytes were
/// moved before an error is not told. If it is an error of `to`, at most 256 KiB that were read are
/// lost.
///
/// # Cancel safety
///
/// Not cancel-safe: what was read, and not yet written, when the future is dropped is lost, at most
/// 256 KiB (nothing, if one of the two is a pipe and splice(2) serves), and how much was moved is
/// not told.
///
/// # Examples
///
/// ```
/// use selio::io::copy;
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
/// use std::os::unix::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// let (mut client, from) = UnixStream::pair()?;
/// let (to, mut server) = UnixStream::pair()?;
/// let (from, to) = (selio::Async::new(from)?, selio::Async::new(to)?);
/// client.write_all(b"hello")?;
/// client.shutdown(Shutdown::Write)?;
///
/// let moved = selio::block_on(async {
///     let moved = copy(&from, &to).await?;
///     to.get_ref().shutdown(Shutdown::Write)?;
///     std::io::Result::Ok(moved)
/// })?;
/// assert_eq!(moved, 5);
/// let mut heard = String::new();
/// server.read_to_string(&mut heard)?;
/// assert_eq!(heard, "hello");
/// # Ok(())
/// # }
/// ```
pub async fn copy<R: AsFd, W: AsFd>(from: &Async<R>, to: &Async<W>) -> io::Result<u64> {
    let one_is_a_pipe = descriptor::is_pipe(from.fd()) || descriptor::is_pipe(to.fd());
    let route = if one_is_a_pipe { Route::Direct } else { Route::Pipe };
    let mut transfer = Transfer { from, sink: Sink::new(to), route, buffer: Vec::new() };
    let (mut moved, mut pace) = (0, Pace::new());
    loop {
        match transfer.step().await? {
            0 => return Ok(moved),
            step => moved += step as u64,
        }
        pace.keep(moved).await;
    }
}

/// How the next bytes go.
#[derive(Debug, Clone, Copy)]
enum Route {
    /// By splice(2), since one side is a pipe.
    Direct,
    /// By splice(2), through a pipe of ours.
    Pipe,
    /// By read(2) and write(2).
    Buffer,
}

struct Transfer<'a, R, W> {
    from: &'a Async<R>,
    sink: Sink<'a, W>,
    route: Route,
    /// Empty until it is needed.
    buffer: Vec<u8>,
}

impl<R: AsFd, W: AsFd> Transfer<'_, R, W> {
    /// Moves some bytes, and tells how many; none at the end of the source.
    ///
    /// That splice(2) moves nothing says little. At urgent data (tcp(7)) it stands still, and calls
    /// it the end if the peer has no more to say after it; read(2) goes on behind it. So it is a
    /// read that tells the end.
    async fn step(&mut self) -> io::Result<usize> {
        let spliced = match self.route {
            Route::Direct => self.directly().await,
            Route::Pipe => self.through_pipe().await,
            Route::Buffer => Ok(0),
        };
        match spliced {
            Ok(0) => self.through_buffer().await,
            Err(error) if is_refusal(&error) => {
                self.route = Route::Buffer;
                self.through_buffer().await
            }
            moved => moved,
        }
    }

    /// Moves some bytes, or none if a read has to tell why.
    ///
    /// That the call would block may be due to either side, so the kernel is asked. If it says that
    /// neither is to blame, a read will do: who shares a pipe with others may find it empty, full,
    /// and neither in three calls.
    async fn directly(&self) -> io::Result<usize> {
        let (from, to) = (self.from.fd(), self.sink.to.fd());
        let op = || match self.sink.sigpipe.spare(|| splice::splice(from, to, CAPACITY)) {
            Err(error) if would_block(&error) && descriptor::is_readable(from)? => Ok(None),
            moved => moved.map(Some),
        };
        if let Some(moved) = self.from.read_with(|_| op()).await? {
            return Ok(moved);
        }
        self.sink.to.writable().await?;
        self.from.read_with(|_| op()).await.map(Option::unwrap_or_default)
    }

    /// As [`directly`](Self::directly), where neither side is a pipe.
    async fn through_pipe(&mut self) -> io::Result<usize> {
        let Some((pipe, filled)) = self.from.read_with(|_| self.fill()).await? else {
            return Ok(0);
        };
        let mut left = filled;
        while left > 0 {
            match self.sink.take(left, |to| pipe.drain(to, left)).await {
                Ok(gone) => left -= gone,
                Err(error) if is_refusal(&error) => {
                    self.route = Route::Buffer;
                    self.drain_by_buffer(&pipe, left).await?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        give_back(pipe);
        Ok(filled)
    }

    /// Fills a pipe, and tells with how much. There is none if no pipe is to be had, and if nothing
    /// moves although there is something to read.
    fn fill(&self) -> io::Result<Option<(Pipe, usize)>> {
        let Ok(pipe) = take_pipe() else { return Ok(None) };
        let from = self.from.fd();
        let mut filled = pipe.fill(from, CAPACITY);
        // The pipe was empty, and is: if the call would block, that is due to the source. A stream that
        // is known to have no urgent data need not be asked.
        let asks = filled.as_ref().is_err_and(would_block) && !self.from.source().trusts_short();
        let is_readable = asks && descriptor::is_readable(from)?;
        if is_readable {
            // What has come since moves; what does not is urgent.
            filled = pipe.fill(from, CAPACITY);
        }
        match filled {
            Ok(filled) => Ok(Some((pipe, filled))),
            Err(error) => {
                give_back(pipe);
                if is_readable && would_block(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Writes what is in the pipe already, when the sink takes nothing from a pipe.
    async fn drain_by_buffer(&mut self, pipe: &Pipe, mut left: usize) -> io::Result<()> {
        self.make_buffer();
        while left > 0 {
            let got = pipe.read(&mut self.buffer)?;
            self.sink.write_all(&self.buffer[..got]).await?;
            left -= got;
        }
        Ok(())
    }

    fn make_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
    }

    async fn through_buffer(&mut self) -> io::Result<usize> {
        self.make_buffer();
        let (fd, buffer) = (self.from.fd(), &mut self.buffer);
        let read = |_: &R| descriptor::read(fd, buffer);
        let short = |&got: &usize| got > 0 && got < BUFFER;
        let got = self.from.operation(Direction::Read, read, short).await?;
        self.sink.write_all(&self.buffer[..got]).await?;
        Ok(got)
    }
}

/// Where the bytes go, in calls that raise no `SIGPIPE`.
pub(super) struct Sink<'a, W> {
    pub(super) to: &'a Async<W>,
    pub(super) sigpipe: Sigpipe,
}

impl<'a, W> Sink<'a, W> {
    pub(super) fn new(to: &'a Async<W>) -> Self {
        Sink { to, sigpipe: Sigpipe::look() }
    }

    /// Makes a call that writes at most `most` bytes to the descriptor, when there is room.
    async fn take(
        &self,
        most: usize,
        mut call: impl FnMut(i32) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let op = |_: &W| self.sigpipe.spare(|| call(self.to.fd()));
        match self.to.operation(Direction::Write, op, |&gone| gone < most).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            gone => Ok(gone),
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let gone = self.take(bytes.len(), |to| descriptor::write(to, bytes)).await?;
            bytes = &bytes[gone..];
        }
        Ok(())
    }
}

/// The pipes of this process that are empty and serve nobody. A copy has one only while bytes are
/// on their way, so that thousands of connections that say nothing do with a few pipes.
static IDLE: PerProcess<Lock<Vec<Pipe>>> = PerProcess::new();

fn idle() -> Guard<'static, Vec<Pipe>> {
    let Ok(idle) = IDLE.get_or_make(|| Ok::<_, Infallible>(Lock::default()));
    idle.lock()
}

fn take_pipe() -> io::Result<Pipe> {
    let known = idle().pop();
    known.map_or_else(Pipe::new, Ok)
}

/// Keeps an empty pipe for others.
fn give_back(pipe: Pipe) {
    let mut idle = idle();
    if idle.len() < MOST_IDLE {
        idle.push(pipe);
    }
}
