//! System calls as strace sees them: counted, or line by line.

use super::rerun::supervise;
use super::watchdog::WATCHDOG_SECS;
use super::{Directory, Ended};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The lines of one strace log, all threads and children together.
#[derive(Clone, Debug)]
pub struct Trace {
    pub lines: Vec<String>,
}

impl Trace {
    /// How often each system call was entered.
    pub fn counts(&self) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for call in self.lines.iter().filter_map(|line| call_name(line)) {
            *counts.entry(call.to_string()).or_insert(0) += 1;
        }
        counts
    }

    /// How often one system call was entered.
    pub fn count(&self, call: &str) -> usize {
        self.calls(call).len()
    }

    /// The lines in which one system call was entered.
    pub fn calls(&self, call: &str) -> Vec<&str> {
        let lines = self.lines.iter().map(String::as_str);
        lines.filter(|line| call_name(line) == Some(call)).collect()
    }

    /// What lies between two marks that the traced case left by [`mark`], the marks excluded.
    #[track_caller]
    pub fn between(&self, from: &str, to: &str) -> Self {
        let from = self.position(from) + 1;
        let to = self.position(to);
        Self { lines: self.lines[from..to].to_vec() }
    }

    #[track_caller]
    fn position(&self, mark: &str) -> usize {
        let call = format!("write(-1, \"{mark}\"");
        let found = self.lines.iter().position(|line| line.contains(&call));
        found.unwrap_or_else(|| panic!("no mark `{mark}` in the log:\n{}", self.lines.join("\n")))
    }
}

/// Leaves a line in the log of a strace that may be watching: a `write` to no descriptor.
pub fn mark(name: &str) {
    // SAFETY: the buffer lives through the call, which fails with EBADF before it looks at it.
    unsafe { libc::write(-1, name.as_ptr().cast(), name.len()) };
}

/// The system call a line of the log enters: `12 read(0, …` but not `12 <... read resumed>…`,
/// `12 --- SIGCHLD …` or `12 +++ exited …`.
fn call_name(line: &str) -> Option<&str> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let (name, _) = line.trim_start().split_once('(')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// Counts the system calls of a program and its children; `None` if strace is missing or not
/// permitted.
pub fn strace_counts<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Option<HashMap<String, u64>> {
    strace_log(program, args).map(|(_, trace)| trace.counts())
}

/// Runs a program under `strace -f` and returns its end and the log.
pub fn strace_log<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Option<(Ended, Trace)> {
    let file = TraceFile::new()?;
    let mut command = file.command(&[]);
    command.arg(program).args(args);
    let ended = supervise(command, WATCHDOG_SECS, false);
    Some((ended, file.read()))
}

/// A log file of its own for one strace, removed in the end.
#[derive(Debug)]
pub(super) struct TraceFile {
    place: Directory,
}

impl TraceFile {
    /// A new file, or `None` if there is no strace to write it.
    pub(super) fn new() -> Option<Self> {
        strace_works().then(|| Self { place: Directory::new() })
    }

    fn path(&self) -> PathBuf {
        self.place.join("log")
    }

    /// `strace -f -o FILE ARGS`, ready for the program's name.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-s", "256", "-o"]).arg(self.path()).args(args);
        // What looks for leaks at the end of a process cannot do so while another traces it.
        command.env("LSAN_OPTIONS", "detect_leaks=0");
        command
    }

    pub(super) fn read(&self) -> Trace {
        let log = fs::read(self.path()).expect("strace has written its log");
        let log = String::from_utf8_lossy(&log);
        Trace { lines: log.lines().map(String::from).collect() }
    }
}

/// Whether strace is here and may trace: tried once, on a program that does nothing.
fn strace_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "true"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
