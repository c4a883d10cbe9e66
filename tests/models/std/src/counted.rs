//! An `Arc` whose count the model sees: each clone and each drop is a place where threads may be
//! switched, and orders them as std's does, and no more.

use crate::atomics::{AtomicUsize, fence};
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::Arc as Memory;
use std::sync::atomic::Ordering;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// The value stands first, so that a pointer to it is one to the whole.
#[repr(C)]
struct Shared<T> {
    value: UnsafeCell<MaybeUninit<T>>,
    count: AtomicUsize,
    /// Whether there is a value.
    is_there: Cell<bool>,
}

impl<T> Shared<T> {
    fn new(count: usize) -> Memory<Self> {
        Memory::new(Shared {
            value: UnsafeCell::new(MaybeUninit::uninit()),
            count: AtomicUsize::new(count),
            is_there: Cell::new(false),
        })
    }

    /// # Safety
    ///
    /// There is no value yet, and nobody else reaches its place.
    unsafe fn set(&self, value: T) {
        // SAFETY: as the caller says.
        unsafe { &mut *self.value.get() }.write(value);
        self.is_there.set(true);
    }

    fn get(&self) -> *mut T {
        assert!(self.is_there.get(), "it is counted");
        self.value.get().cast()
    }
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
        let memory = Shared::new(1);
        // SAFETY: it is new.
        unsafe { memory.set(value) };
        Self(memory)
    }

    pub fn into_raw(this: Self) -> *const T {
        let this = ManuallyDrop::new(this);
        // SAFETY: it is moved out of what is not dropped.
        Memory::into_raw(unsafe { ptr::read(&this.0) }).cast()
    }

    /// # Safety
    ///
    /// As std's.
    pub unsafe fn from_raw(value: *const T) -> Self {
        // SAFETY: it comes from `into_raw`, and the value stands first.
        Self(unsafe { Memory::from_raw(value.cast()) })
    }

    pub fn new_cyclic(make: impl FnOnce(&Weak<T>) -> T) -> Self {
        let memory = Shared::new(0);
        let weak = Weak(Some(Memory::clone(&memory)));
        let value = make(&weak);
        // SAFETY: nobody reaches the value while the count is zero.
        unsafe { memory.set(value) };
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
        unsafe { &*self.0.get() }
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
            let value = self.0.get();
            self.0.is_there.set(false);
            // SAFETY: and it is dropped once.
            unsafe { value.drop_in_place() };
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
    RawWaker::new(Arc::into_raw(arc).cast(), table::<W>())
}

fn table<W: Wake + Send + Sync + 'static>() -> &'static RawWakerVTable {
    /// # Safety
    ///
    /// The pointer comes from `raw`, and is the caller's to give.
    unsafe fn back<W>(data: *const ()) -> Arc<W> {
        // SAFETY: it comes from `Arc::into_raw`.
        unsafe { Arc::from_raw(data.cast()) }
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
