//! What is tried to read and to write. Plain structs, for they are what a task carries while it
//! waits: as small as can be.

use std::io::{self, IoSlice, IoSliceMut};

use super::Async;
use super::operation::Attempt;
use super::read_write::write_slices;
use crate::reactor::Direction;

pub(super) struct Read<'b> {
    pub(super) buffer: &'b mut [u8],
}

impl<T> Attempt<T> for Read<'_>
where
    for<'a> &'a T: io::Read,
{
    type Output = usize;

    #[inline]
    fn direction(&self) -> Direction {
        Direction::Read
    }

    #[inline]
    fn at_once(&mut self, _: &T) -> Option<io::Result<usize>> {
        self.buffer.is_empty().then_some(Ok(0))
    }

    #[inline]
    fn run(&mut self, object: &Async<T>) -> io::Result<usize> {
        io::Read::read(&mut &object.io, self.buffer)
    }

    #[inline]
    fn drains(&self, object: &Async<T>, &got: &usize) -> bool {
        got > 0 && got < self.buffer.len() && object.source().trusts_short()
    }
}

pub(super) struct ReadVectored<'s, 'b> {
    /// The first of them is not empty.
    pub(super) buffers: &'s mut [IoSliceMut<'b>],
}

impl<T> Attempt<T> for ReadVectored<'_, '_>
where
    for<'a> &'a T: io::Read,
{
    type Output = usize;

    fn direction(&self) -> Direction {
        Direction::Read
    }

    fn at_once(&mut self, _: &T) -> Option<io::Result<usize>> {
        self.buffers.is_empty().then_some(Ok(0))
    }

    fn run(&mut self, object: &Async<T>) -> io::Result<usize> {
        io::Read::read_vectored(&mut &object.io, self.buffers)
    }
}

pub(super) struct Write<'b> {
    pub(super) bytes: &'b [u8],
}

impl<T> Attempt<T> for Write<'_>
where
    for<'a> &'a T: io::Write,
{
    type Output = usize;

    #[inline]
    fn direction(&self) -> Direction {
        Direction::Write
    }

    #[inline]
    fn at_once(&mut self, _: &T) -> Option<io::Result<usize>> {
        self.bytes.is_empty().then_some(Ok(0))
    }

    #[inline]
    fn run(&mut self, object: &Async<T>) -> io::Result<usize> {
        io::Write::write(&mut &object.io, self.bytes)
    }

    #[inline]
    fn drains(&self, object: &Async<T>, &put: &usize) -> bool {
        put < self.bytes.len() && object.source().trusts_short()
    }
}

pub(super) struct WriteVectored<'s, 'b> {
    /// The first of them is not empty.
    pub(super) buffers: &'s [IoSlice<'b>],
}

impl<T> Attempt<T> for WriteVectored<'_, '_>
where
    for<'a> &'a T: io::Write,
{
    type Output = usize;

    fn direction(&self) -> Direction {
        Direction::Write
    }

    fn at_once(&mut self, _: &T) -> Option<io::Result<usize>> {
        self.buffers.is_empty().then_some(Ok(0))
    }

    fn run(&mut self, object: &Async<T>) -> io::Result<usize> {
        write_slices(&object.io, object.source().bare_socket(), self.buffers)
    }
}

pub(super) struct WriteAll<'b> {
    /// What is left.
    pub(super) bytes: &'b [u8],
}

impl<T> Attempt<T> for WriteAll<'_>
where
    for<'a> &'a T: io::Write,
{
    type Output = ();

    #[inline]
    fn direction(&self) -> Direction {
        Direction::Write
    }

    #[inline]
    fn at_once(&mut self, _: &T) -> Option<io::Result<()>> {
        self.bytes.is_empty().then_some(Ok(()))
    }

    #[inline]
    fn run(&mut self, object: &Async<T>) -> io::Result<()> {
        match io::Write::write(&mut &object.io, self.bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            put => self.bytes = &self.bytes[put..],
        }
        // What is left is tried again, at the cost of some budget: however fast the reader is, others
        // run.
        match self.bytes.is_empty() {
            true => Ok(()),
            false if object.source().trusts_short() => Err(io::ErrorKind::WouldBlock.into()),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

pub(super) struct Flush {
    pub(super) tried: bool,
}

impl<T> Attempt<T> for Flush
where
    for<'a> &'a T: io::Write,
{
    type Output = ();

    fn direction(&self) -> Direction {
        Direction::Write
    }

    /// The first time it is tried ready or not: most objects have nothing to flush.
    fn at_once(&mut self, io: &T) -> Option<io::Result<()>> {
        if std::mem::replace(&mut self.tried, true) {
            return None;
        }
        match io::Write::flush(&mut &*io) {
            Err(error) if super::operation::would_block(&error) => None,
            done => Some(done),
        }
    }

    fn run(&mut self, object: &Async<T>) -> io::Result<()> {
        io::Write::flush(&mut &object.io)
    }
}
