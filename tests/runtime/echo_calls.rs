//! The system calls of the example `tcp_echo`, as strace sees them.

use crate::kit;
use crate::kit::echo;
use echo::{Server, ask, hear};
use kit::{Trace, case};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;

const REQUESTS: usize = 100;
const CLIENTS: usize = 20;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("three_calls_a_request", three_calls_a_request),
        case("one_wait_for_all_that_are_ready", one_wait_for_all),
        case("a_short_life_costs_no_epoll_ctl", a_short_life),
        case("_one_connection", part_one_connection),
        case("_many_connections", part_many_connections),
        case("_short_lives", part_short_lives),
    ]
}

/// Runs a part under strace, and gives what the process did that it names in its output.
fn traced(part: &str) -> BTreeMap<String, usize> {
    let Some((ended, trace)) = kit::rerun(part).strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let pid = ended.output.trim().strip_prefix("the server is ");
    let pid = format!("{} ", pid.expect("the part tells its server"));
    let Trace { lines } = trace.between("steady", "enough");
    let lines = lines.into_iter().filter(|line| line.starts_with(&pid));
    counts(&Trace { lines: lines.collect() })
}

fn counts(trace: &Trace) -> BTreeMap<String, usize> {
    let counts = trace.counts().into_iter();
    counts.map(|(call, count)| (call, usize::try_from(count).unwrap())).collect()
}

/// Takes one call out of the counts.
fn take(counts: &mut BTreeMap<String, usize>, call: &str) -> usize {
    counts.remove(call).unwrap_or_default()
}

/// Takes the waits out of the counts; old kernels have no `epoll_pwait2`.
fn take_waits(counts: &mut BTreeMap<String, usize>) -> usize {
    take(counts, "epoll_pwait2") + take(counts, "epoll_wait") + take(counts, "epoll_pwait")
}

/// The server has done what there was to do, and has begun to wait.
fn until_it_waits(server: &Server) {
    kit::eventually("the server waits", || server.state() == 'S');
}

fn three_calls_a_request() {
    let mut counts = traced("_one_connection");
    assert_eq!(take(&mut counts, "recvfrom"), REQUESTS);
    assert_eq!(take(&mut counts, "sendto"), REQUESTS);
    assert_eq!(take_waits(&mut counts), REQUESTS);
    assert!(counts.is_empty(), "and nothing else, but {counts:?}");
}

fn part_one_connection() {
    let server = Server::start();
    println!("the server is {}", server.pid());
    let mut client = server.connect();
    ask(&mut client, b"warming up");
    until_it_waits(&server);
    kit::mark("steady");
    for _ in 0..REQUESTS {
        ask(&mut client, b"a request");
        // Else a slow server may find the next request before it waits, and saves a wait.
        until_it_waits(&server);
    }
    kit::mark("enough");
}

fn one_wait_for_all() {
    let mut counts = traced("_many_connections");
    let rounds = REQUESTS / CLIENTS;
    assert_eq!(take(&mut counts, "recvfrom"), REQUESTS);
    assert_eq!(take(&mut counts, "sendto"), REQUESTS);
    // One that brings all, one to sleep until the next round; and stopping the server ends its
    // wait.
    let waits = take_waits(&mut counts);
    assert!(waits <= 3 * rounds, "{waits} waits in {rounds} rounds");
    counts.remove("restart_syscall");
    assert!(counts.is_empty(), "and nothing else, but {counts:?}");
}

fn part_many_connections() {
    let server = Server::start();
    println!("the server is {}", server.pid());
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        ask(client, b"warming up");
    }
    until_it_waits(&server);
    kit::mark("steady");
    for _ in 0..REQUESTS / CLIENTS {
        // All requests are there before the server looks.
        kit::kill(server.pid(), libc::SIGSTOP).unwrap();
        kit::eventually("the server has stopped", || "tT".contains(server.state()));
        for client in &mut clients {
            client.write_all(b"a request").unwrap();
        }
        kit::kill(server.pid(), libc::SIGCONT).unwrap();
        for client in &mut clients {
            hear(client, b"a request");
        }
        until_it_waits(&server);
    }
    kit::mark("enough");
}

fn a_short_life() {
    let mut counts = traced("_short_lives");
    let lives = REQUESTS / 10;
    assert_eq!(take(&mut counts, "epoll_ctl"), 0, "and beside it {counts:?}");
    assert!(take(&mut counts, "accept4") >= lives);
    assert_eq!(take(&mut counts, "recvfrom"), 2 * lives, "the request and the end");
    assert_eq!(take(&mut counts, "sendto"), lives);
}

/// Clients whose request and end are there when they are accepted.
fn part_short_lives() {
    let server = Server::start();
    println!("the server is {}", server.pid());
    server.assert_serves();
    until_it_waits(&server);
    kit::mark("steady");
    for _ in 0..REQUESTS / 10 {
        kit::kill(server.pid(), libc::SIGSTOP).unwrap();
        kit::eventually("the server has stopped", || "tT".contains(server.state()));
        let mut client = server.connect();
        client.write_all(b"a request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        kit::kill(server.pid(), libc::SIGCONT).unwrap();
        hear(&mut client, b"a request");
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the server has closed");
        until_it_waits(&server);
    }
    kit::mark("enough");
}
