//! Atomics that the model sees. Those in statics, which are told by `fixed`, are made anew in each
//! run, before any other thread is there.
//!
//! loom treats an access that is sequentially consistent as one that acquires and releases, and
//! knows the fence only. So a fence is put where such a store is followed by such a load of the same
//! thread: of all that these accesses promise, that is what nothing else does.

use crate::memory;
use crate::model::{ThreadKey, backend, run, this_thread};
use std::cell::UnsafeCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

pub use crate::model::backend::fence;

/// The statics that are known, and how to make them.
static FIXED: Mutex<BTreeMap<usize, fn(usize)>> = Mutex::new(BTreeMap::new());

/// Makes the statics for a run that begins.
pub(crate) fn reset() {
    UNFENCED.lock().unwrap().clear();
    FIXED.lock().unwrap().iter().for_each(|(place, make)| make(*place));
}

/// The threads whose last store that is sequentially consistent was followed by no fence yet.
static UNFENCED: Mutex<BTreeSet<ThreadKey>> = Mutex::new(BTreeSet::new());

fn before_load(order: Ordering) -> Ordering {
    if cfg!(feature = "loom") && order == Ordering::SeqCst {
        let unfenced = UNFENCED.lock().unwrap().remove(&this_thread());
        if unfenced {
            fence(Ordering::SeqCst);
        }
    }
    order
}

fn after_store(order: Ordering) {
    if cfg!(feature = "loom") && order == Ordering::SeqCst {
        UNFENCED.lock().unwrap().insert(this_thread());
    }
}

/// loom remembers one access to an object, the last. So a thread that looks before it changes would hide
/// from it that another has looked before: hence looks are told to it as what depends on each other.
#[cfg(feature = "loom")]
#[derive(Default)]
struct Loads(backend::AtomicUsize);

#[cfg(feature = "loom")]
impl Loads {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(not(feature = "loom"))]
#[derive(Default)]
struct Loads;

#[cfg(not(feature = "loom"))]
impl Loads {
    fn note(&self) {}
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        pub struct $name {
            made: UnsafeCell<Option<(u64, backend::$name, Loads)>>,
            /// The value that was stored last.
            latest: UnsafeCell<$value>,
            initial: $value,
        }

        // SAFETY: one thread of a model runs at a time, and none is switched in these functions but
        // in the calls of the backend, during which no reference to a value is held.
        unsafe impl Sync for $name {}

        impl $name {
            pub fn new(initial: $value) -> Self {
                let this = Self::fixed(initial);
                this.make();
                this
            }

            /// One in a static.
            pub const fn fixed(initial: $value) -> Self {
                Self { made: UnsafeCell::new(None), latest: UnsafeCell::new(initial), initial }
            }

            fn make(&self) {
                // SAFETY: see `Sync`.
                let made = unsafe { &mut *self.made.get() };
                self.note(self.initial);
                *made = Some((run(), backend::$name::new(self.initial), Loads::default()));
            }

            fn backend(&self) -> &backend::$name {
                self.backends().0
            }

            fn backends(&self) -> (&backend::$name, &Loads) {
                memory::look_at(std::ptr::from_ref(self) as usize);
                // SAFETY: see `Sync`.
                match unsafe { &*self.made.get() } {
                    Some((made_in, it, loads)) if *made_in == run() => (it, loads),
                    _ => {
                        let place = std::ptr::from_ref(self) as usize;
                        // SAFETY: it is in a static, for all others are made in time.
                        FIXED
                            .lock()
                            .unwrap()
                            .insert(place, |at| unsafe { &*(at as *const Self) }.make());
                        self.make();
                        self.backends()
                    }
                }
            }

            fn note(&self, value: $value) {
                // SAFETY: see `Sync`.
                unsafe { *self.latest.get() = value };
            }

            /// The value that was stored last (loom switches before an access only, so that it is
            /// noted in time), whoever may see it.
            pub(crate) fn latest(&self) -> $value {
                #[cfg(feature = "shuttle")]
                // SAFETY: it is no more than a look at what stands there.
                return unsafe { self.backend().raw_load() };
                // SAFETY: see `Sync`.
                #[cfg(not(feature = "shuttle"))]
                unsafe {
                    *self.latest.get()
                }
            }

            /// For the last owner: it is not to be shared afterwards.
            pub fn get_mut(&mut self) -> &mut $value {
                #[cfg(feature = "shuttle")]
                if self.made.get_mut().is_some() {
                    *self.latest.get_mut() = self.latest();
                }
                self.latest.get_mut()
            }

            pub fn load(&self, order: Ordering) -> $value {
                let (backend, loads) = self.backends();
                loads.note();
                backend.load(before_load(order))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.backend().store(value, order);
                self.note(value);
                after_store(order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                let former = self.backend().swap(value, before_load(order));
                self.note(value);
                after_store(order);
                former
            }

            pub fn compare_exchange(
                &self,
                known: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                before_load(success);
                let result = self.backend().compare_exchange(known, new, success, failure);
                if result.is_ok() {
                    self.note(new);
                    after_store(success);
                }
                result
            }

            pub fn compare_exchange_weak(
                &self,
                known: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(known, new, success, failure)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(Default::default())
            }
        }
    };
}

macro_rules! arithmetic {
    ($name:ident, $value:ty, $($method:ident: $operation:expr,)*) => {
        atomic!($name, $value);

        impl $name {
            $(
                pub fn $method(&self, value: $value, order: Ordering) -> $value {
                    let former = self.backend().$method(value, before_load(order));
                    let operation: fn($value, $value) -> $value = $operation;
                    self.note(operation(former, value));
                    after_store(order);
                    former
                }
            )*
        }
    };
    ($($name:ident: $value:ty;)*) => {
        $(arithmetic! {
            $name, $value,
            fetch_add: <$value>::wrapping_add,
            fetch_sub: <$value>::wrapping_sub,
            fetch_or: |a, b| a | b,
            fetch_and: |a, b| a & b,
        })*
    };
}

arithmetic! {
    AtomicU8: u8;
    AtomicU32: u32;
    AtomicU64: u64;
    AtomicUsize: usize;
    AtomicI32: i32;
}

atomic!(AtomicBool, bool);

/// By its address alone.
pub struct AtomicPtr<T>(AtomicUsize, PhantomData<*mut T>);

// SAFETY: as std's.
unsafe impl<T> Send for AtomicPtr<T> {}
// SAFETY: as std's.
unsafe impl<T> Sync for AtomicPtr<T> {}

impl<T> AtomicPtr<T> {
    pub fn new(initial: *mut T) -> Self {
        Self(AtomicUsize::new(initial.expose_provenance()), PhantomData)
    }

    pub fn get_mut(&mut self) -> &mut *mut T {
        // SAFETY: a pointer is as large, and any address may stand in one.
        unsafe { &mut *std::ptr::from_mut(self.0.get_mut()).cast() }
    }

    pub fn load(&self, order: Ordering) -> *mut T {
        std::ptr::with_exposed_provenance_mut(self.0.load(order))
    }

    pub fn compare_exchange(
        &self,
        known: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        let (known, new) = (known.expose_provenance(), new.expose_provenance());
        self.0
            .compare_exchange(known, new, success, failure)
            .map(std::ptr::with_exposed_provenance_mut)
            .map_err(std::ptr::with_exposed_provenance_mut)
    }
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}
