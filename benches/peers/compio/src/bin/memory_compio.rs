//! What compio keeps for a task, a timer, and a connection.

use std::future::{Future, pending};
use std::net::Ipv4Addr;

use common::deadlines::far;
use common::heap::{self, BUFFER, Counting, live, silent_clients};
use common::tasks::{poll_once, yield_now};
use compio::io::AsyncRead;
use compio::net::TcpListener;
use compio::runtime::{Runtime, spawn};
use compio::time::sleep;

#[global_allocator]
static HEAP: Counting = Counting;

fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().expect("the kernel has io_uring").block_on(future)
}

fn main() {
    heap::main(&[
        ("tasks", |n| run(tasks(n))),
        ("timers", |n| run(timers(n))),
        ("connections", |n| run(connections(n))),
    ]);
}

async fn tasks(n: usize) -> usize {
    spawn(async { pending::<()>().await }).detach();
    yield_now().await;
    let before = live();
    for _ in 0..n {
        spawn(async { pending::<()>().await }).detach();
    }
    yield_now().await;
    live() - before
}

async fn timers(n: usize) -> usize {
    poll_once(Box::pin(sleep(far(0))).as_mut()).await;
    let before = live();
    let mut timers = Vec::with_capacity(n);
    timers.extend((0..n as u64).map(|i| Box::pin(sleep(far(i)))));
    for timer in &mut timers {
        poll_once(timer.as_mut()).await;
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
        let (mut stream, _) = listener.accept().await.expect("a client has come");
        spawn(async move { stream.read(Vec::with_capacity(BUFFER)).await }).detach();
    }
    sleep(common::deadlines::TURN).await;
    live() - before - n * BUFFER
}
