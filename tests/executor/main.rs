//! `block_on`, tasks, wakes, and what holds when user code panics or calls back.

#[path = "../kit/mod.rs"]
mod kit;

mod auto_traits;
mod block_on;
mod driver;
mod event;
mod handle;
mod hostile_wakers;
mod nesting;
mod reentrancy;
mod sharing;
mod task_ends;
mod tasks;
mod teardown;
mod wakes;
