//! Wakes: a task's state, the two queues, the sleeping owner and its eventfd.

use super::{Case, case, shuttle_only};
use crate::executor::{JoinHandle, block_on, handle, spawn};
use crate::reactor;
use std::future::{pending, poll_fn};
use std::model;
use std::plain::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(super) fn all() -> Vec<Case> {
    vec![
        case("wake_root", 2, 4000, wake_root),
        case("wake_task", 2, 4000, wake_task),
        case("wake_spare", 2, 4000, wake_spare),
        case("wake_spinning", 2, 4000, wake_spinning),
        case("wake_after_end", 3, 4000, wake_after_end),
        case("abort", 2, 4000, abort),
        case("order", 3, 4000, order),
        case("abort_order", 2, 4000, abort_order),
        shuttle_only("wake_many", 4000, wake_many),
    ]
}

/// What is written before a wake, and how often it was polled.
#[derive(Default)]
struct Told {
    parts: AtomicUsize,
    polls: Mutex<usize>,
}

impl Told {
    /// Counts a poll, of which there may be one for each part; one is the first, which wakes its own
    /// task twice, and one is for that.
    fn poll(&self, parts: usize, cx: &Context<'_>) -> Poll<()> {
        let mut polls = self.polls.lock().unwrap();
        *polls += 1;
        let (polls, first) = (*polls, *polls == 1);
        assert!(polls <= parts + 2, "polled more often than woken");
        if first {
            cx.waker().wake_by_ref();
            cx.waker().wake_by_ref();
        }
        if self.parts.load(Ordering::Relaxed) == parts { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Tells one part, on a thread of its own. What is written is told by the wake alone.
    fn tell(self: &Arc<Self>, waker: Waker) {
        let told = Arc::clone(self);
        model::spawn(move || {
            told.parts.fetch_add(1, Ordering::Relaxed);
            waker.wake();
        });
    }
}

/// Waits until so many threads have told their parts, which it starts in its first poll.
async fn hear(parts: usize) {
    let told = Arc::new(Told::default());
    let mut begun = false;
    poll_fn(move |cx| {
        if !begun {
            (0..parts).for_each(|_| told.tell(cx.waker().clone()));
        }
        begun = true;
        told.poll(parts, cx)
    })
    .await;
}

/// Two threads wake the root future, whose poll sees what each has written before.
fn wake_root() {
    block_on(hear(2));
}

/// The same with a task, whose output is awaited.
fn wake_task() {
    block_on(async { spawn(hear(2)).await.unwrap() });
}

/// A task's waker is woken and dropped while the waker that serves all tasks goes round.
fn wake_spare() {
    block_on(async {
        let (first, second) = (spawn(hear(1)), spawn(hear(1)));
        second.await.unwrap();
        first.await.unwrap();
    });
}

/// The owner looks some times before it sleeps.
fn wake_spinning() {
    block_on(async {
        let _spin = reactor::spin(Duration::from_micros(3));
        hear(2).await;
    });
}

/// A waker of a `block_on` that has ended is woken while the next one waits.
fn wake_after_end() {
    block_on(poll_fn(|cx| {
        let late = cx.waker().clone();
        model::spawn(move || late.wake());
        Poll::Ready(())
    }));
    block_on(hear(1));
}

/// What the first poll of a root future begins, which waits until it was told that this is through.
fn until_told(begin: impl FnOnce(Arc<Told>, Waker) + 'static) {
    let (told, mut begin) = (Arc::new(Told::default()), Some(begin));
    block_on(poll_fn(move |cx| {
        if let Some(begin) = begin.take() {
            begin(Arc::clone(&told), cx.waker().clone());
        }
        told.poll(1, cx)
    }));
}

/// A task is aborted from another thread, which then awaits its handle.
fn abort() {
    until_told(|told, waker| {
        let task = spawn(pending::<()>());
        model::spawn(move || end(task, &told, waker));
    });
}

/// Aborts a task, sees that it has ended so, and tells.
fn end(task: JoinHandle<()>, told: &Told, waker: Waker) {
    task.abort();
    assert!(block_on(task).unwrap_err().is_aborted());
    told.parts.store(1, Ordering::Relaxed);
    waker.wake();
}

/// Another thread has a task spawned, and its handle goes.
fn order() {
    until_told(|told, waker| {
        let handle = handle();
        model::spawn(move || {
            drop(handle.spawn(move || async move {
                told.parts.store(1, Ordering::Relaxed);
                waker.wake();
            }));
        });
    });
}

/// Another thread has a task spawned, and aborts it, wherever the order is by then.
fn abort_order() {
    until_told(|told, waker| {
        let handle = handle();
        model::spawn(move || {
            let task = handle.spawn(pending::<()>);
            end(task, &told, waker);
        });
    });
}

/// Many tasks and many threads.
fn wake_many() {
    block_on(async {
        let tasks: Vec<JoinHandle<()>> = (1..4).map(|parts| spawn(hear(parts))).collect();
        let aborted = spawn(pending::<()>());
        model::spawn(move || {
            aborted.abort();
            assert!(block_on(aborted).unwrap_err().is_aborted());
        });
        for task in tasks {
            task.await.unwrap();
        }
        hear(2).await;
    });
}
