//! Children: reaping them by pid, and signalling what has no pidfd.

use super::cvt;
use super::pid_fd::{Child, Pid, peek_exit};
use libc::c_int;
use std::io;
use std::mem;
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
pub(crate) fn reap(pid: Pid) -> io::Result<Option<Exit>> {
    wait(pid, libc::WNOHANG)
}

/// Ends this child, and reaps it, unless it is not ours any more. Silent: then somebody has done it
/// already.
pub(crate) fn kill_and_reap(pid: Pid) {
    if matches!(peek_exit(pid), Ok(Child::Running | Child::Exited)) {
        _ = kill(pid, libc::SIGKILL);
        _ = wait(pid, 0);
    }
}

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
pub(crate) fn kill(pid: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: `kill` takes no pointer.
    cvt(unsafe { libc::kill(pid.get(), signal) })?;
    Ok(())
}

/// Sends a signal to the process group of this number, with the same caution.
pub(crate) fn kill_group(leader: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: `kill` takes no pointer.
    cvt(unsafe { libc::kill(-leader.get(), signal) })?;
    Ok(())
}

/// Whether a child is in the process group of its own number.
pub(crate) fn is_in_own_group(pid: Pid) -> bool {
    // SAFETY: `getpgid` takes no pointer.
    unsafe { libc::getpgid(pid.get()) == pid.get() }
}

/// Whether there is nobody whom an error of kill(2) speaks of.
pub(crate) fn is_nobody(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether an error of wait(2) says that the child is none of ours.
pub(crate) fn is_not_ours(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

impl From<&libc::rusage> for ResourceUsage {
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

fn count(value: libc::c_long) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn duration(time: libc::timeval) -> Duration {
    let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
}
