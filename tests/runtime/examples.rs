//! The examples that run to their end by themselves, as programs: they end, and say what they
//! should.

use crate::kit;
use crate::kit::echo;
use echo::{Server, ask, hear};
use kit::case;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("worker_threads", worker_threads).secs(60),
        case("netcat_talks_both_ways", netcat),
        case("dns_lookup_storm", dns_lookup_storm),
        case("thread_per_core_moves_a_connection_in_mid_conversation", moves_a_connection),
        case("thread_per_core_shares_its_clients_out", shares_clients_out),
        case("a_server_that_is_asked_to_end_lets_its_clients_finish", lets_finish),
        case("a_server_that_is_asked_to_end_cuts_off_who_takes_too_long", cuts_off),
        case("a_server_that_is_asked_twice_dies", dies_at_the_second),
        case("echo_all_serves_each_kind_and_takes_its_path_away", echo_all),
        case("echo_all_rests_when_datagrams_cannot_be_received", echo_all_rests),
        case("netcat_fails_if_it_cannot_send", netcat_cannot_send),
        case("selector_loop_ends_if_its_client_cannot_connect", selector_loop_without_client),
        case("examples_without_threads_say_so", without_threads),
    ]
}

/// What an example prints, line by line. It must end well and complain of nothing.
fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let ended = Command::new(kit::example(name)).args(args).output().unwrap();
    let told = String::from_utf8(ended.stdout).unwrap();
    let complaints = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{}\n{told}\n{complaints}", ended.status);
    assert_eq!(complaints, "");
    told.lines().map(|line| line.trim().to_owned()).collect()
}

fn worker_threads() {
    for (limit, primes) in [("100000", 9592), ("10", 4), ("0", 0)] {
        let lines = lines("worker_threads", &[limit]);
        let told = format!("{primes} primes below {limit}, and a sieve agrees");
        assert_eq!(lines.last(), Some(&told));
        // What came from the threads, each in its own way.
        let parts = lines.iter().filter_map(|line| line.split_once(" primes in "));
        let parts: Vec<u64> = parts.map(|(count, _)| count.parse().unwrap()).collect();
        assert_eq!((parts.len(), parts.iter().sum()), (10, primes));
        let steps = lines.iter().filter_map(|line| line.strip_suffix('%'));
        let steps: Vec<u64> = steps.map(|percent| percent.parse().unwrap()).collect();
        assert!(steps.is_sorted() && steps.last() == Some(&100), "{steps:?}");
    }
    let wrong = Command::new(kit::example("worker_threads")).arg("many").output().unwrap();
    assert!(!wrong.status.success());
}

fn dns_lookup_storm() {
    let names = ["localhost", "LOCALHOST"];
    let lines = lines("dns_lookup_storm", &["1000", "8", names[0], names[1]]);
    for (name, line) in ["LOCALHOST", "localhost"].iter().zip(&lines) {
        assert_eq!(*line, format!("500  {name}: 127.0.0.1"));
    }
    assert!(lines[2].starts_with("1000 of 1000 found in "), "{lines:?}");
    assert_eq!(lines[3], "at most 8 at once");
    assert!(lines[4].contains(" ticks, "), "{lines:?}");

    // What is no name needs no name server to be found wanting.
    let mut wrong = Command::new(kit::example("dns_lookup_storm"));
    let wrong = wrong.args(["3", "1", "a..b", "localhost"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    let told = String::from_utf8(wrong.stdout).unwrap();
    assert!(told.contains("     2  a..b: ") && told.contains("1 of 3 found"), "{told}");
}

fn moves_a_connection() {
    let mut server = Server::of("thread_per_core", &["3"]);
    assert_eq!(server.threads(), 4);
    let mut client = server.connect();
    // The first of three that have none yet, and then round and round; what has been sent already
    // goes with the connection.
    for round in 0..50 {
        client.write_all(b"one\nmove\ntwo\nmove\nmove\nthr").unwrap();
        hear(&mut client, b"0: one\n1: two\n");
        client.write_all(format!("ee {round}\n").as_bytes()).unwrap();
        hear(&mut client, format!("0: three {round}\n").as_bytes());
    }
    kit::kill(server.pid(), libc::SIGTERM).unwrap();
    let mut told = String::new();
    server.told.read_to_string(&mut told).unwrap();
    assert_eq!(told, "loop 0: 100 lines\nloop 1: 50 lines\nloop 2: 0 lines\n");
    assert!(server.wait().success());
}

fn shares_clients_out() {
    let server = Server::of("thread_per_core", &["3"]);
    let mut clients: Vec<_> = (0..9).map(|_| server.connect()).collect();
    let mut had = [0; 3];
    for client in &mut clients {
        client.write_all(b"who?\n").unwrap();
        let mut answer = [0; 8];
        client.read_exact(&mut answer).unwrap();
        had[usize::from(answer[0] - b'0')] += 1;
    }
    // Two that come at once, to different listeners, may choose the same loop.
    assert_eq!(had.iter().sum::<i32>(), 9);
    assert!(had.iter().all(|&clients| clients >= 1), "{had:?}");
    // Nobody is left in it, and all is well.
    drop(clients);
    let mut late = server.connect();
    late.write_all(&[b'x'; 10_000]).unwrap();
    let end = late.read(&mut [0]).or_else(|error| match error.kind() {
        ErrorKind::ConnectionReset => Ok(0),
        _ => Err(error),
    });
    assert_eq!(end.unwrap(), 0, "a line without end ends it");
    let mut next = server.connect();
    next.write_all(b"still there?\n").unwrap();
    let mut answer = [0; 16];
    next.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(b": still there?\n"));
}

/// Asks the server to end, and waits until it listens no more.
fn ask_to_end(server: &Server, signal: i32) {
    kit::kill(server.pid(), signal).unwrap();
    kit::eventually("newcomers are refused", || {
        let newcomer = TcpStream::connect(server.address);
        newcomer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

fn lets_finish() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut server = Server::of("graceful_shutdown", &["60"]);
        let (mut client, gone) = (server.connect(), server.connect());
        ask(&mut client, b"hello");
        drop(gone);
        ask_to_end(&server, signal);
        ask(&mut client, b"still there?");
        client.shutdown(Shutdown::Write).unwrap();
        assert!(server.wait().success());
        let mut told = String::new();
        server.told.read_to_string(&mut told).unwrap();
        let who = format!("signal {signal} from process {}\n", std::process::id());
        assert!(told.starts_with(&who), "{told}");
    }
}

fn cuts_off() {
    let mut server = Server::of("graceful_shutdown", &["1"]);
    let mut client = server.connect();
    ask(&mut client, b"hello");
    ask_to_end(&server, libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(1));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

fn dies_at_the_second() {
    let mut server = Server::of("graceful_shutdown", &["60"]);
    let mut client = server.connect();
    ask(&mut client, b"hello");
    ask_to_end(&server, libc::SIGINT);
    kit::kill(server.pid(), libc::SIGINT).unwrap();
    assert_eq!(server.wait().signal(), Some(libc::SIGINT));
}

fn netcat() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut client = Command::new(kit::example("netcat"));
    client.args(["localhost", &port]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"hello from the server\n").unwrap();
    let mut output = client.stdout.take().unwrap();
    let mut heard = [0; 22];
    output.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello from the server\n");
    client.stdin.take().unwrap().write_all(b"hello from the client\n").unwrap();
    // The input is closed, and so is this direction, while the other one goes on.
    let mut said = String::new();
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello from the client\n");
    server.write_all(b"goodbye\n").unwrap();
    drop(server);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "goodbye\n");
    assert!(client.wait().unwrap().success());
}

fn echo_all() {
    let place = kit::Directory::new();
    let path = place.join("socket");
    let mut server = Command::new(kit::example("echo_all"));
    server.args(["tcp:127.0.0.1:0", "udp:127.0.0.1:0", &format!("unix:{}", path.display())]);
    let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines().take(3);
    let at: Vec<String> = lines
        .zip(["listening on tcp:", "listening on udp:", "listening on unix:"])
        .map(|(line, start)| line.unwrap().strip_prefix(start).expect(start).to_owned())
        .collect();

    let mut tcp = TcpStream::connect(&at[0]).unwrap();
    tcp.set_read_timeout(Some(echo::PATIENCE)).unwrap();
    ask(&mut tcp, b"hello");
    tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tcp.read(&mut [0]).unwrap(), 0);

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(echo::PATIENCE)).unwrap();
    udp.connect(&at[1]).unwrap();
    let mut answer = vec![0; 70_000];
    for length in [0, 1, 65_507] {
        let datagram = vec![b'x'; length];
        udp.send(&datagram).unwrap();
        let got = udp.recv(&mut answer).unwrap();
        assert_eq!(answer[..got], datagram);
    }

    let mut unix = UnixStream::connect(&at[2]).unwrap();
    unix.set_read_timeout(Some(echo::PATIENCE)).unwrap();
    unix.write_all(b"hello").unwrap();
    unix.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    unix.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello");

    kit::kill(server.id() as i32, libc::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(!path.exists(), "the path is taken away");
}

/// An example for which these system calls fail.
#[allow(unsafe_code, reason = "a filter of system calls in the child alone")]
fn refused(name: &str, args: &[&str], calls: &'static [(libc::c_long, i32)]) -> Command {
    let mut command = Command::new(kit::example(name));
    command.args(args);
    // SAFETY: this process has one thread, so that its child may do what it likes.
    unsafe {
        command.pre_exec(|| {
            kit::refuse(calls);
            Ok(())
        })
    };
    command
}

/// It must tell an error, and not by a panic.
fn assert_told(ended: &Output) {
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{complaints}");
    assert!(!complaints.is_empty() && !complaints.contains("panicked"), "{complaints}");
}

fn echo_all_rests() {
    let calls = &[(libc::SYS_recvfrom, libc::ENOMEM)];
    let mut server = refused("echo_all", &["udp:127.0.0.1:0"], calls);
    let mut server = server.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut told).unwrap();
    thread::sleep(Duration::from_millis(300));
    kit::kill(server.id() as i32, libc::SIGTERM).unwrap();
    let ended = server.wait_with_output().unwrap();
    assert!(ended.status.success());
    let complaints = String::from_utf8(ended.stderr).unwrap().lines().count();
    // Several a second, and not thousands.
    assert!((1..=100).contains(&complaints), "{complaints}");
}

fn netcat_cannot_send() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut client = refused("netcat", &["127.0.0.1", &port], &[(libc::SYS_sendto, libc::ENOBUFS)]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    client.stdin.take().unwrap().write_all(b"hello").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0, "it hears the end");
    server.write_all(b"goodbye").unwrap();
    drop(server);
    let ended = client.wait_with_output().unwrap();
    assert_eq!(ended.stdout, b"goodbye");
    assert_told(&ended);
}

fn selector_loop_without_client() {
    let calls = &[(libc::SYS_connect, libc::ENETUNREACH)];
    assert_told(&refused("selector_loop", &[], calls).output().unwrap());
}

fn without_threads() {
    let calls = &[(libc::SYS_clone3, libc::EAGAIN), (libc::SYS_clone, libc::EAGAIN)];
    for (name, args) in [("worker_threads", "10"), ("tour", "1")] {
        assert_told(&refused(name, &[args], calls).output().unwrap());
    }
}
