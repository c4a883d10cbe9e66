//! Forked children: they inherit the handler, its pipe and every descriptor, and behave as if they
//! had not, while their parent hears of its own signals and of no others.
#![allow(unsafe_code, reason = "children of vfork, in new namespaces, and of several threads")]

use crate::kit;
use crate::kit::arrivals;
use crate::kit::keys;
use arrivals::{assert_none, expect, next, of, soon};
use libc::{c_int, c_void, siginfo_t};
use selio::signal::{SIGTERM, SIGUSR1, SIGUSR2, Signals};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("a_forked_child_is_as_without_us", a_forked_child),
        ("a_grandchild_is_as_without_us", a_grandchild),
        ("a_vforked_child_is_as_without_us", a_vforked_child),
        ("a_child_in_a_new_pid_namespace_is_as_without_us", a_child_in_a_new_pid_namespace),
        ("a_child_of_one_of_several_threads_is_as_without_us", a_child_of_several_threads),
        ("a_child_that_may_not_queue_signals_is_as_without_us", a_child_that_may_not_queue),
        ("a_child_dies_between_fork_and_exec", a_child_dies_between_fork_and_exec),
        ("a_handler_on_top_stays_in_a_child", a_handler_on_top_stays),
        ("a_child_that_drops_ours_leaves_us_whole", a_child_that_drops_ours),
        (
            "a_child_that_drops_ours_takes_no_blocked_signal",
            a_child_that_drops_ours_takes_no_blocked_signal,
        ),
        ("a_child_that_asks_ours_is_told", a_child_that_asks_ours),
        ("a_child_has_signals_of_its_own", a_child_has_its_own),
        ("a_child_asks_after_it_was_signalled", a_child_asks_after_it_was_signalled),
        ("a_child_is_signalled_while_it_begins_to_wait", a_child_begins_to_wait),
        ("_begins_to_wait", part_begins_to_wait),
        ("a_child_shares_no_blocked_signal", a_child_shares_no_blocked_signal),
        ("a_child_goes_on_with_the_call_it_was_forked_in", a_child_goes_on_with_the_call),
    ])
}

/// What the program did at the signal before anybody waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Default,
    Ignored,
    Handled,
}

const ALL: [Found; 3] = [Found::Default, Found::Ignored, Found::Handled];
const VALUE: c_int = 77;

static CALLS: AtomicI32 = AtomicI32::new(0);
static LAST_VALUE: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the handler has SA_SIGINFO, so it is given a `siginfo_t`.
    let info = unsafe { &*info };
    // SAFETY: that of a signal without a value has some other integers there.
    let value = unsafe { info.si_value() };
    LAST_VALUE.store(value.sival_ptr.addr() as c_int, Ordering::SeqCst);
}

impl Found {
    fn install(self, signo: c_int) {
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_signal;
        let handler = match self {
            Self::Default => libc::SIG_DFL,
            Self::Ignored => libc::SIG_IGN,
            Self::Handled => handler as usize,
        };
        keys::set_handler(signo, handler, libc::SA_SIGINFO);
    }

    /// How a child ends that sends itself the signal, and exits as [`signal_myself`] does.
    #[track_caller]
    fn assert_end(self, status: ExitStatus) {
        match self {
            Self::Default => assert_eq!(status.signal(), Some(SIGUSR1), "{status}"),
            Self::Ignored => assert_eq!(status.code(), Some(40), "{status}"),
            Self::Handled => assert_eq!(status.code(), Some(51), "{status}"),
        }
    }
}

/// Exits with 40, one more for each call of the handler, and ten more if the value has come. It
/// only makes system calls, and leaves what a child of vfork shares as it was.
fn signal_myself() -> ! {
    let sent = kit::sigqueue(keys::own_pid(), SIGUSR1, VALUE);
    let with_value = LAST_VALUE.swap(0, Ordering::SeqCst) == VALUE;
    let code = 40 + CALLS.swap(0, Ordering::SeqCst) + if with_value { 10 } else { 0 };
    // SAFETY: the call does not return.
    unsafe { libc::_exit(if sent.is_ok() { code } else { 1 }) }
}

/// Starts a child that [signals itself](signal_myself), whatever was found, and sees how it ends,
/// that its parent hears nothing of it, and that what was found is back in the end.
#[track_caller]
fn assert_as_without_us(start: fn() -> c_int) {
    for found in ALL {
        found.install(SIGUSR1);
        let before = keys::dispositions();
        let mut signals = of([SIGUSR1]);
        // The thread waits already, so that its ends of the pipe are registered.
        assert_none(&mut signals);
        let status = kit::wait_status(start());
        found.assert_end(status);
        assert_parent_is_whole(&mut signals);
        let calls = if found == Found::Handled { 1 } else { 0 };
        assert_eq!(CALLS.swap(0, Ordering::SeqCst), calls, "in the parent");
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
    }
}

/// Nothing has come from the child, and what is sent here still does.
#[track_caller]
fn assert_parent_is_whole(signals: &mut Signals) {
    assert_none(signals);
    keys::raise(SIGUSR1);
    let info = next(signals);
    assert_eq!((info.signo(), info.pid() as c_int), (SIGUSR1, keys::own_pid()));
    assert_none(signals);
}

#[track_caller]
fn assert_child_succeeds(body: impl FnOnce()) {
    let status = kit::wait_status(kit::in_child(body));
    assert!(status.success(), "the child ended with {status}");
}

// D12
fn a_forked_child() {
    assert_as_without_us(|| kit::in_child(|| signal_myself()));
}

// D12
fn a_grandchild() {
    assert_as_without_us(|| {
        kit::in_child(|| {
            let status = kit::wait_status(kit::in_child(|| signal_myself()));
            match status.signal() {
                // The end of the child is the end of the grandchild.
                Some(_) => signal_myself(),
                // SAFETY: the call does not return.
                None => unsafe { libc::_exit(status.code().unwrap()) },
            }
        })
    });
}

// D12: such a child runs in its parent's memory, where nothing is wiped.
fn a_vforked_child() {
    assert_as_without_us(vfork);
}

/// A child as by vfork(2), with a stack of its own, because Rust has no functions that return
/// twice.
fn vfork() -> c_int {
    extern "C" fn body(_: *mut c_void) -> c_int {
        signal_myself()
    }
    let mut stack = vec![0_u128; 16 * 1024];
    let top = stack.as_mut_ptr_range().end.cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from the end of a block that lives until the child has ended,
    // for which the call waits; the child makes system calls only.
    let pid = unsafe { libc::clone(body, top, flags, std::ptr::null_mut()) };
    assert_ne!(pid, -1, "clone: {}", io::Error::last_os_error());
    pid
}

// D12: parent and child are both process 1, each in a namespace of its own.
fn a_child_in_a_new_pid_namespace() {
    if !kit::is_root() {
        // SAFETY: the call takes a number. It gives the rights that the rest needs.
        unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    }
    let outer = in_first_process(|| {
        for found in [Found::Ignored, Found::Handled] {
            found.install(SIGUSR1);
            let mut signals = of([SIGUSR1]);
            assert_none(&mut signals);
            found.assert_end(kit::wait_status(in_first_process(|| signal_myself())));
            assert_parent_is_whole(&mut signals);
        }
        // The first process of a namespace is not killed by the default action, so there it shows
        // in another way that the inherited handler has given way.
        let mut signals = of([SIGUSR2]);
        let pid = in_first_process(|| {
            keys::raise(SIGUSR2);
            assert!(kit::disposition(SIGUSR2).is_default());
        });
        assert!(kit::wait_status(pid).success());
        assert_none(&mut signals);
    });
    assert!(kit::wait_status(outer).success());
}

/// Runs a closure in a forked child that is process 1 of a new namespace.
fn in_first_process(body: impl FnOnce()) -> c_int {
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: without a new stack the call is a fork; this process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => kit::pass_over("no pid namespaces can be made here"),
        0 => {
            assert_eq!(keys::own_pid(), 1);
            let ended = catch_unwind(AssertUnwindSafe(body));
            // SAFETY: the call does not return.
            unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
        }
        _ => pid as c_int,
    }
}

// D12
fn a_child_of_several_threads() {
    for found in ALL {
        found.install(SIGUSR1);
        let (tell, told) = mpsc::channel();
        let mut signals = of([SIGUSR1]);
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                tell.send(next(&mut signals)).unwrap();
            }
        });
        // It waits by the time it has heard of the first one.
        keys::raise(SIGUSR1);
        told.recv().unwrap();
        CALLS.store(0, Ordering::SeqCst);
        // SAFETY: the child makes system calls and exits.
        let pid = unsafe { libc::fork() };
        match pid {
            0 => signal_myself(),
            _ => found.assert_end(kit::wait_status(pid)),
        }
        thread::sleep(Duration::from_millis(20));
        assert!(told.try_recv().is_err(), "the child's signal came here");
        keys::raise(SIGUSR1);
        assert_eq!(told.recv().unwrap().pid() as c_int, keys::own_pid());
        thread.join().unwrap();
    }
}

// D12: where a sandbox refuses the call that keeps the details, the signal itself is still sent.
fn a_child_that_may_not_queue() {
    for found in ALL {
        found.install(SIGUSR1);
        let signals = of([SIGUSR1]);
        let pid = kit::in_child(|| {
            kit::refuse(&[(libc::SYS_rt_tgsigqueueinfo, libc::EPERM)]);
            signal_myself();
        });
        let status = kit::wait_status(pid);
        match found {
            Found::Handled => assert_eq!(status.code(), Some(41), "{status}"),
            _ => found.assert_end(status),
        }
        drop(signals);
    }
}

// D12
fn a_child_dies_between_fork_and_exec() {
    let mut signals = of([SIGTERM]);
    assert_none(&mut signals);
    for round in 0..50 {
        let pid = kit::in_child(|| {
            loop {
                // SAFETY: the call takes nothing and waits for a signal.
                unsafe { libc::pause() };
            }
        });
        if round % 2 == 0 {
            // Every other child waits already; the rest may not have run at all.
            thread::sleep(Duration::from_millis(1));
        }
        kit::kill(pid, SIGTERM).unwrap();
        assert_eq!(kit::wait_status(pid).signal(), Some(SIGTERM));
    }
    assert_none(&mut signals);
    keys::raise(SIGTERM);
    expect(&mut signals, SIGTERM);
}

/// A handler on top of ours, which it calls.
static BENEATH: AtomicI32 = AtomicI32::new(0);

// D12: what a handler on top of ours does with a signal is its business, in a child as well.
fn a_handler_on_top_stays() {
    extern "C" fn on_top(signo: c_int, info: *mut siginfo_t, context: *mut c_void) {
        BENEATH.fetch_add(1, Ordering::SeqCst);
        let ours = OURS.load(Ordering::SeqCst);
        // SAFETY: this is the address of a handler with SA_SIGINFO, as it was found.
        let ours: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(ours) };
        ours(signo, info, context);
    }
    static OURS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    Found::Handled.install(SIGUSR1);
    let mut signals = of([SIGUSR1]);
    OURS.store(kit::disposition(SIGUSR1).handler, Ordering::SeqCst);
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_top;
    keys::set_handler(SIGUSR1, handler as usize, libc::SA_SIGINFO);
    let installed = kit::disposition(SIGUSR1);
    assert_child_succeeds(|| {
        for round in 1..=3 {
            keys::raise(SIGUSR1);
            assert_eq!(BENEATH.load(Ordering::SeqCst), round);
            assert_eq!(CALLS.load(Ordering::SeqCst), round);
            assert_eq!(kit::disposition(SIGUSR1), installed);
        }
        // Here the child hears through it, too.
        let mut own = of([SIGUSR1]);
        assert_eq!(kit::disposition(SIGUSR1), installed);
        keys::raise(SIGUSR1);
        expect(&mut own, SIGUSR1);
    });
    assert_parent_is_whole(&mut signals);
    assert_eq!((BENEATH.load(Ordering::SeqCst), CALLS.load(Ordering::SeqCst)), (1, 1));
}

// D12
fn a_child_that_drops_ours() {
    for found in ALL {
        found.install(SIGUSR1);
        let mut signals = Some(of([SIGUSR1, SIGUSR2]));
        assert_none(signals.as_mut().unwrap());
        let pid = kit::in_child(|| {
            let mut copy = signals.take().unwrap();
            assert!(copy.remove(SIGUSR2));
            drop(copy);
            signal_myself();
        });
        found.assert_end(kit::wait_status(pid));
        let mut signals = signals.unwrap();
        assert_parent_is_whole(&mut signals);
        keys::raise(SIGUSR2);
        expect(&mut signals, SIGUSR2);
    }
}

// D12: the set of a signalfd belongs to the open file, which the child shares with its parent.
fn a_child_that_drops_ours_takes_no_blocked_signal() {
    for signo in [SIGUSR1, SIGUSR2] {
        kit::block_signal(signo);
    }
    let mut signals = Some(of([SIGUSR1, SIGUSR2]));
    assert_none(signals.as_mut().unwrap());
    assert_child_succeeds(|| assert!(signals.as_mut().unwrap().remove(SIGUSR2)));
    keys::raise(SIGUSR2);
    expect(signals.as_mut().unwrap(), SIGUSR2);
    assert_child_succeeds(|| drop(signals.take()));
    assert_parent_is_whole(&mut signals.unwrap());
}

// D12
fn a_child_that_asks_ours() {
    let mut signals = of([SIGUSR1]);
    assert_none(&mut signals);
    // What had come before the fork is the parent's, too.
    keys::raise(SIGUSR1);
    assert_child_succeeds(|| {
        let error = soon(signals.next()).unwrap().unwrap_err();
        assert!(error.to_string().contains("fork"), "{error}");
        let error = signals.add(SIGUSR2).unwrap_err();
        assert!(error.to_string().contains("fork"), "{error}");
        assert!(kit::disposition(SIGUSR2).is_default());
    });
    expect(&mut signals, SIGUSR1);
    assert_parent_is_whole(&mut signals);
}

/// In a child: waits for signals of its own, and gives them back.
fn has_its_own(found: Found) {
    let mut own = of([SIGUSR1, SIGTERM]);
    assert_none(&mut own);
    for signo in [SIGTERM, SIGUSR1] {
        keys::raise(signo);
        let info = next(&mut own);
        assert_eq!((info.signo(), info.pid() as c_int), (signo, keys::own_pid()));
    }
    assert_none(&mut own);
    CALLS.store(0, Ordering::SeqCst);
    drop(own);
    assert!(kit::disposition(SIGTERM).is_default());
    assert_eq!(kit::disposition(SIGUSR1).is_default(), found == Found::Default);
    assert_eq!(kit::disposition(SIGUSR1).is_ignored(), found == Found::Ignored);
}

// D12
fn a_child_has_its_own() {
    for found in ALL {
        found.install(SIGUSR1);
        let mut signals = of([SIGUSR1]);
        assert_none(&mut signals);
        let pid = kit::in_child(|| {
            has_its_own(found);
            signal_myself();
        });
        found.assert_end(kit::wait_status(pid));
        assert_parent_is_whole(&mut signals);
        CALLS.store(0, Ordering::SeqCst);
    }
}

// D12: by the first signal the inherited handler has given way to the one that was found.
fn a_child_asks_after_it_was_signalled() {
    for found in [Found::Ignored, Found::Handled] {
        found.install(SIGUSR1);
        let mut signals = of([SIGUSR1]);
        assert_none(&mut signals);
        let pid = kit::in_child(|| {
            keys::raise(SIGUSR1);
            for _ in 0..2 {
                has_its_own(found);
            }
            signal_myself();
        });
        found.assert_end(kit::wait_status(pid));
        assert_parent_is_whole(&mut signals);
        CALLS.store(0, Ordering::SeqCst);
    }
}

// D12: each look at a disposition takes long here, so that the signal comes right after it.
fn a_child_begins_to_wait() {
    let slow = ["-e", "trace=rt_sigaction", "-e", "inject=rt_sigaction:delay_exit=30000"];
    let Some((ended, _)) = kit::rerun("_begins_to_wait").strace_with(&slow) else {
        kit::pass_over("there is no strace that may trace");
    };
    ended.assert_success();
}

fn part_begins_to_wait() {
    Found::Ignored.install(SIGUSR1);
    let mut signals = of([SIGUSR1]);
    let (reader, writer) = kit::pipe();
    let pid = kit::in_child(|| {
        // All that is slow but the looks has been done.
        drop(of([SIGUSR2]));
        keys::put(&File::from(writer));
        let mut own = of([SIGUSR1]);
        // The parent's signal may have been heard of already, or may have been for nobody yet.
        thread::sleep(Duration::from_millis(100));
        keys::raise(SIGUSR1);
        while next(&mut own).pid() as c_int != keys::own_pid() {}
    });
    let mut said = [0];
    File::from(reader).read_exact(&mut said).unwrap();
    thread::sleep(Duration::from_millis(10));
    kit::kill(pid, SIGUSR1).unwrap();
    assert!(kit::wait_status(pid).success());
    assert_none(&mut signals);
}

// D12: a blocked signal is read from the parent's signalfd by whoever reads it, for himself.
fn a_child_shares_no_blocked_signal() {
    kit::block_signal(SIGUSR1);
    let mut signals = of([SIGUSR1]);
    assert_none(&mut signals);
    let (reader, writer) = kit::pipe();
    let pid = kit::in_child(|| {
        keys::raise(SIGUSR1);
        drop(writer);
        let mut own = of([SIGUSR1]);
        assert_eq!(next(&mut own).pid() as c_int, keys::own_pid());
        assert_none(&mut own);
        assert_eq!(kit::signal_mask(), [SIGUSR1]);
    });
    assert_none(&mut signals);
    keys::raise(SIGUSR1);
    drop(reader);
    assert!(kit::wait_status(pid).success());
    assert_eq!(next(&mut signals).pid() as c_int, keys::own_pid());
    assert_none(&mut signals);
    assert_eq!(kit::signal_mask(), [SIGUSR1]);
}

// D12
fn a_child_goes_on_with_the_call() {
    let mut signals = of([SIGUSR1]);
    let child = selio::block_on(async {
        keys::raise(SIGUSR1);
        assert_eq!(signals.next().await.unwrap().unwrap().signo(), SIGUSR1);
        let pid = kit::fork();
        if pid == 0 {
            assert!(signals.next().await.unwrap().is_err());
            has_its_own(Found::Default);
        }
        pid
    });
    if child == 0 {
        drop(signals);
        has_its_own(Found::Default);
        std::process::exit(0);
    }
    assert!(kit::wait_status(child).success());
    assert_parent_is_whole(&mut signals);
}
