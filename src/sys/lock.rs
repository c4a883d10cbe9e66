//! A lock that knows no poison.
//!
//! std's notes whether somebody has panicked under it, twelve instructions each time it is taken and
//! given back, and an echo takes four. Here the note would never be read: no foreign code runs
//! under a lock, and what a panic of our own leaves behind is whole.

use super::futex;
use std::cell::UnsafeCell;
use std::fmt;
use std::hint;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep for it.
const AWAITED: u32 = 2;

/// How often to look again before sleeping: locks are held for some dozens of instructions.
const SPINS: u32 = 100;

/// A value that one thread at a time can reach.
#[derive(Default)]
pub(crate) struct Lock<T> {
    state: State,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, which may take it out: it has to be `Send`.
// Nobody gets a reference to it that another thread has, so it need not be `Sync`.
unsafe impl<T: Send> Sync for Lock<T> {}

// As std's: what a panic leaves behind under a lock is for the next to cope with.
impl<T> UnwindSafe for Lock<T> {}
impl<T> RefUnwindSafe for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { state: State(AtomicU32::new(FREE)), value: UnsafeCell::new(value) }
    }

    /// Waits until the lock is free and takes it.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        if !self.state.take() {
            self.state.wait();
        }
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.state.take().then(|| Guard { lock: self })
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

/// Whether a lock is held. Apart from the value, so that there is one for all types.
#[derive(Default)]
struct State(AtomicU32);

impl State {
    #[inline]
    fn take(&self) -> bool {
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self) {
        for _ in 0..SPINS {
            match self.0.load(Ordering::Relaxed) {
                FREE if self.take() => return,
                // Somebody sleeps already: to spin would be to push in.
                AWAITED => break,
                _ => hint::spin_loop(),
            }
        }
        // Whoever comes from here takes the lock as awaited, for others may sleep, too.
        while self.0.swap(AWAITED, Ordering::Acquire) != FREE {
            futex::wait(&self.0, AWAITED);
        }
    }

    #[inline]
    fn give_back(&self) {
        if self.0.swap(FREE, Ordering::Release) == AWAITED {
            futex::wake_one(&self.0);
        }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// The value of a [`Lock`], as long as this lives.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

// SAFETY: to share the guard is to share the value and nothing else. (Without this line `T: Send`
// would do, by way of the lock.)
unsafe impl<T: Sync> Sync for Guard<'_, T> {}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held as long as the guard lives, so that nobody else has a reference.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard itself is borrowed for as long.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.state.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::{HELD, Lock, State};
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::Ordering;
    use std::sync::{Barrier, OnceLock};
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn one_at_a_time_counts_right() {
        const ROUNDS: usize = 20_000;
        let (lock, start) = (Lock::new(0), Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    (0..ROUNDS).for_each(|_| *lock.lock() += 1);
                });
            }
        });
        assert_eq!(lock.into_inner(), 4 * ROUNDS);
    }

    #[test]
    fn all_who_sleep_for_it_get_it() {
        let (lock, asleep) = (Lock::new(0), Barrier::new(4));
        let held = lock.lock();
        assert!(lock.try_lock().is_none());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    asleep.wait();
                    *lock.lock() += 1;
                });
            }
            asleep.wait();
            thread::sleep(Duration::from_millis(30));
            drop(held);
        });
        assert_eq!(lock.try_lock().map(|value| *value), Some(3));
    }

    #[test]
    fn who_waits_for_what_has_just_been_freed_takes_it_and_tells_of_no_sleeper() {
        let state = State::default();
        state.wait();
        assert_eq!(state.0.load(Ordering::Relaxed), HELD);
    }

    #[test]
    fn who_waits_long_sleeps() {
        let (lock, who) = (Lock::new(()), OnceLock::new());
        let held = lock.lock();
        thread::scope(|scope| {
            scope.spawn(|| {
                who.set(fs::read_link("/proc/thread-self").unwrap()).unwrap();
                drop(lock.lock());
            });
            let start = Instant::now();
            let sleeps = || {
                let stat = who.get().map(|who| Path::new("/proc").join(who).join("stat"));
                let stat = stat.and_then(|stat| fs::read_to_string(stat).ok());
                stat.is_some_and(|stat| stat.contains(") S "))
            };
            while !sleeps() {
                assert!(start.elapsed() < Duration::from_secs(20), "it never sleeps");
                thread::yield_now();
            }
            drop(held);
        });
    }

    #[test]
    fn a_panic_gives_it_back() {
        let lock = Lock::new(1);
        let panicked = std::panic::catch_unwind(|| {
            let _held = lock.lock();
            panic!("under the lock");
        });
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 1);
    }
}
