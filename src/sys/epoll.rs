//! The epoll set, and the one wait of the crate.

use super::{cvt, fork};
use libc::{c_int, c_long};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The bits of `epoll_event.events`, unsigned as the kernel has them.
pub(crate) mod mask {
    pub(crate) const IN: u32 = libc::EPOLLIN as u32;
    pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
    pub(crate) const PRI: u32 = libc::EPOLLPRI as u32;
    pub(crate) const ERR: u32 = libc::EPOLLERR as u32;
    pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
    pub(crate) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
    pub(crate) const ET: u32 = libc::EPOLLET as u32;
    pub(crate) const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
    pub(crate) const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
}

/// Whether `epoll_pwait2` (Linux 5.11) was refused once: it will be refused again.
static NANOSECONDS_REFUSED: AtomicBool = AtomicBool::new(false);

/// An epoll set. It remembers the process that made it, because a forked child's changes would be
/// its parent's too.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    process: usize,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: `epoll_create1` takes no pointer.
        let fd = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, process: fork::process_id() })
    }

    /// Whether this process made the set; a forked child did not.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.process == fork::process_id()
    }

    #[inline]
    pub(crate) fn add(&self, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask, data)
    }

    #[inline]
    pub(crate) fn modify(&self, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask, data)
    }

    #[inline]
    pub(crate) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    #[inline]
    fn control(&self, operation: c_int, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: mask, u64: data };
        // SAFETY: `event` outlives the call. A `fd` that is closed or somebody else's is the
        // kernel's to refuse, and changes what this set watches, nothing else.
        cvt(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }

    /// Puts another set under this one's number; the old set lives on only as long as somebody
    /// waits on it.
    pub(crate) fn replace(&self, new: Self) -> io::Result<()> {
        let number = self.fd.as_raw_fd();
        // SAFETY: both descriptors are owned, so the number that is closed over here is ours to
        // close.
        cvt(unsafe { libc::dup3(new.fd.as_raw_fd(), number, libc::O_CLOEXEC) })?;
        Ok(())
    }

    /// Waits for up to `limit` events, at most as many as the buffer holds; `None` waits for ever.
    ///
    /// EINTR is dealt with here and nowhere else: the buffer stays empty, and the caller, who knows
    /// the deadline, decides whether to wait on. `SA_RESTART` does not restart this wait
    /// (signal(7)), so every handler of the program shows here.
    #[inline(always)]
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        buffer: &mut EventBuffer,
        limit: usize,
    ) -> io::Result<()> {
        buffer.len = 0;
        let limit = buffer.capacity().min(limit) as c_int;
        let count = if NANOSECONDS_REFUSED.load(Ordering::Relaxed) {
            self.wait_milliseconds(timeout, buffer, limit)
        } else {
            self.wait_nanoseconds(timeout, buffer, limit)
        };
        match count {
            Ok(count) => buffer.len = count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return self.wait_refused(error, timeout, buffer, limit),
        }
        Ok(())
    }

    /// Tells a kernel without `epoll_pwait2` from an error, and waits with `epoll_wait` there.
    /// EPERM is what old seccomp profiles answer to a number they do not know; `epoll_wait` never
    /// says it. Several threads may get here at once.
    #[cold]
    fn wait_refused(
        &self,
        error: io::Error,
        timeout: Option<Duration>,
        buffer: &mut EventBuffer,
        limit: c_int,
    ) -> io::Result<()> {
        if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
            return Err(error);
        }
        NANOSECONDS_REFUSED.store(true, Ordering::Relaxed);
        match self.wait_milliseconds(timeout, buffer, limit) {
            Ok(count) => buffer.len = count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Calls `epoll_pwait2` by number: glibc has it since 2.35 only, musl not at all.
    #[inline]
    fn wait_nanoseconds(
        &self,
        timeout: Option<Duration>,
        buffer: &mut EventBuffer,
        limit: c_int,
    ) -> io::Result<usize> {
        let timeout = timeout.map(KernelTimespec::from);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (set, target) = (c_long::from(self.fd.as_raw_fd()), buffer.events.as_mut_ptr());
        let no_mask = ptr::null::<libc::sigset_t>();
        // SAFETY: `target` has room for `limit` events, `timeout` is null or points at a timespec
        // that outlives the call, and a null mask leaves the thread's signal mask alone.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                set,
                target,
                c_long::from(limit),
                timeout,
                no_mask,
                0 as c_long,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Calls `epoll_wait`, whose timeout is rounded up: rounded down, a wait of 0.9 ms would be a
    /// busy loop.
    fn wait_milliseconds(
        &self,
        timeout: Option<Duration>,
        buffer: &mut EventBuffer,
        limit: c_int,
    ) -> io::Result<usize> {
        let timeout = timeout.map_or(-1, whole_milliseconds);
        let (set, target) = (self.fd.as_raw_fd(), buffer.events.as_mut_ptr());
        // SAFETY: `target` has room for `limit` events and outlives the call.
        let count = unsafe { libc::epoll_wait(set, target, limit, timeout) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Rounds up, and clamps to the 24 days that fit.
fn whole_milliseconds(timeout: Duration) -> c_int {
    // Not by way of 128 bits, whose division the compiler moves to where there is no timeout.
    let rest = u64::from(timeout.subsec_nanos().div_ceil(1_000_000));
    let whole = timeout.as_secs().saturating_mul(1_000).saturating_add(rest);
    c_int::try_from(whole).unwrap_or(c_int::MAX)
}

/// The timespec of `epoll_pwait2`: 64 bits for both fields on every architecture, unlike
/// `libc::timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

impl From<Duration> for KernelTimespec {
    #[inline]
    fn from(duration: Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(duration.subsec_nanos()),
        }
    }
}

/// Room for a fixed number of events, and those that the last wait brought.
pub(crate) struct EventBuffer {
    /// Always written whole, with zeros at first, so that reading it is safe whatever `len` says. No
    /// more than a `c_int` counts.
    events: Box<[libc::epoll_event]>,
    len: usize,
}

impl EventBuffer {
    /// Makes room for `capacity` events, and for one if that is zero: the kernel refuses to wait
    /// for none.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let zero = libc::epoll_event { events: 0, u64: 0 };
        let capacity = capacity.clamp(1, c_int::MAX as usize);
        Self { events: vec![zero; capacity].into_boxed_slice(), len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.events.len()
    }

    /// Returns the mask and the data of one event.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<(u32, u64)> {
        self.events.get(index).filter(|_| index < self.len).map(parts)
    }

    /// Returns the masks and the data of all events.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.events[..self.len].iter().map(parts)
    }
}

/// Copies the fields out: the struct is packed on x86-64.
#[inline]
fn parts(event: &libc::epoll_event) -> (u32, u64) {
    (event.events, event.u64)
}

impl fmt::Debug for EventBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBuffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish()
    }
}
