//! The examples that serve as servers under test, and clients for it that know nothing of selio.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "the file is a module of several tests")]

use crate::kit;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longer than anything takes that does not hang, and shorter than the watchdog.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The example's program.
pub fn program() -> PathBuf {
    kit::example("tcp_echo")
}

/// A running `tcp_echo`; it ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it prints after the address. Held open, for a program that prints to nobody fails.
    pub told: BufReader<ChildStdout>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_as(Command::new(program()))
    }

    /// A server that may have so many open files, and cannot raise that.
    pub fn with_descriptors(limit: u32) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit} && exec \"$0\"");
        shell.arg("-c").arg(script).arg(program());
        shell.stderr(Stdio::null());
        Self::start_as(shell)
    }

    /// As [`of`](Self::of), but a shell runs this first, such as `ulimit -n 20`, and complaints come
    /// with what is told.
    pub fn in_shell(first: &str, example: &str, args: &[&str]) -> Self {
        let script = format!("{first} && exec \"$0\" 127.0.0.1:0 \"$@\" 2>&1");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(kit::example(example)).args(args);
        Self::start_as(shell)
    }

    /// Another example that serves, at a free port and with these further arguments.
    pub fn of(example: &str, args: &[&str]) -> Self {
        let mut command = Command::new(kit::example(example));
        command.arg("127.0.0.1:0").args(args);
        Self::start_as(command)
    }

    fn start_as(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the example can be started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        let mut told = BufReader::new(stdout);
        told.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ");
        let address = address.expect("the first line tells the address");
        let address = address.parse().expect("an address");
        Self { child, address, told }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// A connection that gives up with an error where a hang would be.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asserts that a new client is served.
    #[track_caller]
    pub fn assert_serves(&self) {
        ask(&mut self.connect(), b"still there?");
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("the child is ours");
        assert_eq!(ended, None, "the server has ended");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the child is ours")
    }

    /// The state of the server's only thread, as `ps` shows it: `S` while it waits in the kernel.
    pub fn state(&self) -> char {
        self.stat()[0].chars().next().expect("a letter")
    }

    /// The CPU time so far, user and system, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = self.stat();
        let field = |number: usize| stat[number - 3].parse::<u64>().expect("a number");
        field(14) + field(15)
    }

    /// The fields of /proc/PID/stat from the third on: the name before them may hold anything.
    fn stat(&self) -> Vec<String> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(path).expect("the server lives");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        fields.split_whitespace().map(String::from).collect()
    }

    /// The number of the server's threads.
    pub fn threads(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks.expect("the server lives").count()
    }

    /// The number of the server's open descriptors.
    pub fn descriptors(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        fds.expect("the server lives").count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a message and asserts that it comes back.
#[track_caller]
pub fn ask(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("the server reads");
    hear(stream, message);
}

/// Asserts what comes next.
#[track_caller]
pub fn hear(stream: &mut TcpStream, message: &[u8]) {
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).expect("the server answers in time");
    assert_eq!(answer, message, "the answer is what was sent");
}
