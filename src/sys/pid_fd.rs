//! Processes: pidfd_open(2) where there is one, and waitid(2) on a known child, which takes nothing
//! away.

use super::cvt;
use libc::{c_int, c_long};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether `pidfd_open` (Linux 5.3) was refused as such once: it will be refused again.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A number that can be a process's: above zero, so that it never means a group or everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pid(libc::pid_t);

impl Pid {
    #[inline]
    pub(crate) fn new(number: u32) -> io::Result<Self> {
        match libc::pid_t::try_from(number) {
            Ok(pid) if pid > 0 => Ok(Self(pid)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{number} is no process id"),
            )),
        }
    }

    #[inline]
    pub(super) fn get(self) -> libc::pid_t {
        self.0
    }

    /// The number as std and `getpid` tell it.
    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0.unsigned_abs()
    }
}

/// A descriptor of a process, readable once all of its threads have ended.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the descriptor of a process. `None` says that this system gives none, for this process
    /// or at all, and that the exit has to be seen in another way.
    ///
    /// ENOSYS is an old kernel, or valgrind; EPERM and EACCES are sandboxes, ENODEV a kernel
    /// without anonymous inodes. What a lack of descriptors or memory refuses is an error, and
    /// rules nothing out.
    #[inline]
    pub(crate) fn open(pid: Pid) -> io::Result<Option<Self>> {
        if REFUSED.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let error = match Self::open_by_number(pid) {
            Ok(fd) => return Ok(Some(fd)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM) => {
                REFUSED.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Some(libc::EACCES | libc::ENODEV) => Ok(None),
            // Some emulations of the system call say EINVAL to everything; to a child of ours no
            // kernel says it.
            Some(libc::EINVAL) if is_child(pid) => Ok(None),
            _ => Err(error),
        }
    }

    /// Sends a signal to the process, and never to another that has its number by now. False says
    /// that this system has no such call (Linux 5.1), or a sandbox refuses it.
    #[inline]
    pub(crate) fn send_signal(&self, signal: c_int) -> io::Result<bool> {
        let (call, fd) = (libc::SYS_pidfd_send_signal, self.0.as_raw_fd());
        let no_info: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: without a `siginfo_t` the kernel makes one as for kill(2), and reads none.
        match unsafe { libc::syscall(call, fd, signal, no_info, 0) } {
            0 => Ok(true),
            _ => match io::Error::last_os_error() {
                // For want of a permission kill(2) will say the same.
                error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    Ok(false)
                }
                error => Err(error),
            },
        }
    }

    /// Looks at the child as [`peek_exit`] does, and never at another that has its number by now,
    /// because somebody else has reaped it.
    #[inline]
    pub(crate) fn peek_exit(&self, pid: Pid) -> io::Result<Child> {
        match peek(libc::P_PIDFD, self.0.as_raw_fd().unsigned_abs()) {
            // Linux 5.3 has pidfds, but cannot wait for them yet.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => peek_exit(pid),
            seen => seen,
        }
    }

    /// Whether an error of `open` says that there is no room for a descriptor now.
    #[inline]
    pub(crate) fn is_lack_of_room(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
    }

    /// Calls by number: glibc has the function since 2.36 only, musl not at all.
    #[inline]
    fn open_by_number(pid: Pid) -> io::Result<Self> {
        let (process, no_flags) = (c_long::from(pid.0), 0 as c_long);
        // SAFETY: `pidfd_open` takes no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, no_flags) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else knows
        // its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl AsFd for PidFd {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What waitid(2) knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    Running,
    Exited,
    /// No child of ours, or reaped by somebody: the kernel does not tell these apart.
    Unknown,
}

/// Looks at a child without reaping it: the status stays for whoever waits for the child.
#[inline]
pub(crate) fn peek_exit(pid: Pid) -> io::Result<Child> {
    peek(libc::P_PID, pid.number())
}

#[inline]
fn peek(kind: libc::idtype_t, id: libc::id_t) -> io::Result<Child> {
    // SAFETY: `siginfo_t` is made of integers and pointers, for which zeros are a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a writable `siginfo_t` that outlives the call.
    let result = cvt(unsafe { libc::waitid(kind, id, &raw mut info, options) });
    match result {
        // A child that runs leaves the zeros as they are (waitid(2)).
        Ok(_) if info.si_signo == 0 => Ok(Child::Running),
        Ok(_) => Ok(Child::Exited),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Child::Unknown),
        Err(error) => Err(error),
    }
}

#[inline]
fn is_child(pid: Pid) -> bool {
    matches!(peek_exit(pid), Ok(Child::Running | Child::Exited))
}

/// Asks whether a process exists; the error is that of kill(2), mostly ESRCH. One that we may not
/// signal exists.
#[inline]
pub(crate) fn probe(pid: Pid) -> io::Result<()> {
    // SAFETY: `kill` takes no pointer, and signal 0 is sent to nobody.
    match cvt(unsafe { libc::kill(pid.0, 0) }) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error),
        _ => Ok(()),
    }
}
