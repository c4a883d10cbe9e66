//! Thread-locals of the model's threads, which are all one thread of the process.
//!
//! As std's: those that need no destructor can be used until the end, and destructors run in the
//! opposite order of the first uses.

use crate::model::{ThreadKey, this_thread};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Mutex;

pub struct LocalKey<T: 'static> {
    make: fn() -> T,
    places: Mutex<BTreeMap<ThreadKey, Place>>,
    _value: std::marker::PhantomData<fn() -> T>,
}

/// Says that a thread-local is destroyed already.
#[derive(Clone, Copy, Debug)]
pub struct AccessError;

/// The address of a value, or zero once it was destroyed.
type Place = usize;

type Actions = Vec<Box<dyn FnOnce() + Send>>;

static DESTRUCTORS: Mutex<BTreeMap<ThreadKey, Actions>> = Mutex::new(BTreeMap::new());
/// What forgets the places of threads that have ended.
static LEFT: Mutex<Actions> = Mutex::new(Vec::new());

impl<T: 'static> LocalKey<T> {
    pub const fn new(make: fn() -> T) -> Self {
        Self { make, places: Mutex::new(BTreeMap::new()), _value: std::marker::PhantomData }
    }

    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).expect("a thread-local that is destroyed already")
    }

    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let key = this_thread();
        let known = self.places.lock().unwrap().get(&key).copied();
        let place = known.unwrap_or_else(|| self.make(key));
        if place == 0 {
            return Err(AccessError);
        }
        // SAFETY: the address comes from a box that is dropped by this thread's end only, which
        // puts a zero in its place before.
        Ok(f(unsafe { &*(place as *const T) }))
    }

    fn make(&'static self, key: ThreadKey) -> Place {
        let place = Box::into_raw(Box::new((self.make)())) as Place;
        self.places.lock().unwrap().insert(key, place);
        let destroy = move || {
            let after = if mem::needs_drop::<T>() { 0 } else { place };
            self.places.lock().unwrap().insert(key, after);
            if after == 0 {
                // SAFETY: the address comes from the box above, and is no longer to be found.
                drop(unsafe { Box::from_raw(place as *mut T) });
            }
        };
        LEFT.lock().unwrap().push(Box::new(move || {
            let place = self.places.lock().unwrap().remove(&key).unwrap_or(0);
            if place != 0 && !mem::needs_drop::<T>() {
                // SAFETY: the address comes from the box above, and is no longer to be found.
                drop(unsafe { Box::from_raw(place as *mut T) });
            }
        }));
        DESTRUCTORS.lock().unwrap().entry(key).or_default().push(Box::new(destroy));
        place
    }
}

/// Runs the destructors of the thread that ends.
pub(crate) fn destroy() {
    let next = || DESTRUCTORS.lock().unwrap().get_mut(&this_thread()).and_then(Vec::pop);
    while let Some(destroy) = next() {
        destroy();
    }
}

/// Forgets what the last run has left.
pub(crate) fn reset() {
    DESTRUCTORS.lock().unwrap().clear();
    let left = mem::take(&mut *LEFT.lock().unwrap());
    left.into_iter().for_each(|forget| forget());
}

impl<T: 'static> LocalKey<Cell<T>> {
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }
}

#[macro_export]
macro_rules! thread_local {
    () => {};
    ($(#[$a:meta])* $v:vis static $name:ident: $t:ty = const { $value:expr }; $($rest:tt)*) => {
        $(#[$a])* $v static $name: $crate::LocalKey<$t> = $crate::LocalKey::new(|| $value);
        $crate::thread_local!($($rest)*);
    };
    ($(#[$a:meta])* $v:vis static $name:ident: $t:ty = const { $value:expr }) => {
        $crate::thread_local!($(#[$a])* $v static $name: $t = const { $value };);
    };
    ($(#[$a:meta])* $v:vis static $name:ident: $t:ty = $value:expr; $($rest:tt)*) => {
        $crate::thread_local!($(#[$a])* $v static $name: $t = const { $value }; $($rest)*);
    };
}
