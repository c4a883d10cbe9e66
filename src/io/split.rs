//! The two directions of one object, each with an owner of its own.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;

use super::Async;
use crate::sys::socket;

/// The reading half of an [`Async`], from [`into_split`](Async::into_split).
///
/// Dropping it changes nothing for the writing half.
///
/// # Examples
///
/// See [`into_split`](Async::into_split).
#[derive(Debug)]
pub struct ReadHalf<T>(Arc<Async<T>>);

/// The writing half of an [`Async`], from [`into_split`](Async::into_split).
///
/// If the object is a connected socket, dropping the half tells the peer that nothing more will come
/// (`SHUT_WR`, shutdown(2)), while the other half reads on. [`forget`](Self::forget) does not.
///
/// # Examples
///
/// See [`into_split`](Async::into_split).
#[derive(Debug)]
pub struct WriteHalf<T> {
    object: Arc<Async<T>>,
    /// Whether dropping it ends the direction.
    ends: bool,
}

impl<T> Async<T> {
    /// Gives each direction an owner of its own, so that one task may read and another one write,
    /// on two threads if need be, and each end when it likes.
    ///
    /// Where a reference will do, nothing has to be split: all methods take `&self`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::UnixStream;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// selio::block_on(async {
    ///     let (near, far) = UnixStream::pair()?;
    ///     let (reader, writer) = near.into_split();
    ///     let writing = selio::spawn(async move {
    ///         writer.write_all(b"all I have to say").await
    ///         // Here the writer is dropped, and the peer reads the end.
    ///     });
    ///     let mut heard = [0; 32];
    ///     assert_eq!(far.read(&mut heard).await?, 17);
    ///     assert_eq!(far.read(&mut heard).await?, 0);
    ///     far.write_all(b"thanks").await?;
    ///     assert_eq!(reader.read(&mut heard).await?, 6);
    ///     writing.await.unwrap()
    /// })
    /// # }
    /// ```
    pub fn into_split(self) -> (ReadHalf<T>, WriteHalf<T>) {
        let object = Arc::new(self);
        (ReadHalf(Arc::clone(&object)), WriteHalf { object, ends: true })
    }
}

impl<T> ReadHalf<T> {
    /// Gives a reference to the object, which the halves share.
    ///
    /// # Examples
    ///
    /// See [`reunite`](Self::reunite).
    pub fn get_ref(&self) -> &T {
        self.0.get_ref()
    }

    /// As [`Async::readable`].
    ///
    /// # Errors
    ///
    /// As for [`Async::readable`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::readable`].
    ///
    /// # Examples
    ///
    /// See [`Async::readable`].
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Makes one of both halves again.
    ///
    /// # Errors
    ///
    /// If they are not the halves of one object; they are in the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::net::UnixStream;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = UnixStream::pair()?;
    /// let (reader, writer) = near.into_split();
    /// assert!(reader.get_ref().peer_addr()?.is_unnamed());
    /// let near: UnixStream = reader.reunite(writer)?;
    /// selio::block_on(near.write_all(b"as before"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reunite(self, writer: WriteHalf<T>) -> Result<Async<T>, ReuniteError<T>> {
        if !Arc::ptr_eq(&self.0, &writer.object) {
            return Err(ReuniteError(self, writer));
        }
        writer.forget();
        // The halves were all that held it.
        Ok(Arc::into_inner(self.0).expect("an object has two halves"))
    }
}

impl<T> ReadHalf<T>
where
    for<'a> &'a T: Read,
{
    /// As [`Async::read`].
    ///
    /// # Errors
    ///
    /// As for [`Async::read`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::read`].
    ///
    /// # Examples
    ///
    /// See [`into_split`](Async::into_split).
    pub fn read(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.0.read(buffer)
    }

    /// As [`Async::read_vectored`].
    ///
    /// # Errors
    ///
    /// As for [`Async::read`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::read`].
    ///
    /// # Examples
    ///
    /// See [`Async::read_vectored`].
    pub fn read_vectored(
        &self,
        buffers: &mut [IoSliceMut<'_>],
    ) -> impl Future<Output = io::Result<usize>> {
        self.0.read_vectored(buffers)
    }

    /// As [`Async::read_exact`].
    ///
    /// # Errors
    ///
    /// As for [`Async::read_exact`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe; see [`Async::read_exact`].
    ///
    /// # Examples
    ///
    /// See [`Async::read_exact`].
    pub async fn read_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buffer).await
    }
}

impl<T> WriteHalf<T> {
    /// Gives a reference to the object, which the halves share.
    ///
    /// # Examples
    ///
    /// See [`ReadHalf::reunite`].
    pub fn get_ref(&self) -> &T {
        self.object.get_ref()
    }

    /// As [`Async::writable`].
    ///
    /// # Errors
    ///
    /// As for [`Async::writable`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::writable`].
    ///
    /// # Examples
    ///
    /// See [`Async::writable`].
    pub async fn writable(&self) -> io::Result<()> {
        self.object.writable().await
    }

    /// Drops the half and tells the peer nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = selio::net::UnixStream::pair()?;
    /// let (reader, writer) = near.into_split();
    /// writer.forget();
    /// // Nothing to read, but no end either.
    /// # use std::io::Read;
    /// assert!(far.get_ref().read(&mut [0; 8]).is_err());
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget(mut self) {
        self.ends = false;
    }
}

impl<T> WriteHalf<T>
where
    for<'a> &'a T: Write,
{
    /// As [`Async::write`].
    ///
    /// # Errors
    ///
    /// As for [`Async::write`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::write`].
    ///
    /// # Examples
    ///
    /// See [`Async::write`].
    pub fn write(&self, bytes: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.object.write(bytes)
    }

    /// As [`Async::write_vectored`].
    ///
    /// # Errors
    ///
    /// As for [`Async::write`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::write`].
    ///
    /// # Examples
    ///
    /// See [`Async::write_vectored`].
    pub fn write_vectored(
        &self,
        buffers: &[IoSlice<'_>],
    ) -> impl Future<Output = io::Result<usize>> {
        self.object.write_vectored(buffers)
    }

    /// As [`Async::write_all`].
    ///
    /// # Errors
    ///
    /// As for [`Async::write_all`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe; see [`Async::write_all`].
    ///
    /// # Examples
    ///
    /// See [`into_split`](Async::into_split).
    pub fn write_all(&self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> {
        self.object.write_all(bytes)
    }

    /// As [`Async::flush`].
    ///
    /// # Errors
    ///
    /// As for [`Async::flush`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Async::flush`].
    ///
    /// # Examples
    ///
    /// See [`Async::flush`].
    pub fn flush(&self) -> impl Future<Output = io::Result<()>> {
        self.object.flush()
    }
}

impl<T> Drop for WriteHalf<T> {
    fn drop(&mut self) {
        if self.ends {
            // The peer is gone if it fails, and needs not be told.
            _ = socket::shutdown_write(self.object.source().fd());
        }
    }
}

/// The halves that [`ReadHalf::reunite`] could not make one of: they are of two objects.
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let (one, other) = selio::net::UnixStream::pair()?;
/// let ((reader, _), (_, writer)) = (one.into_split(), other.into_split());
/// let error = reader.reunite(writer).unwrap_err();
/// assert!(error.to_string().contains("two objects"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReuniteError<T>(
    /// The half that reads.
    pub ReadHalf<T>,
    /// The half that writes.
    pub WriteHalf<T>,
);

impl<T> fmt::Display for ReuniteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are of two objects")
    }
}

impl<T: fmt::Debug> Error for ReuniteError<T> {}
