//! Children and what is heard of their end. Every case runs with pidfds, and where a kernel, a
//! sandbox or a lack of descriptors refuses them, so that SIGCHLD has to do.
#![allow(unsafe_code, reason = "ending a main thread alone, and functions before exec")]

use crate::kit;
use crate::kit::children;
use crate::kit::keys;
use children::{
    assert_code, at_once, has_pidfd, idle_quietly, is_alive, let_go, millis, number, sh, soon,
    start, start_waiting, until_ended,
};
use selio::block_on;
use selio::process::{Command, exited};
use selio::time::{sleep, timeout};
use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Context;
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("already_dead", already_dead),
        ("not_our_child", not_our_child),
        ("wrong_numbers", wrong_numbers),
        ("nobody_has_the_number", nobody_has_the_number),
        ("number_of_a_thread", number_of_a_thread),
        ("exited_waits_for_who_had_the_number", exited_waits_for_who_had_the_number),
        ("dropped_before_the_end_nothing_is_left", dropped_before_the_end),
        ("status_taken_while_it_is_awaited", status_taken_while_it_is_awaited),
        ("status_taken_before_it_is_awaited", status_taken_before_it_is_awaited),
        ("sigchld_ignored", sigchld_ignored),
        ("no_zombies_wanted", no_zombies_wanted),
        ("children_of_std_are_left_to_std", children_of_std_are_left_to_std),
        ("woken_while_the_child_runs", woken_while_the_child_runs),
        ("told_to_its_tracer_first", told_to_its_tracer_first),
        ("main_thread_gone", main_thread_gone),
        ("stopped_is_not_ended", stopped_is_not_ended),
        ("ended_and_not_awaited_is_quiet", ended_and_not_awaited_is_quiet),
        ("statuses_are_those_of_std", statuses_are_those_of_std),
        ("status_dropped_and_asked_again", status_dropped_and_asked_again),
        ("last_waker_is_woken", last_waker_is_woken),
        ("ends_while_the_waker_is_left", ends_while_the_waker_is_left),
        ("hostile_waker_disturbs_no_other", hostile_waker_disturbs_no_other),
        ("heard_of_beside_a_task_that_never_sleeps", heard_of_beside_a_busy_task),
        ("polled_too_often", polled_too_often),
        ("kill_after_the_end_is_nothing", kill_after_the_end_is_nothing),
        ("signals_are_left_alone", signals_are_left_alone),
        ("several_wait_for_one", several_wait_for_one),
        ("status_outlives_its_child", status_outlives_its_child),
    ])
}

// E01
fn already_dead() {
    let mut child = start("exit 3");
    until_ended(child.id());
    thread::sleep(millis(20));
    soon(exited(child.id())).unwrap();
    soon(exited(child.id())).unwrap();
    assert_code(soon(child.status()).unwrap(), 3);
    // Its SIGCHLD came when nobody waited, and when somebody waited for something else.
    let mut child = start("exit 4");
    soon(async {
        sleep(millis(50)).await;
        exited(child.id()).await.unwrap();
        assert_code(child.status().await.unwrap(), 4);
    });
    idle_quietly();
}

// E02
fn not_our_child() {
    let mut command = sh("exec 3<&0; cat <&3 & echo $!; wait");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let grandchild = number(child.stdout.as_ref().unwrap());
    let before = kit::open_fds().len();
    let wait = exited(grandchild);
    if has_pidfd() {
        let mut wait = pin!(wait);
        let nothing = block_on(timeout(millis(50), wait.as_mut()));
        assert!(nothing.is_err(), "it lives");
        let_go(&mut child);
        soon(wait).unwrap();
    } else {
        let error = soon(wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let_go(&mut child);
        assert!(kit::open_fds().len() <= before, "its stdin is gone, and nothing else is left");
    }
    assert!(soon(child.status()).unwrap().success());
    idle_quietly();
}

// E03
fn wrong_numbers() {
    let open = kit::open_fds();
    for wrong in [0, u32::MAX, 1 << 31, i32::MAX as u32 + 1] {
        let error = at_once(exited(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        assert!(error.to_string().contains(&wrong.to_string()), "{error}");
    }
    assert_eq!(kit::open_fds(), open);
}

// E03
fn nobody_has_the_number() {
    let mut child = start("exit 0");
    let pid = child.id();
    soon(child.status()).unwrap();
    drop(child);
    for nobody in [i32::MAX as u32, pid] {
        let error = at_once(exited(nobody)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{nobody}: {error}");
    }
    assert!(kit::disposition(libc::SIGCHLD).is_default());
}

// E03
fn number_of_a_thread() {
    let (stop, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || wait.recv());
    let number = kit::thread_masks().into_keys().find(|&id| id != keys::own_pid()).unwrap();
    let error = at_once(exited(number as u32)).unwrap_err();
    let blames_the_system = error.kind() == ErrorKind::Unsupported;
    assert_eq!(blames_the_system, !has_pidfd(), "{error}");
    drop(stop);
    assert!(thread.join().unwrap().is_err());
}

// E03: looked up by the call.
fn exited_waits_for_who_had_the_number() {
    let mut child = start("exit 0");
    until_ended(child.id());
    let wait = exited(child.id());
    soon(child.status()).unwrap();
    // Reaped by now, and the number may be anybody's.
    soon(wait).unwrap();
}

fn dropped_before_the_end() {
    let mut child = start_waiting(0);
    let pid = child.id();
    let wait_a_while = || {
        assert!(block_on(timeout(millis(5), exited(pid))).is_err());
        drop(exited(pid));
    };
    // What the thread keeps is made before.
    wait_a_while();
    let open = kit::open_fds();
    (0..10).for_each(|_| wait_a_while());
    assert_eq!(kit::open_fds(), open);
    let_go(&mut child);
    assert!(soon(child.status()).unwrap().success());
    drop(child);
    assert!(kit::disposition(libc::SIGCHLD).is_default());
}

/// Asserts that what is said of a child whose status is gone is an error, now and ever after.
#[track_caller]
fn assert_taken(child: &mut selio::process::Child) {
    for _ in 0..2 {
        let error = soon(child.status()).unwrap_err();
        assert!(error.to_string().contains("somebody else"), "{error}");
        assert!(child.try_status().is_err());
    }
    assert!(child.usage().is_none());
    child.kill().unwrap();
    child.signal(libc::SIGTERM).unwrap();
}

// E05
fn status_taken_while_it_is_awaited() {
    let open = kit::open_fds().len();
    let mut child = start_waiting(0);
    let mut stdin = child.stdin.take();
    let pid = child.id() as i32;
    let error = soon(async {
        let waiting = selio::spawn(child.status());
        sleep(millis(20)).await;
        drop(stdin.take());
        assert!(kit::wait_status(pid).success());
        waiting.await.unwrap().unwrap_err()
    });
    assert!(error.to_string().contains("somebody else"), "{error}");
    assert_taken(&mut child);
    idle_quietly();
    drop(child);
    // What a thread keeps: an epoll set and an eventfd, and for SIGCHLD the pipe.
    assert!(kit::open_fds().len() <= open + 5, "{:?}", kit::open_fds());
    let left = kit::open_fds().iter().filter(|(_, what)| what.contains("pidfd")).count();
    assert_eq!(left, 0);
}

// E05
fn status_taken_before_it_is_awaited() {
    let mut child = start("exit 0");
    assert!(kit::wait_status(child.id() as i32).success());
    assert_taken(&mut child);
    idle_quietly();
}

/// Children that the kernel reaps: they are gone as soon as they end.
fn are_reaped_by_the_kernel() {
    let mut child = start_waiting(0);
    let mut stdin = child.stdin.take();
    let error = soon(async {
        let waiting = selio::spawn(child.status());
        sleep(millis(20)).await;
        drop(stdin.take());
        waiting.await.unwrap().unwrap_err()
    });
    assert!(error.to_string().contains("SIGCHLD"), "{error}");
    assert_taken(&mut child);
    idle_quietly();
}

// E06
fn sigchld_ignored() {
    keys::set_handler(libc::SIGCHLD, libc::SIG_IGN, 0);
    are_reaped_by_the_kernel();
    assert!(kit::disposition(libc::SIGCHLD).is_ignored());
}

// E06
fn no_zombies_wanted() {
    keys::set_handler(libc::SIGCHLD, libc::SIG_DFL, libc::SA_NOCLDWAIT);
    are_reaped_by_the_kernel();
    assert!(kit::zombies().is_empty());
}

// E12
fn children_of_std_are_left_to_std() {
    let mut theirs = std::process::Command::new("sh").args(["-c", "exit 6"]).spawn().unwrap();
    let mut ours = start("exit 7");
    until_ended(theirs.id());
    assert_code(soon(ours.status()).unwrap(), 7);
    drop(start("exit 8"));
    idle_quietly();
    assert_eq!(theirs.wait().unwrap().code(), Some(6));
}

// E13
fn woken_while_the_child_runs() {
    let mut child = start_waiting(5);
    let stdin = child.stdin.take();
    block_on(async {
        let (counter, waker) = kit::CountingWaker::new();
        let mut status = Box::pin(child.status());
        for _ in 0..100 {
            let polled = status.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert!(counter.wakers() <= 2, "one waker is kept, not one for each poll");
        }
        kit::assert_quiet(|| block_on(sleep(millis(100))));
        assert_eq!(counter.wakes(), 0);
        drop(stdin);
        let status = timeout(millis(5000), status).await;
        assert_code(status.unwrap().unwrap(), 5);
    });
}

/// A process that traces a child of ours, and takes note of its end when it is told to.
struct Tracer {
    pid: i32,
    go: File,
}

impl Tracer {
    /// `closes` is what the child waits to be closed, of which the tracer has a copy.
    fn of(child: u32, closes: RawFd) -> Self {
        let ((told, tells), (waits, go)) = (kit::pipe(), kit::pipe());
        let (mut told, mut waits) = (File::from(told), File::from(waits));
        let pid = kit::in_child(|| {
            kit::raw_close(closes);
            let (none, child) = (std::ptr::null_mut::<libc::c_void>(), child as i32);
            // SAFETY: this request takes a number, and none of the pointers.
            let traces = unsafe { libc::ptrace(libc::PTRACE_SEIZE, child, none, none) } == 0;
            File::from(kit::dup(&tells)).write_all(&[u8::from(traces)]).unwrap();
            if traces {
                waits.read_exact(&mut [0]).unwrap();
                kit::wait_status(child);
            }
        });
        drop(tells);
        let mut traces = [0];
        told.read_exact(&mut traces).unwrap();
        if traces == [0] {
            kit::pass_over("nobody may trace here");
        }
        Self { pid, go: go.into() }
    }

    fn lets_go(mut self) {
        self.go.write_all(b"x").unwrap();
        assert!(kit::wait_status(self.pid).success());
    }
}

// E13: a pidfd is readable when the child has ended, also while only its tracer may know of that.
fn told_to_its_tracer_first() {
    for waits_before in [true, false] {
        let mut child = start_waiting(5);
        let stdin = child.stdin.take().unwrap();
        let tracer = Tracer::of(child.id(), stdin.as_fd().as_raw_fd());
        let mut status = Box::pin(child.status());
        if waits_before {
            assert!(block_on(timeout(millis(10), status.as_mut())).is_err());
        }
        drop(stdin);
        until_ended(child.id());
        let early = kit::assert_quiet(|| block_on(timeout(millis(100), status.as_mut())));
        assert!(early.is_err(), "its tracer has not let go of it");
        assert!(child.try_status().unwrap().is_none());
        tracer.lets_go();
        assert_code(soon(status).unwrap(), 5);
        assert_code(soon(child.status()).unwrap(), 5);
    }
}

/// A child whose main thread ends at once, and which ends with code 9 when its input is closed.
fn without_main_thread() -> selio::process::Child {
    let mut command = std::process::Command::new("true");
    command.stdin(Stdio::piped());
    // SAFETY: the case has one thread, so that in the forked child anything may be done.
    unsafe { command.pre_exec(lose_main_thread) };
    Command::from(command).spawn().unwrap()
}

fn lose_main_thread() -> std::io::Result<()> {
    thread::spawn(|| {
        // The pipe by which std is told that exec has worked, among others.
        for fd in 3..100 {
            // SAFETY: nobody uses these numbers here any more.
            unsafe { libc::close(fd) };
        }
        let mut line = String::new();
        _ = std::io::stdin().read_line(&mut line);
        // SAFETY: it ends the process.
        unsafe { libc::_exit(9) }
    });
    // SAFETY: it ends this thread, whose stack nobody needs any more.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}

// E15
fn main_thread_gone() {
    let mut child = without_main_thread();
    until_ended(child.id());
    let stdin = child.stdin.take();
    block_on(async {
        let mut status = Box::pin(child.status());
        let early = kit::assert_quiet(|| block_on(timeout(millis(100), status.as_mut())));
        assert!(early.is_err(), "a thread still runs");
        assert!(child.try_status().unwrap().is_none());
        drop(stdin);
        assert_code(timeout(millis(5000), status).await.unwrap().unwrap(), 9);
    });
}

fn stopped_is_not_ended() {
    let mut child = start_waiting(0);
    let stdin = child.stdin.take();
    let mut status = Box::pin(child.status());
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        child.signal(signal).unwrap();
        let early = kit::assert_quiet(|| block_on(timeout(millis(100), status.as_mut())));
        assert!(early.is_err(), "it has not ended");
    }
    drop(stdin);
    assert!(soon(status).unwrap().success());
}

// E16
fn ended_and_not_awaited_is_quiet() {
    let mut child = start_waiting(2);
    let stdin = child.stdin.take();
    let status = child.status();
    block_on(async {
        let mut status = pin!(status);
        assert!(timeout(millis(10), status.as_mut()).await.is_err());
        drop(stdin);
        until_ended(child.id());
        // Registered, readable, and nobody asks.
        kit::assert_quiet(|| block_on(sleep(millis(300))));
        assert_code(status.await.unwrap(), 2);
        kit::assert_quiet(|| block_on(sleep(millis(150))));
    });
}

// E20
fn statuses_are_those_of_std() {
    let ends = |program: &str| {
        let ours = sh(program).stderr(Stdio::null()).status();
        let theirs = std::process::Command::new("sh")
            .args(["-c", program])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(soon(ours).unwrap(), theirs, "{program}");
        theirs
    };
    assert_eq!(ends("kill -9 $$").signal(), Some(9));
    assert_eq!(ends("kill -TERM $$").signal(), Some(15));
    // Whether there is a core depends on limits, on where it may be left, and on the kernel's mood: it
    // says itself what it made of this one.
    let place = kit::Directory::new();
    for limit in ["0", "unlimited"] {
        let program = format!("cd {} && ulimit -c {limit}; kill -ABRT $$", place.path().display());
        let mut child = sh(&program).stderr(Stdio::null()).spawn().unwrap();
        until_ended(child.id());
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let told: i32 = stat.split_whitespace().last().unwrap().parse().unwrap();
        let status = soon(child.status()).unwrap();
        assert_eq!((status.signal(), status.into_raw()), (Some(6), told));
    }
    // All of them once.
    let step = if has_pidfd() { 1 } else { 15 };
    let codes = (0..=255).step_by(step).map(|code| (code, sh(&format!("exit {code}")).status()));
    let codes: Vec<_> = codes.collect();
    soon(async {
        for (code, status) in codes {
            assert_code(status.await.unwrap(), code);
        }
    });
}

// E21, J01
fn status_dropped_and_asked_again() {
    let mut child = start_waiting(7);
    let stdin = child.stdin.take();
    soon(async {
        // Dropped unpolled, after a poll, and in the turn in which another one has reaped.
        drop(child.status());
        let mut polled = Box::pin(child.status());
        assert!(kit::poll_with(&mut polled, &kit::noop_waker()).is_pending());
        drop(polled);
        let mut one = Box::pin(child.status());
        let mut other = Box::pin(child.status());
        assert!(kit::poll_with(&mut one, &kit::noop_waker()).is_pending());
        assert!(kit::poll_with(&mut other, &kit::noop_waker()).is_pending());
        drop(stdin);
        until_ended(child.id());
        assert!(kit::poll_once(child.status()).is_ready(), "reaped, and the status thrown away");
        drop(one);
        assert_code(other.await.unwrap(), 7);
        assert_code(child.status().await.unwrap(), 7);
        assert!(child.try_status().unwrap().is_some());
    });
}

// B16
fn last_waker_is_woken() {
    let mut child = start_waiting(0);
    let pid = child.id();
    let stdin = child.stdin.take();
    let (first, first_waker) = kit::CountingWaker::new();
    let (last, last_waker) = kit::CountingWaker::new();
    soon(async {
        let mut waits: [Pin<Box<dyn Future<Output = _>>>; 2] =
            [Box::pin(async { child.status().await.map(drop) }), Box::pin(exited(pid))];
        for wait in &mut waits {
            assert!(kit::poll_with(wait, &first_waker).is_pending());
            assert!(kit::poll_with(wait, &last_waker).is_pending());
        }
        drop(stdin);
        until_ended(pid);
        while last.wakes() < 2 {
            sleep(millis(1)).await;
        }
        assert_eq!((first.wakes(), last.wakes()), (0, 2));
        for wait in waits.iter_mut().rev() {
            assert!(kit::poll_with(wait, &first_waker).is_ready());
        }
    });
}

/// What the tests of wakers wait for: the status, or only the end.
type Wait = Pin<Box<dyn Future<Output = std::io::Result<()>>>>;

fn both_waits(child: &mut selio::process::Child) -> [Wait; 2] {
    let status = child.status();
    [Box::pin(async { status.await.map(drop) }), Box::pin(exited(child.id()))]
}

// B17: it ends while the waker is being cloned, after the look that found it running, and the loop
// has heard of it when the waker is left.
fn ends_while_the_waker_is_left() {
    for (which, watched) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut child = start_waiting(8);
        let (pid, stdin) = (child.id(), Mutex::new(child.stdin.take()));
        let wait = &mut both_waits(&mut child)[which];
        if watched {
            assert!(block_on(timeout(millis(5), wait.as_mut())).is_err());
        }
        let woken = Arc::new(AtomicBool::new(false));
        let notes = Arc::clone(&woken);
        let lets_it_end = move || {
            drop(stdin.lock().unwrap().take());
            until_ended(pid);
            block_on(sleep(millis(5)));
        };
        let waker = kit::hostile()
            .on_clone(lets_it_end)
            .on_wake(move || notes.store(true, Ordering::SeqCst))
            .waker();
        soon(async {
            while kit::poll_with(wait, &waker).is_pending() {
                while !woken.swap(false, Ordering::SeqCst) {
                    sleep(millis(1)).await;
                }
            }
        });
        assert_code(soon(child.status()).unwrap(), 8);
    }
}

// H11
fn hostile_waker_disturbs_no_other() {
    for hostile in [kit::panics_on_wake(), kit::panics_on_drop(), kit::panics_on_clone()] {
        let mut child = start_waiting(6);
        let stdin = child.stdin.take();
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(child.status())).collect();
        let (first, first_waker) = kit::CountingWaker::new();
        let (last, last_waker) = kit::CountingWaker::new();
        block_on(async {
            assert!(kit::poll_with(&mut waits[0], &first_waker).is_pending());
            let poll = || kit::poll_with(&mut waits[1], &hostile).is_ready();
            assert!(!catch_unwind(AssertUnwindSafe(poll)).unwrap_or(false));
            assert!(kit::poll_with(&mut waits[2], &last_waker).is_pending());
        });
        drop(stdin);
        kit::eventually("both are woken", || {
            // A panic is for who runs the loop.
            _ = catch_unwind(|| block_on(sleep(millis(1))));
            first.wakes() > 0 && last.wakes() > 0
        });
        let poll = || _ = kit::poll_with(&mut waits[1], &kit::noop_waker());
        _ = catch_unwind(AssertUnwindSafe(poll));
        for wait in [0, 2] {
            assert_code(soon(&mut waits[wait]).unwrap(), 6);
        }
        assert_code(soon(child.status()).unwrap(), 6);
        std::mem::forget(hostile);
    }
}

// G06
fn heard_of_beside_a_busy_task() {
    let mut child = start_waiting(3);
    let (pid, stdin) = (child.id(), child.stdin.take());
    block_on(async {
        let waits = both_waits(&mut child).map(selio::spawn);
        assert!(timeout(millis(10), std::future::pending::<()>()).await.is_err());
        drop(stdin);
        until_ended(pid);
        // A zombie shows a moment before its signal comes.
        thread::sleep(millis(10));
        let mut polls = 0;
        while !waits.iter().all(|wait| wait.is_finished()) && polls < 100_000 {
            polls += 1;
            selio::yield_now().await;
        }
        assert!(polls <= 400, "{polls} polls went before the end of the child");
    });
    assert_code(soon(child.status()).unwrap(), 3);
}

// G12
fn polled_too_often() {
    let mut child = start_waiting(5);
    let stdin = child.stdin.take();
    block_on(async {
        let (counter, waker) = kit::CountingWaker::new();
        let mut waits = both_waits(&mut child);
        for wait in &mut waits {
            for _ in 0..1000 {
                assert!(kit::poll_with(wait, &waker).is_pending());
            }
        }
        assert!(counter.wakers() <= 3, "{} wakers have piled up", counter.wakers());
        // Now and then the budget of the task is used up.
        assert!(counter.wakes() <= 20, "{} wakes for nothing", counter.wakes());
        drop(stdin);
        for wait in waits {
            timeout(millis(5000), wait).await.unwrap().unwrap();
        }
    });
    assert_code(soon(child.status()).unwrap(), 5);
}

// E22
fn kill_after_the_end_is_nothing() {
    let mut child = start("exit 1");
    until_ended(child.id());
    child.kill().unwrap();
    child.signal(libc::SIGTERM).unwrap();
    assert_code(soon(child.terminate(millis(0))).unwrap(), 1);
    child.kill().unwrap();
    child.signal(libc::SIGTERM).unwrap();
    assert_code(soon(child.terminate(millis(0))).unwrap(), 1);
    for wrong in [-1, 65, i32::MAX, i32::MIN] {
        let error = child.signal(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

// E25
fn signals_are_left_alone() {
    kit::block_signal(libc::SIGHUP);
    let (mask, before) = (kit::signal_mask(), keys::dispositions());
    let state = || (kit::signal_mask(), keys::changed_since(&before));
    // Not a shell, which catches SIGCHLD itself.
    let start = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut child = start();
    let expected = if has_pidfd() { vec![] } else { vec![libc::SIGCHLD] };
    let stdin = child.stdin.take();
    block_on(async {
        let mut status = pin!(child.status());
        assert!(timeout(millis(10), status.as_mut()).await.is_err());
        assert_eq!(state(), (mask.clone(), expected.clone()));
        // Children have the caller's mask, and nothing of ours.
        let sets = kit::signal_sets(child.id() as i32);
        assert_eq!((sets.blocked, sets.caught), (mask.clone(), vec![]));
        drop(stdin);
        status.await.unwrap();
    });
    drop(child);
    assert_eq!(state(), (mask.clone(), vec![]));
    // Also for one that is dropped while it runs.
    let mut child = start();
    let stdin = child.stdin.take();
    block_on(async {
        drop(child);
        assert_eq!(state(), (mask.clone(), expected));
        drop(stdin);
        while !children::children().is_empty() {
            sleep(millis(1)).await;
        }
    });
    assert_eq!(state(), (mask, vec![]));
}

fn several_wait_for_one() {
    let open = kit::open_fds();
    let mut child = start_waiting(11);
    let (pid, stdin) = (child.id(), child.stdin.take());
    soon(async {
        let waits: Vec<_> = (0..10).map(|_| selio::spawn(child.status())).collect();
        let exits: Vec<_> = (0..10).map(|_| selio::spawn(exited(pid))).collect();
        sleep(millis(10)).await;
        drop(stdin);
        for wait in waits {
            assert_code(wait.await.unwrap().unwrap(), 11);
        }
        for exit in exits {
            exit.await.unwrap().unwrap();
        }
    });
    drop(child);
    assert!(kit::open_fds().len() <= open.len() + 5, "{:?}", kit::open_fds());
}

fn status_outlives_its_child() {
    let mut child = start_waiting(12);
    let (pid, stdin) = (child.id(), child.stdin.take());
    soon(async {
        let first = child.status();
        let second = selio::spawn(child.status());
        sleep(millis(10)).await;
        drop(child);
        assert!(is_alive(pid));
        drop(stdin);
        assert_code(second.await.unwrap().unwrap(), 12);
        // Polled for the first time when all is over.
        assert_code(first.await.unwrap(), 12);
    });
}
