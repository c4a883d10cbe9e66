//! A value that one party hands over to another, once, and the waker of who waits for it.
//!
//! A lock would do. But it is taken and given back three times on the way of each task's output, and
//! six atomic operations are a third of what it costs to spawn a task and to join it. Here they are
//! two: giving is one, leaving a waker another.
//!
//! # States
//!
//! `EMPTY`: nothing has been given, and no waker lies there. `WAITING`: a waker lies there. `GIVEN`:
//! the value lies there. `TAKEN`: it was taken. The giver goes from `EMPTY` or `WAITING` to `GIVEN`,
//! once. The taker goes to and fro between `EMPTY` and `WAITING`, and from `GIVEN` to `TAKEN`. The
//! taker owns the waker's place unless it is `WAITING`; the giver owns the value's until it is
//! `GIVEN`, and then the taker does.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Poll, Waker};

const EMPTY: u8 = 0;
const WAITING: u8 = 1;
const GIVEN: u8 = 2;
const TAKEN: u8 = 3;

/// What both ends hold: their state, and a head that is the user's.
struct Shared<H, T> {
    head: H,
    state: AtomicU8,
    waker: UnsafeCell<MaybeUninit<Waker>>,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value goes from one thread to another and is never reached by two, so it has to be
// `Send`; the head is reached by both. Wakers are both.
unsafe impl<H: Sync, T: Send> Sync for Shared<H, T> {}

// As std's locks: nobody sees a value before it is whole.
impl<H, T> UnwindSafe for Shared<H, T> {}
impl<H, T> RefUnwindSafe for Shared<H, T> {}

impl<H, T> Shared<H, T> {
    /// # Safety
    ///
    /// A waker lies there, it is the caller's, and nobody takes it again.
    unsafe fn take_waker(&self) -> Waker {
        // SAFETY: the caller owns the place.
        let place = unsafe { &*self.waker.get() };
        // SAFETY: the caller says that it is filled, and that this copy is the only one to be used.
        unsafe { place.assume_init_read() }
    }

    /// # Safety
    ///
    /// A value lies there, it is the caller's, and nobody takes it again.
    unsafe fn take_value(&self) -> T {
        // SAFETY: the caller owns the place.
        let place = unsafe { &*self.value.get() };
        // SAFETY: the caller says that it is filled, and that this copy is the only one to be used.
        unsafe { place.assume_init_read() }
    }
}

impl<H, T> Drop for Shared<H, T> {
    fn drop(&mut self) {
        match *self.state.get_mut() {
            // SAFETY: a waker lies there, and this is the end of the only owner.
            WAITING => drop(unsafe { self.take_waker() }),
            // SAFETY: a value lies there, and this is the end of the only owner.
            GIVEN => drop(unsafe { self.take_value() }),
            _ => {}
        }
    }
}

/// The end that gives.
pub(crate) struct Giver<H, T>(Arc<Shared<H, T>>);

/// The end that takes.
pub(crate) struct Taker<H, T>(Arc<Shared<H, T>>);

/// Makes the two ends of a value's way. Both can look at the head.
pub(crate) fn oneshot<H, T>(head: H) -> (Giver<H, T>, Taker<H, T>) {
    let shared = Arc::new(Shared {
        head,
        state: AtomicU8::new(EMPTY),
        waker: UnsafeCell::new(MaybeUninit::uninit()),
        value: UnsafeCell::new(MaybeUninit::uninit()),
    });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

impl<H, T> Giver<H, T> {
    #[inline]
    pub(crate) fn head(&self) -> &H {
        &self.0.head
    }

    /// Whether it has given its value.
    #[inline]
    pub(crate) fn has_given(&self) -> bool {
        // Nobody else makes it so.
        self.0.state.load(Ordering::Relaxed) >= GIVEN
    }

    /// Gives the value, and gets the waker of who waits for it.
    ///
    /// # Panics
    ///
    /// If it has given already.
    #[inline]
    pub(crate) fn give(&mut self, value: T) -> Option<Waker> {
        assert!(!self.has_given(), "a value is given once");
        // SAFETY: only the giver makes it `GIVEN`, which it is not, so that the place is its own;
        // there is one giver, and `&mut` makes its calls follow each other.
        let place = unsafe { &mut *self.0.value.get() };
        place.write(value);
        match self.0.state.swap(GIVEN, Ordering::AcqRel) {
            // SAFETY: the waker lay there, and the taker leaves its place alone unless it is the
            // one who ends `WAITING`.
            WAITING => Some(unsafe { self.0.take_waker() }),
            _ => None,
        }
    }
}

impl<H, T> Taker<H, T> {
    #[inline]
    pub(crate) fn head(&self) -> &H {
        &self.0.head
    }

    /// Whether the value was given, or taken even.
    pub(crate) fn is_given(&self) -> bool {
        self.0.state.load(Ordering::Acquire) >= GIVEN
    }

    /// Takes the value if it is there; else the waker is woken when it comes, and no former one.
    /// `None` if it was taken already.
    #[inline]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Option<T>> {
        match self.0.state.load(Ordering::Acquire) {
            EMPTY => self.leave(waker.clone()),
            WAITING => self.replace(waker),
            GIVEN => Poll::Ready(Some(self.take())),
            _ => Poll::Ready(None),
        }
    }

    /// Takes the value, which is there.
    #[inline]
    fn take(&mut self) -> T {
        self.0.state.store(TAKEN, Ordering::Relaxed);
        // SAFETY: the caller has seen `GIVEN`, by an acquiring load; there is one taker, which has
        // noted that it takes the value.
        unsafe { self.0.take_value() }
    }

    /// Leaves a waker where none lies. It was cloned before: that is foreign code.
    fn leave(&mut self, waker: Waker) -> Poll<Option<T>> {
        // SAFETY: it is not `WAITING`, so that the place is the taker's, of which there is one.
        let place = unsafe { &mut *self.0.waker.get() };
        place.write(waker);
        let (success, failure) = (Ordering::Release, Ordering::Acquire);
        match self.0.state.compare_exchange(EMPTY, WAITING, success, failure) {
            Ok(_) => Poll::Pending,
            Err(_) => {
                // SAFETY: it was left above, and has not become the giver's.
                drop(unsafe { self.0.take_waker() });
                Poll::Ready(Some(self.take()))
            }
        }
    }

    #[cold]
    fn replace(&mut self, waker: &Waker) -> Poll<Option<T>> {
        match self.withdraw() {
            Some(known) if known.will_wake(waker) => self.leave(known),
            _ if self.is_given() => Poll::Ready(Some(self.take())),
            former => {
                let polled = self.leave(waker.clone());
                drop(former);
                polled
            }
        }
    }

    /// Takes the waker back that was left, if the giver has not got it.
    pub(crate) fn withdraw(&mut self) -> Option<Waker> {
        if self.0.state.load(Ordering::Relaxed) != WAITING {
            return None;
        }
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let waits = self.0.state.compare_exchange(WAITING, EMPTY, success, failure).is_ok();
        // SAFETY: a waker lay there, and whoever ends `WAITING` owns it.
        waits.then(|| unsafe { self.0.take_waker() })
    }
}

impl<H, T> fmt::Debug for Giver<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Giver").finish_non_exhaustive()
    }
}

impl<H, T> fmt::Debug for Taker<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taker").field("is_given", &self.is_given()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::oneshot;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Poll, Wake, Waker};
    use std::thread;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn what_was_given_is_taken_once() {
        let (mut giver, mut taker) = oneshot(7);
        assert_eq!((*giver.head(), *taker.head()), (7, 7));
        assert!(giver.give("value".to_owned()).is_none());
        assert!(taker.is_given());
        assert_eq!(taker.poll(Waker::noop()), Poll::Ready(Some("value".to_owned())));
        assert_eq!(taker.poll(Waker::noop()), Poll::Ready(None));
    }

    #[test]
    fn the_last_waker_is_given_up() {
        let (mut giver, mut taker) = oneshot::<(), String>(());
        let ((first, waker), (second, other)) = (counting(), counting());
        assert!(taker.poll(&waker).is_pending() && taker.poll(&waker).is_pending());
        assert!(taker.poll(&other).is_pending());
        assert_eq!(Arc::strong_count(&first), 2, "the former one is dropped");
        giver.give(String::new()).expect("somebody waits").wake();
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn a_waker_is_withdrawn_or_dropped() {
        let (mut giver, mut taker) = oneshot::<(), String>(());
        let (count, waker) = counting();
        assert!(taker.withdraw().is_none());
        assert!(taker.poll(&waker).is_pending());
        assert!(taker.withdraw().is_some());
        assert!(taker.poll(&waker).is_pending());
        drop(taker);
        assert_eq!(Arc::strong_count(&count), 3, "it lies there");
        drop(giver.give(String::new()));
        drop(giver);
        assert_eq!(Arc::strong_count(&count), 2);
        let (giver, mut taker) = oneshot::<(), String>(());
        assert!(taker.poll(&waker).is_pending());
        drop((giver, taker));
        assert_eq!(Arc::strong_count(&count), 2);
    }

    #[test]
    fn threads_meet() {
        for round in 0..500 {
            let (mut giver, mut taker) = oneshot::<(), Box<usize>>(());
            let giving = thread::spawn(move || {
                if round % 3 == 0 {
                    thread::yield_now();
                }
                giver.give(Box::new(round)).into_iter().for_each(Waker::wake);
            });
            let (count, waker) = counting();
            let mut waits = 0;
            let value = loop {
                match taker.poll(&waker) {
                    Poll::Ready(value) => break value,
                    Poll::Pending => waits += 1,
                }
            };
            giving.join().unwrap();
            assert_eq!(value.as_deref(), Some(&round));
            assert!(count.0.load(Ordering::SeqCst) <= waits);
        }
    }
}
