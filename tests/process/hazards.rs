//! What could make a child somebody else's, or somebody else a child.
#![allow(unsafe_code, reason = "processes that do what std's cannot")]

use crate::kit;
use crate::kit::children;
use selio::process::{Child, Command, exited};
use selio::time::{sleep, timeout};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);

/// Cases that are run with pidfds and, by another name, where there are none.
const CASES: &[(&str, fn())] = &[
    ("a_child_that_left_its_group_is_signalled_too", left_its_group),
    ("a_slow_start_stops_no_other_thread", slow_start),
    ("a_slow_start_delays_the_reaping_of_orphans", slow_start_beside_orphans),
    ("dropped_outside_of_block_on", dropped_outside),
    ("dropped_before_a_loop_that_ends", dropped_before_a_loop_that_ends),
    ("dropped_by_a_thread_that_never_waits", dropped_by_a_thread),
    ("a_forked_child_attends_to_nobody", forked_child),
    ("several_wait_at_once", several_wait),
    ("output_goes_both_ways", output_both_ways),
    ("a_grandchild_keeps_the_pipe", grandchild_keeps_the_pipe),
];

/// Cases that are about pidfds, or for which they make no difference.
const CASES_WITH_PIDFD: &[(&str, fn())] = &[
    ("room_for_one_descriptor_is_enough", room_for_one_descriptor),
    ("a_child_that_is_gone_before_it_is_watched", gone_before_it_is_watched),
    ("pidfd_is_refused_in_other_ways", pidfd_refused_otherwise),
    ("_ignores_its_children", ignores_its_children),
    ("a_number_that_is_another_childs_by_now", number_of_another_child),
    ("a_pipe_can_be_moved_out", pipe_moved_out),
    ("an_end_costs_few_calls", end_costs_few_calls),
    ("_ends", part_ends),
    ("exited_waits_for_any_process", exited_any),
];

pub(crate) fn cases() -> Vec<kit::Case> {
    [children::in_both_modes(CASES), kit::cases(CASES_WITH_PIDFD)].concat()
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

/// A command that does this between fork and exec.
fn with_pre_exec(
    program: &str,
    argument: &str,
    hook: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) -> Command {
    let mut command = std::process::Command::new(program);
    command.arg(argument);
    // SAFETY: every caller's closure makes system calls, and allocates nothing.
    unsafe { command.pre_exec(hook) };
    Command::from(command)
}

fn close(number: i32) {
    // SAFETY: this process is a copy that owns nothing.
    unsafe { libc::close(number) };
}

/// Leaves its group, in which a process stays behind, and is all the same ended by what is meant
/// for the group.
fn left_its_group() {
    // To see the end of the one that stays.
    become_subreaper();
    // SAFETY: the call takes nothing and always succeeds.
    let ours = unsafe { libc::getpgrp() };
    let mut command = with_pre_exec("sleep", "60", move || {
        // SAFETY: the process has one thread, and the child does nothing but wait.
        if unsafe { libc::fork() } == 0 {
            // Not to hold the pipe through which std hears of the exec.
            (3..64).for_each(close);
            loop {
                // SAFETY: the call takes nothing.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: the call takes two numbers.
        match unsafe { libc::setpgid(0, ours) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    let mut child = command.kill_group(true).spawn().unwrap();
    let pid = child.id() as i32;
    // SAFETY: the call takes a number.
    assert_eq!(unsafe { libc::getpgid(pid) }, ours);
    kit::kill(-pid, 0).expect("one has stayed in the group");
    child.kill().unwrap();
    let status = selio::block_on(timeout(LONG, child.status())).expect("it was killed");
    assert_eq!(status.unwrap().signal(), Some(libc::SIGKILL));
    kit::eventually("the one that stayed has ended", || kit::zombies().len() == 1);
    assert_eq!(kit::wait_status(kit::zombies()[0]).signal(), Some(libc::SIGKILL));
}

// E10, E23
fn room_for_one_descriptor() {
    children::need_pidfd();
    // The reactor has what it needs.
    selio::block_on(sleep(Duration::ZERO));
    let highest = kit::open_fds().last().unwrap().0 as u64;
    let before = kit::set_nofile_limit(highest + 2);
    let mut child = Command::new("true").spawn().unwrap();
    assert!(kit::disposition(libc::SIGCHLD).is_default());
    assert!(selio::block_on(child.status()).unwrap().success());
    drop(child);
    let mut child = sleeper();
    let error = Command::new("true").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    assert!(child.try_status().unwrap().is_none());
    child.kill().unwrap();
    assert_eq!(selio::block_on(child.status()).unwrap().signal(), Some(libc::SIGKILL));
    kit::set_nofile_limit(before);
    assert!(kit::zombies().is_empty());
}

// E06
fn gone_before_it_is_watched() {
    let inject = ["-e", "inject=pidfd_open:delay_enter=300000"];
    let Some((ended, _)) = kit::rerun("_ignores_its_children").strace_with(&inject) else {
        kit::pass_over("there is no strace that may trace");
    };
    ended.assert_success();
}

// E11: whatever else the kernel may say to it, there is another way.
fn pidfd_refused_otherwise() {
    for errno in [libc::EACCES, libc::ENODEV, libc::EINVAL] {
        kit::refuse(&[(libc::SYS_pidfd_open, errno)]);
        let mut child = sh("read x; exit 7").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        selio::block_on(async {
            let mut status = Box::pin(child.status());
            let early = timeout(Duration::from_millis(10), status.as_mut()).await;
            assert!(early.is_err(), "{errno}");
            drop(stdin);
            let status = timeout(LONG, status).await.expect("its end is heard of").unwrap();
            assert_eq!(status.code(), Some(7), "{errno}");
        });
    }
}

fn ignores_its_children() {
    // SAFETY: there is no handler to be kept.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let mut child = Command::new("true").spawn().unwrap();
    kit::assert_quiet(|| {
        let error = selio::block_on(timeout(LONG, child.status())).unwrap().unwrap_err();
        assert!(error.to_string().contains("SIGCHLD is ignored"), "{error}");
    });
    child.kill().unwrap();
    assert!(child.try_status().is_err());
}

// E04, E05
fn number_of_another_child() {
    children::need_pidfd();
    let mut first = sh("exit 3");
    let mut first = first.kill_group(true).spawn().unwrap();
    let pid = first.id();
    assert_eq!(kit::wait_status(pid as i32).code(), Some(3));
    let _turn = kit::choose_alone();
    let mut tries = 0;
    let mut second = loop {
        kit::choose_pid(pid);
        let mut child = sleeper();
        if child.id() == pid {
            break child;
        }
        child.kill().unwrap();
        selio::block_on(child.status()).unwrap();
        tries += 1;
        if tries == 50 {
            kit::pass_over(kit::TAKEN);
        }
    };
    first.kill().unwrap();
    let error = selio::block_on(timeout(LONG, first.status())).expect("it has ended").unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    drop(first);
    assert!(second.try_status().unwrap().is_none(), "a stranger was signalled, or reaped");
    second.kill().unwrap();
    assert_eq!(selio::block_on(second.status()).unwrap().signal(), Some(libc::SIGKILL));
}

/// Starts, on another thread, a child that gets no further than to its exec, and says so. It goes
/// on, and ends, when the end that is returned gets a byte.
fn start_slowly() -> (UnixStream, thread::JoinHandle<()>) {
    let (mut near, far) = UnixStream::pair().unwrap();
    let hook = move || {
        (&far).write_all(b"x")?;
        (&far).read_exact(&mut [0])
    };
    let mut command = with_pre_exec("sleep", "0", hook);
    let thread = thread::spawn(move || {
        let mut child = command.spawn().unwrap();
        assert!(selio::block_on(child.status()).unwrap().success());
    });
    near.read_exact(&mut [0]).unwrap();
    (near, thread)
}

fn slow_start() {
    let (done, finished) = mpsc::channel();
    let mut early = sleeper();
    let (mut near, thread) = start_slowly();
    let other = thread::spawn(move || {
        let started = Command::new("true").spawn().map(|mut child| {
            early.kill().unwrap();
            assert!(!selio::block_on(early.status()).unwrap().success());
            selio::block_on(child.status()).unwrap()
        });
        done.send(started.unwrap()).unwrap();
    });
    let status = finished.recv_timeout(LONG).expect("others start and are reaped meanwhile");
    assert!(status.success());
    near.write_all(b"x").unwrap();
    thread.join().unwrap();
    other.join().unwrap();
}

fn slow_start_beside_orphans() {
    become_subreaper();
    let (mut near, thread) = start_slowly();
    let orphan: u32 = selio::block_on(async {
        let reaper = selio::spawn(selio::process::reap_orphans(|_| false));
        let output = sh("sleep 0 >&2 & echo $!").stderr(Stdio::null()).output();
        let text = String::from_utf8(timeout(LONG, output).await.unwrap().unwrap().stdout).unwrap();
        sleep(Duration::from_millis(100)).await;
        reaper.abort();
        text.trim().parse().unwrap()
    });
    // While a child is being started, one that is not known may be that very child.
    near.write_all(b"x").unwrap();
    selio::block_on(async {
        let reaper = selio::spawn(selio::process::reap_orphans(|_| false));
        while std::fs::metadata(format!("/proc/{orphan}")).is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        reaper.abort();
    });
    thread.join().unwrap();
    assert!(kit::zombies().is_empty());
}

fn end_costs_few_calls() {
    children::need_pidfd();
    let Some((ended, trace)) = kit::rerun("_ends").strace() else {
        kit::pass_over("there is no strace that may trace");
    };
    ended.assert_success();
    let count = |from, to, call| trace.between(from, to).count(call);
    // Of one that runs: a look, the watch and its end, and the call that reaps.
    assert_eq!(count("awaited", "over", "waitid"), 20);
    assert_eq!(count("awaited", "over", "epoll_ctl"), 20);
    // Of one that is over there is nothing to be watched.
    assert_eq!(count("over", "done", "waitid"), 10);
    assert_eq!(count("over", "done", "epoll_ctl"), 0);
    for (call, calls) in [("pidfd_open", 20), ("eventfd2", 0), ("wait4", 0)] {
        assert_eq!(count("awaited", "done", call), calls, "{call}");
    }
}

fn part_ends() {
    selio::block_on(async {
        sleep(Duration::from_millis(1)).await;
        kit::mark("awaited");
        for _ in 0..10 {
            let herd = children::Herd::new();
            let mut child = herd.command().spawn().unwrap();
            let mut status = Box::pin(child.status());
            assert!(timeout(Duration::from_millis(1), status.as_mut()).await.is_err());
            herd.end();
            assert!(status.await.unwrap().success());
        }
        kit::mark("over");
        for _ in 0..10 {
            let mut child = Command::new("true").spawn().unwrap();
            children::until_ended(child.id());
            assert!(child.status().await.unwrap().success());
        }
        kit::mark("done");
    });
}

fn become_subreaper() {
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
}

// E08
fn dropped_before_a_loop_that_ends() {
    let mut child = sh("read x").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    drop(child);
    // It begins, attends to the child, and ends with its thread before the child does.
    thread::spawn(|| selio::block_on(async {})).join().unwrap();
    drop(stdin);
    kit::eventually("it has ended", || kit::zombies().len() == 1);
    selio::block_on(none_is_left());
}

// E08
fn dropped_outside() {
    for _ in 0..3 {
        drop(sh("sleep 0.1").spawn().unwrap());
    }
    selio::block_on(none_is_left());
    drop(sh("sleep 0.1").spawn().unwrap());
    kit::eventually("it has ended", || kit::zombies().len() == 1);
    selio::block_on(none_is_left());
}

// E08
fn dropped_by_a_thread() {
    let child = selio::block_on(async { sh("sleep 0.1").spawn() }).unwrap();
    thread::spawn(|| drop(child)).join().unwrap();
    selio::block_on(none_is_left());
}

fn forked_child() {
    drop(sh("sleep 0.2").spawn().unwrap());
    let copy = sleeper();
    let child = kit::in_child(|| {
        drop(copy);
        let mut own = selio::block_on(async { sh("exit 6").spawn() }).unwrap();
        assert_eq!(selio::block_on(own.status()).unwrap().code(), Some(6));
    });
    assert!(kit::wait_status(child).success());
    let task = format!("/proc/self/task/{}/children", std::process::id());
    let left = std::fs::read_to_string(task).unwrap();
    for pid in left.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()) {
        kit::kill(pid, libc::SIGKILL).unwrap();
    }
    selio::block_on(none_is_left());
}

async fn none_is_left() {
    let task = format!("/proc/self/task/{}/children", std::process::id());
    let gone = async {
        while !std::fs::read_to_string(&task).unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, gone).await.expect("all children are reaped");
}

fn pipe_moved_out() {
    let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.unwrap();
    let mut buffer = [0; 5];
    selio::block_on(stdout.read_exact(&mut buffer)).unwrap();
    assert_eq!(&buffer, b"hello");
}

// E21, E24
fn several_wait() {
    let mut child = sh("read x; exit 5").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    let (first, second, third) = (child.status(), child.status(), child.status());
    drop(child);
    let thread = thread::spawn(|| selio::block_on(third).unwrap().code());
    let ends = selio::block_on(async {
        let ends = selio::spawn(async { selio::join(first, second).await });
        sleep(Duration::from_millis(20)).await;
        drop(stdin);
        ends.await.unwrap()
    });
    let code = |status: std::io::Result<std::process::ExitStatus>| status.unwrap().code();
    assert_eq!((code(ends.0), code(ends.1)), (Some(5), Some(5)));
    assert_eq!(thread.join().unwrap(), Some(5));
    assert!(kit::zombies().is_empty());
}

fn output_both_ways() {
    let input = vec![b'x'; 4 << 20];
    let mut tee = sh("tee /dev/stderr");
    let child = tee.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = selio::block_on(child.unwrap().output_with_input(&input)).unwrap();
    assert!(output.status.success());
    assert!(output.stdout == input && output.stderr == input);
}

fn grandchild_keeps_the_pipe() {
    let output = sh("echo first; sleep 60 & echo $!").wait_delay(Duration::ZERO).output();
    let output = selio::block_on(timeout(LONG, output)).expect("it is given up").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pid = text.strip_prefix("first\n").unwrap().trim().parse().unwrap();
    kit::kill(pid, libc::SIGKILL).unwrap();
}

// E02
fn exited_any() {
    children::need_pidfd();
    let mut child = sh("sleep 60 & echo $!; wait").stdout(Stdio::piped()).spawn().unwrap();
    let mut buffer = [0; 32];
    let stdout = child.stdout.take().unwrap();
    let read = selio::block_on(stdout.read(&mut buffer)).unwrap();
    let pid: u32 = std::str::from_utf8(&buffer[..read]).unwrap().trim().parse().unwrap();
    let ends = exited(pid);
    kit::kill(pid as i32, libc::SIGKILL).unwrap();
    selio::block_on(timeout(LONG, ends)).unwrap().unwrap();
    selio::block_on(timeout(LONG, child.status())).unwrap().unwrap();
    assert_eq!(selio::block_on(exited(child.id())).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}
