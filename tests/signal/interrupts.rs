//! What the handler interrupts goes on as if it had not.
#![allow(unsafe_code, reason = "threads are signalled, and read, by system calls")]

use crate::kit;
use crate::kit::arrivals;
use crate::kit::keys;
use arrivals::{expect, next, of};
use libc::c_int;
use selio::signal::{SIGALRM, SIGRTMAX, SIGRTMIN, SIGUSR1, SIGUSR2, Signals};
use selio::time::timeout;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("interrupted_calls_go_on", interrupted_calls_go_on),
        ("the_handler_runs_on_the_signal_stack", the_handler_runs_on_the_signal_stack),
        ("a_handler_that_gives_way_meets_a_new_stream", a_handler_that_gives_way),
        ("_gives_way", part_gives_way),
        ("the_handler_interrupts_the_allocator", the_handler_interrupts_the_allocator),
        ("all_signals_at_once_fit_on_the_signal_stack", all_signals_at_once),
    ])
}

fn own_thread() -> c_int {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Whether a thread sleeps in a system call.
fn sleeps(thread: c_int) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
}

// D21
fn interrupted_calls_go_on() {
    static READER: AtomicI32 = AtomicI32::new(0);
    let (reader, writer) = kit::pipe();
    let thread = thread::spawn(move || {
        let mut byte = 0_u8;
        READER.store(own_thread(), Ordering::SeqCst);
        let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
        // SAFETY: `byte` has room for the one byte that is asked for.
        unsafe { libc::read(number, (&raw mut byte).cast(), 1) }
    });
    kit::eventually("the thread reads", || {
        let reader = READER.load(Ordering::SeqCst);
        reader != 0 && sleeps(reader)
    });
    thread::sleep(Duration::from_millis(10));
    let mut signals = of([SIGUSR1]);
    for _ in 0..3 {
        let (process, thread) = (keys::own_pid(), READER.load(Ordering::SeqCst));
        // SAFETY: the call takes numbers.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGUSR1) };
        assert_eq!(sent, 0);
        expect(&mut signals, SIGUSR1);
    }
    keys::put(&std::fs::File::from(writer));
    assert_eq!(thread.join().unwrap(), 1);
}

/// Where the handler below was called.
static STACK: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note_stack(_: c_int) {
    let local = 0_u8;
    STACK.store((&raw const local).addr(), Ordering::SeqCst);
}

// D21
fn the_handler_runs_on_the_signal_stack() {
    // It is called by ours, and does not ask for that stack itself.
    let handler: extern "C" fn(c_int) = note_stack;
    keys::set_handler(SIGUSR1, handler as usize, 0);
    let mut signals = of([SIGUSR1]);
    let thread = thread::spawn(|| {
        let mut stack = vec![0_u8; 64 * 1024];
        let range = stack.as_ptr_range();
        let range = range.start.addr()..range.end.addr();
        let new =
            libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        // SAFETY: all zeros is a value of plain integers and a pointer.
        let mut old: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: the stack lives until the old one is back in its place.
        assert_eq!(unsafe { libc::sigaltstack(&raw const new, &raw mut old) }, 0);
        // SAFETY: the signal is caught.
        unsafe { libc::raise(SIGUSR1) };
        // SAFETY: the stack was there before.
        assert_eq!(unsafe { libc::sigaltstack(&raw const old, std::ptr::null_mut()) }, 0);
        assert!(range.contains(&STACK.load(Ordering::SeqCst)), "on the thread's own stack");
    });
    thread.join().unwrap();
    expect(&mut signals, SIGUSR1);
}

// D21: each look at a disposition takes long here, so that the two do it at the same time.
fn a_handler_that_gives_way() {
    let slow = ["-e", "trace=rt_sigaction", "-e", "inject=rt_sigaction:delay_exit=30000"];
    let Some((ended, _)) = kit::rerun("_gives_way").strace_with(&slow) else {
        kit::pass_over("there is no strace that may trace");
    };
    ended.assert_success();
}

fn part_gives_way() {
    keys::set_handler(SIGUSR1, libc::SIG_IGN, 0);
    let signals = of([SIGUSR1]);
    let ours = kit::disposition(SIGUSR1);
    drop(signals);
    // Somebody had kept it, and puts it back when nobody waits any more.
    keys::set_handler(SIGUSR1, ours.handler, ours.flags);
    let thread = thread::spawn(|| {
        // SAFETY: the call takes a number; the signal is ignored or caught.
        unsafe { libc::raise(SIGUSR1) };
    });
    thread::sleep(Duration::from_millis(10));
    let mut signals = of([SIGUSR1]);
    thread.join().unwrap();
    while signals_waiting(&mut signals) {}
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
    drop(signals);
    assert!(kit::disposition(SIGUSR1).is_ignored());
}

/// Takes a signal that has come already; false if there is none.
fn signals_waiting(signals: &mut Signals) -> bool {
    let moment = timeout(Duration::from_millis(20), signals.next());
    selio::block_on(moment).is_ok()
}

// B12
fn the_handler_interrupts_the_allocator() {
    keys::alarm_every(Duration::from_micros(100));
    let mut signals = of([SIGALRM]);
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        // Most of the time is spent in the allocator, and under the locks of what waits.
        for size in 0..1_000 {
            drop(std::hint::black_box(vec![0_u8; size]));
        }
        expect(&mut signals, SIGALRM);
        let mut others = of([SIGALRM, SIGUSR2]);
        expect(&mut others, SIGALRM);
        assert!(others.remove(SIGALRM));
        count += 1;
    }
    assert!(count > 20, "{count}");
}

// D21: a handler that others interrupt would be in the midst of its work once for each of them, and
// the stack for signals has room for two or three.
fn all_signals_at_once() {
    let caught: Vec<c_int> = (SIGRTMIN()..=SIGRTMAX()).chain([SIGUSR1, SIGUSR2, SIGALRM]).collect();
    let mut signals = Signals::new(caught.iter().copied()).unwrap();
    caught.iter().for_each(|&signo| kit::block_signal(signo));
    caught.iter().for_each(|&signo| keys::raise(signo));
    // SAFETY: zeros are an empty set on Linux.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is one, and lives through the call.
    let set =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let mut seen: Vec<c_int> = caught.iter().map(|_| next(&mut signals).signo()).collect();
    seen.sort_unstable();
    let mut wanted = caught;
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
}
