//! The calls that std has no function for.
#![allow(unsafe_code)] // The C library has no safe functions.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The CPU time that this process has used, all threads, kernel included.
///
/// # Panics
///
/// If the kernel has no such clock.
pub fn cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// The clock that tells the CPU time of another process, all its threads.
///
/// # Errors
///
/// If there is no such process.
pub fn cpu_clock_of(pid: i32) -> io::Result<libc::clockid_t> {
    let mut id = 0;
    // SAFETY: `id` outlives the call.
    match unsafe { libc::clock_getcpuclockid(pid, &mut id) } {
        0 => Ok(id),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Reads a clock.
///
/// # Panics
///
/// If the process whose clock it is has ended.
pub fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    check(unsafe { libc::clock_gettime(id, &mut time) }).expect("the process runs");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Raises the number of descriptors that this process may have as far as it goes, and says how far.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        // Who may raise the hard limit too, does.
        let wanted = limit.rlim_max.max(40_000);
        if libc::setrlimit(
            libc::RLIMIT_NOFILE,
            &libc::rlimit { rlim_cur: wanted, rlim_max: wanted },
        ) < 0
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
    }
    limit.rlim_cur
}

/// Lets the kernel be late by this much at most, if the environment says `TIMER_SLACK_NS`.
///
/// # Panics
///
/// If what it says is no number.
pub fn timer_slack_from_environment() {
    if let Ok(slack) = std::env::var("TIMER_SLACK_NS") {
        let slack: libc::c_ulong = slack.parse().expect("TIMER_SLACK_NS is a number");
        // SAFETY: takes a number and touches no memory.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
    }
}

/// Sends a signal to this thread.
pub fn raise(signal: i32) {
    // SAFETY: touches no memory; whoever calls it has seen to it that the signal is handled.
    unsafe { libc::raise(signal) };
}

/// `SIGUSR1`.
pub const SIGUSR1: i32 = libc::SIGUSR1;

/// A set of descriptors that are waited for together.
pub struct Epoll(OwnedFd);

pub use libc::{EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP};

/// An event of [`Epoll::wait`].
pub type Event = libc::epoll_event;

/// What an event of this says nothing in.
pub const NO_EVENT: Event = libc::epoll_event { events: 0, u64: 0 };

impl Epoll {
    /// Makes an empty set.
    ///
    /// # Errors
    ///
    /// If there are too many descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the descriptor is new and nobody else's.
        unsafe {
            check(libc::epoll_create1(libc::EPOLL_CLOEXEC)).map(|fd| Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Watches a descriptor.
    ///
    /// # Errors
    ///
    /// If it cannot be watched.
    pub fn add(&self, fd: &impl AsRawFd, events: i32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: `event` outlives the call.
        check(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
        })?;
        Ok(())
    }

    /// Waits, for ever without a timeout, which is in whole milliseconds.
    ///
    /// # Errors
    ///
    /// If a signal came.
    pub fn wait(&self, events: &mut [Event], timeout_ms: Option<i32>) -> io::Result<usize> {
        let timeout = timeout_ms.unwrap_or(-1);
        // SAFETY: the buffer is as long as it is said to be.
        let count = check(unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, timeout)
        })?;
        Ok(count as usize)
    }

    /// Waits, with a timeout in nanoseconds.
    ///
    /// # Errors
    ///
    /// If a signal came, or the kernel is older than 5.11.
    pub fn wait_exactly(&self, events: &mut [Event], timeout: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let none = ptr::null::<libc::sigset_t>();
        // SAFETY: the buffer is as long as it is said to be, and `timeout` outlives the call.
        let count = check(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len(),
                &timeout,
                none,
                0,
            ) as i32
        })?;
        Ok(count as usize)
    }
}

/// A timer that is a descriptor.
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// Makes a timer that is not set.
    ///
    /// # Errors
    ///
    /// If there are too many descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: the descriptor is new and nobody else's.
        unsafe {
            check(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))
                .map(|fd| Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Sets it to go off once, after this long.
    ///
    /// # Errors
    ///
    /// None that a proper duration can cause.
    pub fn set(&self, after: Duration) -> io::Result<()> {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value =
            libc::timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() };
        let setting = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: `setting` outlives the call.
        check(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &setting, ptr::null_mut()) })?;
        Ok(())
    }
}

impl AsRawFd for TimerFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A signal that is blocked and read from a descriptor.
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks the signal in this thread.
    ///
    /// # Errors
    ///
    /// If there are too many descriptors.
    pub fn new(signal: i32) -> io::Result<Self> {
        // SAFETY: the set is made before it is used; the descriptor is new and nobody else's.
        unsafe {
            let mut set = mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            check(libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))
                .map(|fd| Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Reads one signal and gives its number.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn read(&self) -> io::Result<u32> {
        // SAFETY: the record is plain numbers, and the length is its own.
        unsafe {
            let mut record: libc::signalfd_siginfo = mem::zeroed();
            let length = mem::size_of_val(&record);
            check(libc::read(self.0.as_raw_fd(), (&raw mut record).cast(), length) as i32)?;
            Ok(record.ssi_signo)
        }
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that is readable when a child has ended.
///
/// # Errors
///
/// If there is no such child.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is new and nobody else's.
    unsafe {
        check(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// Begins to connect without waiting.
///
/// # Errors
///
/// If there are too many descriptors, or nobody can be there.
pub fn begin_connect(to: std::net::SocketAddrV4) -> io::Result<std::net::TcpStream> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the address is as long as it is said to be; the descriptor is new and nobody else's.
    unsafe {
        let fd = OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?);
        let length = mem::size_of_val(&address) as u32;
        match check(libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(fd.into()),
        }
    }
}

/// Tells whether a socket can be written to now; one that connects, once it has.
pub fn is_writable(socket: &impl AsRawFd) -> bool {
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: there is one record, and it outlives the call.
    unsafe { libc::poll(&mut asked, 1, 0) == 1 && asked.revents == libc::POLLOUT }
}

/// Accepts without waiting, one system call.
///
/// # Errors
///
/// If nobody is there.
pub fn accept(listener: &std::net::TcpListener) -> io::Result<std::net::TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no address is asked for; the descriptor is new and nobody else's.
    unsafe {
        check(libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags))
            .map(|fd| OwnedFd::from_raw_fd(fd).into())
    }
}
