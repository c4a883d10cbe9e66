//! A waker that counts as no reference.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// A waker of something that is borrowed while this lives, to be polled with. std's takes a count
/// and gives it back, two read-modify-writes for each poll.
pub(crate) struct LentWaker<'a> {
    waker: ManuallyDrop<Waker>,
    lender: PhantomData<&'a Waker>,
}

impl<'a> LentWaker<'a> {
    #[inline]
    pub(crate) fn of<W: Wake + Send + Sync + 'static>(lender: &'a Arc<W>) -> Self {
        // SAFETY: the pointer is that of an `Arc`, which stays borrowed as long as this lives. No
        // count is taken for the second `Arc`, which therefore is never dropped: its waker is handed
        // out by shared reference only.
        let same = unsafe { Arc::from_raw(Arc::as_ptr(lender)) };
        Self { waker: ManuallyDrop::new(Waker::from(same)), lender: PhantomData }
    }
}

impl Deref for LentWaker<'_> {
    type Target = Waker;

    #[inline]
    fn deref(&self) -> &Waker {
        &self.waker
    }
}

#[cfg(test)]
mod tests {
    use super::LentWaker;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_its_clones_count() {
        let count = Arc::new(Count::default());
        let lent = LentWaker::of(&count);
        assert_eq!(Arc::strong_count(&count), 1);
        lent.wake_by_ref();
        assert_eq!(Arc::strong_count(&count), 1);
        let clone = Waker::clone(&lent);
        assert!(clone.will_wake(&lent));
        drop(lent);
        assert_eq!(Arc::strong_count(&count), 2);
        clone.wake();
        assert_eq!(Arc::strong_count(&count), 1);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
