//! Bytes that the kernel moves from one file to another: splice(2) and sendfile(2).

use super::{ask_for_capacity, descriptor, pipe};
use libc::{c_int, c_uint};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

/// How many bytes a pipe of ours has room for, where the system allows it: the default is 64 KiB,
/// and all pipes of an unprivileged user together may have 64 MiB (pipe(7)).
pub(crate) const CAPACITY: usize = 1 << 18;

/// A pipe of our own, through which bytes go that are to stay in the kernel: of the two files that
/// splice(2) moves bytes between, one has to be a pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        ask_for_capacity(&writer, CAPACITY as c_int);
        Ok(Pipe { reader, writer })
    }

    /// Takes at most so many bytes in. Zero is the end of the file, if there is room in the pipe.
    pub(crate) fn fill(&self, from: RawFd, most: usize) -> io::Result<usize> {
        splice(from, self.writer.as_raw_fd(), most)
    }

    /// Gives at most so many bytes away.
    pub(crate) fn drain(&self, to: RawFd, most: usize) -> io::Result<usize> {
        splice(self.reader.as_raw_fd(), to, most)
    }

    /// Takes bytes out.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        descriptor::read(self.reader.as_raw_fd(), buffer)
    }
}

/// Moves at most so many bytes between two files of which at least one is a pipe, from and to where
/// they stand.
///
/// `SPLICE_F_NONBLOCK` is about the pipe. Whether the other file blocks is that file's affair.
pub(crate) fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<usize> {
    let flags: c_uint = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: five integers and two null pointers, which stand for the files' own positions.
    let count = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends at most so many bytes of a file, from an offset on, and leaves its position alone. Zero is
/// the end of the file.
pub(crate) fn send_file(file: RawFd, offset: i64, to: RawFd, most: usize) -> io::Result<usize> {
    let mut offset: libc::off64_t = offset;
    // SAFETY: `offset` is a writable `off64_t` that outlives the call.
    let count = unsafe { libc::sendfile64(to, file, &raw mut offset, most) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Whether an error says that the kernel, or a filter of system calls, does not move bytes between
/// such files by such a call. No socket tells one of these of itself, so that nothing is lost if
/// `read` and `write` are asked instead.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let refusals =
        [libc::EINVAL, libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP, libc::EBADF];
    error.raw_os_error().is_some_and(|errno| refusals.contains(&errno))
}
