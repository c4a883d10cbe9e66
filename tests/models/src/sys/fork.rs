//! Nobody forks, and what is one per process is made anew in each run.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) fn process_id() -> usize {
    1
}

pub(crate) struct PerProcess<T: 'static>(AtomicUsize, PhantomData<fn() -> T>);

impl<T: Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::fixed(0), PhantomData)
    }

    pub(crate) fn get(&self) -> Option<&'static T> {
        Self::at(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn get_or_make<E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'static T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let made = std::ptr::from_ref::<T>(Box::leak(Box::new(make()?))) as usize;
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let first = self.0.compare_exchange(0, made, success, failure);
        Ok(Self::at(first.map_or_else(|first| first, |_| made)).expect("it is made"))
    }

    fn at(place: usize) -> Option<&'static T> {
        // SAFETY: the address comes from a leaked box.
        (place != 0).then(|| unsafe { &*(place as *const T) })
    }
}
