//! Orders to abort: an order that comes while the task leaves what wakes it, or while its handle goes.

use super::{Case, case};
use crate::executor::{block_on, spawn};
use crate::sys::abort::Abort;
use std::cell::Looked;
use std::future::poll_fn;
use std::model;
use std::plain;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("order_and_keep", 0, 4000, order_and_keep),
        case("two_orders", 3, 4000, two_orders),
        case("abort_and_drop", 3, 4000, abort_and_drop),
        case("abort_waiting", 3, 4000, abort_waiting),
    ]
}

/// What is woken. Whoever reaches it has to see it as it was made.
#[derive(Default)]
struct Woken {
    made: Looked,
    wakes: Mutex<usize>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.made.look();
        *self.wakes.lock().unwrap() += 1;
    }
}

/// Keeps at the same time as others order; returns how often it was woken in the end.
fn wakes_of_orders(orders: usize) -> usize {
    let abort = plain::Arc::new(Abort::default());
    let ordering = (0..orders).map(|_| {
        let abort = plain::Arc::clone(&abort);
        model::spawn(move || abort.order())
    });
    let ordering: Vec<_> = ordering.collect();
    let woken = Arc::<Woken>::default();
    abort.keep(Arc::clone(&woken));
    // What is kept is lent, whatever was ordered meanwhile.
    assert!(abort.get().is_some_and(|lent| std::ptr::eq(lent.shared, &*woken)));
    ordering.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(abort.is_ordered());
    drop(abort);
    assert_eq!(Arc::strong_count(&woken), 1, "kept after the end");
    *woken.wakes.lock().unwrap()
}

/// Either who orders finds what wakes the task, or who keeps that finds the order.
fn order_and_keep() {
    assert_eq!(wakes_of_orders(1), 1);
}

/// Two threads order: the task is woken once.
fn two_orders() {
    assert_eq!(wakes_of_orders(2), 1);
}

/// What is written before an order is seen when the future is dropped for it, which wakes the root.
struct Aborted {
    told: plain::Arc<AtomicBool>,
    ended: plain::Arc<Mutex<bool>>,
    root: Waker,
}

impl Drop for Aborted {
    fn drop(&mut self) {
        assert!(self.told.load(Ordering::Relaxed), "aborted, and not seen what came before");
        *self.ended.lock().unwrap() = true;
        self.root.wake_by_ref();
    }
}

/// A task that never ends by itself is aborted by another thread, and the handle goes at once.
fn aborted_at_once(keep: Option<plain::Arc<Mutex<Vec<Waker>>>>) {
    let ended = plain::Arc::new(Mutex::new(false));
    let mut begun = false;
    block_on(poll_fn(|cx| {
        if !begun {
            let told = plain::Arc::new(AtomicBool::new(false));
            let (root, telling) = (cx.waker().clone(), plain::Arc::clone(&told));
            let aborted = Aborted { told, ended: plain::Arc::clone(&ended), root };
            let keep = keep.clone();
            let task = spawn(poll_fn(move |cx| {
                let _aborted = &aborted;
                if let Some(keep) = &keep {
                    let waker = cx.waker().clone();
                    keep.lock().unwrap().push(waker);
                }
                Poll::<()>::Pending
            }));
            model::spawn(move || {
                telling.store(true, Ordering::Relaxed);
                task.abort();
                drop(task);
            });
        }
        begun = true;
        if *ended.lock().unwrap() { Poll::Ready(()) } else { Poll::Pending }
    }));
}

/// Also during a poll that leaves no waker: then the order is all that brings the next poll.
fn abort_and_drop() {
    aborted_at_once(None);
}

/// Also where somebody keeps the task's waker, and never uses it.
fn abort_waiting() {
    let kept = plain::Arc::default();
    aborted_at_once(Some(plain::Arc::clone(&kept)));
    assert!(kept.lock().unwrap().len() <= 1, "polled more often than woken");
    kept.lock().unwrap().clear();
}
