//! Everything at once, for as long as it is told: an echo server whose clients misbehave, children that
//! end in every way, signals that rain, timers by the thousand, and now and then no descriptor left. Every
//! byte and every exit is accounted for, and memory stays as it is.
//!
//! A part of it runs with the other tests. `SELIO_SOAK_SECONDS=1800 cargo test --release --test soak --
//! --nocapture` runs for half an hour, and prints what it has counted.

#[path = "../kit/mod.rs"]
mod kit;

mod accounts;
mod children;
mod clients;
mod server;

use accounts::Report;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: kit::CountingAllocator = kit::CountingAllocator;

fn main() {
    kit::run_files(&[("soak", cases)]);
}

fn cases() -> Vec<kit::Case> {
    vec![
        kit::case("everything_at_once", everything_at_once).secs(seconds() + 120),
        kit::case("_server", server::run),
        kit::case("_clients", clients::run),
    ]
}

fn seconds() -> u64 {
    number("SELIO_SOAK_SECONDS").unwrap_or(4)
}

/// The number in an environment variable.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How long clients come, before all is quiet for a moment and the accounts are looked at.
const LONGEST_PHASE: u64 = 10;

/// What the heap may have grown by since the second look: queues and tables keep the size that the largest
/// burst so far has made of them, and no burst is larger than there are tasks.
const SLACK: u64 = 512 * 1024;

fn everything_at_once() {
    let phase = LONGEST_PHASE.min(seconds().div_ceil(4));
    let start = Instant::now();
    let mut server = Server::start();
    let mut sent = Report::default();
    let mut level = None;
    for number in 1.. {
        sent.add(&clients(&server.address, server.pid, number, phase, sent.get("values")));
        let account = server.account();
        println!("phase {number}: {account}");
        account.assert_even(&sent);
        // The first look comes while tables grow to what the load makes of them.
        match &level {
            None if number >= 2 => level = Some(account),
            None => {}
            Some(level) => account.assert_level_with(level, SLACK),
        }
        if number >= 3 && start.elapsed().as_secs() >= seconds() {
            break;
        }
    }
    server.end();
    println!("clients: {sent}");
}

/// The process under test.
struct Server {
    process: std::process::Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
    pid: u32,
}

impl Server {
    fn start() -> Self {
        let mut process =
            part("_server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let address = line(&mut answers);
        Self { pid: process.id(), process, orders, answers, address }
    }

    /// Has all become quiet, and asks what was counted.
    fn account(&mut self) -> Report {
        self.orders.write_all(b"?").expect("the server listens");
        Report::parse(&line(&mut self.answers))
    }

    fn end(mut self) {
        drop(self.orders);
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "the process has ended after {line:?}");
    line.trim_end().to_string()
}

/// Runs the clients of one phase to their end.
fn clients(address: &str, server: u32, seed: u64, secs: u64, first_value: u64) -> Report {
    let mut command = part("_clients");
    command.env(clients::ADDRESS, address).env(clients::SERVER, server.to_string());
    command.env(clients::SEED, seed.to_string()).env(clients::SECONDS, secs.to_string());
    command.env(clients::FIRST_VALUE, first_value.to_string());
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the clients ended with {}", output.status);
    Report::parse(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// A part of this program in a process of its own, in the group that the watchdog ends.
fn part(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("SELIO_TEST_CASE", format!("soak::{name}")).stdin(Stdio::null());
    command
}
