//! The reactor: descriptors and deadlines to wakers. `turn` is the only place of the runtime that
//! waits.
//!
//! Each thread has one, made on first use, and held by every object that is registered with it. It
//! knows wakers, not tasks.
//!
//! # Locks
//!
//! A source's lock comes first, then at most one selector's. `turn`, which has locked the selector,
//! only tries a source's lock; a source that somebody else has locked is seen to when the selector
//! is free again. Timers need none: their queue is the thread's alone, and what other threads want of
//! it they leave in a list, whose lock is never held together with another. No foreign code (waking,
//! cloning or dropping a waker) runs under any of them, or while the queue is borrowed.

mod alarm;
mod line;
mod queue;
mod slack;
mod source;
mod spin;
mod timers;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, Write};
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) use alarm::Alarm;
pub(crate) use line::{Direction, Parked};
pub(crate) use queue::next_deadline;
pub(crate) use slack::{SlackScope, with_former_slack};
pub(crate) use source::{Source, Waiter};
use spin::Spinning;
pub(crate) use spin::spins;
pub use spin::{Spin, spin};

use crate::panics::wake_all;
use crate::selector::{Events, Poller, RawEvents, Reported, Selector};
use crate::sys::event_fd::EventFd;
use crate::sys::fork::PerProcess;
use crate::sys::lock::{Guard, Lock};

/// How many events one wait may bring. More wait for the next turn.
const EVENTS_PER_TURN: usize = 256;

/// How many I/O operations a task may do in one poll before it must let the others run.
const BUDGET: u32 = 128;

/// One thread's reactor.
pub(crate) struct Reactor {
    /// Tells reactors apart in what waiters remember, never zero. Unlike an address it is not used
    /// again soon.
    id: u32,
    poller: Poller,
    selector: Lock<Selector<Arc<Source>>>,
    /// Registered edge-triggered and never read: every write is an edge of its own.
    wakeup: Arc<EventFd>,
    /// How many of `block_on` and the like there are on the thread. Written by that thread alone.
    driven: AtomicUsize,
    /// Set before a waiter from another thread relies on `driven`.
    lends: AtomicBool,
    /// How many sources are registered, or more: only their waiters rely on `driven`. Written under
    /// the selector's lock. It grows on this thread only, which therefore never takes it for zero
    /// when it is not.
    watched: AtomicUsize,
}

thread_local! {
    /// This thread's reactor. It has no destructor, so that it can be asked while other
    /// thread-locals are destroyed; `RELEASE` has one.
    static CURRENT: ManuallyDrop<RefCell<Option<Arc<Reactor>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    static RELEASE: Release = const { Release };
    /// The id of this thread's reactor while it is driven, else zero: what `CURRENT` and the
    /// reactor say, at one look.
    static DRIVEN: Cell<u32> = const { Cell::new(0) };
    static BUDGET_LEFT: Cell<u32> = const { Cell::new(BUDGET) };
}

/// Lets go of the thread's reactor when the thread ends.
struct Release;

impl Drop for Release {
    fn drop(&mut self) {
        let reactor = CURRENT.with(|current| current.take());
        queue::close();
        note_driven();
        drop(reactor);
    }
}

impl Reactor {
    fn new() -> Result<Arc<Self>, Refused> {
        static IDS: AtomicU32 = AtomicU32::new(1);
        let mut selector = Selector::new().map_err(Refused::by("epoll_create1"))?;
        let wakeup = EventFd::new().map_err(Refused::by("eventfd"))?;
        let own = Arc::new(Source::new(&wakeup));
        selector
            .register_handle(&wakeup, Events::READ | Events::EDGE, own)
            .map_err(Refused::by("epoll_ctl"))?;
        Ok(Arc::new(Reactor {
            id: IDS.fetch_add(1, Ordering::Relaxed).max(1),
            poller: selector.poller(),
            selector: Lock::new(selector),
            wakeup: Arc::new(wakeup),
            driven: AtomicUsize::new(0),
            lends: AtomicBool::new(false),
            watched: AtomicUsize::new(0),
        }))
    }

    /// Does something with the reactor of this thread, which is made now if it is the first time.
    /// It must not run foreign code.
    ///
    /// Fails when the kernel refuses a descriptor, and when the thread is ending and nothing could
    /// drive the reactor any more.
    #[inline]
    fn with_current<R>(f: impl FnOnce(&Arc<Reactor>) -> R) -> io::Result<R> {
        CURRENT.with(|current| {
            if let Some(reactor) = &*current.borrow() {
                return Ok(f(reactor));
            }
            if thread_is_ending() {
                return Err(io::Error::other(
                    "the thread is ending: nothing will wait for its objects any more",
                ));
            }
            let reactor = Self::install()?;
            Ok(f(&reactor))
        })
    }

    fn install() -> Result<Arc<Self>, Refused> {
        let reactor = Self::new()?;
        queue::open();
        let former = CURRENT.with(|current| current.replace(Some(Arc::clone(&reactor))));
        note_driven();
        drop(former);
        Ok(reactor)
    }

    #[inline]
    fn is_current(self: &Arc<Self>) -> bool {
        CURRENT.with(|current| current.borrow().as_ref().is_some_and(|it| Arc::ptr_eq(it, self)))
    }

    fn selector(&self) -> Guard<'_, Selector<Arc<Source>>> {
        self.selector.lock()
    }

    /// What ends the wait that goes on, or the next one.
    pub(crate) fn wakeup(&self) -> &Arc<EventFd> {
        &self.wakeup
    }

    /// Waits until something is ready, a deadline has come or `limit` has passed, and gathers the
    /// wakers of what is. Wakes nothing. `may_rest` says, where the thread spins, whether it may go
    /// on, and is told so before it sleeps; see [`spins`]. For who drives it.
    #[inline(always)]
    pub(crate) fn turn(
        &self,
        limit: Option<Duration>,
        turn: &mut Turn,
        may_rest: impl Fn(bool) -> bool,
    ) -> io::Result<()> {
        // Only this thread adds deadlines, so none can come while it waits.
        let timed = !queue::is_empty();
        let timeout = if timed { queue::bound(limit, &mut turn.let_go) } else { limit };
        self.wait(timeout, &mut turn.events, may_rest)?;
        self.collect(turn);
        if timed {
            queue::take_due(&mut turn.woken, &mut turn.let_go);
        }
        Ok(())
    }

    /// Waits for events. If the thread is to spin, it looks for them again and again before.
    #[inline]
    fn wait(
        &self,
        timeout: Option<Duration>,
        events: &mut RawEvents,
        may_rest: impl Fn(bool) -> bool,
    ) -> io::Result<()> {
        match spin::before(timeout) {
            None => self.poller.wait_anew(timeout, events),
            Some(spinning) => self.spin(&spinning, events, may_rest),
        }
    }

    #[cold]
    fn spin(
        &self,
        spinning: &Spinning,
        events: &mut RawEvents,
        may_rest: impl Fn(bool) -> bool,
    ) -> io::Result<()> {
        loop {
            if spin::looks_first(|| !may_rest(false)) {
                return Ok(());
            }
            self.poller.wait(Some(Duration::ZERO), events)?;
            let over = spinning.is_over();
            if !events.is_empty() || !may_rest(over) {
                spin::note_end(events.is_empty());
                return Ok(());
            }
            if over {
                return self.poller.wait(spinning.left(), events);
            }
        }
    }

    /// Gathers the wakers of what the wait has found. A function of its own, for the loop's sake: in
    /// line it would want registers that `turn` has taken.
    #[inline(never)]
    fn collect(&self, turn: &mut Turn) {
        let Turn { events, busy, woken, .. } = turn;
        self.selector().take_each(events, |reported, source| {
            // Not to be waited for here, where the selector is locked: who has locked the source
            // may want the selector.
            if !source.try_collect(reported, woken) {
                put_off(busy, source, reported);
            }
        });
        if !busy.is_empty() {
            busy.drain(..).for_each(|(source, reported)| source.collect(reported, woken));
        }
    }

    fn register(&self, source: &Arc<Source>) -> io::Result<()> {
        if !self.poller.is_ours() {
            return Err(io::Error::other(
                "the process has forked: only a `block_on` in the child can wait here",
            ));
        }
        let events = Events::READ | Events::WRITE | Events::PRIORITY | Events::EDGE;
        let mut selector = self.selector();
        selector.register_number(source.fd(), events, Arc::clone(source))?;
        self.watched.store(self.watched.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(())
    }

    fn unregister(&self, fd: RawFd) {
        if !self.poller.is_ours() {
            // A forked child: the selector's lock may have been held at the fork, and would be for
            // ever.
            return;
        }
        let mut selector = self.selector();
        let source = selector.unregister(fd);
        if source.is_ok() {
            self.watched.store(self.watched.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
        drop(selector);
        // Dropped after the lock. An error means that the descriptor was closed behind our back:
        // there is nothing left to undo.
        drop(source);
    }

    /// Takes the word of a waiter from another thread that this reactor will wake it: true while it
    /// is driven.
    fn lend(&self) -> bool {
        // In this order, and the other way round in `end_drive`: either the waiter is told no, or
        // it is found.
        self.lends.store(true, Ordering::SeqCst);
        self.is_driven()
    }

    #[inline]
    fn is_driven(&self) -> bool {
        self.driven.load(Ordering::SeqCst) > 0
    }

    /// Whether it is this thread's, and driven.
    #[inline]
    fn is_driven_here(&self) -> bool {
        DRIVEN.get() == self.id
    }

    /// Says that one less waits here. True if it was the last one, and waiters from other threads may
    /// have relied on it.
    #[inline]
    fn end_drive(&self) -> bool {
        let left = self.driven.load(Ordering::Relaxed) - 1;
        if left == 0 && self.is_driven_here() {
            DRIVEN.set(0);
        }
        if self.watched.load(Ordering::Relaxed) == 0 {
            self.driven.store(left, Ordering::Relaxed);
            return false;
        }
        self.driven.store(left, Ordering::SeqCst);
        left == 0 && self.lends.load(Ordering::SeqCst)
    }

    /// Gives the waiters from other threads, to be sent home: polled again, they take their object
    /// with them.
    #[cold]
    fn take_strangers(&self) -> Vec<Waker> {
        let mut strangers = Vec::new();
        self.lends.store(false, Ordering::Relaxed);
        let sources: Vec<_> = self.selector().values().map(Arc::clone).collect();
        for source in sources {
            source.collect_foreign(self.id, &mut strangers);
        }
        strangers
    }
}

impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

#[cold]
fn put_off(busy: &mut Vec<(Arc<Source>, Reported)>, source: &Arc<Source>, reported: Reported) {
    busy.push((Arc::clone(source), reported));
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a reactor could not be made: which call was refused, and what the kernel said.
#[derive(Debug)]
pub(crate) struct Refused {
    call: &'static str,
    error: io::Error,
}

impl Refused {
    fn by(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Refused { call, error }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.call, self.error)
    }
}

/// The buffers of [`Reactor::turn`], kept from turn to turn. They take no memory before the first.
#[derive(Debug)]
pub(crate) struct Turn {
    events: RawEvents,
    /// Sources that others had locked.
    busy: Vec<(Arc<Source>, Reported)>,
    woken: Vec<Waker>,
    /// Wakers of timers that were dropped on other threads.
    let_go: Vec<Waker>,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Turn {
            events: RawEvents::with_capacity(EVENTS_PER_TURN),
            busy: Vec::new(),
            woken: Vec::new(),
            let_go: Vec::new(),
        }
    }

    /// Wakes whom the last turn has found, now that no lock is held, and drops those whose timers are
    /// no more. Lets the first panic of a wake go on after the last.
    #[inline]
    pub(crate) fn wake(&mut self) {
        if !self.let_go.is_empty() {
            queue::let_go(self.let_go.drain(..));
        }
        // A quiet program has one at a time.
        match self.woken.len() {
            0 => {}
            1 => self.woken.pop().into_iter().for_each(Waker::wake),
            _ => wake_all(self.woken.drain(..)),
        }
    }
}

/// The right to wait on this thread's reactor, from `drive` until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Driving {
    /// Until it is ended.
    reactor: Option<Arc<Reactor>>,
}

/// Begins to drive this thread's reactor. An inner call drives the same one.
pub(crate) fn drive() -> Result<Driving, Refused> {
    let known = CURRENT.with(|current| current.borrow().clone());
    let reactor = match known.filter(|reactor| reactor.poller.is_ours()) {
        Some(reactor) => reactor,
        // The first time on this thread, or the one at hand is that of the process that forked this
        // one.
        None => Reactor::install()?,
    };
    Ok(Driving::begin(reactor))
}

/// Those who wait for any thread's reactor to be driven, because none was where they came from.
static AWAITING: PerProcess<Lock<Vec<Waker>>> = PerProcess::new();
/// False only if there are none: then the lock need not be taken.
static AWAITED: AtomicBool = AtomicBool::new(false);

fn awaiting() -> Guard<'static, Vec<Waker>> {
    let Ok(awaiting) = AWAITING.get_or_make(|| Ok::<_, Infallible>(Lock::default()));
    awaiting.lock()
}

/// Has a waker woken, once, on the next thread where a `block_on` begins. It must be the crate's
/// own, and is not kept twice.
pub(crate) fn wake_when_driven(waker: &Waker) {
    let mut awaiting = awaiting();
    if !awaiting.iter().any(|known| known.will_wake(waker)) {
        awaiting.push(waker.clone());
    }
    AWAITED.store(true, Ordering::Release);
}

#[cold]
fn take_awaiting() -> Vec<Waker> {
    let mut awaiting = awaiting();
    AWAITED.store(false, Ordering::Release);
    mem::take(&mut awaiting)
}

impl Driving {
    /// Begins with the reactor of this thread.
    #[inline]
    fn begin(reactor: Arc<Reactor>) -> Self {
        let others = reactor.driven.load(Ordering::Relaxed);
        // Who does not see it yet does without this reactor.
        reactor.driven.store(others + 1, Ordering::Relaxed);
        DRIVEN.set(reactor.id);
        let driving = Driving { reactor: Some(reactor) };
        if others == 0 && AWAITED.load(Ordering::Acquire) {
            wake_all(take_awaiting());
        }
        driving
    }

    /// Begins anew with what [`end`](Self::end) has given; `None` if the thread has another reactor
    /// by now.
    #[inline(always)]
    pub(crate) fn resume(reactor: Arc<Reactor>) -> Option<Self> {
        let still = reactor.is_current() && reactor.poller.is_ours();
        still.then(|| Self::begin(reactor))
    }

    pub(crate) fn reactor(&self) -> &Arc<Reactor> {
        self.reactor.as_ref().expect("it is driven until it is ended")
    }

    /// Ends it, and gives the reactor back. Waiters from other threads are woken.
    #[inline(always)]
    pub(crate) fn end(mut self) -> Arc<Reactor> {
        let reactor = self.reactor.take();
        mem::forget(self);
        let reactor = reactor.expect("it is driven until it is ended");
        Self::end_of(&reactor);
        reactor
    }

    #[inline(always)]
    fn end_of(reactor: &Reactor) {
        let lent = reactor.end_drive();
        if lent || thread_is_ending() {
            Self::ended(reactor, lent);
        }
    }

    #[cold]
    fn ended(reactor: &Reactor, lent: bool) {
        if thread_is_ending() && !reactor.is_driven() {
            // Nobody comes after us who would let go of the reactor.
            drop(Release);
        }
        if lent {
            wake_all(reactor.take_strangers());
        }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(reactor) = self.reactor.take() {
            Self::end_of(&reactor);
        }
    }
}

/// Whether a `block_on` runs on this thread.
pub(crate) fn is_driven_here() -> bool {
    CURRENT.with(|current| {
        let current = current.borrow();
        current.as_ref().is_some_and(|reactor| reactor.is_driven() && reactor.poller.is_ours())
    })
}

/// Puts [`DRIVEN`] right, after its parts have changed.
fn note_driven() {
    let driven = CURRENT.with(|current| {
        let current = current.borrow();
        current.as_ref().filter(|reactor| reactor.is_driven()).map(|reactor| reactor.id)
    });
    DRIVEN.set(driven.unwrap_or(0));
}

/// Another descriptor of something that this thread's reactor has anyway, if there is one: it takes
/// up a place among the descriptors, and costs next to nothing.
pub(crate) fn duplicate_here() -> Option<OwnedFd> {
    CURRENT.with(|current| {
        let current = current.borrow();
        let reactor = current.as_ref().filter(|reactor| reactor.poller.is_ours())?;
        reactor.wakeup.as_fd().try_clone_to_owned().ok()
    })
}

#[inline]
fn thread_is_ending() -> bool {
    RELEASE.try_with(|_| ()).is_err()
}

/// Gives the task that is polled next its full budget.
pub(crate) fn refill_budget() {
    BUDGET_LEFT.with(|left| left.set(BUDGET));
}

/// What was left of a task's budget, which has that again when this is dropped.
#[derive(Debug)]
pub(crate) struct KeptBudget(u32);

/// Keeps the budget of a task for the time in which it drives others.
pub(crate) fn keep_budget() -> KeptBudget {
    KeptBudget(BUDGET_LEFT.get())
}

impl Drop for KeptBudget {
    fn drop(&mut self) {
        BUDGET_LEFT.set(self.0);
    }
}

/// Takes one operation from the task's budget. When that is used up, the task is woken and has to
/// come back.
pub(crate) fn spend_budget(cx: &mut Context<'_>) -> Poll<()> {
    BUDGET_LEFT.with(|left| match left.get() {
        0 => {
            // Other executors do not refill the budget, so it is refilled here, where the task
            // begins to let the others run.
            left.set(BUDGET);
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        some => {
            left.set(some - 1);
            Poll::Ready(())
        }
    })
}

/// Tells, in a debug build and once, that a waiter was left on a thread where nothing waits.
fn warn_if_not_driven(reactor: &Reactor) {
    static WARNED: Once = Once::new();
    if cfg!(debug_assertions) && !reactor.is_driven() {
        WARNED.call_once(|| {
            let backtrace = std::backtrace::Backtrace::force_capture();
            // Not `eprintln!`, which panics where stderr takes nothing; a warning that nobody can
            // read is none.
            _ = writeln!(
                io::stderr(),
                "selio: a future of selio was polled on a thread that has no `selio::block_on` running; \
                 nothing will wake it until one runs here. It was polled from:\n{backtrace}"
            );
        });
    }
}
