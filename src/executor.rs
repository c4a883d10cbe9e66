//! The executor: `block_on`, `spawn`, and the one loop of the crate.

mod driver;
mod handle;
mod join;
mod scheduler;
mod table;

use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use driver::Driver;
pub use handle::Handle;
pub(crate) use join::{Completion, completion};
pub use join::{JoinError, JoinHandle};
use scheduler::Scheduler;
use table::TaskId;

use crate::panics::FirstPanic;
use crate::reactor::{self, Driving, Reactor, Refused, Turn};
use crate::sys::event_fd::EventFd;

/// How many polls may pass before the kernel is asked again. An empty look costs about as much as
/// ten polls.
const POLLS_BETWEEN_LOOKS: u32 = 61;

/// Runs a future to its end on this thread, and with it the tasks it spawns.
///
/// While it runs, the thread's reactor is driven: sockets, timers and whatever else waits for the
/// kernel make progress. The thread sleeps in one `epoll_pwait2` call when there is nothing to do.
/// Tasks run in the order in which they became ready; the future itself waits its turn like a task.
///
/// Tasks that are left when the future is done are dropped, one by one in the order of their
/// creation, before `block_on` returns. Whatever they spawn while they are dropped is dropped at
/// once.
///
/// `block_on` may be nested. The inner call drives the same reactor and runs its own tasks; tasks
/// of the outer call that become ready wait until the inner one returns, so awaiting one of them
/// inside never ends.
///
/// # Panics
///
/// If the future panics, once all its tasks have been dropped. If the thread's reactor cannot be
/// made, for instance for lack of file descriptors; the message names the refused call. If a
/// destructor of a left-over task or somebody else's waker panics: its panic goes on when
/// everything is in order. Of a destructor's only the panic hook hears if the thread is unwinding
/// already. Panics of tasks do not come here but to their [`JoinHandle`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let answer = selio::block_on(async {
///     selio::time::sleep(Duration::from_millis(1)).await;
///     42
/// });
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let executor = match Executor::obtain() {
        Some(executor) => executor,
        None => match Executor::make() {
            Ok(executor) => executor,
            Err(refused) => panic!("selio cannot wait on this thread: {refused}"),
        },
    };
    // A future that is ready at once takes some nanoseconds, and so has this: what must be undone
    // should it panic are values with destructors, and what is undone else stands here in line.
    let running = Running(Some(executor));
    let budget = reactor::keep_budget();
    let entered = running.scheduler.enter();
    let output = running.work().run(pin!(future));
    running.work().drop_tasks().resume();
    entered.leave();
    drop(budget);
    running.end();
    output
}

/// Starts a task on this thread's innermost [`block_on`] and gives a handle to its output.
///
/// The future need not be `Send`: it stays on this thread, and is dropped there. It is polled first
/// when its turn comes, not inside of `spawn`. A task whose handle is dropped runs on, detached; if
/// it panics, the panic hook has reported it and the others go on.
///
/// While a `block_on` drops its left-over tasks, no new ones are taken in: the future is dropped
/// and the handle says that it was [aborted](JoinError::is_aborted).
///
/// # Panics
///
/// Outside of `block_on`: there is no executor on this thread that could ever run the task.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
///
/// selio::block_on(async {
///     let shared = Rc::new(7);
///     let theirs = Rc::clone(&shared);
///     let task = selio::spawn(async move { *theirs + 1 });
///     assert_eq!(task.await.unwrap(), 8);
///     assert_eq!(Rc::strong_count(&shared), 1);
/// });
/// ```
///
/// A task may not borrow from its surroundings, which it may outlive:
///
/// ```compile_fail,E0597
/// selio::block_on(async {
///     let local = 7;
///     let borrowed = &local;
///     selio::spawn(async move { *borrowed + 1 }).await.unwrap();
/// });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (task, handle) = join::task(future);
    let mut task = Some(task);
    let entered = Scheduler::with_current(|scheduler| {
        let scheduler = scheduler?;
        if !scheduler.is_closing() {
            task.take().into_iter().for_each(|task| scheduler.insert(task));
        }
        Some(())
    });
    if entered.is_none() {
        panic!(
            "`selio::spawn` was called outside of `selio::block_on`: call it from a future that `block_on` runs"
        );
    }
    // One that was refused tells its handle so.
    drop(task);
    handle
}

/// Makes a [`Handle`] by which other threads spawn tasks on this thread's innermost [`block_on`].
///
/// While a `block_on` drops its left-over tasks, it takes none in, from a handle neither.
///
/// # Panics
///
/// Outside of `block_on`: there is no executor on this thread to spawn on.
///
/// # Examples
///
/// See [`Handle`].
#[track_caller]
#[must_use]
pub fn handle() -> Handle {
    let Some(scheduler) = Scheduler::current() else {
        panic!(
            "`selio::handle` was called outside of `selio::block_on`: call it from a future that `block_on` runs"
        );
    };
    handle::open(&scheduler)
}

/// One running `block_on`, or one that somebody else's loop drives.
struct Executor {
    scheduler: Rc<Scheduler>,
    /// Ends after everything else, so that destructors of left-over tasks may still wait.
    driving: Driving,
}

thread_local! {
    /// One that has served its `block_on` and that nobody remembers, to serve the next.
    static IDLE: Cell<Option<Idle>> = const { Cell::new(None) };
}

struct Idle {
    scheduler: Rc<Scheduler>,
    reactor: Arc<Reactor>,
}

/// How a round of polls ended.
enum Round<T> {
    Done(T),
    /// Nothing is ready, and other threads know that they have to wake us, or, where the thread
    /// spins, will be told so after it.
    Idle,
    /// There may be more to do, but the kernel has not been asked for long.
    Busy,
}

impl Executor {
    /// Takes the one that is kept on this thread.
    #[inline(always)]
    fn obtain() -> Option<Self> {
        let Idle { scheduler, reactor } = IDLE.try_with(Cell::take).ok()??;
        Some(Executor { scheduler, driving: Driving::resume(reactor)? })
    }

    #[cold]
    fn make() -> Result<Self, Refused> {
        let driving = reactor::drive()?;
        let scheduler = Scheduler::new(driving.reactor().wakeup(), true);
        Ok(Executor { scheduler, driving })
    }

    /// One for somebody else's loop, which is woken by this eventfd.
    fn new(driving: Driving, wakeup: &Arc<EventFd>) -> Self {
        Executor { scheduler: Scheduler::new(wakeup, false), driving }
    }

    /// Ends, all tasks being gone, and is kept for the next `block_on` if it can be.
    #[inline(always)]
    fn end(self) {
        let Executor { scheduler, driving } = self;
        let as_new = scheduler.end();
        let reactor = driving.end();
        if as_new {
            _ = IDLE.try_with(|place| place.set(Some(Idle { scheduler, reactor })));
        }
    }

    /// Ends without having come to its end. If the root future has panicked, that panic goes on, and
    /// those of the destructors do not.
    #[cold]
    fn abandon(self) {
        if !self.scheduler.is_closing() {
            let _entered = self.scheduler.enter();
            self.work().drop_tasks().forget();
        }
        self.end();
    }

    #[inline(always)]
    fn work(&self) -> Work<'_> {
        Work { scheduler: &self.scheduler, reactor: self.driving.reactor() }
    }
}

/// What an executor does until it ends. It is passed by value, so that an executor that has nothing
/// to do need not be anywhere in memory.
#[derive(Clone, Copy)]
struct Work<'a> {
    scheduler: &'a Scheduler,
    reactor: &'a Reactor,
}

impl Work<'_> {
    /// Polls the root future, and goes on if it is not ready at once.
    #[inline]
    fn run<F: Future>(self, mut root: Pin<&mut F>) -> F::Output {
        match self.poll_root(root.as_mut()) {
            Poll::Ready(output) => output,
            Poll::Pending => self.go_on(root),
        }
    }

    /// Runs what is ready, and sleeps when nothing is, until the root future is done.
    #[inline(never)]
    fn go_on<F: Future>(self, mut root: Pin<&mut F>) -> F::Output {
        // Made by the first turn: not each future that waits waits for the kernel.
        let mut turn = None;
        loop {
            let limit = match self.round(root.as_mut()) {
                Round::Done(output) => return output,
                Round::Idle => None,
                Round::Busy => {
                    // Tasks that never let the queue be empty must not keep out what other threads
                    // have made ready.
                    self.scheduler.collect_remote();
                    Some(Duration::ZERO)
                }
            };
            self.turn(limit, &mut turn);
        }
    }

    /// Polls what is ready, also what it makes ready, but not for ever: what other threads queue
    /// counts as well, for they may never stop.
    #[inline]
    fn round<F: Future>(self, mut root: Pin<&mut F>) -> Round<F::Output> {
        for _ in 0..POLLS_BETWEEN_LOOKS {
            match self.scheduler.next() {
                Some(id) if !id.is_root() => self.poll_task(id),
                Some(id) if self.scheduler.begin_root(id) => {
                    if let Poll::Ready(output) = self.poll_root(root.as_mut()) {
                        return Round::Done(output);
                    }
                }
                Some(_) => {}
                None => return Round::Idle,
            }
        }
        Round::Busy
    }

    #[inline(always)]
    fn poll_root<F: Future>(self, root: Pin<&mut F>) -> Poll<F::Output> {
        reactor::refill_budget();
        root.poll(&mut Context::from_waker(self.scheduler.root_waker()))
    }

    #[inline]
    fn poll_task(self, id: TaskId) {
        let Some(mut task) = self.scheduler.tasks.take(id) else { return };
        reactor::refill_budget();
        if self.scheduler.poll(id, &mut task).is_pending() {
            return self.scheduler.tasks.put_back(id, task);
        }
        self.scheduler.tasks.remove(id);
        // An output that nobody can await is dropped here. Its panic is a detached task's: the hook
        // reports it, no more.
        let mut panics = FirstPanic::default();
        let mut joiner = None;
        panics.note(|| joiner = task.hand_over());
        panics.forget();
        joiner.into_iter().for_each(Waker::wake);
    }

    /// Asks the kernel what has become ready meanwhile, without waiting.
    fn look(self, turn: &mut Option<Turn>) {
        self.turn(Some(Duration::ZERO), turn);
        self.scheduler.collect_remote();
    }

    #[inline(always)]
    fn turn(self, limit: Option<Duration>, turn: &mut Option<Turn>) {
        let turn = turn.get_or_insert_with(Turn::new);
        let may_rest = |sleep| self.scheduler.may_rest(sleep);
        if let Err(error) = self.reactor.turn(limit, turn, may_rest) {
            panic!("selio cannot wait on this thread any more: epoll_wait: {error}");
        }
        self.scheduler.woke_up();
        turn.wake();
    }

    /// Drops the tasks that are left. They may still wake, wait and nest; they cannot spawn.
    #[inline]
    fn drop_tasks(self) -> FirstPanic {
        if self.scheduler.close() { self.drop_left_over() } else { FirstPanic::default() }
    }

    #[cold]
    fn drop_left_over(self) -> FirstPanic {
        let mut panics = FirstPanic::default();
        for task in self.scheduler.tasks.take_all() {
            panics.note(|| drop(task));
        }
        panics
    }
}

/// An executor that has begun, and ends also if somebody panics.
struct Running(Option<Executor>);

impl Running {
    #[inline(always)]
    fn end(mut self) {
        let executor = self.0.take();
        mem::forget(self);
        if let Some(executor) = executor {
            executor.end();
        }
    }
}

impl Deref for Running {
    type Target = Executor;

    #[inline(always)]
    fn deref(&self) -> &Executor {
        self.0.as_ref().expect("it runs until it is ended")
    }
}

impl Drop for Running {
    #[inline]
    fn drop(&mut self) {
        if let Some(executor) = self.0.take() {
            executor.abandon();
        }
    }
}
