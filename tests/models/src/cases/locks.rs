//! The lock itself, which has another in its place elsewhere.

use super::{Case, case};
use crate::sys::lock_itself::Lock;
use std::model;
use std::plain::Arc;

pub(super) fn all() -> Vec<Case> {
    vec![case("lock", 3, 4000, lock)]
}

/// Three threads take it, and see each other's change.
fn lock() {
    let lock = Arc::new(Lock::new(0));
    let change = |lock: &Lock<usize>| *lock.lock() += 1;
    let threads = [(); 2].map(|()| {
        let lock = Arc::clone(&lock);
        model::spawn(move || change(&lock))
    });
    change(&lock);
    threads.map(|thread| thread.join().unwrap());
    assert_eq!(*lock.lock(), 3);
}
