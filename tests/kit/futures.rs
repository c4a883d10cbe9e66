//! Small futures and values for the tests of tasks: gates, counted polls, closures that run in a
//! destructor.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// Lets through whoever awaits it once it is open. Clones are one gate; any thread may open it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate and wakes all who wait.
    pub fn open(&self) {
        self.0.open.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap());
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Whether somebody has been polled and waits.
    pub fn is_awaited(&self) -> bool {
        !self.0.waiting.lock().unwrap().is_empty()
    }

    /// A thread that opens it once somebody waits.
    pub fn opener(&self) -> thread::JoinHandle<()> {
        let gate = self.clone();
        thread::spawn(move || {
            super::eventually("somebody waits", || gate.is_awaited());
            gate.open();
        })
    }

    /// Waits until it is open.
    pub fn pass(&self) -> impl Future<Output = ()> + use<> {
        let gate = Arc::clone(&self.0);
        poll_fn(move |cx| {
            let mut waiting = gate.waiting.lock().unwrap();
            if gate.open.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            waiting.push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// A future that counts how often it is polled.
#[derive(Debug)]
pub struct Counted<F> {
    future: Pin<Box<F>>,
    polls: Rc<Cell<usize>>,
}

/// Counts the polls of a future in a cell.
pub fn counted<F: Future>(polls: &Rc<Cell<usize>>, future: F) -> Counted<F> {
    Counted { future: Box::pin(future), polls: Rc::clone(polls) }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.set(self.polls.get() + 1);
        self.future.as_mut().poll(cx)
    }
}

/// Runs a closure when it is dropped.
#[derive(Debug)]
pub struct OnDrop<F: FnMut()>(F);

/// A value that runs a closure when it is dropped.
pub fn on_drop<F: FnMut()>(hook: F) -> OnDrop<F> {
    OnDrop(hook)
}

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The waker of the task that awaits.
pub async fn own_waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// Is ready with nothing at the poll after the first; whoever wants that poll must wake.
pub async fn pend_once() {
    let mut pended = false;
    poll_fn(|_| match std::mem::replace(&mut pended, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// Lets what is ready run, and what that makes ready, for some rounds of the queue.
pub async fn settle() {
    for _ in 0..5 {
        selio::yield_now().await;
    }
}

/// Runs a closure on another thread and waits for it there.
pub fn on_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(body).join().expect("the thread is in order")
}

/// A moment in which another thread most likely gets to where it is going. Nothing may depend on it
/// but the worth of the test.
pub fn a_moment() {
    thread::sleep(Duration::from_millis(10));
}

/// The message of a panic.
pub fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a payload without words".to_string())
}
