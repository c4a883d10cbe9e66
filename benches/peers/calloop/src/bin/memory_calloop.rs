//! What calloop keeps for a task, a timer, and a connection.

use std::future::pending;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use calloop::EventLoop;
use calloop::futures::{Executor, Scheduler, executor};
use calloop::timer::{TimeoutAction, Timer};
use common::deadlines::far;
use common::heap::{self, BUFFER, Counting, live, silent_clients};
use futures_lite::AsyncReadExt;

#[global_allocator]
static HEAP: Counting = Counting;

fn main() {
    heap::main(&[("tasks", tasks), ("timers", timers), ("connections", connections)]);
}

fn event_loop() -> (EventLoop<'static, ()>, Scheduler<()>) {
    let event_loop = EventLoop::try_new().expect("descriptors are free");
    let (executor, scheduler): (Executor<()>, _) = executor().expect("descriptors are free");
    event_loop.handle().insert_source(executor, |(), (), ()| ()).expect("it is the first");
    (event_loop, scheduler)
}

/// Turns until all have been polled: it polls at most 1,024 in a turn.
fn turn(event_loop: &mut EventLoop<'static, ()>, n: usize) {
    for _ in 0..=n / 1_000 {
        event_loop.dispatch(Some(Duration::ZERO), &mut ()).expect("the loop runs");
    }
}

fn tasks(n: usize) -> usize {
    let (mut event_loop, scheduler) = event_loop();
    scheduler.schedule(async { pending().await }).expect("the executor is there");
    turn(&mut event_loop, 1);
    let before = live();
    for _ in 0..n {
        scheduler.schedule(async { pending().await }).expect("the executor is there");
    }
    turn(&mut event_loop, n);
    live() - before
}

fn timers(n: usize) -> usize {
    let (event_loop, _) = event_loop();
    let before = live();
    for i in 0..n as u64 {
        let timer = Timer::from_duration(far(i));
        let timer = event_loop.handle().insert_source(timer, |_, (), ()| TimeoutAction::Drop);
        timer.expect("a timer may be late");
    }
    live() - before
}

fn connections(n: usize) -> usize {
    let (mut event_loop, scheduler) = event_loop();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let mut clients = Vec::with_capacity(n);
    let before = live();
    for client in silent_clients(address, n) {
        clients.push(client);
        let (stream, _) = listener.accept().expect("a client has come");
        let mut stream = event_loop.handle().adapt_io(stream).expect("a socket can be watched");
        let task = async move {
            let mut buffer = vec![0; BUFFER];
            drop(stream.read(&mut buffer).await);
        };
        scheduler.schedule(task).expect("the executor is there");
    }
    turn(&mut event_loop, n);
    live() - before - n * BUFFER
}
