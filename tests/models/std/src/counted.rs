//! An `Arc` whose count the model sees: each clone and each drop is a place where threads may be
//! switched, and orders them as std's does, and no more.

use crate::atomics::{AtomicUsize, fence};
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::Arc as Memory;
use std::sync::atomic::Ordering;
use std::task::{RawWaker, RawWakerVTable, Waker};

struct Shared<T> {
    count: AtomicUsize,
    value: UnsafeCell<Option<T>>,
}

pub struct Arc<T>(Memory<Shared<T>>);

pub struct Weak<T>(Option<Memory<Shared<T>>>);

// SAFETY: as std's.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: as std's.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}
// SAFETY: as std's.
unsafe impl<T: Send + Sync> Send for Weak<T> {}
// SAFETY: as std's.
unsafe impl<T: Send + Sync> Sync for Weak<T> {}
impl<T: RefUnwindSafe> UnwindSafe for Arc<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Arc<T> {}

impl<T> Arc<T> {
    pub fn new(value: T) -> Self {
        Self(Memory::new(Shared {
            count: AtomicUsize::new(1),
            value: UnsafeCell::new(Some(value)),
        }))
    }

    pub fn new_cyclic(make: impl FnOnce(&Weak<T>) -> T) -> Self {
        let memory =
            Memory::new(Shared { count: AtomicUsize::new(0), value: UnsafeCell::new(None) });
        let weak = Weak(Some(Memory::clone(&memory)));
        let value = make(&weak);
        // SAFETY: nobody reaches the value while the count is zero.
        unsafe { *memory.value.get() = Some(value) };
        memory.count.store(1, Ordering::Release);
        Self(memory)
    }

    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Memory::ptr_eq(&this.0, &other.0)
    }

    pub fn strong_count(this: &Self) -> usize {
        this.0.count.load(Ordering::Relaxed)
    }

    pub fn downgrade(this: &Self) -> Weak<T> {
        Weak(Some(Memory::clone(&this.0)))
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it is there as long as the count is not zero.
        unsafe { &*self.0.value.get() }.as_ref().expect("it is counted")
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Self(Memory::clone(&self.0))
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: this was the last owner.
            drop(unsafe { &mut *self.0.value.get() }.take());
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for Arc<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Weak<T> {
    pub const fn new() -> Self {
        Self(None)
    }

    pub fn upgrade(&self) -> Option<Arc<T>> {
        let memory = self.0.as_ref()?;
        let mut count = memory.count.load(Ordering::Relaxed);
        while count > 0 {
            let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
            match memory.count.compare_exchange(count, count + 1, success, failure) {
                Ok(_) => return Some(Arc(Memory::clone(memory))),
                Err(other) => count = other,
            }
        }
        None
    }

    pub fn strong_count(&self) -> usize {
        self.0.as_ref().map_or(0, |memory| memory.count.load(Ordering::Relaxed))
    }
}

impl<T> Clone for Weak<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Weak<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(Weak)")
    }
}

/// As std's, for this `Arc`.
pub trait Wake {
    fn wake(self: Arc<Self>)
    where
        Self: Sized;

    fn wake_by_ref(self: &Arc<Self>)
    where
        Self: Sized,
    {
        self.clone().wake();
    }
}

impl<W: Wake + Send + Sync + 'static> From<Arc<W>> for Waker {
    fn from(arc: Arc<W>) -> Waker {
        // SAFETY: the table's functions are for what `into_raw` gives, and `W` may be shared.
        unsafe { Waker::from_raw(raw(arc)) }
    }
}

fn raw<W: Wake + Send + Sync + 'static>(arc: Arc<W>) -> RawWaker {
    let arc = ManuallyDrop::new(arc);
    // SAFETY: it is moved out of what is not dropped.
    let memory = unsafe { ptr::read(&arc.0) };
    RawWaker::new(Memory::into_raw(memory).cast(), table::<W>())
}

fn table<W: Wake + Send + Sync + 'static>() -> &'static RawWakerVTable {
    /// # Safety
    ///
    /// The pointer comes from `raw`, and is the caller's to give.
    unsafe fn back<W>(data: *const ()) -> Arc<W> {
        // SAFETY: it comes from `Memory::into_raw`.
        Arc(unsafe { Memory::from_raw(data.cast()) })
    }
    // SAFETY (of all four): the pointer is what `raw` gave, to be used or given up as the table has it.
    &const {
        RawWakerVTable::new(
            |data| raw(Arc::clone(&ManuallyDrop::new(unsafe { back::<W>(data) }))),
            |data| unsafe { back::<W>(data) }.wake(),
            |data| ManuallyDrop::new(unsafe { back::<W>(data) }).wake_by_ref(),
            |data| drop(unsafe { back::<W>(data) }),
        )
    }
}
