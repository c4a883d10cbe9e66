//! The example `port_forward` as a program, between clients and a target that know nothing of
//! selio.

use crate::kit;
use crate::kit::echo;
use crate::kit::sockets;
use echo::{PATIENCE, Server, hear};
use kit::case;
use sockets::reset;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("every_byte_both_ways_and_each_end", every_byte_both_ways),
        case("a_half_close_is_passed_on", a_half_close_is_passed_on),
        case("a_target_that_refuses", a_target_that_refuses),
        case("a_reset_ends_both_sides", a_reset_ends_both_sides),
        case("out_of_descriptors", out_of_descriptors),
        case("asked_to_end_it_lets_connections_finish", lets_finish),
        case("asked_to_end_it_cuts_off_who_takes_too_long", cuts_off),
        case("without_a_target", without_a_target),
        case("no_payload_is_read_or_written", no_payload_is_read_or_written),
        case("_forwards", part_forwards),
    ]
}

/// Where connections are forwarded to.
struct Target {
    listener: TcpListener,
    address: String,
}

impl Target {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Target { listener, address }
    }

    /// A connection through the program: the client's end, and the target's.
    fn reach(&self, server: &Server) -> (TcpStream, TcpStream) {
        let client = server.connect();
        let (target, _) = self.listener.accept().unwrap();
        target.set_read_timeout(Some(PATIENCE)).unwrap();
        target.set_write_timeout(Some(PATIENCE)).unwrap();
        (client, target)
    }
}

const BYTES: usize = 3_000_017;

fn noise(seed: usize) -> Vec<u8> {
    (0..BYTES).map(|at| (at * seed % 251) as u8).collect()
}

/// Sends one noise and hears another, up to the end.
fn exchange(mut stream: TcpStream, sends: usize, hears: usize) {
    let mut writer = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        writer.write_all(&noise(sends)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == noise(hears), "{} bytes, or others", heard.len());
    sending.join().unwrap();
}

fn every_byte_both_ways() {
    let target = Target::new();
    let server = Server::of("port_forward", &[&target.address]);
    let before = server.descriptors();
    let ends: Vec<_> = (0..3).map(|_| target.reach(&server)).collect();
    let parties = ends.into_iter().flat_map(|(client, target)| {
        [
            thread::spawn(move || exchange(client, 3, 5)),
            thread::spawn(move || exchange(target, 5, 3)),
        ]
    });
    parties.collect::<Vec<_>>().into_iter().for_each(|party| party.join().unwrap());
    kit::eventually("the connections are closed", || server.descriptors() <= before + 8);
    assert_eq!(server.threads(), 1);
}

fn a_half_close_is_passed_on() {
    let target = Target::new();
    let server = Server::of("port_forward", &[&target.address]);
    let (mut client, mut far) = target.reach(&server);
    client.write_all(b"a question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    far.read_to_string(&mut question).unwrap();
    assert_eq!(question, "a question");
    far.write_all(b"an answer").unwrap();
    hear(&mut client, b"an answer");
    drop(far);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

fn a_target_that_refuses() {
    let refuses = kit::refused_addr().to_string();
    let mut server = Server::in_shell("true", "port_forward", &[&refuses]);
    for _ in 0..2 {
        let mut client = server.connect();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let mut told = String::new();
        server.told.read_line(&mut told).unwrap();
        let own = client.local_addr().unwrap().to_string();
        assert!(told.starts_with(&own) && told.contains(&refuses), "{told}");
    }
    server.assert_alive();
}

fn a_reset_ends_both_sides() {
    let target = Target::new();
    let mut server = Server::in_shell("true", "port_forward", &[&target.address]);
    let before = server.descriptors();
    let (client, mut far) = target.reach(&server);
    reset(client);
    // The end, or that there was none.
    if let Err(error) = far.read(&mut [0]) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let (mut client, far) = target.reach(&server);
    reset(far);
    if let Err(error) = client.read(&mut [0]) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    kit::eventually("both are closed", || server.descriptors() <= before + 8);
    server.assert_alive();
}

fn out_of_descriptors() {
    let target = Target::new();
    let mut server = Server::in_shell("ulimit -n 24", "port_forward", &[&target.address]);
    let crowd: Vec<_> = (0..30).map(|_| server.connect()).collect();
    thread::sleep(Duration::from_millis(60));
    server.assert_alive();
    drop(crowd);
    thread::spawn(move || {
        for stream in target.listener.incoming() {
            thread::spawn(move || echo_back(stream.unwrap()));
        }
    });
    // Those of the crowd come first, some of them after a pause.
    kit::eventually("a newcomer is served", || {
        let mut client = server.connect();
        _ = client.write_all(b"hello");
        client.read(&mut [0; 5]).is_ok_and(|got| got == 5)
    });
}

fn echo_back(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        _ = stream.write_all(&buffer[..got]);
    }
}

/// Asks it to end, and waits until it listens no more.
fn ask_to_end(server: &Server) {
    kit::kill(server.pid(), libc::SIGTERM).unwrap();
    kit::eventually("newcomers are refused", || TcpStream::connect(server.address).is_err());
}

fn lets_finish() {
    let target = Target::new();
    let mut server = Server::in_shell("true", "port_forward", &[&target.address, "60"]);
    let (mut client, mut far) = target.reach(&server);
    ask_to_end(&server);
    far.write_all(b"still there").unwrap();
    hear(&mut client, b"still there");
    // With the target go the connections that `ask_to_end` has tried.
    drop((client, far, target));
    assert!(server.wait().success());
}

fn cuts_off() {
    let target = Target::new();
    let mut server = Server::in_shell("true", "port_forward", &[&target.address, "0"]);
    let (mut client, _far) = target.reach(&server);
    kit::kill(server.pid(), libc::SIGTERM).unwrap();
    assert_eq!(server.wait().code(), Some(1));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

fn without_a_target() {
    let ended = std::process::Command::new(kit::example("port_forward")).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.starts_with(b"usage:"));
}

fn no_payload_is_read_or_written() {
    let Some((ended, trace)) = kit::rerun("_forwards").strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let pid = ended.output.lines().find_map(|line| line.strip_prefix("server "));
    let pid = format!("{} ", pid.expect("the part tells"));
    let mut trace = trace.between("begin", "end");
    trace.lines.retain(|line| line.starts_with(&pid));
    assert!(trace.count("splice") > 20);
    for call in ["write", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg"] {
        assert_eq!(trace.count(call), 0, "{call}");
    }
    // In one line or in two, if another process came between. Signals are asked for by others.
    let is_read = |line: &&String| line.contains("65536)") && line.contains("read");
    let reads: Vec<_> = trace.lines.iter().filter(is_read).collect();
    assert_eq!(reads.len(), 2, "one for the end of each direction: {reads:#?}");
    assert!(reads.iter().all(|read| read.ends_with("= 0")), "{reads:#?}");
}

fn part_forwards() {
    let target = Target::new();
    let server = Server::of("port_forward", &[&target.address]);
    println!("server {}", server.pid());
    kit::mark("begin");
    let (mut client, far) = target.reach(&server);
    let far = thread::spawn(move || exchange(far, 5, 3));
    exchange(client.try_clone().unwrap(), 3, 5);
    far.join().unwrap();
    // It has told both ends, so it has read them.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    kit::mark("end");
    drop(server);
}
