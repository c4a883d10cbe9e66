//! Futures that belong to no runtime: what they cost is the runtime's queue and wakers.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Wakes itself once, for runtimes that have no such function of their own.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls a future that is expected to be pending, once.
///
/// # Panics
///
/// If it is ready.
pub async fn poll_once(mut future: Pin<&mut impl Future>) {
    std::future::poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending(), "a future was expected to be pending");
        Poll::Ready(())
    })
    .await;
}

/// Two tasks that wake each other in turn.
#[derive(Default)]
pub struct PingPong {
    turn: AtomicUsize,
    wakers: [OnceLock<Waker>; 2],
}

impl PingPong {
    /// One of the two sides, 0 or 1. Ready after so many turns of its own.
    pub async fn play(self: Arc<Self>, side: usize, turns: u64) {
        let mut left = turns;
        std::future::poll_fn(|cx| {
            self.wakers[side].get_or_init(|| cx.waker().clone());
            if self.turn.load(Ordering::Relaxed) == side {
                self.turn.store(1 - side, Ordering::Relaxed);
                left -= 1;
                if let Some(other) = self.wakers[1 - side].get() {
                    other.wake_by_ref();
                }
            }
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A task that waits for another thread, and a thread that wakes it.
#[derive(Default)]
pub struct Parked {
    waker: OnceLock<Waker>,
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Parked {
    /// The task: answers what it is asked, and is ready after so many answers.
    pub async fn answer(self: Arc<Self>, n: u64) {
        std::future::poll_fn(|cx| {
            self.waker.get_or_init(|| cx.waker().clone());
            let asked = self.asked.load(Ordering::Acquire);
            self.answered.store(asked, Ordering::Release);
            if asked == n { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Wakes the task so many times from another thread, and blocks this one meanwhile, so that
    /// nobody looks at what was woken. Says what that took, in the other thread.
    ///
    /// # Panics
    ///
    /// If the task has not been polled.
    pub fn wake_while_busy(&self, n: u64) -> Duration {
        let waker = self.waker.get().expect("the task has been polled").clone();
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            for _ in 0..n {
                waker.wake_by_ref();
            }
            start.elapsed()
        });
        let took = thread.join().expect("a thread that wakes does not panic");
        self.asked.store(n, Ordering::Release);
        took
    }

    /// A thread that asks so many times, and spins until it has the answer. Gives back what that
    /// took.
    pub fn ask(self: &Arc<Self>, n: u64) -> JoinHandle<Duration> {
        let parked = Arc::clone(self);
        std::thread::spawn(move || {
            let waker = loop {
                if let Some(waker) = parked.waker.get() {
                    break waker;
                }
                std::hint::spin_loop();
            };
            let start = Instant::now();
            for i in 1..=n {
                parked.asked.store(i, Ordering::Release);
                waker.wake_by_ref();
                while parked.answered.load(Ordering::Acquire) < i {
                    std::hint::spin_loop();
                }
            }
            start.elapsed()
        })
    }
}
