//! Small things on the executor of futures: it has no reactor, so no sockets and no timers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use common::rows::{self, since};
use common::tasks::{Parked, PingPong, yield_now};
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;

fn run<T>(row: impl AsyncFnOnce(LocalSpawner) -> T) -> T {
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    pool.run_until(row(spawner))
}

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", |n, batch| run(async |spawner| spawn(spawner, n, batch).await)),
        ("yield", |n, tasks| run(async |spawner| yields(spawner, n, tasks).await)),
        ("ping_pong", |n, _| run(async |spawner| ping_pong(spawner, n).await)),
        ("wake_busy", |n, _| run(async |spawner| wake_busy(spawner, n).await)),
        ("wake_answer", |n, _| run(async |spawner| wake_answer(spawner, n).await)),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let start = Instant::now();
    for i in 0..n {
        assert_eq!(futures::executor::block_on(async { black_box(i) }), i);
    }
    since(start, n)
}

async fn spawn(spawner: LocalSpawner, n: u64, batch: u64) -> Vec<f64> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(batch as usize);
    for _ in 0..n / batch {
        tasks.extend((0..batch).map(|i| {
            spawner.spawn_local_with_handle(async move { i }).expect("the pool is there")
        }));
        for (i, task) in (0..).zip(tasks.drain(..)) {
            assert_eq!(task.await, i);
        }
    }
    since(start, n)
}

async fn yields(spawner: LocalSpawner, n: u64, tasks: u64) -> Vec<f64> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let task = async move {
                for _ in 0..n / tasks {
                    yield_now().await;
                }
            };
            spawner.spawn_local_with_handle(task).expect("the pool is there")
        })
        .collect();
    for task in tasks {
        task.await;
    }
    since(start, n)
}

async fn ping_pong(spawner: LocalSpawner, n: u64) -> Vec<f64> {
    let game = Arc::new(PingPong::default());
    let start = Instant::now();
    let [first, second] = [0, 1].map(|side| {
        let player = Arc::clone(&game).play(side, n / 2);
        spawner.spawn_local_with_handle(player).expect("the pool is there")
    });
    first.await;
    second.await;
    since(start, n)
}

async fn wake_busy(spawner: LocalSpawner, n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let task = Arc::clone(&parked).answer(n);
    let task = spawner.spawn_local_with_handle(task).expect("the pool is there");
    yield_now().await;
    let took = parked.wake_while_busy(n);
    task.await;
    rows::per(took, n)
}

async fn wake_answer(spawner: LocalSpawner, n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    spawner.spawn_local_with_handle(parked.answer(n)).expect("the pool is there").await;
    rows::per(thread.join().expect("a thread that asks does not panic"), n)
}
