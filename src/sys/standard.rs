//! What a process has inherited as its input and output: descriptors of open files that others use
//! as well, whose flags are not ours to change.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::cvt;

/// What sort of file it is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A pipe, or one with a name.
    Pipe,
    Terminal,
    Socket,
    /// Regular files and disks, which never block.
    File,
    Other,
}

impl Sort {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: `stat` is made of integers, for which zeros are a value.
        let mut status: libc::stat = unsafe { mem::zeroed() };
        // SAFETY: `status` is a writable `stat` that outlives the call.
        cvt(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) })?;
        // SAFETY: an integer, no memory of ours.
        let is_terminal = || unsafe { libc::isatty(fd.as_raw_fd()) } == 1;
        Ok(match status.st_mode & libc::S_IFMT {
            libc::S_IFIFO => Self::Pipe,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFREG | libc::S_IFBLK => Self::File,
            libc::S_IFCHR if is_terminal() => Self::Terminal,
            _ => Self::Other,
        })
    }
}

/// Opens the object behind a descriptor once more, non-blocking: an open file of our own, which
/// shares no flags with anybody (proc(5), `/proc/self/fd`).
pub(crate) fn open_again(fd: BorrowedFd<'_>, to_write: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(!to_write)
        .write(to_write)
        // A terminal shall not become the controlling one by this.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Receives from a socket that may be a blocking one, without blocking.
pub(crate) fn receive_now(socket: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<usize> {
    let (fd, target) = (socket.as_raw_fd(), bytes.as_mut_ptr().cast());
    // SAFETY: `target` points at as many writable bytes, which outlive the call.
    let received = unsafe { libc::recv(fd, target, bytes.len(), libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Sends by a socket that may be a blocking one, without blocking, and raises no `SIGPIPE`.
pub(crate) fn send_now(socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (fd, source) = (socket.as_raw_fd(), bytes.as_ptr().cast());
    // SAFETY: `source` points at as many bytes, which outlive the call.
    let sent = unsafe { libc::send(fd, source, bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
