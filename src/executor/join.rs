//! How a task hands its output over: `JoinHandle`, `JoinError`, and the wrapper around a spawned
//! future.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::scheduler::Remote;
use super::table::TaskId;
use crate::panics::{FirstPanic, Payload};
use crate::sys::lock::Lock;
use crate::sys::oneshot::{Giver, Taker, oneshot};

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
    result: Taker<Abort, Result<T, JoinError>>,
    /// Where the task is, unless it is none of an executor.
    remote: Option<Arc<Remote>>,
}

impl<T> JoinHandle<T> {
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
        let task = self.result.head().order();
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
        self.result.is_given()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.result.poll(cx.waker()).map(|result| match result {
            Some(result) => result,
            None => panic!("a `JoinHandle` was polled again after it gave its result"),
        })
    }
}

impl<T> Drop for JoinHandle<T> {
    /// Takes the waker back, so that a task which is detached while it is awaited wakes nobody.
    fn drop(&mut self) {
        drop(self.result.withdraw());
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
    /// Locked since a payload is `Send` but not `Sync`, and errors are expected to be both; boxed, so
    /// that a result is hardly larger than an output.
    panic: Box<Option<Lock<Payload>>>,
}

impl JoinError {
    pub(super) fn aborted() -> Self {
        JoinError { panic: Box::new(None) }
    }

    pub(super) fn panicked(payload: Payload) -> Self {
        JoinError { panic: Box::new(Some(Lock::new(payload))) }
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
        match *self.panic {
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

/// Which task is to be aborted, and whether: its id, as soon as it has one, in one word with a bit, so
/// that either who aborts finds the task, or the task finds that it is aborted.
#[derive(Debug, Default)]
pub(super) struct Abort(AtomicU64);

impl Abort {
    /// Tells which task it is, before that is polled.
    pub(super) fn set_task(&self, task: TaskId) {
        self.0.fetch_or(task.to_bits(), Ordering::AcqRel);
    }

    /// Has the next poll of the task end it, and returns which it is, if it is there already. It is
    /// enough to say so once.
    fn order(&self) -> Option<TaskId> {
        let before = self.0.fetch_or(ABORTED, Ordering::AcqRel);
        if before & ABORTED == 0 { TaskId::from_bits(before) } else { None }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.0.load(Ordering::Acquire) & ABORTED != 0
    }
}

/// The other end of a handle: gives the output, or says that there will be none if it is dropped.
#[derive(Debug)]
pub(crate) struct Completion<T>(Giver<Abort, Result<T, JoinError>>);

/// A handle for work that is no task, and the means to complete it.
pub(crate) fn completion<T>() -> (Completion<T>, JoinHandle<T>) {
    pair(None, Abort::default())
}

/// A handle for a task of that executor, and the means to complete it.
pub(super) fn of_task<T>(
    remote: &Arc<Remote>,
    task: Option<TaskId>,
) -> (Completion<T>, JoinHandle<T>) {
    let abort = Abort(AtomicU64::new(task.map_or(0, TaskId::to_bits)));
    pair(Some(Arc::clone(remote)), abort)
}

fn pair<T>(remote: Option<Arc<Remote>>, abort: Abort) -> (Completion<T>, JoinHandle<T>) {
    let (giver, result) = oneshot(abort);
    (Completion(giver), JoinHandle { result, remote })
}

impl<T> Completion<T> {
    /// Keeps the output, or the panic, and wakes who awaits it.
    pub(crate) fn complete(mut self, result: Result<T, Payload>) {
        let waker = self.give(result.map_err(JoinError::panicked));
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn abort(&self) -> &Abort {
        self.0.head()
    }

    /// Keeps the result and gives back the waker of whoever awaits it.
    #[inline]
    fn give(&mut self, result: Result<T, JoinError>) -> Option<Waker> {
        self.0.give(result)
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if !self.0.has_given() {
            // What came before may be unwinding.
            let mut panics = FirstPanic::default();
            let waker = self.give(Err(JoinError::aborted()));
            panics.note(|| waker.into_iter().for_each(Waker::wake));
            panics.resume();
        }
    }
}

pin_project! {
    /// A spawned future with the place for its output. Its own output is the waker of whoever awaits the handle, so that the executor
    /// wakes it when all its books are in order.
    pub(super) struct Joined<F: Future> {
        #[pin]
        future: Option<F>,
        completion: Completion<F::Output>,
    }

    impl<F: Future> PinnedDrop for Joined<F> {
        /// Ends a task that is dropped before it is done, as those are that are left when `block_on` returns.
        fn drop(this: Pin<&mut Self>) {
            if this.future.is_some() {
                let mut this = this.project();
                let dropped = panic::catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
                if let Some(waker) = this.completion.give(Err(JoinError::aborted())) {
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
    pub(super) fn new(future: F, completion: Completion<F::Output>) -> Self {
        Joined { future: Some(future), completion }
    }
}

impl<F: Future> Future for Joined<F> {
    type Output = Option<Waker>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Waker>> {
        let mut this = self.project();
        let result = if this.completion.abort().is_ordered() {
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
            (Err(later), Err(first)) if !first.is_aborted() => {
                FirstPanic::from(later).forget();
                Err(first)
            }
            (Err(payload), untold) => {
                // An output that nobody will see now. Its destructor may panic in its turn.
                let mut panics = FirstPanic::default();
                panics.note(|| drop(untold));
                panics.forget();
                Err(JoinError::panicked(payload))
            }
        };
        Poll::Ready(this.completion.give(result))
    }
}
