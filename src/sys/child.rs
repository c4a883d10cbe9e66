//! Children: reaping them by pid, and signalling what has no pidfd.

use super::cvt;
use super::pid_fd::{Child, Pid, PidFd, peek_exit};
use libc::{c_int, c_long};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// How a child has ended, and what it used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) usage: ResourceUsage,
}

/// What getrusage(2) tells of a child and of the children that it has waited for. The kernel keeps
/// no other fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceUsage {
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    /// In bytes.
    pub(crate) max_rss: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) blocks_read: u64,
    pub(crate) blocks_written: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

/// Reaps this child, if it has ended. ECHILD says that it is none of ours, or was reaped by
/// somebody.
#[inline]
pub(crate) fn reap(pid: Pid) -> io::Result<Option<Exit>> {
    wait(pid, libc::WNOHANG)
}

/// As [`reap`], for the child of a pidfd, and never for another one that has its number by now.
///
/// EINVAL where the kernel cannot wait for a pidfd (before Linux 5.4), or where its `rusage` is not
/// the C library's.
#[inline]
pub(crate) fn reap_by(pid_fd: &PidFd) -> io::Result<Option<Exit>> {
    // A C library whose times have 64 bits on a system of 32 has its own.
    if size_of::<libc::timeval>() != 2 * size_of::<c_long>() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `siginfo_t` is made of integers and pointers, for which zeros are a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: `rusage` is made of integers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let (fd, options) = (pid_fd.as_fd().as_raw_fd(), libc::WEXITED | libc::WNOHANG);
    let (call, info_to, usage_to) = (libc::SYS_waitid, &raw mut info, &raw mut usage);
    // SAFETY: both targets are writable and outlive the call. The kernel's `rusage` is the C
    // library's: its times are, as seen above, and all else is a `long` each. (The library's own
    // function does not ask for it.)
    let waited = unsafe { libc::syscall(call, libc::P_PIDFD, fd, info_to, options, usage_to) };
    if waited < 0 {
        return Err(io::Error::last_os_error());
    }
    // A child that runs leaves the zeros as they are (waitid(2)).
    let ended = info.si_signo != 0;
    Ok(ended.then(|| Exit { status: status_of(&info), usage: ResourceUsage::from(&usage) }))
}

/// Whether an error of [`reap_by`] says that the child has to be reaped by its number.
#[inline]
pub(crate) fn needs_number(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// The status of wait(2) that says what a `siginfo_t` of waitid(2) does.
#[inline]
fn status_of(info: &libc::siginfo_t) -> ExitStatus {
    // SAFETY: waitid(2) has filled in the fields of SIGCHLD.
    let status = unsafe { info.si_status() };
    ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    })
}

/// Ends this child, and reaps it, unless it is not ours any more. Silent: then somebody has done it
/// already.
#[inline]
pub(crate) fn kill_and_reap(pid: Pid) {
    if matches!(peek_exit(pid), Ok(Child::Running | Child::Exited)) {
        _ = kill(pid, libc::SIGKILL);
        _ = wait(pid, 0);
    }
}

#[inline]
fn wait(pid: Pid, options: c_int) -> io::Result<Option<Exit>> {
    let mut status = 0;
    // SAFETY: `rusage` is made of integers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    loop {
        // SAFETY: both targets are writable and outlive the call. The pid is above zero, so that
        // nobody else's child is taken.
        match cvt(unsafe { libc::wait4(pid.get(), &raw mut status, options, &raw mut usage) }) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                let (status, usage) = (ExitStatus::from_raw(status), ResourceUsage::from(&usage));
                return Ok(Some(Exit { status, usage }));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal to a process. Only for a child that is not reaped: any other number may be a
/// stranger's.
#[inline]
pub(crate) fn kill(pid: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: `kill` takes no pointer.
    cvt(unsafe { libc::kill(pid.get(), signal) })?;
    Ok(())
}

/// Sends a signal to the process group of this number, with the same caution.
#[inline]
pub(crate) fn kill_group(leader: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: `kill` takes no pointer.
    cvt(unsafe { libc::kill(-leader.get(), signal) })?;
    Ok(())
}

/// Whether a child is in the process group of its own number.
#[inline]
pub(crate) fn is_in_own_group(pid: Pid) -> bool {
    // SAFETY: `getpgid` takes no pointer.
    unsafe { libc::getpgid(pid.get()) == pid.get() }
}

/// Whether there is nobody whom an error of kill(2) speaks of.
#[inline]
pub(crate) fn is_nobody(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether an error of wait(2) says that the child is none of ours.
#[inline]
pub(crate) fn is_not_ours(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

impl From<&libc::rusage> for ResourceUsage {
    #[inline]
    fn from(usage: &libc::rusage) -> Self {
        Self {
            user_time: duration(usage.ru_utime),
            system_time: duration(usage.ru_stime),
            max_rss: count(usage.ru_maxrss).saturating_mul(1024),
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
            blocks_read: count(usage.ru_inblock),
            blocks_written: count(usage.ru_oublock),
            voluntary_switches: count(usage.ru_nvcsw),
            involuntary_switches: count(usage.ru_nivcsw),
        }
    }
}

#[inline]
fn count(value: libc::c_long) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[inline]
fn duration(time: libc::timeval) -> Duration {
    let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
}
