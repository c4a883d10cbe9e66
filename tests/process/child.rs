//! What a child can be asked, and how it is ended. Every case runs with pidfds, and where a kernel,
//! a sandbox or a lack of descriptors refuses them.
#![allow(unsafe_code, reason = "functions before exec")]

use crate::kit;
use crate::kit::children;
use children::{
    Herd, assert_code, assert_nothing_left, at_once, is_alive, let_go, millis, sh, soon, start,
    start_waiting, until_ended,
};
use selio::block_on;
use selio::process::Command;
use selio::time::{sleep, timeout};
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("try_status_tells_and_reaps", try_status_tells_and_reaps),
        ("usage_of_a_busy_child", usage_of_a_busy_child),
        ("terminate_asks_first", terminate_asks_first),
        ("terminate_kills_in_the_end", terminate_kills_in_the_end),
        ("terminate_dropped_kills_nobody", terminate_dropped_kills_nobody),
        ("no_such_program", no_such_program),
        ("function_before_exec", function_before_exec),
        ("nested_loops", nested_loops),
    ])
}

fn try_status_tells_and_reaps() {
    let mut child = start_waiting(13);
    assert!(child.try_status().unwrap().is_none());
    assert!(child.stdin.is_some(), "it closes nothing");
    let_go(&mut child);
    until_ended(child.id());
    assert_code(child.try_status().unwrap().unwrap(), 13);
    assert!(kit::zombies().is_empty());
    assert_code(child.try_status().unwrap().unwrap(), 13);
    assert_code(soon(child.status()).unwrap(), 13);
}

fn usage_of_a_busy_child() {
    let mut child = start("i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done");
    assert!(child.usage().is_none());
    assert!(soon(child.status()).unwrap().success());
    let usage = child.usage().unwrap();
    let time = usage.user_time() + usage.system_time();
    assert!(time > millis(2) && time < millis(5000), "{time:?}");
    assert!((256 << 10..1 << 30).contains(&usage.max_rss()), "{} bytes", usage.max_rss());
    assert!(usage.minor_faults() > 0);
    assert!(usage.voluntary_switches() + usage.involuntary_switches() > 0);
}

fn terminate_asks_first() {
    let mut child = sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(soon(children::line(child.stdout.as_ref().unwrap())), "ready");
    assert_code(soon(child.terminate(millis(4000))).unwrap(), 3);
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let status = soon(child.terminate(millis(4000))).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

/// A child that ignores SIGTERM, and is known to do so by now.
fn stubborn() -> selio::process::Child {
    let child = sh("trap '' TERM; echo ready; exec sleep 60").stdout(Stdio::piped()).spawn();
    let child = child.unwrap();
    assert_eq!(soon(children::line(child.stdout.as_ref().unwrap())), "ready");
    child
}

fn terminate_kills_in_the_end() {
    let mut child = stubborn();
    let (status, took) = kit::took(|| soon(child.terminate(millis(50))));
    assert_eq!(status.unwrap().signal(), Some(libc::SIGKILL));
    kit::assert_at_least(took, millis(50));
}

fn terminate_dropped_kills_nobody() {
    let mut child = stubborn();
    block_on(async { assert!(kit::poll_once(child.terminate(millis(60))).is_pending()) });
    block_on(sleep(millis(100)));
    assert!(is_alive(child.id()));
    let status = soon(child.terminate(millis(10))).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
}

fn no_such_program() {
    let open = kit::open_fds();
    let mut command = Command::new("/nowhere/no-such-program");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    assert_eq!(command.spawn().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(at_once(command.status()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(at_once(command.output()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Command::new("/").spawn().unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_nothing_left(&open);
    assert!(kit::disposition(libc::SIGCHLD).is_default());
}

fn function_before_exec() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "test $(umask) = 0077 && exit $CODE"]).env("CODE", "21");
    // SAFETY: the function calls nothing but umask, which is async-signal-safe.
    unsafe { command.pre_exec(private_umask) };
    assert_code(soon(Command::from(command).status()).unwrap(), 21);
    let mut command = std::process::Command::new("true");
    // SAFETY: the function makes an error of a number, and calls nothing.
    unsafe { command.pre_exec(|| Err(std::io::Error::from_raw_os_error(libc::EXDEV))) };
    let error = Command::from(command).spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
    assert!(children::children().is_empty());
}

fn private_umask() -> std::io::Result<()> {
    // SAFETY: the call takes a number and cannot fail.
    unsafe { libc::umask(0o77) };
    Ok(())
}

fn nested_loops() {
    let herd = Herd::new();
    let mut outer = herd.command().spawn().unwrap();
    block_on(async {
        let waiting = selio::spawn(outer.status());
        sleep(millis(5)).await;
        // Inside, a new one, the one that is awaited outside, and one that is left for outside.
        assert_code(block_on(sh("exit 3").status()).unwrap(), 3);
        let mut left = block_on(async { start("sleep 0.05; exit 4") });
        herd.end();
        assert!(block_on(timeout(millis(5000), outer.status())).unwrap().unwrap().success());
        assert!(waiting.await.unwrap().unwrap().success());
        assert_code(timeout(millis(5000), left.status()).await.unwrap().unwrap(), 4);
    });
}
