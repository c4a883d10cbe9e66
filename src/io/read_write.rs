//! Reading and writing, once for every type whose references read and write.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::RawFd;

use super::{Async, attempts};
use crate::sys::socket;

impl<T> Async<T>
where
    for<'a> &'a T: Read,
{
    /// Reads what is there, up to the length of the buffer, and waits if there is nothing yet. Zero
    /// is the end, or an empty buffer.
    ///
    /// # Errors
    ///
    /// Those of the object's own `read`, and those of [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// The poll that reads returns what was read, so nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = std::os::unix::net::UnixStream::pair()?;
    /// drop(far);
    /// let near = selio::Async::new(near)?;
    /// assert_eq!(selio::block_on(near.read(&mut [0; 8]))?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.attempt(attempts::Read { buffer })
    }

    /// Reads into several buffers, one after the other, as [`read`](Self::read) does into one.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As for [`read`](Self::read).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::{IoSliceMut, Write};
    /// let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    /// far.write_all(b"abc")?;
    /// let near = selio::Async::new(near)?;
    /// let (mut head, mut rest) = ([0; 1], [0; 7]);
    /// let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut rest)];
    /// assert_eq!(selio::block_on(near.read_vectored(&mut buffers))?, 3);
    /// assert_eq!((&head, &rest[..2]), (b"a", &b"bc"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_vectored(
        &self,
        buffers: &mut [IoSliceMut<'_>],
    ) -> impl Future<Output = io::Result<usize>> {
        // One call takes 1024 of them, and if those are empty ones, what it says looks like the end.
        let first = buffers.iter().take_while(|buffer| buffer.is_empty()).count();
        self.attempt(attempts::ReadVectored { buffers: &mut buffers[first..] })
    }

    /// Reads until the buffer is full.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the end
    /// comes first. How much was read before an error is not told.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: what was read when the future is dropped is in the buffer, and how much
    /// that is, is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::Write;
    /// let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    /// far.write_all(b"four")?;
    /// let near = selio::Async::new(near)?;
    /// let mut buffer = [0; 4];
    /// selio::block_on(near.read_exact(&mut buffer))?;
    /// assert_eq!(&buffer, b"four");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => buffer = &mut buffer[got..],
            }
        }
        Ok(())
    }
}

impl<T> Async<T>
where
    for<'a> &'a T: Write,
{
    /// Writes what there is room for, and waits if there is none; not for an empty slice.
    ///
    /// If nobody is there to read any more, that is a [`BrokenPipe`](io::ErrorKind::BrokenPipe), as
    /// long as the program ignores `SIGPIPE`, which std sees to when it starts. At the signal's
    /// default action (signal(7)), a write to such a pipe ends the process. A write to a stream that
    /// [`net`](crate::net) has made never does. To other sockets it is std that writes: its
    /// `TcpStream` and, from Rust 1.90 on, its `UnixStream` spare the process in all but
    /// [`write_vectored`](Self::write_vectored).
    ///
    /// # Errors
    ///
    /// Those of the object's own `write`, and those of [`writable`](Self::writable).
    ///
    /// # Cancel safety
    ///
    /// The poll that writes returns how much, so nothing is written unknown to the caller.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// assert_eq!(selio::block_on(near.write(b"hello"))?, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self, bytes: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.attempt(attempts::Write { bytes })
    }

    /// Writes from several buffers, one after the other, as [`write`](Self::write) does from one.
    ///
    /// If the program does not ignore `SIGPIPE`, and nobody is there to read any more, this ends
    /// the process, but not for a stream that [`net`](crate::net) has made; see
    /// [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// As for [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::IoSlice;
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// let near = selio::Async::new(near)?;
    /// let buffers = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
    /// assert_eq!(selio::block_on(near.write_vectored(&buffers))?, 11);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_vectored(
        &self,
        buffers: &[IoSlice<'_>],
    ) -> impl Future<Output = io::Result<usize>> {
        // One call takes 1024 of them, and if those are empty ones, it writes nothing.
        let first = buffers.iter().take_while(|buffer| buffer.is_empty()).count();
        self.attempt(attempts::WriteVectored { buffers: &buffers[first..] })
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write); [`WriteZero`](io::ErrorKind::WriteZero) if the object takes
    /// nothing any more. How much was written before an error is not told.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: how much was written when the future is dropped is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// selio::block_on(selio::Async::new(near)?.write_all(b"hello"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_all(&self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> {
        self.attempt(attempts::WriteAll { bytes })
    }

    /// Passes on what the object itself has buffered. Sockets and pipes buffer nothing.
    ///
    /// # Errors
    ///
    /// Those of the object's own `flush`, and those of [`writable`](Self::writable).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// selio::block_on(selio::Async::new(near)?.flush())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush(&self) -> impl Future<Output = io::Result<()>> {
        self.attempt(attempts::Flush { tried: false })
    }
}

/// Writes from several buffers: past the object, if it is nothing but a socket, so that nobody is
/// sent a SIGPIPE.
pub(super) fn write_slices<T>(
    mut io: &T,
    socket: Option<RawFd>,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize>
where
    for<'a> &'a T: Write,
{
    // One call takes 1024 of them, and if those are empty ones, it writes nothing.
    let first = buffers.iter().take_while(|buffer| buffer.is_empty()).count();
    match socket {
        Some(socket) => socket::send_vectored(socket, &buffers[first..]),
        None => io.write_vectored(&buffers[first..]),
    }
}
