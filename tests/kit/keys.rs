//! Looking at keys and at their absence, and what the selector's tests alone ask of the kernel.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(unsafe_code, reason = "handlers and interval timers, which the standard library lacks")]

use crate::kit;
use selio::selector::{Events, ReadyKey, Selector};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Longer than anything takes that is expected to happen.
pub const SOON: Option<Duration> = Some(Duration::from_secs(5));
pub const NOW: Option<Duration> = Some(Duration::ZERO);

/// The events of a process that has ended.
pub const EXITED: Events = Events::PROCESS.union(Events::ONESHOT).union(Events::FINISHED);
/// The events of a one-shot timer that has expired.
pub const EXPIRED: Events = Events::TIMER.union(Events::ONESHOT).union(Events::FINISHED);

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What keys say, to be compared.
pub fn summary(keys: &[ReadyKey]) -> Vec<(RawFd, Events)> {
    keys.iter().map(|key| (key.fd(), key.events())).collect()
}

/// Waits for keys, and says what they say.
#[track_caller]
pub fn ready<T>(selector: &mut Selector<T>) -> Vec<(RawFd, Events)> {
    summary(&selector.select(SOON).unwrap())
}

/// The only key that comes.
#[track_caller]
pub fn one_key<T>(selector: &mut Selector<T>) -> ReadyKey {
    let keys = selector.select(SOON).unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0]
}

/// Looks without waiting, and sees nothing.
#[track_caller]
pub fn assert_nothing<T>(selector: &mut Selector<T>) {
    assert_eq!(summary(&selector.select(NOW).unwrap()), []);
}

/// Waits a while and sees no key, nor a busy loop.
#[track_caller]
pub fn assert_silent<T>(selector: &mut Selector<T>) {
    let keys = kit::assert_quiet(|| selector.select(Some(millis(150))).unwrap());
    assert_eq!(summary(&keys), []);
}

/// A non-blocking pipe: the end to read from and the end to write to.
pub fn pipe() -> (File, File) {
    let (reader, writer) = kit::pipe();
    kit::set_nonblocking(&reader, true);
    kit::set_nonblocking(&writer, true);
    (File::from(reader), File::from(writer))
}

/// Writes one byte.
#[track_caller]
pub fn put(mut file: &File) {
    file.write_all(b"x").unwrap();
}

/// Reads what is there, and says how much.
#[track_caller]
pub fn drain(mut file: &File) -> usize {
    file.read(&mut [0; 4096]).unwrap()
}

/// The numbers that a selector's epoll set watches, and the masks, without the two bits that every
/// mask has (EPOLLERR and EPOLLHUP).
pub fn watched(selector: &impl AsRawFd) -> Vec<(RawFd, u32)> {
    let info = kit::fdinfo(selector.as_raw_fd());
    let lines = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mask = u32::from_str_radix(words[2], 16).unwrap();
        (words[0].parse().unwrap(), mask & !(libc::EPOLLERR | libc::EPOLLHUP) as u32)
    };
    let mut all: Vec<_> = lines.map(parse).collect();
    all.sort_unstable();
    all
}

/// Whether a selector's epoll set watches a number.
pub fn is_watched(selector: &impl AsRawFd, number: RawFd) -> bool {
    watched(selector).iter().any(|&(fd, _)| fd == number)
}

/// This process, for `kill`.
pub fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Sends this process a signal.
#[track_caller]
pub fn raise(signo: i32) {
    kit::kill(own_pid(), signo).unwrap();
}

/// Sets a handler without arguments but the number, `SIG_DFL` or `SIG_IGN`.
pub fn set_handler(signo: i32, handler: usize, flags: i32) {
    // SAFETY: `sigaction` is plain integers and an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the action lives through the call; the tests pass handlers of the type that the flags
    // say.
    let returned = unsafe { libc::sigaction(signo, &raw const action, std::ptr::null_mut()) };
    assert_eq!(returned, 0, "sigaction");
}

/// The disposition of a signal, without the flag that the C library adds on some architectures to
/// what it sets (`SA_RESTORER`).
pub fn disposition(signo: i32) -> kit::Disposition {
    let found = kit::disposition(signo);
    kit::Disposition { flags: found.flags & !0x0400_0000, ..found }
}

/// The dispositions of all ordinary signals.
pub fn dispositions() -> Vec<kit::Disposition> {
    (1..32).map(disposition).collect()
}

/// The signals whose disposition is another than before.
pub fn changed_since(before: &[kit::Disposition]) -> Vec<i32> {
    let now = dispositions();
    let pairs = (1..).zip(now.iter().zip(before));
    pairs.filter(|(_, (now, before))| now != before).map(|(signo, _)| signo).collect()
}

/// Sends this process SIGALRM again and again, to a handler that does nothing.
pub fn alarm_every(period: Duration) {
    extern "C" fn nothing(_: libc::c_int) {}
    set_handler(libc::SIGALRM, nothing as extern "C" fn(libc::c_int) as usize, 0);
    let interval = libc::timeval { tv_sec: 0, tv_usec: period.subsec_micros().into() };
    let setting = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: the setting lives through the call, and the old one is not asked for.
    let returned =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const setting, std::ptr::null_mut()) };
    assert_eq!(returned, 0, "setitimer");
}
