//! How a task hands its output over: `JoinHandle`, `JoinError`, and the wrapper around a spawned
//! future.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::scheduler::{Remote, TaskId};
use crate::panics::{FirstPanic, Payload};
use crate::sys::lock::{Guard, Lock};

/// Awaits the output of a spawned task.
///
/// The handle is a future of `Result<T, JoinError>`. It may be awaited on any thread if `T` is
/// `Send`; the task itself stays where it was spawned. Dropping the handle detaches the task: it
/// runs on, and what it returns is dropped.
///
/// The output is handed over after the task's future has been dropped, so whatever the future owned
/// is free by then.
///
/// # Panics
///
/// Polling the handle again after it gave its result panics.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` loses nothing when the await is dropped; the result waits in the task.
///
/// # Examples
///
/// ```
/// selio::block_on(async {
///     let sum = selio::spawn(async { 1 + 2 });
///     assert_eq!(sum.await.unwrap(), 3);
/// });
/// ```
pub struct JoinHandle<T> {
    cell: Arc<JoinCell<T>>,
    /// Where the task is, unless it is none of an executor.
    remote: Option<Arc<Remote>>,
    /// Whether it was polled and left a waker: then the next poll most likely finds a result.
    waiting: bool,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(cell: Arc<JoinCell<T>>, remote: Option<Arc<Remote>>) -> Self {
        JoinHandle { cell, remote, waiting: false }
    }

    /// Ends the task at its next turn: its future is dropped on its own thread, and the handle
    /// gives an error that says [`is_aborted`](JoinError::is_aborted).
    ///
    /// A task that has finished, or that finishes in the poll that is going on, keeps its result.
    /// May be called from any thread, from within the task too, and more than once.
    ///
    /// # Examples
    ///
    /// ```
    /// selio::block_on(async {
    ///     let forever = selio::spawn(std::future::pending::<()>());
    ///     forever.abort();
    ///     assert!(forever.await.unwrap_err().is_aborted());
    /// });
    /// ```
    pub fn abort(&self) {
        let task = self.cell.abort();
        if let (Some(remote), Some(task)) = (&self.remote, task) {
            remote.schedule(task);
        }
    }

    /// Tells whether the task has ended: by returning, by a panic, or because it was aborted.
    ///
    /// # Examples
    ///
    /// ```
    /// selio::block_on(async {
    ///     let task = selio::spawn(async {});
    ///     assert!(!task.is_finished());
    ///     selio::yield_now().await;
    ///     assert!(task.is_finished());
    /// });
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(*self.cell.lock(), State::Running(_))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = if self.waiting {
            self.cell.poll(cx.waker())
        } else {
            self.cell.await_with(cx.waker().clone())
        };
        self.waiting = polled.is_pending();
        polled
    }
}

impl<T> Drop for JoinHandle<T> {
    /// Takes the waker back, so that a task which is detached while it is awaited wakes nobody.
    fn drop(&mut self) {
        if self.waiting {
            let waker = self.cell.forget_waker();
            drop(waker);
        }
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// Says why a task has no output: it panicked, or it was aborted.
///
/// A task is aborted by [`JoinHandle::abort`], and by the end of the `block_on` it ran in.
///
/// # Examples
///
/// ```
/// selio::block_on(async {
///     let task = selio::spawn(async { panic!("out of cheese") });
///     let error = task.await.unwrap_err();
///     assert!(!error.is_aborted());
///     assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"out of cheese"));
/// });
/// ```
pub struct JoinError {
    /// In a `Mutex` since a payload is `Send` but not `Sync`, and errors are expected to be both.
    panic: Option<Lock<Payload>>,
}

impl JoinError {
    pub(super) fn aborted() -> Self {
        JoinError { panic: None }
    }

    pub(super) fn panicked(payload: Payload) -> Self {
        JoinError { panic: Some(Lock::new(payload)) }
    }

    /// Tells whether the task was aborted; if not, it panicked.
    ///
    /// # Examples
    ///
    /// See [`JoinHandle::abort`].
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.panic.is_none()
    }

    /// Gives what the task panicked with, as for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the task did not panic but was [aborted](Self::is_aborted).
    ///
    /// # Examples
    ///
    /// See [`JoinError`].
    #[must_use]
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.panic {
            Some(payload) => payload.into_inner(),
            None => panic!("the task was aborted and has no panic to give; ask `is_aborted` first"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_aborted() { "the task was aborted" } else { "the task panicked" })
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_aborted() { "JoinError(aborted)" } else { "JoinError(panicked)" })
    }
}

impl std::error::Error for JoinError {}

/// The bit, beside a task's id, that says that it is to be aborted.
const ABORTED: u64 = 1 << 63;

/// What a task and its handle share.
#[derive(Debug)]
pub(super) struct JoinCell<T> {
    /// The id of the task, as soon as it has one, and whether it is to be aborted. One word, so
    /// that either who aborts finds the task, or the task finds that it is aborted.
    task: AtomicU64,
    state: Lock<State<T>>,
}

#[derive(Debug)]
enum State<T> {
    /// With the waker of whoever polled the handle last.
    Running(Option<Waker>),
    Finished(Result<T, JoinError>),
    Taken,
}

impl<T> JoinCell<T> {
    pub(super) fn new() -> Arc<Self> {
        let state = Lock::new(State::Running(None));
        Arc::new(JoinCell { task: AtomicU64::new(0), state })
    }

    /// Tells who aborts which task it is. It was not polled yet.
    pub(super) fn set_task(&self, task: TaskId) {
        self.task.fetch_or(task.to_bits(), Ordering::AcqRel);
    }

    /// Has the next poll of the task end it, and returns which it is, if it is there already.
    fn abort(&self) -> Option<TaskId> {
        TaskId::from_bits(self.task.fetch_or(ABORTED, Ordering::AcqRel))
    }

    fn lock(&self) -> Guard<'_, State<T>> {
        self.state.lock()
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.task.load(Ordering::Acquire) & ABORTED != 0
    }

    /// Keeps the result and gives back the waker of whoever awaits it.
    pub(super) fn finish(&self, result: Result<T, JoinError>) -> Option<Waker> {
        match mem::replace(&mut *self.lock(), State::Finished(result)) {
            State::Running(waker) => waker,
            State::Finished(_) | State::Taken => unreachable!("a task finishes once"),
        }
    }

    /// Marks a task that was never taken in, or will never be done; not one that is finished.
    pub(super) fn refuse(&self) {
        let running = matches!(*self.lock(), State::Running(_));
        if running {
            self.finish(Err(JoinError::aborted())).into_iter().for_each(Waker::wake);
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, JoinError>> {
        {
            let mut state = self.lock();
            match &*state {
                State::Running(Some(known)) if known.will_wake(waker) => return Poll::Pending,
                State::Running(_) => {}
                State::Finished(_) => match mem::replace(&mut *state, State::Taken) {
                    State::Finished(result) => return Poll::Ready(result),
                    State::Running(_) | State::Taken => unreachable!("it was finished a line ago"),
                },
                State::Taken => panic!("a `JoinHandle` was polled again after it gave its result"),
            }
        }
        self.await_with(waker.clone())
    }

    #[cold]
    fn forget_waker(&self) -> Option<Waker> {
        match &mut *self.lock() {
            State::Running(waker) => waker.take(),
            State::Finished(_) | State::Taken => None,
        }
    }

    /// Leaves a waker, unless the task has finished while the waker was cloned: that is foreign
    /// code, and ran without the lock.
    fn await_with(&self, waker: Waker) -> Poll<Result<T, JoinError>> {
        let mut state = self.lock();
        let former = match &mut *state {
            State::Running(known) => known.replace(waker),
            State::Finished(_) | State::Taken => {
                drop(state);
                return self.poll(&waker);
            }
        };
        drop(state);
        drop(former);
        Poll::Pending
    }
}

/// The other end of a handle whose work is done elsewhere. Dropped, it says that it was aborted.
pub(crate) struct Completion<T>(Arc<JoinCell<T>>);

/// A handle for work that is no task, and the means to complete it.
pub(crate) fn completion<T>() -> (Completion<T>, JoinHandle<T>) {
    let cell = JoinCell::new();
    (Completion(Arc::clone(&cell)), JoinHandle::new(cell, None))
}

impl<T> Completion<T> {
    /// Keeps the output, or the panic, and wakes who awaits it.
    pub(crate) fn complete(self, result: Result<T, Payload>) {
        let waker = self.0.finish(result.map_err(JoinError::panicked));
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        self.0.refuse();
    }
}

pin_project! {
    /// A spawned future with the cell for its output. Its own output is the waker of whoever awaits the handle, so that the executor
    /// wakes it when all its books are in order.
    pub(super) struct Joined<F: Future> {
        #[pin]
        future: Option<F>,
        cell: Arc<JoinCell<F::Output>>,
    }

    impl<F: Future> PinnedDrop for Joined<F> {
        /// Ends a task that is dropped before it is done, as those are that are left when `block_on` returns.
        fn drop(this: Pin<&mut Self>) {
            if this.future.is_some() {
                let mut this = this.project();
                let dropped = panic::catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
                if let Some(waker) = this.cell.finish(Err(JoinError::aborted())) {
                    waker.wake();
                }
                if let Err(payload) = dropped {
                    panic::resume_unwind(payload);
                }
            }
        }
    }
}

impl<F: Future> Joined<F> {
    pub(super) fn new(future: F, cell: Arc<JoinCell<F::Output>>) -> Self {
        Joined { future: Some(future), cell }
    }
}

impl<F: Future> Future for Joined<F> {
    type Output = Option<Waker>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Waker>> {
        let mut this = self.project();
        let result = if this.cell.is_aborted() {
            Err(JoinError::aborted())
        } else {
            let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            match panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(output)) => Ok(output),
                Err(payload) => Err(JoinError::panicked(payload)),
            }
        };
        // The future goes before its output is told, so that whoever joined finds what it owned
        // free.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        let result = match (dropped, result) {
            (Ok(()), result) => result,
            (Err(later), Err(JoinError { panic: Some(first) })) => {
                FirstPanic::from(later).forget();
                Err(JoinError { panic: Some(first) })
            }
            (Err(payload), untold) => {
                // An output that nobody will see now. Its destructor may panic in its turn.
                let mut panics = FirstPanic::default();
                panics.note(|| drop(untold));
                panics.forget();
                Err(JoinError::panicked(payload))
            }
        };
        Poll::Ready(this.cell.finish(result))
    }
}
