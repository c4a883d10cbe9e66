//! What the kernel tells of a signal: the same by both ways, through the handler and through the
//! signalfd that reads what every thread blocks.
#![allow(
    unsafe_code,
    reason = "timers and descriptors that send signals, values that are pointers"
)]

use crate::kit;
use crate::kit::deliveries;
use crate::kit::keys;
use deliveries::{SI_TKILL, next, own_uid, raise_here};
use keys::{millis, own_pid, pipe, put, raise};
use selio::signal::{SIGCHLD, SIGIO, SIGRTMIN, SIGUSR1, SignalInfo, Signals};
use std::mem::take;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

/// The code of a descriptor's signal where the usual ones would be taken for the signal's own;
/// libc does not name it.
const SI_SIGIO: i32 = -5;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("who_sent_it", || both_ways(SIGUSR1, who_sent_it)),
        ("what_was_sent_with_it", || both_ways(SIGRTMIN(), what_was_sent_with_it)),
        ("a_pointer_that_was_sent", || both_ways(SIGUSR1, a_pointer_that_was_sent)),
        ("raised_by_a_thread", || both_ways(SIGUSR1, raised_by_a_thread)),
        ("what_a_child_left", || both_ways(SIGCHLD, what_a_child_left)),
        ("what_a_child_used", || both_ways(SIGCHLD, what_a_child_used)),
        ("a_child_that_stops_and_goes_on", || both_ways(SIGCHLD, a_child_that_stops)),
        ("a_sigchld_that_was_sent", || both_ways(SIGCHLD, a_sigchld_that_was_sent)),
        ("which_timer_has_expired", || both_ways(SIGRTMIN(), which_timer_has_expired)),
        ("which_descriptor_is_ready", || both_ways(SIGIO, which_descriptor_is_ready)),
        ("which_descriptor_sends_another", || both_ways(SIGRTMIN(), which_descriptor_is_ready)),
        ("which_descriptor_sends_a_child_s", || both_ways(SIGCHLD, which_descriptor_is_ready)),
        ("which_descriptor_without_a_number", || both_ways(SIGIO, descriptor_without_a_number)),
    ])
}

/// Runs a test with the handler, and once more with the signal blocked.
fn both_ways(signo: i32, test: fn(&mut Signals, i32)) {
    let mut signals = Signals::new([signo]).unwrap();
    test(&mut signals, signo);
    kit::block_signal(signo);
    test(&mut signals, signo);
}

/// All that a `SignalInfo` tells, to be compared as a whole: what does not belong to a signal is
/// zero.
#[derive(Debug, Default, PartialEq)]
struct Told {
    signo: i32,
    code: i32,
    sender: (u32, u32),
    status: i32,
    value: (i32, u64),
    times: (u64, u64),
    descriptor: (i32, u32),
    timer: (u32, u32),
}

fn told(info: SignalInfo) -> Told {
    Told {
        signo: info.signo(),
        code: info.code(),
        sender: (info.pid(), info.uid()),
        status: info.status(),
        value: (info.value(), info.pointer()),
        times: (info.user_time(), info.system_time()),
        descriptor: (info.fd(), info.band()),
        timer: (info.timer_id(), info.overrun()),
    }
}

fn own() -> (u32, u32) {
    (std::process::id(), own_uid())
}

// D01
fn who_sent_it(signals: &mut Signals, signo: i32) {
    let parent = own_pid();
    let child = kit::in_child(|| kit::kill(parent, signo).unwrap());
    kit::wait_status(child);
    let sender = (child as u32, own_uid());
    let expected = Told { signo, code: libc::SI_USER, sender, ..Told::default() };
    assert_eq!(told(next(signals)), expected);
}

// D01
fn what_was_sent_with_it(signals: &mut Signals, signo: i32) {
    for number in [0, 1, -1, i32::MAX, i32::MIN] {
        kit::sigqueue(own_pid(), signo, number).unwrap();
        let value = (number, u64::from(number as u32));
        let code = libc::SI_QUEUE;
        let expected = Told { signo, code, sender: own(), value, ..Told::default() };
        assert_eq!(told(next(signals)), expected);
    }
}

fn a_pointer_that_was_sent(signals: &mut Signals, signo: i32) {
    let bits = usize::MAX / 3;
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(bits) };
    // SAFETY: the call takes numbers; the pointer is a number in disguise and never followed.
    assert_eq!(unsafe { libc::sigqueue(own_pid(), signo, value) }, 0);
    let info = next(signals);
    assert_eq!((info.pointer(), info.value()), (bits as u64, bits as i32));
}

// D02
fn raised_by_a_thread(signals: &mut Signals, signo: i32) {
    raise_here(signo);
    let expected = Told { signo, code: SI_TKILL, sender: own(), ..Told::default() };
    assert_eq!(told(next(signals)), expected);
}

fn what_a_child_left(signals: &mut Signals, signo: i32) {
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let mut rest = told(next(signals));
    let times = take(&mut rest.times);
    let (code, sender) = (libc::CLD_EXITED, (child.id(), own_uid()));
    assert_eq!(rest, Told { signo, code, sender, status: 7, ..Told::default() });
    assert!(times.0 < 1_000 && times.1 < 1_000, "{times:?}");
    assert_eq!(child.wait().unwrap().code(), Some(7), "nothing was reaped");
    let mut child = Command::new("sleep").arg("9").spawn().unwrap();
    child.kill().unwrap();
    let info = next(signals);
    assert_eq!((info.code(), info.status()), (libc::CLD_KILLED, libc::SIGKILL));
    assert_eq!(info.pid(), child.id());
    child.wait().unwrap();
}

fn what_a_child_used(signals: &mut Signals, _: i32) {
    let child = kit::in_child(|| while kit::cpu_time() < millis(200) {});
    let info = next(signals);
    assert_eq!(info.pid(), child as u32);
    // Clock ticks, of which a second has a hundred. The kernel counts here what its own timer found
    // running, which is less where others run as well.
    assert!(info.user_time() + info.system_time() >= 1, "{info:?}");
    kit::wait_status(child);
}

fn a_child_that_stops(signals: &mut Signals, _: i32) {
    let mut child = Command::new("sleep").arg("9").spawn().unwrap();
    let pid = child.id() as i32;
    for (signo, code) in [(libc::SIGSTOP, libc::CLD_STOPPED), (libc::SIGCONT, libc::CLD_CONTINUED)]
    {
        kit::kill(pid, signo).unwrap();
        let info = next(signals);
        assert_eq!((info.code(), info.pid(), info.status()), (code, child.id(), signo));
    }
    child.kill().unwrap();
    next(signals);
    child.wait().unwrap();
}

/// A SIGCHLD of which no child is the cause has a sender and nothing else.
fn a_sigchld_that_was_sent(signals: &mut Signals, signo: i32) {
    raise(signo);
    let expected = Told { signo, code: libc::SI_USER, sender: own(), ..Told::default() };
    assert_eq!(told(next(signals)), expected);
    kit::sigqueue(own_pid(), signo, 5).unwrap();
    let value = (5, 5);
    let expected = Told { signo, code: libc::SI_QUEUE, sender: own(), value, ..Told::default() };
    assert_eq!(told(next(signals)), expected);
}

/// Makes a timer that sends a signal once, and then every so many nanoseconds.
fn timer(signo: i32, period: i64) -> libc::timer_t {
    // SAFETY: `sigevent` is plain integers, for which zero is a value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, signo);
    event.sigev_value.sival_ptr = std::ptr::without_provenance_mut(0x1234);
    let mut timer = std::ptr::null_mut();
    // SAFETY: both structs live through the call.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    assert_eq!(made, 0, "timer_create");
    let (soon, period) = (time(1_000_000), time(period));
    let setting = libc::itimerspec { it_interval: period, it_value: soon };
    // SAFETY: the timer was made above, and the setting lives through the call.
    let set = unsafe { libc::timer_settime(timer, 0, &raw const setting, std::ptr::null_mut()) };
    assert_eq!(set, 0, "timer_settime");
    timer
}

fn time(nanos: i64) -> libc::timespec {
    // SAFETY: `timespec` is plain integers, for which zero is a value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    time.tv_nsec = nanos as _;
    time
}

fn delete(timer: libc::timer_t) {
    // SAFETY: the timer was made by `timer`, and is deleted once.
    assert_eq!(unsafe { libc::timer_delete(timer) }, 0);
}

fn which_timer_has_expired(signals: &mut Signals, signo: i32) {
    let first = timer(signo, 0);
    let mut rest = told(next(signals));
    let (id, overrun) = take(&mut rest.timer);
    let (code, value) = (libc::SI_TIMER, (0x1234, 0x1234));
    assert_eq!(rest, Told { signo, code, value, ..Told::default() });
    assert_eq!(overrun, 0);
    let other = timer(signo, 0);
    assert_ne!(next(signals).timer_id(), id);
    [first, other].into_iter().for_each(delete);
    // What expires while the signal is blocked, and nobody reads, is told as one.
    let was_blocked = kit::signal_mask().contains(&signo);
    kit::block_signal(signo);
    let periodic = timer(signo, 1_000_000);
    thread::sleep(millis(30));
    if !was_blocked {
        kit::unblock_signal(signo);
    }
    let info = next(signals);
    delete(periodic);
    assert!(info.overrun() >= 10, "{info:?}");
    deliveries::rest(signals);
}

/// Makes a pipe whose read end sends a signal when it is ready; 0 stands for the SIGIO that has no
/// more to tell than its number.
fn signals_by(signo: i32) -> (std::fs::File, std::fs::File) {
    const F_SETSIG: i32 = 10;
    let (reader, writer) = pipe();
    let settings = [(F_SETSIG, signo), (libc::F_SETOWN, own_pid()), (libc::F_SETFL, libc::O_ASYNC)];
    for (command, value) in settings {
        // SAFETY: the descriptor is open, and these commands take a number.
        let returned = unsafe { libc::fcntl(reader.as_raw_fd(), command, value) };
        assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
    }
    (reader, writer)
}

fn which_descriptor_is_ready(signals: &mut Signals, signo: i32) {
    let (reader, writer) = signals_by(signo);
    put(&writer);
    let mut rest = told(next(signals));
    let ((fd, band), code) = (take(&mut rest.descriptor), take(&mut rest.code));
    assert_eq!(fd, reader.as_raw_fd());
    assert_ne!(band & libc::POLLIN as u32, 0);
    // The kernel tells which event it is, unless that would be taken for a code of the signal's
    // own.
    assert_eq!(code, if signo == SIGCHLD { SI_SIGIO } else { 1 });
    assert_eq!(rest, Told { signo, ..Told::default() });
    drop((reader, writer));
    deliveries::rest(signals);
}

fn descriptor_without_a_number(signals: &mut Signals, signo: i32) {
    let (_reader, writer) = signals_by(0);
    put(&writer);
    let expected = Told { signo, code: libc::SI_KERNEL, ..Told::default() };
    assert_eq!(told(next(signals)), expected);
}
