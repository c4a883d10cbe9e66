//! What smol keeps for a task, a timer, and a connection.

use std::future::pending;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use common::deadlines::far;
use common::heap::{self, BUFFER, Counting, live, silent_clients};
use common::tasks::poll_once;
use futures_lite::AsyncReadExt;
use futures_lite::future::yield_now;

#[global_allocator]
static HEAP: Counting = Counting;

fn run(row: impl AsyncFnOnce(&LocalExecutor<'_>) -> usize) -> usize {
    let executor = LocalExecutor::new();
    async_io::block_on(executor.run(row(&executor)))
}

fn main() {
    heap::main(&[
        ("tasks", |n| run(async |executor| tasks(executor, n).await)),
        ("timers", |n| run(async |_| timers(n).await)),
        ("connections", |n| run(async |executor| connections(executor, n).await)),
    ]);
}

async fn tasks(executor: &LocalExecutor<'_>, n: usize) -> usize {
    executor.spawn(async { pending::<()>().await }).detach();
    yield_now().await;
    let before = live();
    for _ in 0..n {
        executor.spawn(async { pending::<()>().await }).detach();
    }
    yield_now().await;
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

async fn connections(executor: &LocalExecutor<'_>, n: usize) -> usize {
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.get_ref().local_addr().expect("it is bound");
    let mut clients = Vec::with_capacity(n);
    let before = live();
    for client in silent_clients(address, n) {
        clients.push(client);
        let (mut stream, _) = listener.accept().await.expect("a client has come");
        let task = executor.spawn(async move {
            let mut buffer = vec![0; BUFFER];
            stream.read(&mut buffer).await
        });
        task.detach();
    }
    yield_now().await;
    live() - before - n * BUFFER
}
