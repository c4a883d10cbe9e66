//! The kit all tests use: cases in processes of their own, oracles, fault injection, hostile
//! values.
//!
//! Two sorts of test file use it.
//!
//! * With libtest (`#[test]` functions): everything that touches nothing but its own objects. Begin
//!   with `let _guard = kit::watchdog(10);`, so that a hang ends with a message instead of a
//!   silence.
//! * With `harness = false` and a function `cases` that lists them: everything that touches masks, dispositions, fork, limits, seccomp or the process's CPU time. Every case runs
//!   in a process of its own, in its main thread, alone; it starts with an empty mask and default
//!   dispositions, and is killed, with whatever it has started, when its time is up.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test file uses a part of the kit"
)]
#![allow(unsafe_code, reason = "tests need system calls that selio does not offer")]

mod alloc;
mod cases;
mod drops;
mod fds;
mod files;
mod oracle;
mod process;
mod rerun;
mod seccomp;
mod strace;
mod wakers;
mod watchdog;

// What the tests of one part of the crate share.
pub mod arrivals;
pub mod children;
pub mod deliveries;
pub mod echo;
pub mod futures;
pub mod keys;
pub mod sockets;
pub mod timers;

pub use alloc::{CountingAllocator, allocated_bytes, allocations};
pub use cases::{Case, case, case_name, cases, pass_over, run_cases, run_files};
pub use drops::{DropCheck, DropLog};
pub use fds::{
    dup, dup2, is_nonblocking, open_number, pipe, raw_close, refused_addr, set_nonblocking,
    socketpair, tcp_pair,
};
pub use files::{Directory, nameless_file, random, unique_name};
pub use oracle::{
    Disposition, SignalSets, assert_at_least, assert_quiet, cpu_time, disposition, eventually,
    fdinfo, open_fds, signal_mask, signal_sets, thread_cpu_time, thread_masks, threads, took,
    zombies,
};
pub use process::{
    TAKEN, block_signal, choose_alone, choose_pid, fork, in_child, is_root, kill, set_nofile_limit,
    sigqueue, unblock_signal, wait_status,
};
pub use rerun::{CASE_VARIABLE, Ended, Rerun, example, rerun};
pub use seccomp::{Refusal, has_call, refuse, refuse_all, refuse_when};
pub use strace::{Trace, mark, strace_counts, strace_log};
pub use wakers::{
    CountingWaker, Hostile, closure_waker, hostile, noop_waker, panics_on_clone, panics_on_drop,
    panics_on_wake, poll_once, poll_with,
};
pub use watchdog::{WATCHDOG_SECS, Watchdog, patience, watchdog};

/// What a system call returned, or a panic that says which call failed and why.
#[track_caller]
fn must(call: &str, returned: i32) -> i32 {
    assert!(returned != -1, "{call}: {}", std::io::Error::last_os_error());
    returned
}
