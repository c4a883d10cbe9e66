//! A cell that finds out whether two threads reach it at once.

use crate::memory;
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
        memory::look_at(std::ptr::from_ref(self) as usize);
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

/// What many may look at from when it was made until it is dropped: both must be ordered with all looks.
pub struct Looked(Access);

// SAFETY: there is nothing in it but what the model notes.
unsafe impl Sync for Looked {}

impl Default for Looked {
    fn default() -> Self {
        let this = Self(Access::default());
        this.0.note();
        this
    }
}

impl Looked {
    pub fn look(&self) {
        memory::look_at(std::ptr::from_ref(self) as usize);
        self.0.note_look();
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        self.0.note();
    }
}
