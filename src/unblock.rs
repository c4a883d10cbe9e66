//! Work that blocks, on threads of its own.
//!
//! The threads are made when there is work and none is idle, and leave when there has been none for
//! a while: a program that never calls [`unblock`] never has one.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use crate::executor::{Completion, JoinHandle, completion};
use crate::panics::FirstPanic;
use crate::sys::fork;

/// How many threads there may be. Work beyond that waits its turn.
const MOST_THREADS: usize = 128;

/// How long a thread stays without work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs a closure that blocks on another thread, and gives what it returns.
///
/// For what the kernel offers no readiness for: files, name look-ups, a library that waits by
/// itself, long computations. It is queued by the call, not by the first poll. There are at most
/// 128 threads; what finds them all busy waits for one. They are made when they are needed and
/// leave after a second without work. The end of the program does not wait for them.
///
/// Dropping the future detaches the work: it is done to its end, and what it returns is dropped
/// there.
///
/// Work must not wait for other work given to `unblock`: with all threads busy, that never ends.
///
/// The threads have the signal mask of the thread that caused them to be made, and pass it on to
/// children that the work starts. A signal that is to be read by a descriptor has to be blocked
/// before the first call, see [`register_signal`](crate::selector::Selector::register_signal).
///
/// A child that is forked while another thread is in `unblock` cannot use it.
///
/// It may be called and awaited anywhere, outside of [`block_on`](crate::block_on) too. If not a
/// single thread can be made (`EAGAIN`, see `pthread_create(3)`), the calling thread does what
/// is queued.
///
/// # Panics
///
/// The future panics with what the closure panicked with, and if it is polled again after it was
/// ready.
///
/// # Cancel safety
///
/// The work cannot be stopped: its effects come, its result is lost.
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let manifest = selio::block_on(selio::unblock(|| std::fs::read_to_string("Cargo.toml")))?;
/// assert!(manifest.contains("[package]"));
/// # Ok(())
/// # }
/// ```
pub fn unblock<W, T>(work: W) -> Unblock<T>
where
    W: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (completion, handle) = completion();
    put(Box::new(move || carry_out(work, completion)));
    Unblock { handle }
}

fn carry_out<T>(work: impl FnOnce() -> T, completion: Completion<T>) {
    completion.complete(panic::catch_unwind(AssertUnwindSafe(work)));
}

/// The future of [`unblock`].
///
/// # Examples
///
/// See [`unblock`].
#[must_use = "the work goes on when this is dropped, but its result and its panic are lost"]
pub struct Unblock<T> {
    handle: JoinHandle<T>,
}

impl<T> Future for Unblock<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.handle).poll(cx)) {
            Ok(output) => Poll::Ready(output),
            Err(error) => panic::resume_unwind(error.into_panic()),
        }
    }
}

impl<T> fmt::Debug for Unblock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unblock").field("is_finished", &self.handle.is_finished()).finish()
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads of this process, and what waits for them.
struct Pool {
    /// The process that the threads belong to: a forked child has none of them.
    process: usize,
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { process: 0, jobs: VecDeque::new(), threads: 0, idle: 0 });
static WORK: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(job: Job) {
    let mut pool = lock();
    if pool.process != fork::process_id() {
        // What the parent had queued is the parent's to do, and to drop.
        mem::forget(mem::take(&mut pool.jobs));
        (pool.process, pool.threads, pool.idle) = (fork::process_id(), 0, 0);
    }
    pool.jobs.push_back(job);
    let more = pool.jobs.len() > pool.idle && pool.threads < MOST_THREADS;
    pool.threads += usize::from(more);
    drop(pool);
    WORK.notify_one();
    if more && thread::Builder::new().name("selio-unblock".to_owned()).spawn(serve).is_err() {
        do_without_thread();
    }
}

/// There is one thread less than was counted. If there is none, the work is done here.
#[cold]
fn do_without_thread() {
    let mut pool = lock();
    pool.threads -= 1;
    let jobs = if pool.threads == 0 { mem::take(&mut pool.jobs) } else { VecDeque::new() };
    drop(pool);
    jobs.into_iter().for_each(run);
}

/// What each thread does.
fn serve() {
    while let Some(job) = next_job() {
        run(job);
    }
}

/// Runs a job. It tells its own panics; that of a waker concerns nobody here.
fn run(job: Job) {
    let mut panics = FirstPanic::default();
    panics.note(job);
    panics.forget();
}

/// Waits for a job; `None` if there was none for a while, and the thread is counted no more.
fn next_job() -> Option<Job> {
    let mut pool = lock();
    loop {
        if pool.process != fork::process_id() {
            // A fork in the midst of the work: this is the only thread of the child, and no pool's.
            return None;
        }
        if let Some(job) = pool.jobs.pop_front() {
            return Some(job);
        }
        pool.idle += 1;
        let (guard, waited) =
            WORK.wait_timeout(pool, PATIENCE).unwrap_or_else(PoisonError::into_inner);
        pool = guard;
        pool.idle -= 1;
        if waited.timed_out() && pool.jobs.is_empty() {
            pool.threads -= 1;
            return None;
        }
    }
}
