//! The modelled kernel's futex.

use std::sync::atomic::AtomicU32;

pub(super) fn wait(word: &AtomicU32, value: u32) {
    std::kernel::futex_wait(word, value);
}

pub(super) fn wake_one(word: &AtomicU32) {
    std::kernel::futex_wake_one(word);
}
