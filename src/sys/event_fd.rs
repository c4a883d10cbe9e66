//! eventfd(2): a counter that wakes who waits for it.

use super::{cvt, read_counter};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A non-blocking eventfd.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: `eventfd` takes no pointer.
        let fd = cvt(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds one for a reader that looks at the level. A full counter is readable already, so it is
    /// success.
    #[inline]
    pub(crate) fn signal(&self) -> io::Result<()> {
        self.add(1)
    }

    /// As [`signal`](Self::signal), adds so many. If there is no room for all, none are added.
    #[inline]
    pub(crate) fn add(&self, count: u64) -> io::Result<()> {
        match self.write(count) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Adds one for a waiter that is edge-triggered and never reads. A write that finds the counter
    /// full makes no edge, so it is emptied and written again.
    #[inline]
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self.write(1) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.read()?;
                self.signal()
            }
            result => result,
        }
    }

    /// Takes the counter: what was added since the last read, or `None` if that is nothing.
    #[inline]
    pub(crate) fn read(&self) -> io::Result<Option<u64>> {
        read_counter(self.as_fd())
    }

    /// Is async-signal-safe, and so are its callers: one `write`, no lock, no allocation.
    #[inline]
    fn write(&self, count: u64) -> io::Result<()> {
        let source = (&raw const count).cast();
        // SAFETY: `source` points at `count`, eight bytes that outlive the call.
        match unsafe { libc::write(self.0.as_raw_fd(), source, size_of::<u64>()) } {
            8 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            // An eventfd takes all eight bytes: somebody has put another file under our number.
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}

impl AsFd for EventFd {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
