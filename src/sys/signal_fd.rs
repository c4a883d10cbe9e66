//! signalfd(2): blocked signals, read like data.

use super::cvt;
use libc::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The fields of `siginfo_t` that a program may want, whether a signalfd or a handler has brought
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SignalRecord {
    pub(crate) signo: i32,
    pub(crate) code: i32,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) status: i32,
    pub(crate) value: i32,
    pub(crate) pointer: u64,
    pub(crate) user_time: u64,
    pub(crate) system_time: u64,
    pub(crate) fd: i32,
    pub(crate) band: u32,
    pub(crate) timer_id: u32,
    pub(crate) overrun: u32,
}

/// A non-blocking signalfd. It reads what is pending for the process, and for the thread that
/// reads.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    /// Makes a signalfd for one valid signal. It changes no mask: only a signal that is blocked can
    /// be read.
    pub(crate) fn new(signal: c_int) -> io::Result<Self> {
        let set = super::signal_mask::set_of(signal);
        // SAFETY: `set` is initialised and outlives the call; -1 asks for a new descriptor.
        let fd = cvt(unsafe {
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes one pending signal, or `None` if there is none.
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
        Ok(Some(record(&info)))
    }

    /// Takes whatever is pending. Stops at any error, because the number may be another file's by
    /// now.
    pub(crate) fn drain(&self) {
        while let Ok(Some(_)) = self.read() {}
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn record(info: &libc::signalfd_siginfo) -> SignalRecord {
    SignalRecord {
        signo: info.ssi_signo as i32,
        code: info.ssi_code,
        pid: info.ssi_pid,
        uid: info.ssi_uid,
        status: info.ssi_status,
        value: info.ssi_int,
        pointer: info.ssi_ptr,
        user_time: info.ssi_utime,
        system_time: info.ssi_stime,
        fd: info.ssi_fd,
        band: info.ssi_band,
        timer_id: info.ssi_tid,
        overrun: info.ssi_overrun,
    }
}
