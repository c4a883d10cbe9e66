//! Wakers that count, and wakers that misbehave.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

/// Counts the wakes of the [`Waker`] made from it.
#[derive(Debug, Default)]
pub struct CountingWaker {
    wakes: AtomicUsize,
}

impl CountingWaker {
    /// The counter, and a waker to hand out.
    pub fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        let waker = Waker::from(Arc::clone(&counter));
        (counter, waker)
    }

    /// How often it has been woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    /// How many wakers there are, the one handed out included: who keeps a clone too long shows
    /// here.
    pub fn wakers(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once with a waker.
pub fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

/// Polls once with a waker that does nothing, and drops the future.
pub fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that does nothing.
pub fn noop_waker() -> Waker {
    Waker::noop().clone()
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// A waker whose clone, wake and drop run closures, which may panic, sleep or re-enter.
#[must_use = "`waker` makes the waker"]
#[derive(Default)]
pub struct Hostile {
    on_clone: Option<Hook>,
    on_wake: Option<Hook>,
    on_drop: Option<Hook>,
}

/// Begins a hostile waker; without any closure it does nothing.
pub fn hostile() -> Hostile {
    Hostile::default()
}

impl Hostile {
    /// Runs before each clone; if it panics there is no clone.
    pub fn on_clone(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_clone = Some(Box::new(hook));
        self
    }

    /// Runs at each wake, by value or by reference.
    pub fn on_wake(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_wake = Some(Box::new(hook));
        self
    }

    /// Runs at the drop of each clone, but not of one that a wake has used up.
    pub fn on_drop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Box::new(hook));
        self
    }

    /// The waker.
    pub fn waker(self) -> Waker {
        let data = Arc::into_raw(Arc::new(self)).cast();
        // SAFETY: the table's functions take the data as the Arc's pointer it is, each owning one
        // count.
        unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) }
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hostile")
    }
}

static TABLE: RawWakerVTable =
    RawWakerVTable::new(hostile_clone, hostile_wake, hostile_wake_by_ref, hostile_drop);

fn run(hook: Option<&Hook>) {
    if let Some(hook) = hook {
        hook();
    }
}

unsafe fn hostile_clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker being cloned holds a count, so the value lives.
    let hooks = unsafe { &*data.cast::<Hostile>() };
    run(hooks.on_clone.as_ref());
    // SAFETY: the pointer comes from `Arc::into_raw`, and the count is the clone's.
    unsafe { Arc::increment_strong_count(data.cast::<Hostile>()) };
    RawWaker::new(data, &TABLE)
}

unsafe fn hostile_wake(data: *const ()) {
    // SAFETY: the pointer comes from `Arc::into_raw`, and the waker gives its count away.
    let hooks = unsafe { Arc::from_raw(data.cast::<Hostile>()) };
    run(hooks.on_wake.as_ref());
}

unsafe fn hostile_wake_by_ref(data: *const ()) {
    // SAFETY: the waker holds a count, so the value lives.
    let hooks = unsafe { &*data.cast::<Hostile>() };
    run(hooks.on_wake.as_ref());
}

unsafe fn hostile_drop(data: *const ()) {
    // SAFETY: the pointer comes from `Arc::into_raw`, and the waker gives its count away.
    let hooks = unsafe { Arc::from_raw(data.cast::<Hostile>()) };
    run(hooks.on_drop.as_ref());
}

/// A waker that runs a closure when woken.
pub fn closure_waker(hook: impl Fn() + Send + Sync + 'static) -> Waker {
    hostile().on_wake(hook).waker()
}

/// A waker that panics when woken.
pub fn panics_on_wake() -> Waker {
    hostile().on_wake(|| panic!("a waker panics when woken")).waker()
}

/// A waker that panics when cloned.
pub fn panics_on_clone() -> Waker {
    hostile().on_clone(|| panic!("a waker panics when cloned")).waker()
}

/// A waker each of whose clones panics when dropped, unless its thread is panicking already.
pub fn panics_on_drop() -> Waker {
    let hook = || assert!(std::thread::panicking(), "a waker panics when dropped");
    hostile().on_drop(hook).waker()
}
