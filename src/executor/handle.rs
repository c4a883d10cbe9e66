//! Spawning from other threads.
//!
//! Each handle has a task of its own on the executor, the doorman: it takes orders from an inbox
//! that other threads may put them in, and spawns what they order. So the scheduler knows nothing
//! of handles, and the inbox is closed when the doorman is dropped with the other left-over tasks.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::join::{self, Completion, JoinHandle, completion};
use super::scheduler::Scheduler;
use crate::panics::FirstPanic;
use crate::sys::lock::{Guard, Lock};

/// Spawns tasks on the [`block_on`](crate::block_on) it was made in, from any thread.
///
/// It may be cloned, sent, shared, and kept longer than that `block_on` runs.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
///
/// let sum = selio::block_on(async {
///     let handle = selio::handle();
///     let worker = std::thread::spawn(move || {
///         // The closure is sent to the loop's thread; what it makes there need not be `Send`.
///         let task = handle.spawn(|| {
///             let local = Rc::new(40);
///             async move { *local + 2 }
///         });
///         selio::block_on(task)
///     });
///     while !worker.is_finished() {
///         selio::yield_now().await;
///     }
///     worker.join().unwrap()
/// });
/// assert_eq!(sum.unwrap(), 42);
/// ```
#[derive(Clone)]
pub struct Handle {
    door: Arc<Door>,
}

impl Handle {
    /// Has the executor's thread run a closure and spawn the future that it returns.
    ///
    /// The closure is run when its turn comes; a panic in it is told like one of the task. The task
    /// is like any that [`spawn`](crate::spawn) started there: the returned handle may be
    /// awaited on any thread, and dropping it detaches the task.
    ///
    /// # Errors
    ///
    /// The returned handle gives an error that says [`is_aborted`](crate::JoinError::is_aborted) if
    /// that `block_on` has ended, or ends before the task does. The closure has not been run, or the
    /// task was dropped.
    ///
    /// # Panics
    ///
    /// If the order is refused and the destructor of the closure panics.
    ///
    /// # Examples
    ///
    /// ```
    /// let handle = selio::block_on(async { selio::handle() });
    /// let late = handle.spawn(|| async {});
    /// assert!(selio::block_on(late).unwrap_err().is_aborted());
    /// ```
    pub fn spawn<M, F>(&self, make: M) -> JoinHandle<F::Output>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (completion, handle) = completion();
        let order = Order { make, completion };
        self.door.inbox.put(Box::new(move |scheduler| order.carry_out(scheduler)));
        handle
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("is_open", &self.door.inbox.lock().is_some()).finish()
    }
}

/// Makes a handle and has its doorman serve. An executor that is ending has none: the inbox is
/// closed then.
pub(super) fn open(scheduler: &Scheduler) -> Handle {
    let inbox = Arc::new(Inbox(Lock::new(Some(Orders::default()))));
    let doorman = Doorman(Arc::clone(&inbox));
    if !scheduler.is_closing() {
        // First to go, so that no order is taken in any more while the other tasks are dropped.
        scheduler.insert_first_to_go(join::task(doorman).0);
    }
    Handle { door: Arc::new(Door { inbox }) }
}

/// What is done on the executor's thread for somebody else. Dropped without being done, it says so.
type Job = Box<dyn FnOnce(&Scheduler) + Send>;

/// Where other threads leave orders; `None` once nobody takes them any more.
struct Inbox(Lock<Option<Orders>>);

#[derive(Default)]
struct Orders {
    jobs: VecDeque<Job>,
    doorman: Option<Waker>,
    /// The last handle is gone: what is left is done, and no more comes.
    last: bool,
}

impl Inbox {
    fn lock(&self) -> Guard<'_, Option<Orders>> {
        self.0.lock()
    }

    /// Changes the orders and wakes the doorman, unless the inbox is closed.
    fn change(&self, change: impl FnOnce(&mut Orders)) {
        let doorman = self.lock().as_mut().and_then(|orders| {
            change(orders);
            orders.doorman.take()
        });
        doorman.into_iter().for_each(Waker::wake);
    }

    fn put(&self, job: Job) {
        let mut job = Some(job);
        self.change(|orders| orders.jobs.extend(job.take()));
        // Refused, it is dropped here, where no lock is held.
        drop(job);
    }
}

/// What all clones of a handle share: when the last goes, the doorman may go too.
struct Door {
    inbox: Arc<Inbox>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.inbox.change(|orders| orders.last = true);
    }
}

struct Doorman(Arc<Inbox>);

impl Future for Doorman {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let (jobs, last) = match &mut *self.0.lock() {
            Some(orders) => {
                orders.doorman = Some(waker);
                (std::mem::take(&mut orders.jobs), orders.last)
            }
            None => return Poll::Ready(()),
        };
        // No job is taken in once the executor drops its tasks, but then nobody polls this either.
        if let Some(scheduler) = Scheduler::current() {
            let mut panics = FirstPanic::default();
            jobs.into_iter().for_each(|job| panics.note(|| job(&scheduler)));
            // Somebody's waker, of an order that could not be carried out; the door stays open.
            panics.forget();
        }
        if last { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Doorman {
    /// Closes the inbox. What is left in it is dropped without the lock, one by one.
    fn drop(&mut self) {
        let orders = self.0.lock().take();
        let mut panics = FirstPanic::default();
        for job in orders.map(|orders| orders.jobs).into_iter().flatten() {
            panics.note(|| drop(job));
        }
        panics.resume();
    }
}

/// One order: a closure that makes the future, and where its output goes. Dropped, the closure goes
/// first, and then the handle is told, also if the closure panics.
struct Order<M, F: Future + 'static>
where
    F::Output: 'static,
{
    make: M,
    completion: Completion<F>,
}

impl<M, F> Order<M, F>
where
    M: FnOnce() -> F,
    F: Future + 'static,
    F::Output: 'static,
{
    fn carry_out(self, scheduler: &Scheduler) {
        let Order { make, completion } = self;
        if completion.is_aborted() {
            drop(make);
            return;
        }
        match panic::catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => scheduler.insert(completion.start(future)),
            Err(payload) => completion.complete(Err(payload)),
        }
    }
}
