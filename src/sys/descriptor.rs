//! What can be asked of any descriptor: what it is, whether it is non-blocking, whether a try would
//! block; and to read and write it, whatever object it belongs to.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::cvt;

/// Tells whether a descriptor is an end of a pipe, named or not. A closed one is not.
pub(crate) fn is_pipe(fd: RawFd) -> bool {
    is_of_kind(fd, libc::S_IFIFO)
}

/// Asks fstat(2) for the kind of file.
pub(super) fn is_of_kind(fd: RawFd, kind: libc::mode_t) -> bool {
    // SAFETY: `stat` is made of integers, for which zeros are a value.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: `status` is a writable `stat` that outlives the call; a number that is no descriptor
    // is EBADF.
    let result = unsafe { libc::fstat(fd, &raw mut status) };
    result == 0 && status.st_mode & libc::S_IFMT == kind
}

/// Reads what is there, up to the length of the buffer. Zero is the end.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable, as long as said, and outlives the call.
    let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Writes what there is room for.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are as many as said, and outlive the call, which only reads them.
    let count = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Tells whether a read would not block, by `poll(2)`: there is data, an end, a hang-up or an error
/// to be had.
pub(crate) fn is_readable(fd: RawFd) -> io::Result<bool> {
    Ok(poll(fd, libc::POLLIN | libc::POLLRDHUP)? != 0)
}

/// Tells whether a write would not block, by `poll(2)`.
pub(crate) fn is_writable(fd: RawFd) -> io::Result<bool> {
    Ok(poll(fd, libc::POLLOUT)? != 0)
}

/// What `poll(2)` tells of a descriptor.
pub(crate) struct Polled {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// There is an error or a hang-up, and so neither a read nor a write would block.
    pub(crate) failed: bool,
}

/// Asks for both directions at once.
pub(crate) fn poll_both(fd: RawFd) -> io::Result<Polled> {
    let told = poll(fd, libc::POLLIN | libc::POLLRDHUP | libc::POLLOUT)?;
    let has = |events| told & events != 0;
    let failed = has(libc::POLLERR | libc::POLLHUP | libc::POLLNVAL);
    let readable = failed || has(libc::POLLIN | libc::POLLRDHUP);
    Ok(Polled { readable, writable: failed || has(libc::POLLOUT), failed })
}

/// Any answer counts: an error, a hang-up or a closed number is something that the call to come
/// will report.
fn poll(fd: RawFd, events: libc::c_short) -> io::Result<libc::c_short> {
    let mut asked = libc::pollfd { fd, events, revents: 0 };
    loop {
        // SAFETY: `asked` is one valid `pollfd`, as the count says, and lives through the call.
        match cvt(unsafe { libc::poll(&raw mut asked, 1, 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer.map(|_| asked.revents),
        }
    }
}

/// Tells whether the open file has `O_NONBLOCK`.
pub(crate) fn is_nonblocking(fd: RawFd) -> io::Result<bool> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// Gives the open file `O_NONBLOCK`, if it does not have it yet. All descriptors of that open file
/// share the flag.
pub(crate) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: F_SETFL takes an integer and touches no memory.
        cvt(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// Takes `O_NONBLOCK` from the open file, and with it from all descriptors of it.
pub(crate) fn set_blocking(file: &impl AsFd) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an integer and touches no memory.
    cvt(unsafe { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK) })?;
    Ok(())
}
