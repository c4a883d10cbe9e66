//! This test binary once more, for one case, under a watchdog.

use super::cases::{PASSED_OVER, PASSED_OVER_STATUS};
use super::files::nameless_file;
use super::must;
use super::strace::{Trace, TraceFile};
use super::watchdog::{WATCHDOG_SECS, patience};
use std::env;
use std::ffi::OsString;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where a test binary finds the name of the case it shall run.
pub const CASE_VARIABLE: &str = "SELIO_TEST_CASE";

/// A case about to run in a process of its own.
#[must_use = "nothing runs before `run`"]
#[derive(Clone, Debug)]
pub struct Rerun {
    name: String,
    secs: u64,
    variables: Vec<(OsString, OsString)>,
    show: bool,
}

/// Prepares to run the named case in a process of its own. It stands in the same file as the running
/// case, unless the name tells another.
pub fn rerun(name: &str) -> Rerun {
    let own = env::var(CASE_VARIABLE).unwrap_or_default();
    let name = match own.rsplit_once("::") {
        Some((file, _)) if !name.contains("::") => format!("{file}::{name}"),
        _ => name.to_string(),
    };
    Rerun { name, secs: WATCHDOG_SECS, variables: Vec::new(), show: false }
}

impl Rerun {
    /// The time after which the case is killed.
    pub fn secs(mut self, secs: u64) -> Self {
        self.secs = secs;
        self
    }

    /// Hands the case a variable, by which a case tells its parts what to do.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((key.into(), value.into()));
        self
    }

    /// Lets the output through instead of keeping it.
    pub(super) fn show(mut self, show: bool) -> Self {
        self.show = show;
        self
    }

    /// Runs the case to its end, or to the watchdog's.
    pub fn run(self) -> Ended {
        let command = self.with_variables(Command::new(own_binary()));
        supervise(command, self.secs, self.show)
    }

    /// Runs the case under strace; `None` if strace is missing or not permitted.
    pub fn strace(self) -> Option<(Ended, Trace)> {
        self.strace_with(&[])
    }

    /// The same with further arguments for strace, such as
    /// `["-e", "inject=epoll_ctl:error=ENOSPC:when=3"]`.
    pub fn strace_with(self, args: &[&str]) -> Option<(Ended, Trace)> {
        let file = TraceFile::new()?;
        let mut command = file.command(args);
        command.arg(own_binary());
        let ended = supervise(self.with_variables(command), self.secs, self.show);
        Some((ended, file.read()))
    }

    fn with_variables(&self, mut command: Command) -> Command {
        command.env(CASE_VARIABLE, &self.name);
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// The program of an example, which `cargo test` has built beside this one.
pub fn example(name: &str) -> PathBuf {
    let own = own_binary();
    let profile = own.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: run `cargo test`, or `cargo build --example {name}` in the same profile",
        program.display()
    );
    program
}

fn own_binary() -> PathBuf {
    env::current_exe().expect("the test binary has a path")
}

/// How a child process ended, and what it wrote to stdout and stderr.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub timed_out: bool,
    pub elapsed: Duration,
}

impl Ended {
    /// It ran to its end and exited with 0.
    pub fn success(&self) -> bool {
        self.status.success() && !self.timed_out
    }

    /// The number of the signal it died by, if it was a signal, and not the watchdog's.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal().filter(|_| !self.timed_out)
    }

    /// The reason, if it could not be tried here.
    pub fn passed_over(&self) -> Option<&str> {
        if self.timed_out || self.status.code() != Some(PASSED_OVER_STATUS) {
            return None;
        }
        let mut lines = self.output.lines().rev();
        // Without a line the output was not kept, and the reason has been shown already.
        Some(lines.find_map(|line| line.strip_prefix(PASSED_OVER)).unwrap_or("see above"))
    }

    /// Why it is no success, in words.
    pub fn why(&self) -> String {
        match self.timed_out {
            true => format!(
                "killed by the watchdog after {:.1} s: it hangs",
                self.elapsed.as_secs_f64()
            ),
            false => format!("ended with {}", self.status),
        }
    }

    /// Panics with the output unless it is a success. A part that was passed over passes its
    /// case over, too.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        if let Some(reason) = self.passed_over() {
            super::pass_over(reason);
        }
        assert!(self.success(), "{}; its output:\n{}", self.why(), self.output);
        self
    }

    /// Panics with the output unless it died by this signal.
    #[track_caller]
    pub fn assert_signal(&self, signo: i32) -> &Self {
        let by = self.signal();
        assert_eq!(by, Some(signo), "{}; its output:\n{}", self.why(), self.output);
        self
    }
}

/// Runs a command in a process group of its own, and kills the group when its time is up.
pub(super) fn supervise(mut command: Command, secs: u64, show: bool) -> Ended {
    let start = Instant::now();
    // A pipe would make the reader wait for every grandchild that holds it, and in a memory file
    // those who write at a time write over one another.
    let kept = nameless_file();
    command.stdin(Stdio::null()).process_group(0);
    if !show {
        command.stdout(kept.try_clone().unwrap());
        command.stderr(kept.try_clone().unwrap());
    }
    let mut child = command.spawn().expect("the command can be started");
    let limit = patience(secs);
    let mut timed_out = false;
    while !has_ended(&child) {
        if start.elapsed() >= limit {
            timed_out = true;
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    // The leader is not reaped yet, so the group's number cannot be anyone else's. Whatever the
    // child has left behind in its group ends with it.
    let _ = super::kill(-(child.id() as i32), libc::SIGKILL);
    let status = child.wait().expect("the child is ours");
    let mut output = vec![0; kept.metadata().unwrap().len() as usize];
    kept.read_exact_at(&mut output, 0).unwrap();
    Ended {
        status,
        output: String::from_utf8_lossy(&output).into_owned(),
        timed_out,
        elapsed: start.elapsed(),
    }
}

/// Whether the child has ended, without reaping it.
fn has_ended(child: &Child) -> bool {
    // SAFETY: siginfo_t is plain integers, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a siginfo_t that lives through the call.
    let returned = unsafe { libc::waitid(libc::P_PID, child.id(), &raw mut info, options) };
    must("waitid", returned);
    // SAFETY: waitid has filled in the fields of SIGCHLD, or left the zeros.
    unsafe { info.si_pid() != 0 }
}
