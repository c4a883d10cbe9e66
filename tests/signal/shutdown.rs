//! The end of a program: what asks for it once is heard, and what asks again ends it.
#![allow(unsafe_code, reason = "a terminal is opened, and taken, by system calls")]

use crate::kit;
use crate::kit::arrivals;
use crate::kit::keys;
use arrivals::{assert_none, expect, of, soon};
use selio::signal::{SIGHUP, SIGINT, SIGTERM, Signals, ctrl_c, shutdown};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("each_of_three_signals_asks_once_and_kills_then", each_of_three),
        ("a_ctrl_c_is_heard_once_and_kills_then", a_ctrl_c_is_heard_once),
        ("the_wait_begins_with_the_call", the_wait_begins_with_the_call),
        ("what_was_found_is_back_at_the_end_of_the_wait", what_was_found_is_back),
        ("a_waiting_program_is_woken", a_waiting_program_is_woken),
        ("several_hear_of_one_signal", several_hear_of_one_signal),
        ("an_ignored_hangup_stays_ignored", an_ignored_hangup_stays_ignored),
        ("an_ignored_hangup_that_another_waits_for", an_ignored_hangup_of_another),
        ("without_descriptors_it_is_an_error", without_descriptors),
        ("nothing_is_left_of_a_subscription", nothing_is_left),
        ("ctrl_c_on_a_terminal", || on_a_terminal(wait_for_ctrl_c)),
        ("ctrl_c_on_a_terminal_ends_shutdown", || on_a_terminal(wait_for_shutdown)),
        ("ctrl_c_on_a_terminal_after_a_stream", || on_a_terminal(wait_for_stream)),
        ("a_terminal_that_goes_away", a_terminal_that_goes_away),
    ])
}

const ASKING: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Runs a closure in a child and tells by which signal it was killed, if by any.
fn killer_of(body: impl FnOnce()) -> Option<i32> {
    let status = kit::wait_status(kit::in_child(body));
    assert!(status.signal().is_some() || status.success(), "{status}");
    status.signal()
}

fn each_of_three() {
    for signo in ASKING {
        let killer = killer_of(|| {
            let before = keys::dispositions();
            let asked = shutdown();
            assert_eq!(keys::changed_since(&before), [SIGHUP, SIGINT, SIGTERM]);
            keys::raise(signo);
            let info = soon(asked).unwrap();
            assert_eq!((info.signo(), info.pid() as i32), (signo, keys::own_pid()));
            assert_eq!(keys::changed_since(&before), []);
            keys::raise(signo);
        });
        assert_eq!(killer, Some(signo));
    }
}

fn a_ctrl_c_is_heard_once() {
    let killer = killer_of(|| {
        let before = keys::dispositions();
        let interrupted = ctrl_c();
        assert_eq!(keys::changed_since(&before), [SIGINT]);
        keys::raise(SIGINT);
        soon(interrupted).unwrap();
        assert_eq!(keys::changed_since(&before), []);
        keys::raise(SIGINT);
    });
    assert_eq!(killer, Some(SIGINT));
}

fn the_wait_begins_with_the_call() {
    // Two that are never polled, and the signal that comes meanwhile is forgotten with them.
    let (interrupted, asked) = (ctrl_c(), shutdown());
    keys::raise(SIGINT);
    drop((interrupted, asked));
    let mut interrupted = Box::pin(ctrl_c());
    assert!(kit::poll_with(&mut interrupted, Waker::noop()).is_pending());
    keys::raise(SIGINT);
    // Once, however late it is looked at.
    thread::sleep(Duration::from_millis(20));
    soon(interrupted).unwrap();
}

fn what_was_found_is_back() {
    extern "C" fn nothing(_: i32) {}
    let handler: extern "C" fn(i32) = nothing;
    for found in [libc::SIG_DFL, handler as usize] {
        for signo in ASKING {
            keys::set_handler(signo, found, 0);
        }
        let before = keys::dispositions();
        drop(ctrl_c());
        assert_eq!(keys::changed_since(&before), []);
        drop(shutdown());
        assert_eq!(keys::changed_since(&before), []);
        let mut asked = Box::pin(shutdown());
        assert!(kit::poll_with(&mut asked, Waker::noop()).is_pending());
        thread::spawn(move || drop(asked)).join().unwrap();
        assert_eq!(keys::changed_since(&before), []);
        let waits = [ctrl_c(), ctrl_c(), ctrl_c()];
        for wait in waits {
            assert_eq!(keys::changed_since(&before), [SIGINT]);
            drop(wait);
        }
        assert_eq!(keys::changed_since(&before), []);
        // The future is done but not dropped yet.
        let mut asked = Box::pin(shutdown());
        keys::raise(SIGTERM);
        assert_eq!(soon(&mut asked).unwrap().signo(), SIGTERM);
        assert_eq!(keys::changed_since(&before), []);
        drop(asked);
        assert_eq!(keys::changed_since(&before), []);
    }
}

fn a_waiting_program_is_woken() {
    let asked = shutdown();
    let thread = thread::spawn(|| {
        thread::sleep(Duration::from_millis(100));
        keys::raise(SIGTERM);
    });
    let info = kit::assert_quiet(|| soon(asked)).unwrap();
    assert_eq!(info.signo(), SIGTERM);
    thread.join().unwrap();
}

fn several_hear_of_one_signal() {
    let mut signals = of([SIGINT]);
    let (first, second, third) = (shutdown(), shutdown(), ctrl_c());
    keys::raise(SIGINT);
    assert_eq!(soon(first).unwrap().signo(), SIGINT);
    assert_eq!(soon(second).unwrap().signo(), SIGINT);
    soon(third).unwrap();
    expect(&mut signals, SIGINT);
    // The stream still holds it.
    keys::raise(SIGINT);
    expect(&mut signals, SIGINT);
}

// D14
fn an_ignored_hangup_stays_ignored() {
    keys::set_handler(SIGHUP, libc::SIG_IGN, 0);
    let before = keys::dispositions();
    let mut asked = Box::pin(shutdown());
    assert_eq!(keys::changed_since(&before), [SIGINT, SIGTERM]);
    keys::raise(SIGHUP);
    assert!(kit::poll_with(&mut asked, Waker::noop()).is_pending());
    // A program that is started meanwhile ignores it, too.
    let status = Command::new("sh").args(["-c", "kill -HUP $$"]).status().unwrap();
    assert!(status.success(), "{status}");
    keys::raise(SIGTERM);
    assert_eq!(soon(asked).unwrap().signo(), SIGTERM);
    assert_eq!(keys::changed_since(&before), []);
}

// D14: a daemon may read its settings again at a hangup, and was still started to survive it.
fn an_ignored_hangup_of_another() {
    keys::set_handler(SIGHUP, libc::SIG_IGN, 0);
    let before = keys::dispositions();
    let mut signals = of([SIGHUP]);
    let mut asked = Box::pin(shutdown());
    keys::raise(SIGHUP);
    expect(&mut signals, SIGHUP);
    assert!(kit::poll_with(&mut asked, Waker::noop()).is_pending());
    drop(signals);
    keys::raise(SIGHUP);
    assert!(kit::poll_with(&mut asked, Waker::noop()).is_pending());
    drop(asked);
    assert_eq!(keys::changed_since(&before), []);

    // One that was not ignored ends it, whoever else waits for it.
    keys::set_handler(SIGHUP, libc::SIG_DFL, 0);
    let mut signals = of([SIGHUP]);
    let asked = shutdown();
    keys::raise(SIGHUP);
    expect(&mut signals, SIGHUP);
    assert_eq!(soon(asked).unwrap().signo(), SIGHUP);
}

fn without_descriptors() {
    let before = keys::dispositions();
    // There is room for what block_on needs.
    selio::block_on(async {
        let limit = kit::set_nofile_limit(0);
        let (asked, interrupted) = (shutdown(), ctrl_c());
        assert_eq!(keys::changed_since(&before), []);
        assert_eq!(asked.await.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(interrupted.await.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        kit::set_nofile_limit(limit);
    });
    let asked = shutdown();
    keys::raise(SIGINT);
    assert_eq!(soon(asked).unwrap().signo(), SIGINT);
}

// D11
fn nothing_is_left() {
    let killer = killer_of(|| {
        let before = keys::dispositions();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut signals = of([SIGINT, SIGTERM]);
        let (tell, hears) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut signals = of([SIGINT]);
            tell.send(()).unwrap();
            expect(&mut signals, SIGINT);
            assert_eq!(kit::signal_mask(), []);
            // A reactor of this thread has waited for it; it ends with the thread.
        });
        hears.recv().unwrap();
        // It waits by then, unless the machine is busy.
        thread::sleep(Duration::from_millis(20));
        keys::raise(SIGINT);
        expect(&mut signals, SIGINT);
        thread.join().unwrap();
        assert_none(&mut signals);
        assert_eq!(kit::signal_sets(child.id() as i32).blocked, []);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(kit::thread_masks().values().all(Vec::is_empty));
        drop(signals);
        assert_eq!(keys::changed_since(&before), []);
        keys::raise(SIGINT);
    });
    assert_eq!(killer, Some(SIGINT));
}

/// A new terminal: the master's end, and the end for the programs.
fn open_terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let no_name = std::ptr::null_mut();
    let (no_settings, no_size) = (std::ptr::null(), std::ptr::null());
    // SAFETY: the two numbers live through the call, and the rest is not asked for.
    let opened =
        unsafe { libc::openpty(&raw mut master, &raw mut slave, no_name, no_settings, no_size) };
    if opened != 0 {
        kit::pass_over("no terminal can be opened here");
    }
    // SAFETY: the number is new, and nobody else has it.
    let master = unsafe { File::from_raw_fd(master) };
    // SAFETY: as above.
    (master, unsafe { OwnedFd::from_raw_fd(slave) })
}

/// Makes this process the leader of a session on the terminal.
fn take_terminal(slave: &OwnedFd) {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: the call takes nothing.
    assert_ne!(unsafe { libc::setsid() }, -1);
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }, 0);
}

/// Starts a program that is the first on a terminal, types Ctrl-C when it says that it is waiting,
/// and again when it says that it has heard of it.
fn on_a_terminal(wait: fn(&File)) {
    let (mut master, slave) = open_terminal();
    let (reader, writer) = kit::pipe();
    let pid = kit::in_child(|| {
        kit::raw_close(master.as_raw_fd());
        take_terminal(&slave);
        wait(&File::from(writer.try_clone().unwrap()));
        // It takes its time to end.
        thread::sleep(Duration::from_secs(60));
    });
    drop(writer);
    let mut said = [0];
    for _ in 0..2 {
        File::from(kit::dup(&reader)).read_exact(&mut said).unwrap();
        master.write_all(b"\x03").unwrap();
    }
    assert_eq!(kit::wait_status(pid).signal(), Some(SIGINT));
}

fn wait_for_ctrl_c(say: &File) {
    let interrupted = ctrl_c();
    keys::put(say);
    soon(interrupted).unwrap();
    keys::put(say);
}

fn wait_for_shutdown(say: &File) {
    let asked = shutdown();
    keys::put(say);
    let info = soon(asked).unwrap();
    // The terminal is the kernel's.
    assert_eq!((info.signo(), info.code(), info.pid()), (SIGINT, libc::SI_KERNEL, 0));
    keys::put(say);
}

fn wait_for_stream(say: &File) {
    let mut signals = Signals::new([SIGINT, SIGTERM]).unwrap();
    keys::put(say);
    expect(&mut signals, SIGINT);
    drop(signals);
    keys::put(say);
}

fn a_terminal_that_goes_away() {
    let (master, slave) = open_terminal();
    let (reader, writer) = kit::pipe();
    let pid = kit::in_child(|| {
        kit::raw_close(master.as_raw_fd());
        take_terminal(&slave);
        let asked = shutdown();
        keys::put(&File::from(kit::dup(&writer)));
        assert_eq!(soon(asked).unwrap().signo(), SIGHUP);
    });
    File::from(reader).read_exact(&mut [0]).unwrap();
    drop(master);
    assert!(kit::wait_status(pid).success());
    drop(slave);
}
