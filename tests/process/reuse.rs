//! Numbers that go from a child to a stranger: whatever is done with the `Child` then, the stranger
//! is left alone. Every case runs with pidfds, and where a kernel, a sandbox or a lack of
//! descriptors refuses them. Root alone may choose numbers.

use crate::kit;
use crate::kit::children;
use crate::kit::keys;
use children::{is_alive, let_go, millis, sh, soon, start, start_waiting, until_ended, until_gone};
use selio::process::{Child, exited};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("signals_spare_who_has_the_number_now", signals_spare_who_has_the_number_now),
        ("terminate_spares_who_has_the_number_now", terminate_spares_who_has_the_number_now),
        ("kill_on_drop_spares_who_has_the_number_now", kill_on_drop_spares_who_has_the_number_now),
        ("group_of_who_has_the_number_now_is_spared", group_of_who_has_the_number_now_is_spared),
        ("stranger_after_a_theft_is_spared", stranger_after_a_theft_is_spared),
        ("stranger_where_sigchld_is_ignored", stranger_where_sigchld_is_ignored),
        ("status_is_not_the_strangers", status_is_not_the_strangers),
        ("exited_is_told_of_the_first_one", exited_is_told_of_the_first_one),
        ("exited_without_room_is_told_of_the_first_one", exited_without_room),
        ("next_child_with_the_same_number", next_child_with_the_same_number),
    ])
}

/// Somebody who has the number that a child had: it leads a group of its own, and lives until its
/// number is dropped.
struct Stranger(std::process::Child);

impl Stranger {
    /// Tries until it has the number. Others start processes, too.
    #[track_caller]
    fn with_number(pid: u32) -> Self {
        for _ in 0..200 {
            kit::choose_pid(pid);
            let mut command = std::process::Command::new("sleep");
            let child = command.arg("60").process_group(0).spawn().unwrap();
            if child.id() == pid {
                return Self(child);
            }
            drop(Self(child));
        }
        kit::pass_over(kit::TAKEN)
    }

    #[track_caller]
    fn assert_unharmed(&self) {
        // What was sent takes a moment to end a process.
        thread::sleep(millis(10));
        assert!(is_alive(self.0.id()), "the stranger was hit");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        _ = self.0.kill();
        // An error where SIGCHLD is ignored.
        _ = self.0.wait();
    }
}

/// A child that was awaited, and a stranger with its number.
fn reaped(command: &mut selio::process::Command) -> (Child, Stranger) {
    let mut child = command.spawn().unwrap();
    assert!(soon(child.status()).unwrap().success());
    let stranger = Stranger::with_number(child.id());
    (child, stranger)
}

// E04
fn signals_spare_who_has_the_number_now() {
    let _turn = kit::choose_alone();
    let (child, stranger) = reaped(&mut sh("exit 0"));
    child.kill().unwrap();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGSTOP, libc::SIGKILL] {
        child.signal(signal).unwrap();
    }
    stranger.assert_unharmed();
}

// E04
fn terminate_spares_who_has_the_number_now() {
    let _turn = kit::choose_alone();
    let (mut child, stranger) = reaped(&mut sh("exit 0"));
    assert!(soon(child.terminate(millis(0))).unwrap().success());
    assert!(soon(child.terminate(millis(10))).unwrap().success());
    stranger.assert_unharmed();
}

// E09
fn kill_on_drop_spares_who_has_the_number_now() {
    let _turn = kit::choose_alone();
    let (child, stranger) = reaped(sh("exit 0").kill_on_drop(true));
    drop(child);
    stranger.assert_unharmed();
    selio::block_on(selio::time::sleep(millis(20)));
    // Nor did a look at it reap it: it is dropped later.
    stranger.assert_unharmed();
}

// E04
fn group_of_who_has_the_number_now_is_spared() {
    let _turn = kit::choose_alone();
    let (mut child, stranger) = reaped(sh("exit 0").kill_on_drop(true).kill_group(true));
    child.kill().unwrap();
    child.signal(libc::SIGTERM).unwrap();
    assert!(soon(child.terminate(millis(0))).unwrap().success());
    assert!(child.try_status().unwrap().is_some());
    drop(child);
    stranger.assert_unharmed();
}

/// Starts somebody who is no child of ours, with a number that is free: by a forked helper, whose
/// child it is.
fn distant_stranger(pid: u32) -> Distant {
    let (reader, writer) = kit::pipe();
    let helper = kit::in_child(|| {
        let stranger = Stranger::with_number(pid);
        File::from(kit::dup(&writer)).write_all(b"x").unwrap();
        thread::sleep(millis(60_000));
        drop(stranger);
    });
    drop(writer);
    let mut byte = [0];
    if File::from(reader).read(&mut byte).unwrap() == 0 {
        kit::pass_over(kit::TAKEN);
    }
    Distant { helper, stranger: pid as i32 }
}

struct Distant {
    helper: i32,
    stranger: i32,
}

impl Drop for Distant {
    fn drop(&mut self) {
        _ = kit::kill(self.stranger, libc::SIGKILL);
        _ = kit::kill(self.helper, libc::SIGKILL);
    }
}

/// Asserts that nothing that is done with a child hits who has its number.
#[track_caller]
fn assert_spared(mut child: Child, stranger: &Distant) {
    let number = stranger.stranger as u32;
    child.kill().unwrap();
    child.signal(libc::SIGTERM).unwrap();
    assert!(soon(child.terminate(millis(0))).is_err());
    assert!(is_alive(number));
    drop(child);
    thread::sleep(millis(10));
    assert!(is_alive(number));
}

// E04: nobody has told us that the child is gone.
fn stranger_after_a_theft_is_spared() {
    let _turn = kit::choose_alone();
    for group in [false, true] {
        let child = sh("exit 0").kill_on_drop(true).kill_group(group).spawn().unwrap();
        assert!(kit::wait_status(child.id() as i32).success());
        let stranger = distant_stranger(child.id());
        assert_spared(child, &stranger);
    }
}

// E04, E06
fn stranger_where_sigchld_is_ignored() {
    let _turn = kit::choose_alone();
    keys::set_handler(libc::SIGCHLD, libc::SIG_DFL, libc::SA_NOCLDWAIT);
    for group in [false, true] {
        let mut command = sh("read x; exit 0");
        command.kill_on_drop(true).kill_group(group);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        children::let_go(&mut child);
        until_gone(child.id());
        let stranger = distant_stranger(child.id());
        assert_spared(child, &stranger);
    }
}

fn status_is_not_the_strangers() {
    let _turn = kit::choose_alone();
    let mut child = start("exit 7");
    until_ended(child.id());
    assert_eq!(soon(child.status()).unwrap().code(), Some(7));
    let mut stranger = Stranger::with_number(child.id());
    stranger.0.kill().unwrap();
    until_ended(child.id());
    for _ in 0..2 {
        assert_eq!(soon(child.status()).unwrap().code(), Some(7));
        assert_eq!(child.try_status().unwrap().unwrap().code(), Some(7));
    }
    drop(child);
    // Its own status is still there for whoever started it.
    assert_eq!(stranger.0.wait().unwrap().signal(), Some(libc::SIGKILL));
}

fn exited_is_told_of_the_first_one() {
    let _turn = kit::choose_alone();
    let mut child = start_waiting(0);
    let pid = child.id();
    let wait = exited(pid);
    let_go(&mut child);
    // Its signal has come by then, and no loop has seen it when the child is reaped.
    until_ended(pid);
    soon(child.status()).unwrap();
    let stranger = Stranger::with_number(pid);
    soon(wait).unwrap();
    stranger.assert_unharmed();
}

// The child has a pidfd, if there are any, and who waits for its end has none.
fn exited_without_room() {
    let _turn = kit::choose_alone();
    let mut child = start_waiting(0);
    let pid = child.id();
    kit::refuse(&[(libc::SYS_pidfd_open, libc::EMFILE)]);
    let wait = exited(pid);
    let_go(&mut child);
    until_ended(pid);
    assert!(child.try_status().unwrap().is_some());
    let stranger = Stranger::with_number(pid);
    soon(wait).unwrap();
    stranger.assert_unharmed();
}

// Two children of ours, one after the other, and neither is taken for the other one.
fn next_child_with_the_same_number() {
    let _turn = kit::choose_alone();
    let mut first = start("exit 1");
    assert_eq!(soon(first.status()).unwrap().code(), Some(1));
    for _ in 0..200 {
        kit::choose_pid(first.id());
        let mut next = sh("read x; exit 2").stdin(Stdio::piped()).spawn().unwrap();
        if next.id() != first.id() {
            soon(next.status()).unwrap();
            continue;
        }
        first.kill().unwrap();
        drop(first);
        assert!(next.try_status().unwrap().is_none());
        assert_eq!(soon(next.status()).unwrap().code(), Some(2));
        return;
    }
    kit::pass_over(kit::TAKEN)
}
