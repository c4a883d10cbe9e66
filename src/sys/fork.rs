//! The number of this process, which a forked child does not share.
//!
//! A child of `fork(2)` has copies of everything: an epoll set that it changes is its parent's too.
//! So whoever owns such an object remembers which process made it. `getpid(2)` does not tell: in a
//! new pid namespace parent and child may both be process 1. A page under `MADV_WIPEONFORK` (Linux
//! 4.14) does: the kernel hands it to the child filled with zeros, without being asked.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The kernel rounds this up to a whole page.
const PAGE: usize = 4096;

/// The word in the wiped page (a `usize`, because some 32-bit machines have no atomics of 64 bits):
/// the number of the process, or zero in a child that has not asked yet.
static WORD: OnceLock<Option<&'static AtomicUsize>> = OnceLock::new();

/// The next number. Not wiped: a child continues where its parent stood, so it never has the number
/// of one of its ancestors.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Returns a number, never zero, that differs between a process and each of its ancestors.
#[inline]
pub(crate) fn process_id() -> usize {
    match WORD.get() {
        Some(Some(word)) => match word.load(Ordering::Relaxed) {
            0 => give_number(word),
            id => id,
        },
        _ => first_process_id(),
    }
}

/// As [`process_id`], where the page is not mapped yet or cannot be.
#[cold]
fn first_process_id() -> usize {
    match *WORD.get_or_init(map_word) {
        Some(word) => give_number(word),
        None => std::process::id() as usize,
    }
}

/// Gives this process its number; of several threads that try at once, all return the first one's.
#[cold]
fn give_number(word: &AtomicUsize) -> usize {
    let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
    match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(first) => first,
    }
}

/// Maps the page; `None` where the kernel or a sandbox refuses, and then `getpid` has to do.
#[cold]
fn map_word() -> Option<&'static AtomicUsize> {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that is
    // in use.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the page was mapped above, is ours alone, and holds nothing yet that could be wiped.
    if unsafe { libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: the page was mapped above, with this length, and no reference to it exists.
        unsafe { libc::munmap(page, PAGE) };
        return None;
    }
    // SAFETY: the page is aligned, filled with zeros, never unmapped from here on, and only used
    // through this atomic.
    Some(unsafe { AtomicUsize::from_ptr(page.cast()) })
}

/// One value per process, made on first use and never freed: a forked child makes its own. So no
/// child waits for a lock that another thread held at the fork, or writes to what is its parent's.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Owned<T>>);

struct Owned<T> {
    process: usize,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns this process's value, if there is one. Async-signal-safe.
    pub(crate) fn get(&self) -> Option<&'static T> {
        Self::of_this_process(self.0.load(Ordering::Acquire))
    }

    /// Returns this process's value, made now if there is none. Of several threads that try at
    /// once, all return the first one's.
    pub(crate) fn get_or_make<E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'static T, E> {
        let mut known = self.0.load(Ordering::Acquire);
        if let Some(value) = Self::of_this_process(known) {
            return Ok(value);
        }
        let fresh = Box::into_raw(Box::new(Owned { process: process_id(), value: make()? }));
        loop {
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            let Err(first) = self.0.compare_exchange(known, fresh, success, failure) else {
                // SAFETY: the pointer comes from the box above, which from now on is neither
                // changed nor freed.
                return Ok(unsafe { &(*fresh).value });
            };
            known = first;
            if let Some(value) = Self::of_this_process(known) {
                // SAFETY: the pointer comes from the box above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                return Ok(value);
            }
        }
    }

    fn of_this_process(pointer: *mut Owned<T>) -> Option<&'static T> {
        // SAFETY: the pointer is null, or comes from a box that is neither changed nor freed from
        // the moment it stands in the atomic.
        let owned = unsafe { pointer.as_ref() }?;
        (owned.process == process_id()).then_some(&owned.value)
    }
}
