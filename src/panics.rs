//! Running foreign code, wakers and destructors, so that its panics disturb nothing else.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::task::Waker;
use std::thread;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send + 'static>;

/// Runs pieces of foreign code one after the other, whichever of them panic, and keeps the first
/// panic for later.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Payload>);

impl FirstPanic {
    #[inline]
    pub(crate) fn note(&mut self, foreign: impl FnOnce()) {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(foreign)) {
            self.keep(payload);
        }
    }

    #[cold]
    fn keep(&mut self, payload: Payload) {
        let later = if self.0.is_none() { self.0.replace(payload) } else { Some(payload) };
        FirstPanic(later).forget();
    }

    /// Lets the panic go on, now that everything is in order. A thread that is panicking already
    /// keeps the panic it has.
    #[inline]
    pub(crate) fn resume(self) {
        if self.0.is_some() {
            self.resume_now();
        }
    }

    #[cold]
    fn resume_now(self) {
        if thread::panicking() {
            return self.forget();
        }
        if let Some(payload) = self.0 {
            panic::resume_unwind(payload);
        }
    }

    /// Drops the payload, which is foreign code as well: if that panics in its turn, what it
    /// carries is leaked.
    pub(crate) fn forget(self) {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(self.0))) {
            mem::forget(payload);
        }
    }
}

impl From<Payload> for FirstPanic {
    fn from(payload: Payload) -> Self {
        FirstPanic(Some(payload))
    }
}

/// Wakes them all, and lets the first panic go on after the last.
#[inline]
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    let mut panics = FirstPanic::default();
    for waker in wakers {
        panics.note(|| waker.wake());
    }
    panics.resume();
}
