//! Processes, signals and limits, as thin as the system calls.

use super::must;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

/// What every case begins with, whatever started the tests: no signal blocked, none ignored (but
/// SIGPIPE, as Rust has it), no descriptor open but the first three, and death when the parent
/// dies.
pub(super) fn fresh_start() {
    // SAFETY: the call takes a number and keeps no pointer.
    let returned = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    must("prctl", returned);
    let ignored = super::signal_sets(std::process::id() as i32).ignored;
    for signo in ignored.into_iter().filter(|&signo| signo != libc::SIGPIPE) {
        reset_disposition(signo);
    }
    change_mask(libc::SIG_SETMASK, &[]);
    for (fd, _) in super::open_fds().into_iter().filter(|&(fd, _)| fd > 2) {
        super::raw_close(fd);
    }
}

/// The default disposition, also for the two signals that the C library keeps to itself, and whose
/// `sigaction` it refuses: some parents leave them ignored.
fn reset_disposition(signo: i32) {
    // The kernel's struct has four words: handler, flags, restorer, mask. Zero is the default.
    let action = [0_u64; 4];
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: `action` lives through the call, which only reads it.
    let returned =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signo, action.as_ptr(), none, 8_usize) };
    assert_eq!(returned, 0, "rt_sigaction");
}

/// Blocks a signal in the calling thread.
pub fn block_signal(signo: i32) {
    change_mask(libc::SIG_BLOCK, &[signo]);
}

/// Unblocks a signal in the calling thread.
pub fn unblock_signal(signo: i32) {
    change_mask(libc::SIG_UNBLOCK, &[signo]);
}

fn change_mask(how: i32, signals: &[i32]) {
    // SAFETY: sigset_t is plain integers; all zeros is the empty set on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for &signo in signals {
        // SAFETY: the set lives through the call.
        must("sigaddset", unsafe { libc::sigaddset(&raw mut set, signo) });
    }
    // SAFETY: the set lives through the call, and the old one is not asked for.
    let error = unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
    assert_eq!(error, 0, "pthread_sigmask");
}

/// Sends a signal; to a whole process group if `pid` is negative.
pub fn kill(pid: i32, signo: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers.
    match unsafe { libc::kill(pid, signo) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Queues a signal with a value; EAGAIN if the queue is full.
pub fn sigqueue(pid: i32, signo: i32, value: i32) -> io::Result<()> {
    let bits = value as u32 as usize;
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(bits) };
    // SAFETY: the call takes numbers; the pointer is a number in disguise and never followed.
    match unsafe { libc::sigqueue(pid, signo, value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forks; 0 in the child. For cases with one thread: locks held by others would stay locked.
#[track_caller]
pub fn fork() -> i32 {
    // A thread that has been joined is listed for a moment more.
    super::eventually("only one thread is left to fork", || super::threads() == 1);
    // SAFETY: there is no other thread, so the child may do whatever the parent may.
    must("fork", unsafe { libc::fork() })
}

/// Runs a closure in a forked child, which exits with 0, or with 101 if it panics. Returns the
/// child's pid; [`wait_status`] waits for it.
#[track_caller]
pub fn in_child(body: impl FnOnce()) -> i32 {
    let pid = fork();
    if pid != 0 {
        return pid;
    }
    let code = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => 0,
        Err(_) => 101,
    };
    // SAFETY: the call does not return. Nothing of the parent's is to be dropped in the child.
    unsafe { libc::_exit(code) }
}

/// Waits for a child and reaps it.
#[track_caller]
pub fn wait_status(pid: i32) -> ExitStatus {
    let mut status = 0;
    loop {
        // SAFETY: `status` lives through the call.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return ExitStatus::from_raw(status);
        }
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waitpid {pid}: {error}");
    }
}

/// Sets the soft limit of open descriptors; returns the one before.
pub fn set_nofile_limit(limit: u64) -> u64 {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` lives through the call.
    let returned = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) };
    must("getrlimit", returned);
    let before = std::mem::replace(&mut limits.rlim_cur, limit);
    // SAFETY: `limits` lives through the call.
    let returned = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) };
    must("setrlimit", returned);
    before
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: the call takes nothing and always succeeds.
    unsafe { libc::geteuid() == 0 }
}

/// Where root asks the kernel for the number of the next process, less one.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Why a case passes over when its number does not come back.
pub const TAKEN: &str = "somebody else has taken the number again and again";

/// Asks that the next process has this number, as soon as it is free. Others start processes, too:
/// look at the number that was given, and try again. Hold [`choose_alone`] meanwhile.
#[track_caller]
pub fn choose_pid(pid: u32) {
    let start = Instant::now();
    while fs::exists(format!("/proc/{pid}")).unwrap() {
        if start.elapsed() > Duration::from_secs(2) {
            super::pass_over(TAKEN);
        }
        thread::sleep(Duration::from_millis(1));
    }
    if fs::write(LAST_PID, (pid - 1).to_string()).is_err() {
        super::pass_over("the kernel lets nobody but root choose a number");
    }
}

/// Lets one case on this machine at a time choose numbers, as long as the file is open.
pub fn choose_alone() -> File {
    let Ok(file) = File::open(LAST_PID) else {
        super::pass_over("the kernel gives no number that was asked for");
    };
    // SAFETY: the call takes numbers, and the descriptor is open.
    must("flock", unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) });
    file
}
