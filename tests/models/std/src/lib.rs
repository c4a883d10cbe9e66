//! What the modelled sources take for std: all of it, but for what threads share.
//!
//! The root of the models says `extern crate model_std as std`, so that a source's own
//! `use std::sync::atomic::…` finds what stands here, and not a letter of the source has to be
//! changed. `model` runs a model, and `kernel` stands for the kernel.
#![feature(arbitrary_self_types)]

pub use std::*;

mod atomics;
mod cells;
mod clock;
mod counted;
pub mod kernel;
mod locals;
pub mod memory;
pub mod model;

pub use locals::LocalKey;

pub mod alloc {
    pub use crate::memory::dealloc;
    pub use std::alloc::*;
}

pub mod cell {
    pub use crate::cells::{Looked, UnsafeCell};
    pub use std::cell::*;
}

pub mod hint {
    pub use crate::model::yield_now as spin_loop;
    pub use std::hint::*;
}

pub mod sync {
    pub use crate::counted::{Arc, Weak};
    pub use std::sync::*;

    pub mod atomic {
        pub use crate::atomics::*;
        pub use std::sync::atomic::Ordering;
    }
}

/// std's own, for what the model is not to see.
pub mod plain {
    pub use std::sync::Arc;
    pub use std::task::Wake;
}

pub mod task {
    pub use crate::counted::Wake;
    pub use std::task::*;
}

pub mod os {
    pub use std::os::*;

    pub use crate::kernel::fd;
}

pub mod time {
    pub use crate::clock::Instant;
    pub use std::time::*;
}
