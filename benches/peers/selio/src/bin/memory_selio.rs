//! What selio keeps for a task, a timer, and a connection.

use std::future::pending;
use std::net::Ipv4Addr;
use std::pin::pin;

use common::deadlines::far;
use common::heap::{self, BUFFER, Counting, live, silent_clients};
use common::tasks::poll_once;
use selio::Timer;
use selio::net::TcpListener;

#[global_allocator]
static HEAP: Counting = Counting;

fn main() {
    heap::main(&[
        ("tasks", |n| selio::block_on(tasks(n))),
        ("timers", |n| selio::block_on(timers(n))),
        ("connections", |n| selio::block_on(connections(n))),
    ]);
}

async fn tasks(n: usize) -> usize {
    selio::spawn(async { pending::<()>().await });
    selio::yield_now().await;
    let before = live();
    for _ in 0..n {
        selio::spawn(async { pending::<()>().await });
    }
    selio::yield_now().await;
    live() - before
}

async fn timers(n: usize) -> usize {
    poll_once(pin!(Timer::after(far(0)))).await;
    let before = live();
    let mut timers = Vec::with_capacity(n);
    timers.extend((0..n as u64).map(|i| Timer::after(far(i))));
    for timer in &mut timers {
        poll_once(pin!(timer)).await;
    }
    live() - before
}

async fn connections(n: usize) -> usize {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let mut clients = Vec::with_capacity(n);
    let before = live();
    for client in silent_clients(address, n) {
        clients.push(client);
        let (stream, _) = listener.accept().await.expect("a client has come");
        selio::spawn(async move {
            let mut buffer = vec![0; BUFFER];
            stream.read(&mut buffer).await
        });
    }
    selio::yield_now().await;
    live() - before - n * BUFFER
}
