//! timerfd_create(2): a timer that becomes readable.

use super::{cvt, read_counter};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// A non-blocking timer on `CLOCK_MONOTONIC`, which nobody sets and which stands still while the
/// machine is suspended.
#[derive(Debug)]
pub(crate) struct TimerFd(OwnedFd);

impl TimerFd {
    /// Starts a timer that expires after `first`, and then every `period`, or never again if that
    /// is zero.
    ///
    /// A zero would disarm a timerfd (timerfd_settime(2)), so one nanosecond stands for it in
    /// `first`.
    pub(crate) fn start(first: Duration, period: Duration) -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: `timerfd_create` takes no pointer.
        let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let setting = libc::itimerspec {
            it_value: timespec(first.max(Duration::from_nanos(1))),
            it_interval: timespec(period),
        };
        let (new, old) = (ptr::from_ref(&setting), ptr::null_mut());
        // SAFETY: `new` points at `setting`, which outlives the call; the old setting is not asked
        // for.
        cvt(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, new, old) })?;
        Ok(Self(fd))
    }

    /// Takes the number of expirations since the last read, or `None` if there was none.
    pub(crate) fn read(&self) -> io::Result<Option<u64>> {
        read_counter(self.as_fd())
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Converts, and takes 68 years for what the C library's seconds cannot hold: negative ones would
/// be refused.
fn timespec(duration: Duration) -> libc::timespec {
    // SAFETY: `timespec` is made of integers, and of padding on some architectures, for which zeros
    // are a value.
    let mut spec: libc::timespec = unsafe { mem::zeroed() };
    spec.tv_sec = duration.as_secs().try_into().unwrap_or(i32::MAX.into());
    spec.tv_nsec = duration.subsec_nanos() as _;
    spec
}
