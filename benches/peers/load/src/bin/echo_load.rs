//! A load for echo servers.
//!
//! `echo_load slices CONNECTIONS SIZE IN_FLIGHT MILLISECONDS ROUNDS NAME=ADDRESS=PID…` opens its
//! connections to every server and visits one server after the other, in another order each round, for so
//! many milliseconds. On each connection so many messages of this size are under way; what comes back is
//! sent again. A visit ends when nothing is under way any more, and prints
//! `NAME REQUESTS CPU_NS WALL_NS MEDIAN_NS`: what the server did, the CPU time it used for it, and how long
//! a request took (zero with more than one connection).
//!
//! `echo_load count CONNECTIONS SIZE REQUESTS ADDRESS` makes exactly so many requests: one on each
//! connection, and when all are answered a pause, in which the server goes to sleep. (Under strace it is
//! so slow that otherwise the next request would be there before it is looked for.)

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::os::{self, EPOLLET, EPOLLIN, Epoll, NO_EVENT};

/// In which a server that is done goes to sleep, even if each of its calls is traced.
const PAUSE: Duration = Duration::from_millis(1);

fn main() {
    os::raise_descriptor_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["slices", connections, size, in_flight, milliseconds, rounds, servers @ ..] => {
            let shape = Shape::new(connections, size, in_flight);
            let servers = servers.iter().map(|server| Server::connect(server, &shape)).collect();
            slices(servers, Duration::from_millis(number(milliseconds)), number(rounds));
        }
        ["count", connections, size, requests, address] => {
            let shape = Shape::new(connections, size, "1");
            let mut clients = Clients::connect(address, &shape);
            for _ in 0..number(requests) / number(connections) {
                clients.exchange(|_| false);
                std::thread::sleep(PAUSE);
            }
        }
        _ => panic!("usage: see the head of the source"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn slices(mut servers: Vec<Server>, slice: Duration, rounds: u64) {
    // Any order will do that is another one each round.
    let mut seed = 1_u64;
    for _ in 0..rounds {
        for i in (1..servers.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            servers.swap(i, (seed >> 33) as usize % (i + 1));
        }
        for server in &mut servers {
            server.visit(slice);
        }
    }
}

/// How many connections there are, and what is under way on each.
struct Shape {
    connections: usize,
    size: usize,
    message: Vec<u8>,
}

impl Shape {
    fn new(connections: &str, size: &str, in_flight: &str) -> Self {
        let size = number(size) as usize;
        let bytes = size * number(in_flight) as usize;
        let message = (0..bytes).map(|i| (i % 251) as u8).collect();
        Self { connections: number(connections) as usize, size, message }
    }
}

/// A server with what is connected to it.
struct Server {
    name: String,
    cpu_clock: i32,
    clients: Clients,
}

impl Server {
    fn connect(what: &str, shape: &Shape) -> Self {
        let parts: Vec<&str> = what.split('=').collect();
        let [name, address, pid] = parts[..] else { panic!("`{what}` is not NAME=ADDRESS=PID") };
        let cpu_clock = os::cpu_clock_of(number(pid) as i32).expect("the server runs");
        Self { name: name.into(), cpu_clock, clients: Clients::connect(address, shape) }
    }

    fn visit(&mut self, slice: Duration) {
        let cpu = os::clock(self.cpu_clock);
        let start = Instant::now();
        let end = start + slice;
        self.clients.exchange(|_| Instant::now() < end);
        let wall = start.elapsed();
        let cpu = os::clock(self.cpu_clock) - cpu;
        let requests = self.clients.take_answers();
        let median = self.clients.take_median();
        println!("{} {requests} {} {} {median}", self.name, cpu.as_nanos(), wall.as_nanos());
    }
}

/// A connection, and where in the stream it is.
struct Client {
    stream: TcpStream,
    /// Bytes that have come back since the visit began.
    received: usize,
    /// Bytes that are under way.
    under_way: usize,
    answers: u64,
}

struct Clients {
    epoll: Epoll,
    clients: Vec<Client>,
    size: usize,
    message: Vec<u8>,
    buffer: Vec<u8>,
    /// Whether it is known what an answer answers: with one connection.
    timed: bool,
    times: Vec<Duration>,
}

impl Clients {
    fn connect(address: &str, shape: &Shape) -> Self {
        let epoll = Epoll::new().expect("a descriptor is free");
        let clients = (0..shape.connections).map(|i| {
            let stream = TcpStream::connect(address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket has TCP_NODELAY");
            stream.set_nonblocking(true).expect("a socket can be non-blocking");
            epoll.add(&stream, EPOLLIN | EPOLLET, i as u64).expect("a socket can be watched");
            Client { stream, received: 0, under_way: 0, answers: 0 }
        });
        Self {
            clients: clients.collect(),
            epoll,
            size: shape.size,
            message: shape.message.clone(),
            buffer: vec![0; 64 * 1024],
            timed: shape.connections == 1,
            times: Vec::new(),
        }
    }

    /// Sends on each connection, and again what comes back as long as it is told to; returns when
    /// nothing is under way.
    fn exchange(&mut self, more: impl Fn(&Client) -> bool) {
        let mut sent_at = Instant::now();
        for client in &mut self.clients {
            client.received = 0;
            client.send(&self.message);
        }
        let mut events = [NO_EVENT; 256];
        let mut under_way = self.clients.len();
        while under_way > 0 {
            let count = self.epoll.wait(&mut events, Some(20_000)).expect("no signal comes");
            assert!(count > 0, "the server answers in time");
            for event in &events[..count] {
                let client = &mut self.clients[event.u64 as usize];
                let Some(count) = client.receive(&mut self.buffer, &self.message, self.size) else {
                    continue;
                };
                if self.timed {
                    self.times.push(sent_at.elapsed());
                }
                if more(client) {
                    sent_at = Instant::now();
                    client.send(&self.buffer[..count]);
                } else if client.under_way == 0 {
                    under_way -= 1;
                }
            }
        }
    }

    fn take_answers(&mut self) -> u64 {
        self.clients.iter_mut().map(|client| std::mem::take(&mut client.answers)).sum()
    }

    fn take_median(&mut self) -> u128 {
        self.times.sort_unstable();
        let median = self.times.get(self.times.len() / 2).map_or(0, Duration::as_nanos);
        self.times.clear();
        median
    }
}

impl Client {
    fn send(&mut self, mut bytes: &[u8]) {
        self.under_way += bytes.len();
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                // Never with as little under way as here, but for a server that is very slow.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("cannot send: {error}"),
            }
        }
    }

    /// How many bytes have come back, if any; the first of them is compared with what was sent.
    fn receive(&mut self, buffer: &mut [u8], message: &[u8], size: usize) -> Option<usize> {
        let count = match self.stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            received => received.expect("the connection stands"),
        };
        assert!(count > 0, "the server has hung up");
        assert_eq!(buffer[0], message[self.received % message.len()], "what is sent comes back");
        self.received += count;
        self.under_way -= count;
        let answers = self.received / size - (self.received - count) / size;
        self.answers += answers as u64;
        Some(count)
    }
}
