//! Try, wait, try again: the whole idea of [`Async`].

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::Async;
use crate::reactor::{self, Direction, Parked};

/// What is tried until it does not block.
pub(crate) trait Attempt<T> {
    type Output;

    /// For what it waits, when it would block.
    fn direction(&self) -> Direction;

    /// What it comes to if it needs nothing of the descriptor, and so need not wait.
    #[inline]
    fn at_once(&mut self, _io: &T) -> Option<io::Result<Self::Output>> {
        None
    }

    /// It is tried.
    fn run(&mut self, object: &Async<T>) -> io::Result<Self::Output>;

    /// Whether this result tells that another attempt would block.
    #[inline]
    fn drains(&self, _object: &Async<T>, _done: &Self::Output) -> bool {
        false
    }
}

/// An attempt that is made of closures.
pub(crate) struct Closures<F, S> {
    direction: Direction,
    op: F,
    short: S,
}

impl<T, R, F, S> Attempt<T> for Closures<F, S>
where
    F: FnMut(&T) -> io::Result<R>,
    S: Fn(&R) -> bool,
{
    type Output = R;

    #[inline]
    fn direction(&self) -> Direction {
        self.direction
    }

    #[inline]
    fn run(&mut self, object: &Async<T>) -> io::Result<R> {
        (self.op)(&object.io)
    }

    #[inline]
    fn drains(&self, object: &Async<T>, done: &R) -> bool {
        (self.short)(done) && object.source().trusts_short()
    }
}

impl<T> Async<T> {
    /// The future of an attempt.
    #[inline]
    pub(crate) fn attempt<A: Attempt<T>>(&self, attempt: A) -> Operation<'_, T, A> {
        Operation { object: self, parked: Parked::NOTHING, attempt }
    }

    /// The future of an operation. `short` tells whether a result is less than was asked for; see
    /// [`Source::trusts_short`](reactor::Source::trusts_short).
    pub(crate) fn operation<R>(
        &self,
        direction: Direction,
        op: impl FnMut(&T) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> impl Future<Output = io::Result<R>> {
        self.attempt(Closures { direction, op, short })
    }

    /// An operation for the callers of poll functions: the task of the last call is woken.
    pub(crate) fn poll_with<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_trusting(direction, cx, op, |_| false)
    }

    /// As [`poll_with`](Self::poll_with); `short` tells whether a result is less than was asked for,
    /// see [`Source::trusts_short`](reactor::Source::trusts_short).
    pub(crate) fn poll_trusting<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        op: impl FnMut(&T) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        self.poll(cx, &mut Closures { direction, op, short })
    }

    /// An attempt for the callers of poll functions, but for what it comes to at once.
    pub(crate) fn poll<A: Attempt<T>>(
        &self,
        cx: &mut Context<'_>,
        attempt: &mut A,
    ) -> Poll<io::Result<A::Output>> {
        self.poll_attempt(cx, &mut Parked::of_poll_function(), attempt)
    }

    /// Try, wait, try again. One try or one wait is nearly always all: these are in line, and the loop
    /// is elsewhere.
    #[inline(always)]
    fn poll_attempt<A: Attempt<T>>(
        &self,
        cx: &mut Context<'_>,
        parked: &mut Parked,
        attempt: &mut A,
    ) -> Poll<io::Result<A::Output>> {
        let (source, direction) = (self.source(), attempt.direction());
        let refused = match source.worth_a_try(direction) {
            Some(edges) => match self.try_once(cx, attempt, edges) {
                Some(done) => return done,
                None => None,
            },
            None => match source.park(direction, parked, cx) {
                None => return Poll::Pending,
                refused => refused,
            },
        };
        self.poll_on(cx, parked, attempt, refused)
    }

    /// What is to be done when that was not all. The waker is one that could not be parked.
    #[cold]
    fn poll_on<A: Attempt<T>>(
        &self,
        cx: &mut Context<'_>,
        parked: &mut Parked,
        attempt: &mut A,
        mut waker: Option<Waker>,
    ) -> Poll<io::Result<A::Output>> {
        let (source, direction) = (self.source(), attempt.direction());
        loop {
            if let Some(waker) = waker.take() {
                ready!(source.wait_in_line(direction, parked, waker))?;
            } else if let Some(edges) = source.worth_a_try(direction) {
                if let Some(done) = self.try_once(cx, attempt, edges) {
                    return done;
                }
            } else {
                ready!(source.wait(direction, parked, cx))?;
            }
        }
    }

    /// Tries, if the budget allows it; `None` if it would block, which is noted, or was interrupted.
    #[inline(always)]
    fn try_once<A: Attempt<T>>(
        &self,
        cx: &mut Context<'_>,
        attempt: &mut A,
        edges: u32,
    ) -> Option<Poll<io::Result<A::Output>>> {
        if reactor::spend_budget(cx).is_pending() {
            return Some(Poll::Pending);
        }
        let (source, direction) = (self.source(), attempt.direction());
        match attempt.run(self) {
            Ok(done) => {
                if attempt.drains(self, &done) {
                    source.drained(direction, edges);
                }
                Some(Poll::Ready(Ok(done)))
            }
            Err(error) => match Failed::from(error) {
                Failed::WouldBlock => {
                    source.drained(direction, edges);
                    None
                }
                Failed::Interrupted => None,
                Failed::For(error) => Some(Poll::Ready(Err(error))),
            },
        }
    }
}

/// An attempt that is made until it does not block: a plain struct, for it is smaller and quicker
/// than a compiled `async` block. Dropping it takes its waker back.
pub(crate) struct Operation<'a, T, A: Attempt<T>> {
    object: &'a Async<T>,
    parked: Parked,
    attempt: A,
}

impl<T, A: Attempt<T>> Unpin for Operation<'_, T, A> {}

impl<T, A: Attempt<T>> Future for Operation<'_, T, A> {
    type Output = io::Result<A::Output>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.attempt.at_once(&this.object.io) {
            Some(done) => Poll::Ready(done),
            None => this.object.poll_attempt(cx, &mut this.parked, &mut this.attempt),
        }
    }
}

impl<T, A: Attempt<T>> Drop for Operation<'_, T, A> {
    #[inline]
    fn drop(&mut self) {
        self.object.source().take_back(self.attempt.direction(), self.parked);
    }
}

impl<T, A: Attempt<T>> fmt::Debug for Operation<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("parked", &self.parked).finish_non_exhaustive()
    }
}

/// How an attempt has failed.
enum Failed {
    WouldBlock,
    Interrupted,
    For(io::Error),
}

impl From<io::Error> for Failed {
    /// Out of line, for what is long is to tell kinds of errors apart.
    #[inline(never)]
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Failed::WouldBlock,
            io::ErrorKind::Interrupted => Failed::Interrupted,
            _ => Failed::For(error),
        }
    }
}

pub(super) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
