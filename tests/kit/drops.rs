//! Values that must be dropped once, and on their own thread.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// What became of the values it has made. Clones share one log; it may be asked from any thread.
#[derive(Clone, Debug, Default)]
pub struct DropLog {
    slots: Arc<Mutex<Vec<&'static Slot>>>,
}

/// The life of one value. It is never freed, so that a second drop, which no language promises
/// anything about, finds at least its count.
#[derive(Debug)]
struct Slot {
    home: ThreadId,
    drops: AtomicUsize,
    foreign: AtomicUsize,
}

/// All that were ever made, so that who looks for leaks finds them known.
static KEPT: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

/// A `!Send` value that tells its log where and how often it is dropped.
#[derive(Debug)]
pub struct DropCheck {
    slot: &'static Slot,
    not_send: PhantomData<*const ()>,
}

impl DropLog {
    pub fn new() -> Self {
        Self::default()
    }

    /// A new value that belongs to the calling thread.
    pub fn check(&self) -> DropCheck {
        let slot: &'static Slot = Box::leak(Box::new(Slot {
            home: thread::current().id(),
            drops: AtomicUsize::new(0),
            foreign: AtomicUsize::new(0),
        }));
        KEPT.lock().unwrap().push(slot);
        self.slots.lock().unwrap().push(slot);
        DropCheck { slot, not_send: PhantomData }
    }

    /// Values made.
    pub fn made(&self) -> usize {
        self.count(|_| true)
    }

    /// Values not dropped so far.
    pub fn living(&self) -> usize {
        self.count(|slot| slot.drops.load(Ordering::SeqCst) == 0)
    }

    /// Values dropped at least once.
    pub fn dropped(&self) -> usize {
        self.made() - self.living()
    }

    /// Values dropped more than once.
    pub fn dropped_twice(&self) -> usize {
        self.count(|slot| slot.drops.load(Ordering::SeqCst) > 1)
    }

    /// Values dropped on another thread than their own.
    pub fn dropped_abroad(&self) -> usize {
        self.count(|slot| slot.foreign.load(Ordering::SeqCst) > 0)
    }

    /// Asserts that every value has been dropped once, at home.
    #[track_caller]
    pub fn assert_all_dropped(&self) {
        assert_eq!(self.living(), 0, "values never dropped");
        self.assert_no_fault();
    }

    /// Asserts that no value has been dropped twice or abroad; some may still live.
    #[track_caller]
    pub fn assert_no_fault(&self) {
        assert_eq!(self.dropped_twice(), 0, "values dropped twice");
        assert_eq!(self.dropped_abroad(), 0, "values dropped on another thread");
    }

    fn count(&self, which: impl Fn(&Slot) -> bool) -> usize {
        let slots = self.slots.lock().unwrap();
        slots.iter().filter(|slot| which(slot)).count()
    }
}

impl Drop for DropCheck {
    fn drop(&mut self) {
        self.slot.drops.fetch_add(1, Ordering::SeqCst);
        // A thread-local's destructor may run when the thread's handle is gone; its id is still
        // right.
        if thread::current().id() != self.slot.home {
            self.slot.foreign.fetch_add(1, Ordering::SeqCst);
        }
    }
}
