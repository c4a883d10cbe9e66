//! What the least keeps for a task, a timer, and a connection.

use std::future::pending;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

use common::deadlines::far;
use common::heap::{self, BUFFER, Counting, live, silent_clients};
use common::os::{self, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Epoll};
use peer_bare::executor::Executor;
use peer_bare::wheel::Wheel;

#[global_allocator]
static HEAP: Counting = Counting;

fn main() {
    heap::main(&[("tasks", tasks), ("timers", timers), ("connections", connections)]);
}

fn tasks(n: usize) -> usize {
    let mut executor = Executor::default();
    executor.spawn(async { pending().await });
    executor.run();
    let before = live();
    for _ in 0..n {
        executor.spawn(async { pending().await });
    }
    executor.run();
    live() - before
}

fn timers(n: usize) -> usize {
    let base = Instant::now();
    let mut wheel = Wheel::new();
    let before = live();
    let mut timers = Vec::with_capacity(n);
    timers.extend((0..n as u64).map(|i| wheel.insert(base + far(i))));
    live() - before
}

fn connections(n: usize) -> usize {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let epoll = Epoll::new().expect("a descriptor is free");
    let mut clients = Vec::with_capacity(n);
    let before = live();
    let mut connections = Vec::new();
    for client in silent_clients(address, n) {
        clients.push(client);
        let (stream, _) = listener.accept().expect("a client has come");
        let events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        epoll.add(&stream, events, connections.len() as u64).expect("a socket can be watched");
        connections.push((stream, Box::new([0_u8; BUFFER]), 0_usize, 0_usize));
    }
    os::is_writable(&connections[0].0);
    live() - before - n * BUFFER
}
