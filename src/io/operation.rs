//! Try, wait, try again: the whole idea of [`Async`].

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::Async;
use crate::reactor::{self, Direction, Waiter};

impl<T> Async<T> {
    /// The future of an operation, which is tried `at_once`, ready or not, if it may need nothing.
    /// `short` tells whether a result is less than was asked for; see
    /// [`Source::trusts_short`](reactor::Source::trusts_short).
    pub(crate) fn operation<R>(
        &self,
        direction: Direction,
        at_once: bool,
        op: impl FnMut(&T) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> impl Future<Output = io::Result<R>> {
        Operation { object: self, waiter: self.waiter(direction), at_once, op, short }
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
        let wait = |cx: &mut Context<'_>| self.source().poll_wait(direction, cx);
        self.poll_op(direction, cx, wait, op, short)
    }

    /// Try, wait, try again. `short` tells whether a result is less than was asked for; see
    /// [`Source::trusts_short`](reactor::Source::trusts_short).
    #[inline]
    pub(crate) fn poll_op<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut wait: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
        mut op: impl FnMut(&T) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        loop {
            if let Some(edges) = self.source().worth_a_try(direction) {
                ready!(reactor::spend_budget(cx));
                match op(&self.io) {
                    Err(error) if would_block(&error) => {
                        self.source().drained(direction, edges);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    done => {
                        if done.as_ref().is_ok_and(&short) && self.source().trusts_short() {
                            self.source().drained(direction, edges);
                        }
                        return Poll::Ready(done);
                    }
                }
            }
            ready!(wait(cx))?;
        }
    }
}

/// An operation that is tried until it does not block: a plain struct, for it is smaller and
/// quicker than a compiled `async` block.
struct Operation<'a, T, F, S> {
    object: &'a Async<T>,
    waiter: Waiter<'a>,
    at_once: bool,
    op: F,
    short: S,
}

impl<T, F, S> Unpin for Operation<'_, T, F, S> {}

impl<T, F, S, R> Future for Operation<'_, T, F, S>
where
    F: FnMut(&T) -> io::Result<R>,
    S: Fn(&R) -> bool,
{
    type Output = io::Result<R>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let this = &mut *self;
        if mem::take(&mut this.at_once) {
            match (this.op)(&this.object.io) {
                Err(error) if would_block(&error) => {}
                done => return Poll::Ready(done),
            }
        }
        let (direction, waiter) = (this.waiter.direction(), &mut this.waiter);
        this.object.poll_op(direction, cx, |cx| waiter.poll_wait(cx), &mut this.op, &this.short)
    }
}

pub(super) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
