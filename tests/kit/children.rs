//! What the tests of processes share: the ways in which a system may refuse pidfds, and children
//! that end when they are told to.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use crate::kit;
use selio::process::{Child, Command, Pipe};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::task::Poll;
use std::time::Duration;

/// How a case's name ends, and how `pidfd_open` is refused to it.
pub const MODES: [(&str, Option<i32>); 4] = [
    ("_with_pidfd", None),
    ("_without_pidfd", Some(libc::ENOSYS)),
    ("_where_pidfd_is_forbidden", Some(libc::EPERM)),
    ("_without_room_for_pidfd", Some(libc::EMFILE)),
];

/// Each case in every mode.
pub fn in_all_modes(cases: &[(&'static str, fn())]) -> Vec<kit::Case> {
    in_modes(cases, &MODES)
}

/// Each case with pidfds, and where the kernel has none.
pub fn in_both_modes(cases: &[(&'static str, fn())]) -> Vec<kit::Case> {
    in_modes(cases, &MODES[..2])
}

/// Each case in each of these modes.
pub fn in_modes(cases: &[(&'static str, fn())], modes: &[(&str, Option<i32>)]) -> Vec<kit::Case> {
    let in_modes = |case: kit::Case| {
        modes.iter().map(move |(suffix, _)| {
            case.named(|name| format!("{name}{suffix}")).first(refuse_as_named)
        })
    };
    kit::cases(cases).into_iter().flat_map(in_modes).collect()
}

fn refuse_as_named() {
    if let Some(errno) = refusal() {
        kit::refuse(&[(libc::SYS_pidfd_open, errno)]);
    }
}

fn mode() -> Option<(&'static str, Option<i32>)> {
    let name = kit::case_name();
    MODES.into_iter().find(|(suffix, _)| name.ends_with(suffix))
}

fn refusal() -> Option<i32> {
    mode().and_then(|(_, errno)| errno)
}

/// Whether the running case may have pidfds.
pub fn has_pidfd() -> bool {
    refusal().is_none() && kit::has_call(libc::SYS_pidfd_open)
}

/// Passes over a case that is about pidfds, where there are none.
pub fn need_pidfd() {
    if !kit::has_call(libc::SYS_pidfd_open) {
        kit::pass_over("the kernel has no pidfds");
    }
}

/// A part of the running case, in the same mode.
pub fn part(name: &str) -> kit::Rerun {
    let (suffix, _) = mode().expect("the case runs in a mode");
    kit::rerun(&format!("{name}{suffix}"))
}

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Awaits something that comes within seconds, or never.
#[track_caller]
pub fn soon<T>(future: impl Future<Output = T>) -> T {
    let output = selio::block_on(selio::time::timeout(Duration::from_secs(5), future));
    output.expect("it comes within five seconds")
}

/// The output of a future that needs no loop.
#[track_caller]
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match kit::poll_once(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it has to wait"),
    }
}

/// Runs the loop for a while in which nothing is to happen.
#[track_caller]
pub fn idle_quietly() {
    kit::assert_quiet(|| selio::block_on(selio::time::sleep(millis(80))));
}

/// A shell with a program.
pub fn sh(program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", program]);
    command
}

#[track_caller]
pub fn start(program: &str) -> Child {
    sh(program).spawn().unwrap()
}

/// A shell that ends, with this code, when its standard input is closed.
#[track_caller]
pub fn start_waiting(code: i32) -> Child {
    sh(&format!("read x; exit {code}")).stdin(Stdio::piped()).spawn().unwrap()
}

/// Ends the child of [`start_waiting`].
pub fn let_go(child: &mut Child) {
    drop(child.stdin.take());
}

/// Many children that end together, when the writer is closed.
pub struct Herd {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Herd {
    pub fn new() -> Self {
        let (reader, writer) = kit::pipe();
        Self { reader, writer }
    }

    /// A program that reads to the end, and so lives until [`Herd::end`].
    pub fn command(&self) -> Command {
        let mut command = Command::new("cat");
        command.stdin(Stdio::from(kit::dup(&self.reader))).stdout(Stdio::null());
        command
    }

    /// A shell whose standard input is the pipe.
    pub fn sh(&self, program: &str) -> Command {
        let mut command = sh(program);
        command.stdin(Stdio::from(kit::dup(&self.reader)));
        command
    }

    pub fn end(self) {
        drop(self.writer);
    }
}

/// Waits until a process is a zombie, or gone.
#[track_caller]
pub fn until_ended(pid: u32) {
    kit::eventually("the process ends", || !is_alive(pid));
}

/// Whether there is a process of this number that has not ended.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        !after_name.starts_with(" Z") && !after_name.starts_with(" X")
    })
}

/// Whether there is a process of this number, a zombie included.
pub fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[track_caller]
pub fn until_gone(pid: u32) {
    kit::eventually("the process is reaped", || !exists(pid));
}

/// Reads a line, byte by byte: it is short.
pub async fn line(from: &Pipe) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).await.unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Reads a line that is a number.
#[track_caller]
pub fn number(from: &Pipe) -> u32 {
    soon(line(from)).trim().parse().expect("a number")
}

/// Asserts that a child ended well with this code.
#[track_caller]
pub fn assert_code(status: ExitStatus, code: i32) {
    assert_eq!(status.code(), Some(code), "{status}");
}

/// Asserts that nothing is left of what a case has started: no descriptor but those that a process
/// keeps for good, no child.
#[track_caller]
pub fn assert_nothing_left(before: &[(i32, String)]) {
    assert_eq!(kit::zombies(), [], "zombies");
    assert_eq!(children(), [], "children");
    let left: Vec<_> = kit::open_fds().into_iter().filter(|fd| !before.contains(fd)).collect();
    assert_eq!(left, [], "descriptors");
}

/// The children of this process, zombies included.
pub fn children() -> Vec<u32> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end between the two looks.
        let list = std::fs::read_to_string(thread.unwrap().path().join("children"));
        let list = list.unwrap_or_default();
        all.extend(list.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all
}
