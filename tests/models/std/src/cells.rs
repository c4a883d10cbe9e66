//! A cell that finds out whether two threads reach it at once.

use crate::model::backend::Access;
use std::cell::UnsafeCell as Plain;

/// Each [`get`](Self::get) counts as one moment in which the value is changed: it must come before
/// or after all others.
#[derive(Default)]
pub struct UnsafeCell<T> {
    access: Access,
    value: Plain<T>,
}

impl<T> UnsafeCell<T> {
    pub fn new(value: T) -> Self {
        Self { access: Access::default(), value: Plain::new(value) }
    }

    pub fn get(&self) -> *mut T {
        self.access.note();
        self.value.get()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}
