//! Work that blocks, on threads of its own.
//!
//! The threads are made when there is work and none is idle, and leave when there has been none for
//! a while: a program that never calls [`unblock`] never has one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Pending};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use crate::executor::{Completion, JoinHandle, completion};
use crate::panics::FirstPanic;
use crate::reactor::with_former_slack;
use crate::sys::fork::PerProcess;

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
/// A forked child has threads of its own, and does nothing of what its parent has queued. If a
/// thread of the parent was just beginning or ending at the fork, though, the child cannot start
/// one: std keeps a lock of its own then, for which the new thread waits for ever.
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
    let (completion, handle) = completion::<Pending<T>>();
    put(Box::new(move || carry_out(work, completion)));
    Unblock { handle }
}

fn carry_out<T: 'static>(work: impl FnOnce() -> T, completion: Completion<Pending<T>>) {
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

/// The threads of this process, and what waits for them. A forked child has none of its parent's,
/// and what the parent had queued is the parent's to do.
#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

static POOL: PerProcess<Pool> = PerProcess::new();

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job; `None` if there was none for a while, and the thread is counted no more.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, PATIENCE);
            let (guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

fn put(job: Job) {
    let Ok(pool) = POOL.get_or_make(|| Ok::<_, Infallible>(Pool::default()));
    let mut state = pool.lock();
    state.jobs.push_back(job);
    let more = state.jobs.len() > state.idle && state.threads < MOST_THREADS;
    state.threads += usize::from(more);
    drop(state);
    pool.work.notify_one();
    let start = || thread::Builder::new().name("selio-unblock".to_owned()).spawn(|| serve(pool));
    // A thread has the slack of the one that starts it.
    if more && with_former_slack(start).is_err() {
        do_without_thread(pool);
    }
}

/// There is one thread less than was counted. If there is none, the work is done here.
#[cold]
fn do_without_thread(pool: &Pool) {
    let mut state = pool.lock();
    state.threads -= 1;
    let jobs = if state.threads == 0 { mem::take(&mut state.jobs) } else { VecDeque::new() };
    drop(state);
    jobs.into_iter().for_each(run);
}

/// What each thread does. After a fork in the midst of the work, this is the only thread of the
/// child, and no pool's.
fn serve(pool: &Pool) {
    let of_this_process = || POOL.get().is_some_and(|current| ptr::eq(current, pool));
    while of_this_process() {
        let Some(job) = pool.next_job() else { return };
        run(job);
    }
}

/// Runs a job. It tells its own panics; that of a waker concerns nobody here.
fn run(job: Job) {
    let mut panics = FirstPanic::default();
    panics.note(job);
    panics.forget();
}
