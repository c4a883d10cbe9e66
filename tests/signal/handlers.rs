//! Handlers of others: found below ours, and installed on top of it.
#![allow(unsafe_code, reason = "handlers are installed and called by their addresses")]

use crate::kit;
use crate::kit::arrivals;
use crate::kit::keys;
use arrivals::{assert_none, expect, next, of};
use libc::{c_int, c_void, siginfo_t};
use selio::signal::{SIGCHLD, SIGUSR1, SIGUSR2, Signals};
use signal_hook::low_level::{register, unregister};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("a_library_that_was_there_before", a_library_that_was_there_before),
        ("a_library_that_comes_later", a_library_that_comes_later),
        ("a_handler_on_top_that_goes_first", a_handler_on_top_that_goes_first),
        ("a_handler_on_top_that_goes_last", a_handler_on_top_that_goes_last),
        ("a_handler_on_top_that_goes_last_gives_back", a_handler_on_top_gives_back),
        ("a_handler_on_top_that_has_no_details", a_handler_on_top_without_details),
        ("ignored_signals_are_heard_and_ignored_again", ignored_signals),
        ("a_found_handler_gets_what_the_kernel_gave", a_found_handler_gets_all),
        ("a_found_plain_handler_is_called", a_found_plain_handler_is_called),
        ("a_found_one_shot_handler_is_called_each_time", a_found_one_shot_handler),
        ("stopped_children_are_told_as_was_found", stopped_children),
        ("zombies_are_kept_as_was_found", zombies),
        ("each_disposition_comes_back_as_it_was", each_disposition_comes_back),
        ("what_was_found_again_and_again_is_kept_once", what_was_found_is_kept_once),
    ])
}

/// What the handlers below were last called with, and saw.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static SIGNO: AtomicI32 = AtomicI32::new(0);
static VALUE: AtomicUsize = AtomicUsize::new(0);
static CONTEXT_HOLDS_MASK: AtomicBool = AtomicBool::new(false);
static USR2_BLOCKED: AtomicBool = AtomicBool::new(false);
static UNREAD: AtomicI32 = AtomicI32::new(0);

type Handler = extern "C" fn(c_int);
type InfoHandler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

const PLAIN: Handler = on_plain;
const WITH_INFO: InfoHandler = on_info;
const ON_TOP: InfoHandler = on_top;

extern "C" fn on_plain(signo: c_int) {
    SIGNO.store(signo, Ordering::SeqCst);
    CALLS.fetch_add(1, Ordering::SeqCst);
    // Handlers that do not care for it are common.
    set_errno(libc::ENOTTY);
}

extern "C" fn on_info(signo: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the handler has SA_SIGINFO, so it is given a `siginfo_t`.
    let info = unsafe { &*info };
    // SAFETY: that of a signal without a value has some other integers there.
    let value = unsafe { info.si_value() };
    VALUE.store(value.sival_ptr.addr(), Ordering::SeqCst);
    // SAFETY: the handler has SA_SIGINFO, so it is given a `ucontext_t`.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    // SAFETY: the mask lives in the context.
    let member = unsafe { libc::sigismember(&raw const context.uc_sigmask, libc::SIGWINCH) };
    CONTEXT_HOLDS_MASK.store(member == 1, Ordering::SeqCst);
    USR2_BLOCKED.store(blocks(SIGUSR2), Ordering::SeqCst);
    UNREAD.store(unread(), Ordering::SeqCst);
    on_plain(signo);
}

/// Whether the calling thread blocks a signal: system calls only.
fn blocks(signo: c_int) -> bool {
    // SAFETY: `sigset_t` is plain integers, for which zero is a value.
    let mut mask: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set; the mask lives through the call.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask) };
    // SAFETY: the mask is initialised.
    unsafe { libc::sigismember(&raw const mask, signo) == 1 }
}

/// The pipe from our handler.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// How many bytes are waiting in the pipe.
fn unread() -> c_int {
    let mut count = 0;
    // SAFETY: `count` lives through the call.
    unsafe { libc::ioctl(PIPE.load(Ordering::SeqCst), libc::FIONREAD, &raw mut count) };
    count
}

/// The first stream of this process, which makes the pipe.
fn of_known_pipe<const N: usize>(signals: [c_int; N]) -> Signals {
    let numbers: Vec<_> = kit::open_fds().into_iter().map(|(number, _)| number).collect();
    let signals = of(signals);
    let is_new =
        |(number, link): &(i32, String)| !numbers.contains(number) && link.contains("pipe:");
    PIPE.store(kit::open_fds().into_iter().find(is_new).unwrap().0, Ordering::SeqCst);
    signals
}

fn set_errno(value: c_int) {
    // SAFETY: the call returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = value };
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn calls() -> usize {
    CALLS.swap(0, Ordering::SeqCst)
}

/// A handler of signal-hook's that counts.
struct Hook {
    count: Arc<AtomicUsize>,
    id: signal_hook::SigId,
}

impl Hook {
    fn new(signo: c_int) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&count);
        let action = move || {
            counts.fetch_add(1, Ordering::SeqCst);
        };
        // SAFETY: the action touches an atomic.
        let id = unsafe { register(signo, action) }.unwrap();
        Self { count, id }
    }

    fn heard(&self) -> usize {
        self.count.swap(0, Ordering::SeqCst)
    }

    fn forget(self) {
        assert!(unregister(self.id));
        keys::raise(SIGUSR1);
        assert_eq!(self.heard(), 0);
    }
}

/// Both hear of each signal, once.
#[track_caller]
fn assert_both_hear(signals: &mut Signals, hook: &Hook) {
    for _ in 0..3 {
        keys::raise(SIGUSR1);
        expect(signals, SIGUSR1);
        assert_eq!(hook.heard(), 1);
    }
    assert_none(signals);
}

/// The handler of another, alone, hears of each signal, once.
#[track_caller]
fn assert_hears_alone(hook: &Hook) {
    keys::raise(SIGUSR1);
    assert_eq!(hook.heard(), 1);
}

// D21
fn a_library_that_was_there_before() {
    let hook = Hook::new(SIGUSR1);
    let before = keys::dispositions();
    for _ in 0..2 {
        let mut signals = of([SIGUSR1]);
        assert_both_hear(&mut signals, &hook);
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
        assert_hears_alone(&hook);
    }
    let mut signals = of([SIGUSR1]);
    hook.forget();
    expect(&mut signals, SIGUSR1);
    drop(signals);
    assert_eq!(keys::changed_since(&before), []);
}

// D21
fn a_library_that_comes_later() {
    let mut signals = of([SIGUSR1]);
    let hook = Hook::new(SIGUSR1);
    let later = keys::dispositions();
    for _ in 0..3 {
        assert_both_hear(&mut signals, &hook);
        drop(signals);
        assert_eq!(keys::changed_since(&later), []);
        assert_hears_alone(&hook);
        signals = of([SIGUSR1]);
        assert_eq!(keys::changed_since(&later), [], "it is not put on top again");
    }
    let mut another = of([SIGUSR1]);
    hook.forget();
    expect(&mut signals, SIGUSR1);
    expect(&mut another, SIGUSR1);
}

/// The handler that [`on_top`] was put on top of.
static BENEATH: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_top(signo: c_int, info: *mut siginfo_t, context: *mut c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: this is the address of a handler with SA_SIGINFO, as it was found.
    let beneath: InfoHandler = unsafe { std::mem::transmute(BENEATH.load(Ordering::SeqCst)) };
    beneath(signo, info, context);
}

/// Puts a handler on top of ours; what was found there, to be put back.
fn put_on_top(handler: usize, flags: c_int) -> kit::Disposition {
    let found = kit::disposition(SIGUSR1);
    BENEATH.store(found.handler, Ordering::SeqCst);
    keys::set_handler(SIGUSR1, handler, flags);
    found
}

// D21
fn a_handler_on_top_that_goes_first() {
    let before = keys::dispositions();
    let mut signals = of([SIGUSR1]);
    let found = put_on_top(ON_TOP as usize, libc::SA_SIGINFO);
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
    assert_eq!(calls(), 1);
    keys::set_handler(SIGUSR1, found.handler, found.flags);
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
    assert_eq!(calls(), 0);
    drop(signals);
    assert_eq!(keys::changed_since(&before), []);
}

// D21
fn a_handler_on_top_that_goes_last() {
    let signals = of_known_pipe([SIGUSR1]);
    let found = put_on_top(ON_TOP as usize, libc::SA_SIGINFO);
    drop(signals);
    // Ours stays beneath and does nothing.
    keys::raise(SIGUSR1);
    assert_eq!((calls(), unread()), (1, 0));
    keys::set_handler(SIGUSR1, found.handler, found.flags);
    let mut signals = of([SIGUSR1]);
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
    drop(signals);
    assert!(kit::disposition(SIGUSR1).is_default());

    // Somebody has kept ours, and puts it there when it has been taken away long since.
    keys::set_handler(SIGUSR1, found.handler, found.flags);
    let mut signals = of([SIGUSR1]);
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
    drop(signals);
    assert!(kit::disposition(SIGUSR1).is_default());
}

/// Has ours put back by a handler on top of it when nobody waits any more.
fn leave_ours_alone() {
    let signals = of([SIGUSR1]);
    let found = put_on_top(ON_TOP as usize, libc::SA_SIGINFO);
    drop(signals);
    keys::set_handler(SIGUSR1, found.handler, found.flags);
}

// D21: what libraries do around a call, such as reading a line, must not take Ctrl-C away.
fn a_handler_on_top_gives_back() {
    let pid = kit::in_child(|| {
        leave_ours_alone();
        keys::raise(SIGUSR1);
    });
    assert_eq!(kit::wait_status(pid).signal(), Some(SIGUSR1));

    for (handler, flags) in [(libc::SIG_IGN, 0), (WITH_INFO as usize, libc::SA_SIGINFO)] {
        keys::set_handler(SIGUSR1, handler, flags);
        let before = keys::dispositions();
        leave_ours_alone();
        for _ in 0..2 {
            kit::sigqueue(keys::own_pid(), SIGUSR1, 55).unwrap();
            assert_eq!(keys::changed_since(&before), []);
            let called = usize::from(handler != libc::SIG_IGN);
            assert_eq!((calls(), VALUE.swap(0, Ordering::SeqCst)), (called, 55 * called));
        }
        leave_ours_alone();
        let mut signals = of([SIGUSR1]);
        keys::raise(SIGUSR1);
        expect(&mut signals, SIGUSR1);
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
        calls();
    }
}

// D21
fn a_handler_on_top_without_details() {
    extern "C" fn on_top_of_all(signo: c_int) {
        on_top_with_null(signo);
    }
    fn on_top_with_null(signo: c_int) {
        on_top(signo, std::ptr::null_mut(), std::ptr::null_mut());
    }
    let mut signals = of([SIGUSR1]);
    let handler: Handler = on_top_of_all;
    put_on_top(handler as usize, 0);
    keys::raise(SIGUSR1);
    let info = next(&mut signals);
    assert_eq!((info.signo(), info.code(), info.pid()), (SIGUSR1, 0, 0));
    assert_none(&mut signals);
}

// D21, D14
fn ignored_signals() {
    keys::set_handler(SIGUSR1, libc::SIG_IGN, 0);
    let before = keys::dispositions();
    let mut signals = of([SIGUSR1]);
    let mut later = of([SIGUSR1]);
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
    expect(&mut later, SIGUSR1);
    drop(signals);
    keys::raise(SIGUSR1);
    expect(&mut later, SIGUSR1);
    assert!(later.remove(SIGUSR1));
    assert_eq!(keys::changed_since(&before), []);
    keys::raise(SIGUSR1);
    assert_none(&mut later);
}

/// Sets a handler for SIGUSR1 whose mask has SIGUSR2.
fn set_with_mask(handler: usize, flags: c_int) {
    // SAFETY: `sigaction` is plain integers and an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the set lives through the call.
    unsafe { libc::sigaddset(&raw mut action.sa_mask, SIGUSR2) };
    // SAFETY: the action lives through the call, and its handler is of the type the flags say.
    let set = unsafe { libc::sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

// D21
fn a_found_handler_gets_all() {
    set_with_mask(WITH_INFO as usize, libc::SA_SIGINFO);
    kit::block_signal(libc::SIGWINCH);
    let before = keys::dispositions();
    let mut signals = of_known_pipe([SIGUSR1]);
    set_errno(libc::EXDEV);
    kit::sigqueue(keys::own_pid(), SIGUSR1, 1234).unwrap();
    assert_eq!(errno(), libc::EXDEV, "what was interrupted keeps its errno");
    assert_eq!(calls(), 1);
    assert_eq!(SIGNO.load(Ordering::SeqCst), SIGUSR1);
    assert_eq!(VALUE.load(Ordering::SeqCst) as i32, 1234);
    assert!(CONTEXT_HOLDS_MASK.load(Ordering::SeqCst), "the context is the kernel's");
    assert!(USR2_BLOCKED.load(Ordering::SeqCst), "the mask is the one it asked for");
    assert!(UNREAD.load(Ordering::SeqCst) > 0, "ours came first");
    assert_eq!(next(&mut signals).value(), 1234);
    drop(signals);
    assert_eq!(keys::changed_since(&before), []);
    keys::raise(SIGUSR1);
    assert_eq!(calls(), 1);
}

// D21
fn a_found_plain_handler_is_called() {
    keys::set_handler(SIGUSR1, PLAIN as usize, libc::SA_NODEFER);
    let before = keys::dispositions();
    let mut signals = of([SIGUSR1]);
    for _ in 0..3 {
        set_errno(libc::EXDEV);
        keys::raise(SIGUSR1);
        assert_eq!(errno(), libc::EXDEV);
        assert_eq!((calls(), SIGNO.swap(0, Ordering::SeqCst)), (1, SIGUSR1));
        expect(&mut signals, SIGUSR1);
    }
    drop(signals);
    assert_eq!(keys::changed_since(&before), []);
    keys::raise(SIGUSR1);
    assert_eq!(calls(), 1);
}

// D21
fn a_found_one_shot_handler() {
    keys::set_handler(SIGUSR1, PLAIN as usize, libc::SA_RESETHAND);
    let before = keys::dispositions();
    let mut signals = of([SIGUSR1]);
    for _ in 0..3 {
        keys::raise(SIGUSR1);
        expect(&mut signals, SIGUSR1);
        assert_eq!(calls(), 1);
    }
    drop(signals);
    assert_eq!(keys::changed_since(&before), []);
    keys::raise(SIGUSR1);
    assert_eq!(calls(), 1);
    assert!(kit::disposition(SIGUSR1).is_default());
}

fn pause_for_ever() -> c_int {
    kit::in_child(|| {
        loop {
            // SAFETY: the call takes nothing and waits for a signal.
            unsafe { libc::pause() };
        }
    })
}

// D21
fn stopped_children() {
    for (handler, flags) in [
        (libc::SIG_DFL, 0),
        (libc::SIG_DFL, libc::SA_NOCLDSTOP),
        (PLAIN as usize, 0),
        (PLAIN as usize, libc::SA_NOCLDSTOP),
    ] {
        keys::set_handler(SIGCHLD, handler, flags);
        let before = keys::dispositions();
        let mut signals = of([SIGCHLD]);
        let pid = pause_for_ever();
        kit::kill(pid, libc::SIGSTOP).unwrap();
        let mut status = 0;
        // SAFETY: `status` lives through the call.
        let stopped = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
        assert!(stopped == pid && libc::WIFSTOPPED(status));
        if flags == 0 {
            assert_eq!(next(&mut signals).code(), libc::CLD_STOPPED);
        }
        assert_none(&mut signals);
        kit::kill(pid, libc::SIGKILL).unwrap();
        assert_eq!(next(&mut signals).code(), libc::CLD_KILLED);
        kit::wait_status(pid);
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
    }
}

// D21
fn zombies() {
    for (handler, flags, keeps) in [
        (libc::SIG_DFL, 0, true),
        (PLAIN as usize, 0, true),
        (libc::SIG_IGN, 0, false),
        (libc::SIG_DFL, libc::SA_NOCLDWAIT, false),
        (PLAIN as usize, libc::SA_NOCLDWAIT, false),
    ] {
        keys::set_handler(SIGCHLD, handler, flags);
        let before = keys::dispositions();
        let mut signals = of([SIGCHLD]);
        let pid = kit::in_child(|| ());
        assert_eq!(next(&mut signals).pid() as c_int, pid);
        // SAFETY: the status is not asked for. Without zombies the call waits for the end.
        let reaped = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        assert_eq!(reaped, if keeps { pid } else { -1 }, "handler {handler:#x}, flags {flags:#x}");
        assert_eq!(kit::zombies(), []);
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
    }
}

// D21: dispositions that differ in one thing are not taken for one another.
fn each_disposition_comes_back() {
    let ways: [fn(); 7] = [
        || keys::set_handler(SIGUSR1, PLAIN as usize, 0),
        || keys::set_handler(SIGUSR1, PLAIN as usize, libc::SA_RESTART),
        || set_with_mask(PLAIN as usize, 0),
        || keys::set_handler(SIGUSR1, WITH_INFO as usize, libc::SA_SIGINFO),
        || set_with_mask(WITH_INFO as usize, libc::SA_SIGINFO),
        || keys::set_handler(SIGUSR1, libc::SIG_IGN, 0),
        || keys::set_handler(SIGUSR1, libc::SIG_DFL, 0),
    ];
    for way in ways.iter().chain(ways.iter().rev()) {
        way();
        let before = keys::dispositions();
        let mut signals = of([SIGUSR1]);
        assert_eq!(keys::changed_since(&before), [SIGUSR1]);
        keys::raise(SIGUSR1);
        expect(&mut signals, SIGUSR1);
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
    }
}

// D21: what is never freed must not grow.
fn what_was_found_is_kept_once() {
    let round = || {
        for flags in [0, libc::SA_RESTART] {
            set_with_mask(PLAIN as usize, flags);
            drop(of([SIGUSR1, SIGUSR2]));
        }
    };
    round();
    let before = kit::allocated_bytes();
    (0..1000).for_each(|_| round());
    assert_eq!(kit::allocated_bytes(), before);
}
