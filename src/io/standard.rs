//! The process's input and output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Async;
use crate::reactor::Source;
use crate::sys::descriptor;
use crate::sys::standard::{self, Sort};

/// How much is written at a time to what blocks if there is not room for all of it: a pipe that is
/// writable takes as much (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// Opens the standard input for reading in the loop, whatever it is: a terminal, a pipe, a socket,
/// a file.
///
/// No thread is needed, and the open file, which the program shares with its shell or whoever
/// started it, stays as it was found: in particular it is not made non-blocking, not for a moment. A
/// pipe or a terminal is opened once more, which gives an open file of our own on the same object. A
/// socket is asked not to block at each call. Where neither can be done (`/proc` is not mounted, or
/// the terminal is another user's), a read is tried only when `poll(2)` says that it will not block;
/// somebody else who reads the same object may then be quicker, and the read waits.
///
/// Nothing is read ahead and kept. What std's own `Stdin` has in its buffer is not found here, so
/// use one of the two. Whoever reads a terminal in the background is stopped (`SIGTTIN`), as any
/// program is.
///
/// # Errors
///
/// If the descriptor is closed, or there is none left for a duplicate.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let input = selio::io::stdin()?;
///     let output = selio::io::stdout()?;
///     let mut buffer = [0; 4096];
///     loop {
///         match input.read(&mut buffer).await? {
///             0 => return Ok(()),
///             count => output.write_all(&buffer[..count]).await?,
///         }
///     }
/// })
/// # }
/// ```
pub fn stdin() -> io::Result<Async<StandardInput>> {
    open(io::stdin().as_fd(), false).map(|stream| stream.into_async(StandardInput))
}

/// Opens the standard output for writing in the loop; as [`stdin`], also in that its open file stays
/// as it is.
///
/// What std's own `Stdout` has in its buffer comes when that is flushed. A reader of a pipe who is
/// gone is a [`BrokenPipe`](io::ErrorKind::BrokenPipe).
///
/// # Errors
///
/// As for [`stdin`].
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let output = selio::io::stdout()?;
/// selio::block_on(output.write_all(b"hello\n"))?;
/// # Ok(())
/// # }
/// ```
pub fn stdout() -> io::Result<Async<StandardOutput>> {
    open(io::stdout().as_fd(), true).map(|stream| stream.into_async(StandardOutput))
}

/// Opens the standard error output for writing in the loop; as [`stdout`].
///
/// # Errors
///
/// As for [`stdin`].
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let output = selio::io::stderr()?;
/// selio::block_on(output.write_all(b"something is odd\n"))?;
/// # Ok(())
/// # }
/// ```
pub fn stderr() -> io::Result<Async<StandardOutput>> {
    open(io::stderr().as_fd(), true).map(|stream| stream.into_async(StandardOutput))
}

/// What [`stdin`] reads. Its descriptor is kept back: it may be one on which a plain read(2) blocks.
///
/// # Examples
///
/// See [`stdin`].
#[derive(Debug)]
pub struct StandardInput(Standard);

/// What [`stdout`] and [`stderr`] write to.
///
/// # Examples
///
/// See [`stdin`].
#[derive(Debug)]
pub struct StandardOutput(Standard);

#[derive(Debug)]
struct Standard {
    file: File,
    way: Way,
}

/// How it is done without blocking.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The open file is our own, and non-blocking; or it never blocks.
    Simply,
    /// By flags of each call.
    AsSocket,
    /// Only when it is ready.
    WhenReady,
}

fn open(fd: BorrowedFd<'_>, to_write: bool) -> io::Result<Standard> {
    let duplicate = || io::Result::Ok(File::from(fd.try_clone_to_owned()?));
    Ok(match Sort::of(fd)? {
        Sort::Socket => Standard { file: duplicate()?, way: Way::AsSocket },
        // A file that is opened again would begin at its beginning.
        Sort::File => Standard { file: duplicate()?, way: Way::Simply },
        Sort::Other => Standard { file: duplicate()?, way: Way::WhenReady },
        Sort::Pipe | Sort::Terminal => match standard::open_again(fd, to_write) {
            Ok(file) => Standard { file, way: Way::Simply },
            Err(_) => Standard { file: duplicate()?, way: Way::WhenReady },
        },
    })
}

impl Standard {
    fn into_async<T>(self, object: impl FnOnce(Self) -> T) -> Async<T> {
        Async::from_source(Source::new(&self.file), object(self))
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.way {
            Way::Simply => (&self.file).read(buffer),
            Way::AsSocket => standard::receive_now(&self.file, buffer),
            Way::WhenReady if descriptor::is_readable(self.file.as_raw_fd())? => {
                (&self.file).read(buffer)
            }
            Way::WhenReady => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.way {
            Way::Simply => (&self.file).write(bytes),
            Way::AsSocket => standard::send_now(&self.file, bytes),
            Way::WhenReady if descriptor::is_writable(self.file.as_raw_fd())? => {
                (&self.file).write(&bytes[..bytes.len().min(PIECE)])
            }
            Way::WhenReady => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for &StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for &StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
