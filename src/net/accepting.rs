//! Accepting: what the listeners of all kinds have in common.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::stream::Stream;

use crate::io::Async;
use crate::io::operation::{Attempt, Operation};
use crate::time::Timer;

/// How long accepting rests after an error.
const PAUSE: Duration = Duration::from_millis(50);

/// One party that accepts, once or again and again.
///
/// Most errors leave the connection in the queue, so that the next call would have the same one at
/// once. Therefore each that the kernel tells is told after a pause.
#[derive(Debug)]
pub(super) struct Accepting<'a, T, A: Attempt<T>> {
    operation: Operation<'a, T, A>,
    /// After an error: what to tell when the pause is over.
    pause: Option<(Timer, io::Error)>,
}

impl<'a, T, A: Attempt<T>> Accepting<'a, T, A> {
    pub(super) fn new(listener: &'a Async<T>, accept: A) -> Self {
        Accepting { operation: listener.attempt(accept), pause: None }
    }
}

impl<T, A: Attempt<T>> Future for Accepting<'_, T, A> {
    type Output = io::Result<A::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.pause.is_none() {
            match ready!(Pin::new(&mut this.operation).poll(cx)) {
                // One of our own says that nothing will ever wait here: no pause would end.
                Err(error) if error.raw_os_error().is_some() => {
                    this.pause = Some((Timer::after(PAUSE), error));
                }
                done => return Poll::Ready(done),
            }
        }
        if let Some((timer, _)) = &mut this.pause {
            ready!(Pin::new(timer).poll_next(cx));
        }
        match this.pause.take() {
            Some((_, error)) => Poll::Ready(Err(error)),
            None => unreachable!("the pause was set above"),
        }
    }
}
