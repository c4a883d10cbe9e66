//! Small futures that every program needs: `yield_now`, `join`, `race`.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Lets everything else that is ready run first: the task goes to the back of the line.
///
/// # Examples
///
/// ```
/// selio::block_on(async {
///     let other = selio::spawn(async { "ran" });
///     selio::yield_now().await;
///     assert!(other.is_finished());
/// });
/// ```
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Awaits two futures at once and gives both outputs.
///
/// Both are polled by the task that awaits, the first one first. Dropping the join drops both.
///
/// # Examples
///
/// ```
/// let both = selio::block_on(selio::join(async { 1 }, async { "two" }));
/// assert_eq!(both, (1, "two"));
/// ```
pub async fn join<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_output, mut second_output) = (None, None);
    poll_fn(|cx| {
        if first_output.is_none() {
            if let Poll::Ready(output) = first.as_mut().poll(cx) {
                first_output = Some(output);
            }
        }
        if second_output.is_none() {
            if let Poll::Ready(output) = second.as_mut().poll(cx) {
                second_output = Some(output);
            }
        }
        match (first_output.take(), second_output.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (first_output, second_output) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// Awaits two futures of one output type and gives the output of the one that is done first; the
/// other is dropped.
///
/// Both are polled by the task that awaits, the first one first: if both are ready at once, its
/// output is taken.
///
/// # Cancel safety
///
/// The loser is dropped in the midst of its work, so it must be cancel-safe if that matters.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let winner = selio::block_on(selio::race(
///     async { "at once" },
///     async {
///         selio::time::sleep(Duration::from_secs(60)).await;
///         "in a minute"
///     },
/// ));
/// assert_eq!(winner, "at once");
/// ```
pub async fn race<A, B>(first: A, second: B) -> A::Output
where
    A: Future,
    B: Future<Output = A::Output>,
{
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Pending => second.as_mut().poll(cx),
        ready => ready,
    })
    .await
}
