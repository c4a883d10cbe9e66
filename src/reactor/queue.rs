//! The queue of the thread's timers, which no other thread reaches, and what other threads leave to
//! be taken out of it.
//!
//! Nearly every timer is set, polled and dropped on one thread, and then it costs no lock and no
//! count of references. A timer that is dropped elsewhere is looked up by the number of its queue.

use std::cell::RefCell;
use std::convert::Infallible;
use std::mem::{self, ManuallyDrop};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::slack;
use super::timers::Timers;
use crate::panics::FirstPanic;
use crate::sys::fork::PerProcess;
use crate::sys::lock::{Guard, Lock};

/// The timers of one thread, as long as it has a reactor.
pub(super) struct Queue {
    /// Tells queues apart in what alarms remember; it is never used again. `None` if the thread has
    /// no reactor yet, or no more.
    pub(super) number: Option<NonZeroU64>,
    pub(super) timers: Timers,
    withdrawn: Option<Arc<Withdrawn>>,
}

thread_local! {
    /// It has no destructor, so that it can be asked while other thread-locals are destroyed; the
    /// reactor's release empties it.
    static QUEUE: ManuallyDrop<RefCell<Queue>> =
        const { ManuallyDrop::new(RefCell::new(Queue::closed())) };
}

/// Alarms that other threads have dropped.
#[derive(Default)]
struct Withdrawn {
    /// False only if there are none: then the lock need not be taken.
    any: AtomicBool,
    alarms: Lock<Vec<u32>>,
}

/// What has been withdrawn of the queue of each living thread, by the queue's number, in no order:
/// threads are few.
type Queues = Vec<(NonZeroU64, Arc<Withdrawn>)>;

static QUEUES: PerProcess<Lock<Queues>> = PerProcess::new();

fn queues() -> Guard<'static, Queues> {
    let Ok(queues) = QUEUES.get_or_make(|| Ok::<_, Infallible>(Lock::default()));
    queues.lock()
}

/// Does something with this thread's queue. It must not run foreign code.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(&mut Queue) -> R) -> R {
    QUEUE.with(|queue| f(&mut queue.borrow_mut()))
}

/// Gives the thread a new queue. In a forked child the former one is that of its parent, whose
/// wakers are dropped.
pub(super) fn open() {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let number = NonZeroU64::new(NUMBERS.fetch_add(1, Ordering::Relaxed));
    let withdrawn = Arc::new(Withdrawn::default());
    if let Some(number) = number {
        queues().push((number, Arc::clone(&withdrawn)));
    }
    replace(Queue { number, timers: Timers::new(), withdrawn: Some(withdrawn) });
}

/// Ends the thread's queue. Alarms that are left elsewhere go off where they are polled next.
pub(super) fn close() {
    replace(Queue::closed());
}

fn replace(queue: Queue) {
    let former = with(|current| mem::replace(current, queue));
    if let Some(number) = former.number {
        queues().retain(|(known, _)| *known != number);
    }
    let_go(former.timers.into_wakers());
}

/// Takes an alarm out of a queue of another thread, at that thread's next turn.
#[cold]
pub(super) fn withdraw(queue: NonZeroU64, alarm: u32) {
    // A queue that is not there any more has dropped its wakers.
    let known = queues().iter().find(|(number, _)| *number == queue).cloned();
    let Some((_, withdrawn)) = known else { return };
    withdrawn.alarms.lock().push(alarm);
    withdrawn.any.store(true, Ordering::Release);
}

/// Whether this thread has no deadline.
#[inline]
pub(super) fn is_empty() -> bool {
    QUEUE.with(|queue| queue.borrow().timers.is_empty())
}

/// Whether other threads have withdrawn alarms of this thread.
#[inline]
pub(super) fn is_any_withdrawn() -> bool {
    let is_any = |withdrawn: &Arc<Withdrawn>| withdrawn.any.load(Ordering::Relaxed);
    QUEUE.with(|queue| queue.borrow().withdrawn.as_ref().is_some_and(is_any))
}

/// How long a wait may last that `limit` bounds as well; `None` is for ever. Not at all if other
/// threads have withdrawn alarms: their wakers are given up, to be dropped before anybody sleeps, for
/// that is foreign code, which may make something ready.
pub(super) fn bound(limit: Option<Duration>, let_go: &mut Vec<Waker>) -> Option<Duration> {
    if limit == Some(Duration::ZERO) {
        return limit;
    }
    take_withdrawn(let_go);
    if !let_go.is_empty() {
        return Some(Duration::ZERO);
    }
    match until_next() {
        None => limit,
        Some(left) => {
            let step = slack::step(left);
            Some(limit.map_or(step, |limit| limit.min(step)))
        }
    }
}

/// When the nearest deadline of this thread is.
pub(crate) fn next_deadline() -> Option<Instant> {
    let_withdrawn_go();
    until_next().map(|left| Instant::now() + left)
}

fn until_next() -> Option<Duration> {
    with(|queue| queue.timers.left(slack::window()))
}

/// Takes out all that is due and adds their wakers to `woken`, in order. What other threads have
/// withdrawn is let go instead.
pub(super) fn take_due(woken: &mut Vec<Waker>, let_go: &mut Vec<Waker>) {
    take_withdrawn(let_go);
    with(|queue| queue.timers.take_due(woken));
}

/// Takes out what other threads have withdrawn, so that it wakes nobody.
#[inline]
fn take_withdrawn(let_go: &mut Vec<Waker>) {
    if is_any_withdrawn() {
        with(|queue| queue.take_out(let_go));
    }
}

/// Takes out what other threads have withdrawn, and drops its wakers.
pub(super) fn let_withdrawn_go() {
    let mut wakers = Vec::new();
    take_withdrawn(&mut wakers);
    let_go(wakers);
}

/// Drops wakers whose timers are elsewhere. Their panics are nobody's here.
pub(super) fn let_go(wakers: impl IntoIterator<Item = Waker>) {
    let mut panics = FirstPanic::default();
    wakers.into_iter().for_each(|waker| panics.note(|| drop(waker)));
    panics.forget();
}

impl Queue {
    const fn closed() -> Self {
        Queue { number: None, timers: Timers::new(), withdrawn: None }
    }

    #[cold]
    fn take_out(&mut self, let_go: &mut Vec<Waker>) {
        let Some(withdrawn) = &self.withdrawn else { return };
        withdrawn.any.store(false, Ordering::Relaxed);
        let alarms = mem::take(&mut *withdrawn.alarms.lock());
        let_go.extend(alarms.into_iter().filter_map(|alarm| self.timers.remove(alarm)));
    }
}
