//! `Async` as far as its operations need it.

#[path = "../target/house/io/operation.rs"]
pub(crate) mod operation;

use crate::reactor::{Direction, Source, Waiter};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

pub struct Async<T> {
    registration: Registration,
    io: T,
}

struct Registration(Arc<Source>);

impl Drop for Registration {
    fn drop(&mut self) {
        drop(self.0.leave());
    }
}

impl<T: AsFd> Async<T> {
    pub fn new_nonblocking(io: T) -> Self {
        Async { registration: Registration(Arc::new(Source::new(&io))), io }
    }
}

impl<T> Async<T> {
    fn source(&self) -> &Arc<Source> {
        &self.registration.0
    }

    pub fn get_ref(&self) -> &T {
        &self.io
    }

    pub(crate) fn waiter(&self, direction: Direction) -> Waiter<'_> {
        self.source().waiter(direction)
    }
}

impl<T: fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Async").finish_non_exhaustive()
    }
}
