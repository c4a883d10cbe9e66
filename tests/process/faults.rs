//! Children where the kernel refuses something after, or before, they were started: nothing is left
//! behind, and what can be tried again can be. The cases run with pidfds, and without.

use crate::kit;
use crate::kit::children;
use children::{
    Herd, assert_code, assert_nothing_left, has_pidfd, millis, sh, soon, start, start_waiting,
    until_ended,
};
use selio::block_on;
use selio::process::{Child, Command};
use selio::time::{sleep, timeout};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("each_lack_of_descriptors_at_the_start", each_lack_of_descriptors_at_the_start),
        ("each_lack_of_descriptors_with_pipes", each_lack_of_descriptors_with_pipes),
        ("status_without_descriptors_can_be_asked_again", status_without_descriptors),
        ("no_room_in_epoll_at_status", no_room_in_epoll_at_status),
        ("no_room_in_epoll_at_drop", no_room_in_epoll_at_drop),
        ("no_eventfd_starts_nothing", no_eventfd_starts_nothing),
        ("no_pipe_for_signals", no_pipe_for_signals),
        ("no_signalfd", no_signalfd),
        ("no_handler_for_signals", no_handler_for_signals),
        ("no_pidfd_send_signal", no_pidfd_send_signal),
        ("no_waitid_by_pidfd", no_waitid_by_pidfd),
        ("many_children_and_few_descriptors", many_children_and_few_descriptors),
        ("_refused_once", part_refused_once),
    ])
}

/// The program runs but for lack of descriptors: whatever the limit is, the start works, or is an
/// error that says so, and leaves nothing.
fn with_each_limit(start: impl Fn() -> io::Result<Child>) {
    // What is made once and kept: the pipe of the signals.
    soon(sh("exit 0").status()).unwrap();
    let open = kit::open_fds();
    let (mut failed, mut worked) = (0, 0);
    for room in 3..40 {
        let limit = kit::set_nofile_limit(room);
        let started = start();
        kit::set_nofile_limit(limit);
        match started {
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{room}: {error}");
                failed += 1;
            }
            Ok(mut child) => {
                assert_code(soon(child.status()).unwrap(), 3);
                worked += 1;
            }
        }
        assert_nothing_left(&open);
        assert!(kit::disposition(libc::SIGCHLD).is_default());
    }
    assert!(failed > 0 && worked > 10, "{failed} failed, {worked} worked");
}

// E10
fn each_lack_of_descriptors_at_the_start() {
    with_each_limit(|| sh("exit 3").spawn());
}

// E10
fn each_lack_of_descriptors_with_pipes() {
    with_each_limit(|| {
        let mut command = sh("exit 3");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    });
}

// E10
fn status_without_descriptors() {
    // On this thread there is a loop already, but no port for signals.
    block_on(sleep(millis(1)));
    let mut child = start_waiting(4);
    let stdin = child.stdin.take();
    block_on(async {
        // The lowest by which there can be a descriptor at all.
        let limit = kit::set_nofile_limit(4);
        let tried = timeout(millis(20), child.status()).await;
        let output = child.try_status();
        kit::set_nofile_limit(limit);
        assert!(output.unwrap().is_none());
        match tried {
            // The pidfd is there, and takes no other descriptor to be watched.
            Err(_) => assert!(has_pidfd()),
            Ok(refused) => {
                assert!(!has_pidfd());
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EMFILE));
            }
        }
        let mut again = Box::pin(child.status());
        assert!(timeout(millis(10), again.as_mut()).await.is_err());
        drop(stdin);
        assert_code(timeout(millis(5000), again).await.unwrap().unwrap(), 4);
    });
}

/// Waits for a child whose descriptor epoll may refuse at the first time.
fn part_refused_once() {
    let mut child = start_waiting(5);
    let stdin = child.stdin.take();
    block_on(async {
        sleep(millis(1)).await;
        kit::mark("asked");
        let first = timeout(millis(20), child.status()).await;
        kit::mark("asked again");
        if std::env::var_os("REFUSED").is_some() {
            let error = first.expect("it is refused").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        } else {
            assert!(first.is_err());
        }
        let mut again = Box::pin(child.status());
        assert!(timeout(millis(20), again.as_mut()).await.is_err());
        drop(stdin);
        assert_code(timeout(millis(5000), again).await.unwrap().unwrap(), 5);
    });
    assert_eq!(children::children(), []);
}

// E10: as often as epoll is asked for something when the status is, it refuses.
fn no_room_in_epoll_at_status() {
    let part = || children::part("_refused_once");
    let Some((ended, trace)) = part().strace() else { kit::pass_over("strace is missing") };
    ended.assert_success();
    let asked = trace.between("asked", "asked again");
    let added = asked.calls("epoll_ctl").into_iter();
    let asked = added.take_while(|call| call.contains("EPOLL_CTL_ADD")).count();
    let all = trace.lines.iter().position(|line| line.contains("\"asked\"")).unwrap();
    let before = kit::Trace { lines: trace.lines[..all].to_vec() }.count("epoll_ctl");
    assert!(asked > 0, "{:?}", trace.lines);
    for nth in before + 1..=before + asked {
        // The children of the part are traced as well, but have no epoll set.
        let inject = format!("inject=epoll_ctl:error=ENOSPC:when={nth}");
        let again = part().env("REFUSED", "").strace_with(&["-e", &inject]);
        again.expect("strace is there").0.assert_success();
    }
}

// E10: what cannot be watched where it is dropped is reaped when others are started.
fn no_room_in_epoll_at_drop() {
    let herd = Herd::new();
    let all: Vec<_> = (0..10).map(|_| herd.command().spawn().unwrap()).collect();
    block_on(async {
        sleep(millis(1)).await;
        kit::refuse_when(libc::SYS_epoll_ctl, 1, libc::EPOLL_CTL_ADD as u32, libc::ENOSPC);
        drop(all);
        herd.end();
        kit::eventually("all have ended", || kit::zombies().len() == 10);
        let mut last = start("exit 2");
        until_ended(last.id());
        assert_code(last.try_status().unwrap().unwrap(), 2);
    });
    assert_eq!(children::children(), []);
}

// E10
fn no_eventfd_starts_nothing() {
    let open = kit::open_fds();
    kit::refuse(&[(libc::SYS_eventfd2, libc::EMFILE)]);
    let mut command = sh("echo > /dev/null; exit 3");
    let error = command.spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    assert!(kit::poll_once(command.output()).is_ready());
    assert_nothing_left(&open);
}

/// Asserts that nothing is left of a start that failed after the child was there.
#[track_caller]
fn assert_start_fails_if(refused: bool, errno: i32) {
    let open = kit::open_fds();
    let caught = kit::signal_sets(std::process::id() as i32).caught;
    let started = sh("sleep 60").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    if !refused {
        started.unwrap().kill().unwrap();
        return;
    }
    assert_eq!(started.unwrap_err().raw_os_error(), Some(errno));
    assert_nothing_left(&open);
    assert_eq!(kit::signal_sets(std::process::id() as i32).caught, caught);
}

// E10
fn no_pipe_for_signals() {
    // std's pipes are made by `pipe2` with other flags.
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    kit::refuse_when(libc::SYS_pipe2, 1, flags as u32, libc::ENFILE);
    assert_start_fails_if(!has_pidfd(), libc::ENFILE);
}

// E10
fn no_handler_for_signals() {
    // The pipe of the signals is kept.
    soon(sh("exit 0").status()).unwrap();
    let which = libc::SIGCHLD as u32;
    kit::refuse_when(libc::SYS_rt_sigaction, 0, which, libc::ENOMEM);
    assert_start_fails_if(!has_pidfd(), libc::ENOMEM);
}

// E10
fn no_signalfd() {
    kit::refuse(&[(libc::SYS_signalfd4, libc::ENFILE)]);
    let mut child = start_waiting(3);
    let stdin = child.stdin.take();
    block_on(async {
        match timeout(millis(20), child.status()).await {
            Err(_) => assert!(has_pidfd()),
            Ok(refused) => {
                assert!(!has_pidfd());
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENFILE));
            }
        }
        drop(stdin);
        until_ended(child.id());
        assert_code(child.status().await.unwrap(), 3);
        // Dropped where nobody can hear of it.
        drop(Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap());
    });
}

fn no_pidfd_send_signal() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        kit::refuse(&[(libc::SYS_pidfd_send_signal, errno)]);
        for group in [false, true] {
            let mut child = Command::new("sleep").arg("60").kill_group(group).spawn().unwrap();
            child.signal(libc::SIGHUP).unwrap();
            assert_eq!(soon(child.status()).unwrap().signal(), Some(libc::SIGHUP));
            child.kill().unwrap();
        }
        let mut ended = start("exit 1");
        until_ended(ended.id());
        ended.kill().unwrap();
        assert_code(soon(ended.status()).unwrap(), 1);
    }
}

// Linux 5.3 has pidfds and cannot wait for them.
fn no_waitid_by_pidfd() {
    kit::refuse_when(libc::SYS_waitid, 0, libc::P_PIDFD, libc::EINVAL);
    assert_code(soon(start("sleep 0.05; exit 7").status()).unwrap(), 7);
    let mut ended = start("exit 8");
    until_ended(ended.id());
    assert_code(ended.try_status().unwrap().unwrap(), 8);
    assert!(ended.usage().is_some());
    let mut killed = start("sleep 60");
    assert!(killed.try_status().unwrap().is_none());
    killed.kill().unwrap();
    assert_eq!(soon(killed.status()).unwrap().signal(), Some(libc::SIGKILL));
    let mut taken = start("exit 9");
    assert_code(kit::wait_status(taken.id() as i32), 9);
    assert!(soon(taken.status()).is_err());
}

// E23
fn many_children_and_few_descriptors() {
    soon(sh("exit 0").status()).unwrap();
    let open = kit::open_fds();
    let herd = Herd::new();
    let mut command = herd.command();
    let limit = kit::set_nofile_limit(256);
    let started: Vec<_> = (0..500).map(|_| command.spawn()).collect();
    drop(command);
    let (running, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert!(running.len() > 200 && refused.len() > 200, "{} are running", running.len());
    for error in refused.into_iter().filter_map(Result::err) {
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
    }
    let mut running: Vec<Child> = running.into_iter().map(Result::unwrap).collect();
    assert_eq!(children::children().len(), running.len(), "those that failed are reaped");
    soon(async {
        // Some are needed to wait.
        drop(running.split_off(running.len() - 10));
        sleep(millis(1)).await;
        herd.end();
        for child in &mut running {
            assert!(child.status().await.unwrap().success());
        }
        while !children::children().is_empty() {
            sleep(millis(1)).await;
        }
    });
    drop(running);
    kit::set_nofile_limit(limit);
    assert_nothing_left(&open);
}
