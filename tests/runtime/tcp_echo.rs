//! The example `tcp_echo` as a program: many clients, much data, clients that misbehave, and
//! limits.
use crate::kit;
use crate::kit::echo;
use crate::kit::sockets;
use echo::{Server, ask, hear};
use kit::case;
use sockets::reset;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("it_has_one_thread", it_has_one_thread),
        case("eight_thousand_clients", eight_thousand_clients).secs(60),
        case("every_byte_comes_back", every_byte_comes_back).secs(120),
        case("a_reset_in_a_message", a_reset_in_a_message),
        case("a_client_that_never_reads", a_client_that_never_reads),
        case("a_half_closed_client", a_half_closed_client),
        case("a_reset_before_accept", a_reset_before_accept),
        case("out_of_descriptors", out_of_descriptors),
        case("an_idle_server_is_quiet", an_idle_server_is_quiet),
    ]
}

fn it_has_one_thread() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        ask(client, b"hello");
    }
    assert_eq!(server.threads(), 1);
}

fn eight_thousand_clients() {
    const CLIENTS: usize = 8_000;
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    if hard < CLIENTS as u64 + 100 {
        kit::pass_over(&format!("the hard limit is {hard} open files"));
    }
    rlimit::Resource::NOFILE.set(hard, hard).unwrap();
    let server = Server::start();
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        // The queue of std's listeners holds 128; whom it does not take tries again after a second.
        clients.extend((0..100).map(|_| server.connect()));
        ask(clients.last_mut().expect("a hundred"), b"are we in?");
    }
    for round in 0..2 {
        let message = |number: usize| format!("round {round}, client {number}").into_bytes();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&message(number)).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            hear(client, &message(number));
        }
    }
    assert!(server.descriptors() > CLIENTS, "all of them at the same time");
    assert_eq!(server.threads(), 1);
}

/// Each block is another part of one noise, so that a lost, doubled or displaced piece shows.
struct Blocks {
    noise: Vec<u8>,
}

const BLOCK: usize = 1 << 20;

impl Blocks {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let word = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let noise = (0..BLOCK / 4).flat_map(word).collect();
        Self { noise }
    }

    fn block(&self, number: usize) -> &[u8] {
        let start = number * 7919 % BLOCK;
        &self.noise[start..start + BLOCK]
    }
}

fn every_byte_comes_back() {
    // A stricter measure than a hash: each block is compared with what was sent.
    let blocks = 1024;
    let server = Server::start();
    let mut to = server.connect();
    let mut from = to.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let noise = Blocks::new();
            (0..blocks).for_each(|number| to.write_all(noise.block(number)).unwrap());
            to.shutdown(Shutdown::Write).unwrap();
        });
        let noise = Blocks::new();
        let mut answer = vec![0; BLOCK];
        for number in 0..blocks {
            from.read_exact(&mut answer).unwrap();
            assert!(answer == noise.block(number), "block {number} has changed");
        }
        assert_eq!(from.read(&mut answer).unwrap(), 0, "nothing was added");
    });
}

fn a_reset_in_a_message() {
    let mut server = Server::start();
    let mut other = server.connect();
    ask(&mut other, b"before");
    for _ in 0..50 {
        let mut client = server.connect();
        client.write_all(b"half a mess").unwrap();
        reset(client);
        ask(&mut other, b"meanwhile");
    }
    server.assert_serves();
    server.assert_alive();
    kit::eventually("the connections are closed", || server.descriptors() < 12);
}

fn a_client_that_never_reads() {
    let mut server = Server::start();
    let mut other = server.connect();
    ask(&mut other, b"before");
    let mut deaf: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut deaf {
        client.set_nonblocking(true).unwrap();
        fill(client);
    }
    ask(&mut other, b"while three connections are stuck");
    server.assert_serves();
    let before = server.ticks();
    thread::sleep(Duration::from_millis(500));
    let used = server.ticks() - before;
    assert!(used <= 5, "{used} ticks of 10 ms in half a second");
    // Whoever begins to read gets everything that was taken in.
    let mut client = deaf.remove(0);
    client.set_nonblocking(false).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 100_000 && rest.iter().all(|&byte| byte == 7));
    deaf.into_iter().for_each(reset);
    ask(&mut other, b"after");
    server.assert_alive();
}

/// Writes until nothing more is taken for a while.
fn fill(client: &mut TcpStream) {
    let mut idle = 0;
    while idle < 20 {
        match client.write(&[7; 65_536]) {
            Ok(_) => idle = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                idle += 1;
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("the server is gone: {error}"),
        }
    }
}

fn a_half_closed_client() {
    let mut server = Server::start();
    let mut other = server.connect();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"last words").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    ask(&mut other, b"meanwhile");
    for client in &mut clients {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"last words");
    }
    kit::eventually("the connections are closed", || server.descriptors() < 12);
    server.assert_alive();
}

// F06: such a connection is accepted all the same, and has no peer any more.
fn a_reset_before_accept() {
    let mut server = Server::start();
    let mut other = server.connect();
    ask(&mut other, b"before");
    kit::kill(server.pid(), libc::SIGSTOP).unwrap();
    for _ in 0..5 {
        let mut client = server.connect();
        client.write_all(b"too late").unwrap();
        reset(client);
    }
    kit::kill(server.pid(), libc::SIGCONT).unwrap();
    ask(&mut other, b"after");
    server.assert_serves();
    server.assert_alive();
    kit::eventually("the connections are closed", || server.descriptors() < 12);
}

// F07
fn out_of_descriptors() {
    let mut server = Server::with_descriptors(32);
    let mut clients: Vec<_> = (0..48).map(|_| server.connect()).collect();
    kit::eventually("all descriptors are used", || server.descriptors() == 32);
    // Those that were accepted are served on; the others wait in the queue.
    ask(&mut clients[0], b"served");
    let before = server.ticks();
    thread::sleep(Duration::from_millis(500));
    let used = server.ticks() - before;
    assert!(used <= 5, "{used} ticks of 10 ms in half a second");
    ask(&mut clients[0], b"served still");
    for client in clients.drain(..24) {
        drop(client);
    }
    for client in &mut clients {
        ask(client, b"at last");
    }
    drop(clients);
    server.assert_serves();
    server.assert_alive();
}

fn an_idle_server_is_quiet() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        ask(client, b"hello");
    }
    let before = server.ticks();
    thread::sleep(Duration::from_millis(500));
    let used = server.ticks() - before;
    assert!(used <= 2, "{used} ticks of 10 ms in half a second");
}
