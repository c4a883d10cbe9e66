//! How a task hands its output over: `JoinHandle`, `JoinError`, and the wrapper around a spawned
//! future.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use pin_project_lite::pin_project;

use super::scheduler::{Task, TaskBody};
use crate::panics::{FirstPanic, Payload};
use crate::sys::abort;
use crate::sys::lock::Lock;
use crate::sys::task_cell::{Body, Giver, Taker, vacant};

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
        self.result.head().into_iter().for_each(Abort::order);
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
    fn aborted() -> Self {
        JoinError { panic: Box::new(None) }
    }

    fn panicked(payload: Payload) -> Self {
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

/// Whether a task is to be aborted, and its wakers' part. It has none until somebody keeps a waker of it;
/// but before, it is queued or polled, and looks here at its next turn, or when it gets one.
pub(super) type Abort = abort::Abort<Task>;

/// The other end of a handle: gives the output, or says that there will be none if it is dropped.
#[derive(Debug)]
pub(crate) struct Completion<F: Future + 'static>(Giver<Spawned<F>>)
where
    F::Output: 'static;

/// A handle, and the means to complete it: by hand, or by a future that is to be
/// [started](Completion::start).
#[inline]
pub(crate) fn completion<F>() -> (Completion<F>, JoinHandle<F::Output>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (giver, result) = vacant(Abort::default());
    (Completion(giver), JoinHandle { result })
}

/// Makes a task of a future, which is to be [taken in](super::scheduler::Scheduler::insert).
#[inline]
pub(super) fn task<F>(future: F) -> (TaskBody, JoinHandle<F::Output>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (completion, handle) = completion();
    (completion.start(future), handle)
}

impl<F> Completion<F>
where
    F: Future + 'static,
    F::Output: 'static,
{
    /// Keeps the output, or the panic, and wakes who awaits it.
    pub(crate) fn complete(self, result: Result<F::Output, Payload>) {
        let waker = self.0.give(result.map_err(JoinError::panicked));
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether the handle has been used to abort what is not begun.
    pub(super) fn is_aborted(&self) -> bool {
        self.0.head().is_ordered()
    }

    /// Has a task complete it.
    #[inline]
    pub(super) fn start(self, future: F) -> TaskBody {
        self.0.start(Spawned { future })
    }
}

pin_project! {
    /// A spawned future as the executor runs it: none of its panics comes through.
    struct Spawned<F> {
        #[pin]
        future: F,
    }
}

impl<F> Body for Spawned<F>
where
    F: Future + 'static,
    F::Output: 'static,
{
    type Head = Abort;
    type Output = Result<F::Output, JoinError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, abort: &Abort, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if abort.is_ordered() {
            return Poll::Ready(Err(JoinError::aborted()));
        }
        let future = self.project().future;
        match panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(JoinError::panicked(payload))),
        }
    }

    /// The future goes before its output is told, so that whoever joined finds what it owned free. If
    /// it panics then, that is what is told, unless there was a panic before.
    #[inline]
    fn ended(result: Self::Output, dropped: thread::Result<()>) -> Self::Output {
        match (dropped, result) {
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
        }
    }

    fn unfinished() -> Self::Output {
        Err(JoinError::aborted())
    }

    fn abandoned(dropped: thread::Result<()>, joiner: Option<Waker>) {
        let mut panics = dropped.map_or_else(FirstPanic::from, |()| FirstPanic::default());
        panics.note(|| joiner.into_iter().for_each(Waker::wake));
        // What came before may be unwinding.
        panics.resume();
    }
}
