//! An event triggered by a signal handler, which may interrupt anything.
#![allow(unsafe_code, reason = "a signal handler is installed by a system call")]

mod kit;

use selio::block_on;
use selio::event::{Event, Trigger};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static TRIGGER: OnceLock<Trigger> = OnceLock::new();
static RUNS: AtomicU64 = AtomicU64::new(0);

fn main() {
    kit::run(&[("a_handler_triggers_whatever_it_interrupts", a_handler_triggers)]);
}

extern "C" fn on_signal(_: libc::c_int) {
    if let Some(trigger) = TRIGGER.get() {
        if trigger.trigger().is_ok() {
            RUNS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn install() {
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: the handler makes one system call and touches an atomic, which is allowed in one;
    // none of the calls here is interrupted between its failure and a look at errno.
    let former = unsafe { libc::signal(libc::SIGALRM, handler as *const () as libc::sighandler_t) };
    assert_ne!(former, libc::SIG_ERR);
    let often = libc::timeval { tv_sec: 0, tv_usec: 100 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: the value is valid for the call, and the former one is not asked for.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

// B12
fn a_handler_triggers() {
    let event = Event::new().unwrap();
    TRIGGER.set(event.trigger()).unwrap();
    install();
    let mut told = 0;
    while told < 200 {
        // Most of the time is spent in the allocator, which must not be entered twice.
        for size in 0..2_000 {
            drop(std::hint::black_box(vec![0_u8; size]));
        }
        told += block_on(event.wait()).unwrap();
    }
    assert!(told <= RUNS.load(Ordering::SeqCst), "each run is told once");
}
