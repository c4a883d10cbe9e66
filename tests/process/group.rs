//! Process groups that share their leader's fate. Every case runs with pidfds, and where a kernel,
//! a sandbox or a lack of descriptors refuses them.
#![allow(unsafe_code, reason = "the group of a process, which std does not tell")]

use crate::kit;
use crate::kit::children;
use children::{assert_code, is_alive, millis, sh, soon, until_ended, until_gone};
use selio::block_on;
use selio::process::{Child, Command};
use selio::time::{sleep, timeout};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("nobody_outlives_the_leader", nobody_outlives_the_leader),
        (
            "nobody_outlives_a_leader_seen_by_try_status",
            nobody_outlives_a_leader_seen_by_try_status,
        ),
        ("nobody_outlives_a_dropped_leader", nobody_outlives_a_dropped_leader),
        ("nobody_outlives_terminate", nobody_outlives_terminate),
        ("nobody_outlives_kill", nobody_outlives_kill),
        ("nobody_outlives_kill_on_drop", nobody_outlives_kill_on_drop),
        ("nobody_outlives_dropped_output", nobody_outlives_dropped_output),
        ("who_has_ended_is_no_obstacle", who_has_ended_is_no_obstacle),
        ("signals_reach_all", signals_reach_all),
        ("who_has_left_is_out_of_reach", who_has_left_is_out_of_reach),
        ("leader_that_has_left_is_killed", leader_that_has_left_is_killed),
        ("leader_of_a_session_is_killed", leader_of_a_session_is_killed),
        ("without_it_they_live_on", without_it_they_live_on),
        ("process_group_takes_it_back", process_group_takes_it_back),
        ("our_own_group_is_spared", our_own_group_is_spared),
        ("children_of_two_groups", children_of_two_groups),
    ])
}

/// A child, and those of its own children whose numbers it has told.
struct Family {
    child: Child,
    members: Vec<u32>,
}

impl Family {
    /// Starts a command whose members print their numbers, one in a line.
    #[track_caller]
    fn start(command: &mut Command, members: usize) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.as_ref().unwrap();
        let members = (0..members).map(|_| children::number(out)).collect();
        Self { child, members }
    }

    #[track_caller]
    fn assert_alive(&self) {
        assert!(self.members.iter().all(|&pid| is_alive(pid)));
    }
}

#[track_caller]
fn until_all_ended(members: &[u32]) {
    members.iter().copied().for_each(until_ended);
}

/// Two sleepers, one of whom ignores what can be ignored; then the rest of the program.
fn sleepers(rest: &str) -> Command {
    let stubborn = "(trap '' TERM INT HUP; exec sh -c 'echo $$; exec sleep 60') &";
    let mut command = sh(&format!("sleep 60 & echo $!; {stubborn} {rest}"));
    command.kill_group(true);
    command
}

/// Sleepers whose leader ends with a code when its input is closed.
fn sleepers_until(code: i32) -> Command {
    sleepers(&format!("read x; exit {code}"))
}

fn nobody_outlives_the_leader() {
    let mut family = Family::start(&mut sleepers_until(3), 2);
    family.assert_alive();
    // By the call, the leader's input is closed.
    assert_code(soon(family.child.status()).unwrap(), 3);
    until_all_ended(&family.members);
}

fn nobody_outlives_a_leader_seen_by_try_status() {
    let mut family = Family::start(&mut sleepers_until(3), 2);
    children::let_go(&mut family.child);
    until_ended(family.child.id());
    family.assert_alive();
    assert_code(family.child.try_status().unwrap().unwrap(), 3);
    until_all_ended(&family.members);
}

fn nobody_outlives_a_dropped_leader() {
    let Family { mut child, members } = Family::start(&mut sleepers_until(3), 2);
    let pid = child.id();
    block_on(async {
        let stdin = child.stdin.take();
        drop(child);
        sleep(millis(20)).await;
        assert!(is_alive(pid) && members.iter().all(|&pid| is_alive(pid)));
        drop(stdin);
        while children::exists(pid) || members.iter().any(|&pid| is_alive(pid)) {
            sleep(millis(1)).await;
        }
    });
}

fn nobody_outlives_terminate() {
    let mut family = Family::start(&mut sleepers("sleep 60"), 2);
    // The shell and one sleeper obey; the other one has to be killed.
    let status = soon(family.child.terminate(millis(4000))).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    until_all_ended(&family.members);

    // Neither does the leader.
    let mut command = sh("trap '' TERM; sleep 60 & echo $!; sleep 60; sleep 60");
    let mut family = Family::start(command.kill_group(true), 1);
    let status = soon(family.child.terminate(millis(50))).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    until_all_ended(&family.members);
}

fn nobody_outlives_kill() {
    let mut family = Family::start(&mut sleepers_until(3), 2);
    family.child.kill().unwrap();
    // At once, and not when it is reaped.
    until_all_ended(&family.members);
    assert_eq!(soon(family.child.status()).unwrap().signal(), Some(libc::SIGKILL));
    family.child.kill().unwrap();
}

fn nobody_outlives_kill_on_drop() {
    let family = Family::start(sleepers_until(3).kill_on_drop(true), 2);
    family.assert_alive();
    let Family { child, members } = family;
    let pid = child.id();
    drop(child);
    until_ended(pid);
    until_all_ended(&members);
}

fn nobody_outlives_dropped_output() {
    let mut command = sleepers("sleep 60");
    let Family { child, members } = Family::start(command.kill_on_drop(true), 2);
    let pid = child.id();
    block_on(async {
        assert!(timeout(millis(30), child.output()).await.is_err());
        while children::exists(pid) || members.iter().any(|&pid| is_alive(pid)) {
            sleep(millis(1)).await;
        }
    });
}

fn who_has_ended_is_no_obstacle() {
    let mut command = sh("true & exit 4");
    assert_code(soon(command.kill_group(true).status()).unwrap(), 4);
    // The leader has ended, and is not reaped yet: its group still gets what is sent.
    let mut family = Family::start(&mut sleepers_until(3), 2);
    children::let_go(&mut family.child);
    until_ended(family.child.id());
    family.child.signal(libc::SIGTERM).unwrap();
    until_ended(family.members[0]);
    family.child.kill().unwrap();
    until_all_ended(&family.members);
    assert_code(soon(family.child.status()).unwrap(), 3);
}

fn signals_reach_all() {
    let told = "trap 'echo got; exit' HUP; echo; while :; do sleep 0.01; done";
    let mut command = sh(&format!("({told}) & ({told}) & trap '' HUP; echo; wait"));
    let child = command.kill_group(true).stdout(Stdio::piped()).spawn().unwrap();
    let out = child.stdout.as_ref().unwrap();
    (0..3).for_each(|_| assert_eq!(soon(children::line(out)), ""));
    child.signal(libc::SIGHUP).unwrap();
    (0..2).for_each(|_| assert_eq!(soon(children::line(out)), "got"));
    assert!(soon(child.output()).unwrap().status.success());
}

// setsid takes a process out of every group.
fn who_has_left_is_out_of_reach() {
    let mut command = sh("setsid sh -c 'echo $$; exec sleep 60' & read x; exit 5");
    let mut family = Family::start(command.kill_group(true), 1);
    assert_code(soon(family.child.status()).unwrap(), 5);
    family.assert_alive();
    kit::kill(family.members[0] as i32, libc::SIGKILL).unwrap();
}

/// Starts a child that was to lead a group, and has gone to its parent's instead.
fn deserter() -> Child {
    let go = "import os; os.setpgid(0, os.getpgid(os.getppid())); print(flush=True); \
              import time; time.sleep(60)";
    let perl = "use POSIX; setpgrp(0, getpgrp(getppid)); $| = 1; print qq(\\n); sleep 60";
    for (program, option, text) in [("perl", "-e", perl), ("python3", "-c", go)] {
        let mut command = Command::new(program);
        command.args([option, text]).kill_group(true).stdout(Stdio::piped());
        if let Ok(child) = command.spawn() {
            assert_eq!(soon(children::line(child.stdout.as_ref().unwrap())), "");
            return child;
        }
    }
    kit::pass_over("neither perl nor python3 is here to leave a group")
}

fn leader_that_has_left_is_killed() {
    let mut child = deserter();
    child.signal(0).unwrap_err();
    child.kill().unwrap();
    assert_eq!(soon(child.status()).unwrap().signal(), Some(libc::SIGKILL));
    let mut child = deserter();
    let status = soon(child.terminate(millis(4000))).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

// A leader cannot call setsid; but it may ask for a session before exec, and has its group all the
// same.
fn leader_of_a_session_is_killed() {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "sleep 60 & echo $!; wait"]);
    // SAFETY: the function calls nothing but setsid, which is async-signal-safe.
    unsafe { command.pre_exec(new_session) };
    let mut command = Command::from(command);
    let family = Family::start(command.kill_on_drop(true), 1);
    let Family { child, members } = family;
    let pid = child.id();
    drop(child);
    until_ended(pid);
    // Not asked for its group.
    assert!(is_alive(members[0]));
    kit::kill(members[0] as i32, libc::SIGKILL).unwrap();
}

fn new_session() -> std::io::Result<()> {
    // SAFETY: the call takes nothing, and touches no memory.
    unsafe { libc::setsid() };
    Ok(())
}

fn without_it_they_live_on() {
    for group in [false, true] {
        let mut command = sleepers_until(3);
        command.kill_group(false);
        if group {
            command.process_group(0);
        }
        let mut family = Family::start(&mut command, 2);
        assert_code(soon(family.child.status()).unwrap(), 3);
        family.assert_alive();
        for pid in family.members {
            kit::kill(pid as i32, libc::SIGKILL).unwrap();
        }
    }
}

fn process_group_takes_it_back() {
    let mut family = Family::start(sleepers_until(3).process_group(own_group()), 2);
    assert_eq!(group_of(family.child.id()), own_group());
    family.child.kill().unwrap();
    soon(family.child.status()).unwrap();
    family.assert_alive();
    for pid in family.members {
        kit::kill(pid as i32, libc::SIGKILL).unwrap();
    }
}

fn own_group() -> i32 {
    group_of(std::process::id())
}

fn group_of(pid: u32) -> i32 {
    // SAFETY: the call takes a number.
    unsafe { libc::getpgid(pid as i32) }
}

fn our_own_group_is_spared() {
    let mut theirs = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut family = Family::start(&mut sleepers_until(3), 2);
    assert_eq!(group_of(family.child.id()), family.child.id() as i32);
    family.child.kill().unwrap();
    soon(family.child.status()).unwrap();
    family.child.kill().unwrap();
    assert!(theirs.try_wait().unwrap().is_none());
    theirs.kill().unwrap();
    theirs.wait().unwrap();
}

fn children_of_two_groups() {
    let mut one = Family::start(&mut sleepers_until(1), 2);
    let mut two = Family::start(&mut sleepers_until(2), 2);
    assert_code(soon(one.child.status()).unwrap(), 1);
    until_all_ended(&one.members);
    two.assert_alive();
    assert_code(soon(two.child.status()).unwrap(), 2);
    until_all_ended(&two.members);
    until_gone(two.child.id());
}
