//! Children that were dropped before they had ended, and that nobody may wait for any more.
//!
//! The reactor that is driven where they are dropped wakes a reaper when they end, or the next one
//! that is. The list is for those that end when nobody waits for anything: it is looked through
//! when others are started.

use std::convert::Infallible;
use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};

use waker_fn::waker_fn;

use super::running::Running;
use crate::reactor;
use crate::signal::Port;
use crate::sys::fork::PerProcess;
use crate::sys::lock::{Guard, Lock};

/// How many children may have been dropped before somebody looks whether they have ended. The tests of
/// `tests/process/drop.rs` count on it.
const FEWEST_TO_SWEEP: usize = 8;

static DROPPED: PerProcess<Lock<Dropped>> = PerProcess::new();

#[derive(Default)]
struct Dropped {
    children: Vec<Left>,
    /// How many were left by the last sweep.
    left: usize,
}

struct Left {
    running: Arc<Running>,
    /// Whether a reactor wakes a reaper at its end, as long as it is driven.
    attended: bool,
    /// Held for that reactor's thread, so that it hears of the end.
    _port: Option<Arc<Port>>,
}

impl Left {
    #[inline]
    fn is_attended(&self) -> bool {
        self.attended && self.running.is_watched()
    }
}

impl Dropped {
    #[inline]
    fn find(&self, running: &Arc<Running>) -> Option<usize> {
        self.children.iter().position(|left| Arc::ptr_eq(&left.running, running))
    }
}

#[inline]
fn dropped() -> Guard<'static, Dropped> {
    let Ok(dropped) = DROPPED.get_or_make(|| Ok::<_, Infallible>(Lock::default()));
    dropped.lock()
}

/// Takes care of a child that was dropped.
#[inline]
pub(super) fn adopt(running: &Arc<Running>) {
    if running.try_reap().is_none() {
        let left = Left { running: Arc::clone(running), attended: false, _port: None };
        dropped().children.push(left);
        attend(running, &Reaper::of(running));
    }
}

/// Sees to it that a child is reaped when it ends.
#[inline]
fn attend(running: &Arc<Running>, waker: &Waker) {
    let attended = reactor::is_driven_here();
    let _port = if attended { running.port_here().unwrap_or(None) } else { None };
    let mut left = Left { running: Arc::clone(running), attended, _port };
    let mut dropped = dropped();
    // Another thread's sweep may have been quicker.
    if let Some(at) = dropped.find(running) {
        mem::swap(&mut dropped.children[at], &mut left);
    }
    drop(dropped);
    drop(left);
    // Also if it is attended here: this `block_on` may end before the child does.
    reactor::wake_when_driven(attendant());
    if !attended {
        return;
    }
    // An error says that it cannot be watched here: then a sweep has to do.
    let polled = running.poll_exit(&mut Context::from_waker(waker));
    if polled.is_ready() && running.is_over() {
        forget(running);
    }
}

#[inline]
fn forget(running: &Arc<Running>) {
    let mut dropped = dropped();
    let over = dropped.find(running).map(|at| dropped.children.swap_remove(at));
    drop(dropped);
    drop(over);
}

/// Reaps what has ended without being noticed. Each child is looked at about once for each that was
/// dropped.
#[inline]
pub(super) fn sweep() {
    let mut dropped = dropped();
    if dropped.children.len() < FEWEST_TO_SWEEP.max(2 * dropped.left) {
        return;
    }
    let children = mem::take(&mut dropped.children);
    let (running, over): (Vec<_>, Vec<_>) =
        children.into_iter().partition(|left| left.running.try_reap().is_none());
    dropped.left = running.len();
    dropped.children = running;
    // What is over leaves its reactor, after the lock.
    drop(dropped);
    drop(over);
}

/// Reaps a dropped child when its end wakes it.
struct Reaper(Weak<Running>);

impl Reaper {
    #[inline]
    fn of(running: &Arc<Running>) -> Waker {
        Waker::from(Arc::new(Self(Arc::downgrade(running))))
    }
}

impl Wake for Reaper {
    #[inline]
    fn wake(self: Arc<Self>) {
        if let Some(running) = self.0.upgrade() {
            attend(&running, &Waker::from(self));
        }
    }
}

/// Has what was dropped where no `block_on` runs attended to on a thread where one has begun.
#[inline]
fn attendant() -> &'static Waker {
    static ATTENDANT: PerProcess<Waker> = PerProcess::new();
    let Ok(attendant) = ATTENDANT.get_or_make(|| Ok::<_, Infallible>(waker_fn(attend_to_all)));
    attendant
}

#[inline]
fn attend_to_all() {
    let dropped = dropped();
    let unattended = dropped.children.iter().filter(|left| !left.is_attended());
    let unattended: Vec<_> = unattended.map(|left| Arc::clone(&left.running)).collect();
    let none_left = dropped.children.is_empty();
    drop(dropped);
    for running in unattended {
        attend(&running, &Reaper::of(&running));
    }
    if !none_left {
        // For those who are attended elsewhere, where a `block_on` may end.
        reactor::wake_when_driven(attendant());
    }
}
