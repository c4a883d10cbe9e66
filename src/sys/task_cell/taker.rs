//! The end of a task's cell that takes the output.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use super::{EMPTY, GIVEN, GONE, HANDING, Header, Memory, WAITING, take_waker};

/// The end that takes.
pub(crate) struct Taker<H: 'static, T> {
    /// `None` once it has taken the output.
    cell: Option<NonNull<Header<H>>>,
    output: PhantomData<fn() -> T>,
}

// SAFETY: it gives the output away and drops it, on whatever thread; the head is reached by both ends,
// and bodies by the other end only.
unsafe impl<H: Send + Sync, T: Send> Send for Taker<H, T> {}
// SAFETY: shared, it shows the head and whether there is an output. As for `Arc`, whoever shares it may
// come to own it.
unsafe impl<H: Send + Sync, T: Send> Sync for Taker<H, T> {}

// As std's locks: nobody sees an output before it is whole.
impl<H, T> UnwindSafe for Taker<H, T> {}
impl<H, T> RefUnwindSafe for Taker<H, T> {}

impl<H, T> Taker<H, T> {
    /// # Safety
    ///
    /// The cell is a new one for such an output, and this is its only taker.
    #[inline]
    pub(super) unsafe fn new(cell: NonNull<Header<H>>) -> Self {
        Taker { cell: Some(cell), output: PhantomData }
    }

    #[inline]
    fn header(&self) -> Option<&Header<H>> {
        // SAFETY: the cell is not freed before the taker has left it.
        self.cell.map(|cell| unsafe { &*cell.as_ptr() })
    }

    /// The head; `None` once the output was taken.
    pub(crate) fn head(&self) -> Option<&H> {
        self.header().map(|header| &header.head)
    }

    /// Whether the output was given, or taken even.
    pub(crate) fn is_given(&self) -> bool {
        self.header().is_none_or(|header| header.state.load(Ordering::Acquire) >= HANDING)
    }

    /// Takes the output if it is there; else the waker is woken when it comes, and no former one.
    /// `None` if it was taken already.
    #[inline]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Option<T>> {
        let Some(header) = self.header() else { return Poll::Ready(None) };
        match header.state.load(Ordering::Acquire) {
            EMPTY => self.leave(waker.clone()),
            WAITING => self.replace(waker),
            // SAFETY: it is `HANDING` or `GIVEN`, for `GONE` is what the taker makes when it leaves.
            seen => Poll::Ready(unsafe { self.take(seen) }),
        }
    }

    /// Takes the output and leaves the cell.
    ///
    /// # Safety
    ///
    /// The caller has seen, by an acquiring load, that the state is `HANDING` or `GIVEN`.
    #[inline]
    unsafe fn take(&mut self, seen: u8) -> Option<T> {
        let memory = Memory(self.cell.take()?);
        // SAFETY: the output lies there, it is the taker's by now, and is taken once, for the taker
        // has no cell any more.
        let output = unsafe { memory.output().cast::<T>().read() };
        if seen == HANDING {
            leave_handing(memory);
        }
        Some(output)
    }

    /// Leaves a waker where none lies. It was cloned before: that is foreign code.
    fn leave(&mut self, waker: Waker) -> Poll<Option<T>> {
        let Some(header) = self.header() else { return Poll::Ready(None) };
        // SAFETY: it is not `WAITING`, so that the place is the taker's, of which there is one.
        let place = unsafe { &mut *header.waker.get() };
        place.write(waker);
        let (success, failure) = (Ordering::Release, Ordering::Acquire);
        match header.state.compare_exchange(EMPTY, WAITING, success, failure) {
            Ok(_) => Poll::Pending,
            Err(seen) => {
                // SAFETY: it was left above, and has not become the owner's.
                let untold = unsafe { place.assume_init_read() };
                // SAFETY: only an output can have come between.
                let output = unsafe { self.take(seen) };
                drop(untold);
                Poll::Ready(output)
            }
        }
    }

    #[cold]
    fn replace(&mut self, waker: &Waker) -> Poll<Option<T>> {
        match self.withdraw() {
            Some(known) if known.will_wake(waker) => self.leave(known),
            Some(former) => {
                let polled = self.leave(waker.clone());
                drop(former);
                polled
            }
            None => {
                let seen =
                    self.header().map_or(GIVEN, |header| header.state.load(Ordering::Acquire));
                // SAFETY: a waker had been left, and the owner has ended that.
                Poll::Ready(unsafe { self.take(seen) })
            }
        }
    }

    /// Takes the waker back that was left, if the owner has not got it.
    fn withdraw(&mut self) -> Option<Waker> {
        let header = self.header()?;
        if header.state.load(Ordering::Relaxed) != WAITING {
            return None;
        }
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let waits = header.state.compare_exchange(WAITING, EMPTY, success, failure).is_ok();
        // SAFETY: a waker lay there, and whoever ends `WAITING` has it.
        self.cell.filter(|_| waits).map(|cell| unsafe { take_waker(cell) })
    }
}

/// Leaves a cell while the owner is about to look at it once more: one of the two frees it.
#[cold]
fn leave_handing<H>(memory: Memory<H>) {
    // SAFETY: the cell is not freed yet.
    let state = unsafe { &(*memory.0.as_ptr()).state };
    let (success, failure) = (Ordering::Release, Ordering::Acquire);
    if state.compare_exchange(HANDING, GONE, success, failure).is_ok() {
        mem::forget(memory);
    }
}

impl<H, T> Drop for Taker<H, T> {
    /// Takes the waker back, so that a task which is detached while it is awaited wakes nobody, and drops
    /// an output that nobody has asked for.
    fn drop(&mut self) {
        let _waker = self.withdraw();
        let Some(header) = self.header() else { return };
        let (success, failure) = (Ordering::Release, Ordering::Acquire);
        if let Err(seen) = header.state.compare_exchange(EMPTY, GONE, success, failure) {
            // SAFETY: neither is it `EMPTY` nor has a waker been left, so that an output was given.
            drop(unsafe { self.take(seen) });
        }
    }
}

impl<H, T> fmt::Debug for Taker<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taker").field("is_given", &self.is_given()).finish_non_exhaustive()
    }
}
