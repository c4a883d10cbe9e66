//! The place where an output is handed over, and the lock: small enough for all schedules.

use super::{Case, case};
use crate::executor::block_on;
use crate::sys::lock_itself::Lock;
use crate::sys::oneshot::oneshot;
use std::future::poll_fn;
use std::model;
use std::plain::{Arc, Wake};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("handover", 0, 4000, handover),
        case("handover_replaced", 0, 4000, handover_replaced),
        case("handover_given_up", 0, 4000, handover_given_up),
        case("lock", 3, 4000, lock),
    ]
}

/// Counts wakes and drops, which std's `Arc` does not tell the model of.
#[derive(Default)]
struct Woken(std::sync::Mutex<usize>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
    }
}

fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (Arc::clone(&woken), Waker::from(woken))
}

/// A value that knows whether it was dropped.
struct Value(Arc<std::sync::Mutex<usize>>);

impl Drop for Value {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// Whoever waits is woken and gets the value.
fn handover() {
    let drops = Arc::default();
    let (mut giver, mut taker) = oneshot::<(), Value>(());
    let value = Value(Arc::clone(&drops));
    let giving = model::spawn(move || giver.give(value).into_iter().for_each(Waker::wake));
    let value = block_on(poll_fn(|cx| taker.poll(cx.waker())));
    assert!(value.is_some() && *drops.lock().unwrap() == 0);
    drop((value, taker));
    giving.join().unwrap();
    assert_eq!(*drops.lock().unwrap(), 1);
}

/// The last waker is woken if the value had not come by then, and no other.
fn handover_replaced() {
    let drops = Arc::default();
    let (mut giver, mut taker) = oneshot::<(), Value>(());
    let value = Value(Arc::clone(&drops));
    let giving = model::spawn(move || giver.give(value).into_iter().for_each(Waker::wake));
    let ((first, waker_1), (second, waker_2)) = (waker(), waker());
    let got = [&waker_1, &waker_2, &waker_2].map(|waker| taker.poll(waker));
    giving.join().unwrap();
    let at_once = got.iter().filter(|it| matches!(it, Poll::Ready(Some(_)))).count();
    let pending = got.iter().filter(|it| it.is_pending()).count();
    let woken = [&first, &second].map(|woken| *woken.0.lock().unwrap());
    match (at_once, pending) {
        (0, 3) => assert_eq!(woken, [0, 1], "the second waits"),
        // It may have been woken before it looked again.
        (1, pending) => assert!(woken.iter().sum::<usize>() <= pending.min(1)),
        _ => panic!("taken more than once"),
    }
    drop((got, taker, waker_1, waker_2));
    assert_eq!(*drops.lock().unwrap(), 1);
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
}

/// Nobody takes it, and the waker was taken back.
fn handover_given_up() {
    let drops = Arc::default();
    let (mut giver, mut taker) = oneshot::<(), Value>(());
    let value = Value(Arc::clone(&drops));
    let giving = model::spawn(move || giver.give(value).into_iter().for_each(Waker::wake));
    let (woken, waker) = waker();
    let polled = taker.poll(&waker);
    let back = taker.withdraw().is_some();
    drop(taker);
    giving.join().unwrap();
    let wakes = *woken.0.lock().unwrap();
    assert_eq!(wakes, usize::from(polled.is_pending() && !back));
    drop((polled, waker));
    assert_eq!(Arc::strong_count(&woken), 1);
    assert_eq!(*drops.lock().unwrap(), 1);
}

/// Three threads take it, and see each other's change.
fn lock() {
    let lock = Arc::new(Lock::new(0));
    let change = |lock: &Lock<usize>| *lock.lock() += 1;
    let threads = [(); 2].map(|()| {
        let lock = Arc::clone(&lock);
        model::spawn(move || change(&lock))
    });
    change(&lock);
    threads.map(|thread| thread.join().unwrap());
    assert_eq!(*lock.lock(), 3);
}
