//! What the executor of futures keeps for a task.

use std::future::pending;

use common::heap::{self, Counting, live};
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;

#[global_allocator]
static HEAP: Counting = Counting;

fn main() {
    heap::main(&[("tasks", tasks)]);
}

fn tasks(n: usize) -> usize {
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    spawner.spawn_local(async { pending().await }).expect("the pool is there");
    pool.run_until_stalled();
    let before = live();
    for _ in 0..n {
        spawner.spawn_local(async { pending().await }).expect("the pool is there");
    }
    pool.run_until_stalled();
    live() - before
}
