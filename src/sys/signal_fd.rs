//! signalfd(2): blocked signals, read like data.

use super::cvt;
use super::signal_mask::set_of;
use super::signal_record::SignalRecord;
use libc::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking signalfd. It reads what is pending for the process, and for the thread that
/// reads.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    /// Makes a signalfd for valid signals. It changes no mask: only a signal that is blocked can be
    /// read.
    pub(crate) fn new(signals: impl IntoIterator<Item = c_int>) -> io::Result<Self> {
        let fd = Self::open(-1, signals)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Changes which signals it reads. Who waits for it is told of what is pending already.
    pub(crate) fn set(&self, signals: impl IntoIterator<Item = c_int>) -> io::Result<()> {
        Self::open(self.0.as_raw_fd(), signals)?;
        Ok(())
    }

    fn open(fd: RawFd, signals: impl IntoIterator<Item = c_int>) -> io::Result<RawFd> {
        let set = set_of(signals);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: `set` is initialised and outlives the call; -1 asks for a new descriptor.
        cvt(unsafe { libc::signalfd(fd, &raw const set, flags) })
    }

    /// Takes one pending signal, or `None` if there is none.
    #[inline]
    pub(crate) fn read(&self) -> io::Result<Option<SignalRecord>> {
        // SAFETY: `signalfd_siginfo` is made of integers, for which zeros are a value.
        let mut info: libc::signalfd_siginfo = unsafe { mem::zeroed() };
        let target = (&raw mut info).cast();
        // SAFETY: `target` points at `info`, which is writable, as long as said, and outlives the
        // call.
        let count = unsafe { libc::read(self.0.as_raw_fd(), target, size_of_val(&info)) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        if usize::try_from(count) != Ok(size_of_val(&info)) {
            // A signalfd reads whole records: somebody has put another file under our number.
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(Some(SignalRecord::from(&info)))
    }
}

impl AsFd for SignalFd {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
