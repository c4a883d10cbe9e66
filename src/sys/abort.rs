//! Whether a task is to be aborted, and what its wakers share, in one word.
//!
//! In one word, so that either who aborts finds what wakes the task, or the task finds that it is to be
//! aborted. And the word lends a waker: a counted one would be counted up and down at each poll.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{Wake, Waker};

/// The bit of the word, besides the pointer.
const ORDERED: usize = 1;

/// What can be ordered to abort, and then to wake if there is something that wakes.
pub(crate) struct Abort<W: Wake + Send + Sync + 'static> {
    /// Null or from an `Arc`, of which it is one count; and `ORDERED`.
    word: AtomicPtr<W>,
    kept: PhantomData<Arc<W>>,
}

/// What wakes a task, as long as that keeps it.
pub(crate) struct Lent<'a, W> {
    pub(crate) shared: &'a W,
    /// Not dropped, for it has not been counted.
    waker: ManuallyDrop<Waker>,
}

impl<W> Lent<'_, W> {
    #[inline]
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

fn is_ordered<W>(word: *mut W) -> bool {
    word.addr() & ORDERED != 0
}

fn without_bit<W>(word: *mut W) -> *mut W {
    word.map_addr(|address| address & !ORDERED)
}

impl<W: Wake + Send + Sync + 'static> Abort<W> {
    const HAS_ROOM_FOR_THE_BIT: () = assert!(align_of::<W>() > ORDERED);

    /// Orders it, and wakes the task if that has something that does. Said again, it does nothing.
    pub(crate) fn order(&self) {
        let mut before = self.word.load(Ordering::Acquire);
        while !is_ordered(before) {
            let ordered = before.map_addr(|address| address | ORDERED);
            match self.exchange(before, ordered) {
                // Who keeps something later finds the order.
                Ok(_) if before.is_null() => return,
                Ok(_) => return self.get().into_iter().for_each(|task| task.waker().wake_by_ref()),
                Err(seen) => before = seen,
            }
        }
    }

    fn exchange(&self, before: *mut W, after: *mut W) -> Result<*mut W, *mut W> {
        self.word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn is_ordered(&self) -> bool {
        is_ordered(self.word.load(Ordering::Acquire))
    }

    /// What wakes the task, if it has something that does.
    #[inline]
    pub(crate) fn get(&self) -> Option<Lent<'_, W>> {
        let kept = without_bit(self.word.load(Ordering::Acquire)).cast_const();
        // SAFETY: it is null or from an `Arc`, which is kept as long as this.
        let shared = unsafe { kept.as_ref() }?;
        // SAFETY: it is from an `Arc`. This copy has not been counted, and is never dropped.
        let copy = unsafe { Arc::from_raw(kept) };
        Some(Lent { shared, waker: ManuallyDrop::new(Waker::from(copy)) })
    }

    /// Keeps what wakes a task that had nothing, and uses it if the task is to be aborted already.
    pub(crate) fn keep(&self, task: Arc<W>) {
        () = Self::HAS_ROOM_FOR_THE_BIT;
        let task = Arc::into_raw(task).cast_mut();
        let mut before = self.word.load(Ordering::Acquire);
        while without_bit(before).is_null() {
            let kept = task.map_addr(|address| address | before.addr());
            match self.exchange(before, kept) {
                Ok(_) if is_ordered(before) => {
                    return self.get().into_iter().for_each(|task| task.waker().wake_by_ref());
                }
                Ok(_) => return,
                Err(seen) => before = seen,
            }
        }
        // SAFETY: it is from the `Arc` that was given, and nobody else has got it.
        drop(unsafe { Arc::from_raw(task) });
    }
}

impl<W: Wake + Send + Sync + 'static> Default for Abort<W> {
    #[inline]
    fn default() -> Self {
        Abort { word: AtomicPtr::default(), kept: PhantomData }
    }
}

impl<W: Wake + Send + Sync + 'static> Drop for Abort<W> {
    #[inline]
    fn drop(&mut self) {
        let kept = without_bit(*self.word.get_mut());
        if !kept.is_null() {
            // SAFETY: it is from an `Arc`, this is its count, and nothing is lent any more.
            drop(unsafe { Arc::from_raw(kept) });
        }
    }
}

impl<W: Wake + Send + Sync + 'static> fmt::Debug for Abort<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Abort").field("is_ordered", &self.is_ordered()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Abort;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wakes(count: &Count) -> usize {
        count.0.load(Ordering::SeqCst)
    }

    #[test]
    fn an_order_wakes_once_whatever_comes_first() {
        let (abort, count) = (Abort::default(), Arc::new(Count::default()));
        assert!(abort.get().is_none() && !abort.is_ordered());
        abort.keep(Arc::clone(&count));
        assert_eq!(wakes(&count), 0);
        abort.order();
        abort.order();
        assert!(abort.is_ordered());
        assert_eq!(wakes(&count), 1);

        let (abort, count) = (Abort::default(), Arc::new(Count::default()));
        abort.order();
        assert!(abort.get().is_none() && abort.is_ordered());
        abort.keep(Arc::clone(&count));
        abort.order();
        assert_eq!(wakes(&count), 1);
    }

    #[test]
    fn what_is_kept_first_is_lent_until_the_end() {
        let (abort, count) = (Abort::default(), Arc::new(Count::default()));
        let other = Arc::new(Count::default());
        abort.keep(Arc::clone(&count));
        abort.keep(Arc::clone(&other));
        assert_eq!((Arc::strong_count(&count), Arc::strong_count(&other)), (2, 1));
        let lent = abort.get().unwrap();
        assert!(std::ptr::eq(lent.shared, &*count));
        assert_eq!(Arc::strong_count(&count), 2, "lending counts nothing");
        let waker = lent.waker().clone();
        waker.wake_by_ref();
        assert_eq!(waker.data(), abort.get().unwrap().waker().data());
        drop(abort);
        assert_eq!((Arc::strong_count(&count), wakes(&count)), (2, 1));
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn of_two_threads_one_wakes() {
        for _ in 0..100 {
            let (abort, count) = (Abort::default(), Arc::new(Count::default()));
            thread::scope(|scope| {
                scope.spawn(|| abort.order());
                abort.keep(Arc::clone(&count));
            });
            assert_eq!(wakes(&count), 1);
        }
    }
}
