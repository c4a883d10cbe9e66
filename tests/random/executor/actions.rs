//! What tasks do, in their polls and in their destructors.

use super::world::{Ending, MOST_TASKS, Marker, Output, Task, Who, with};
use super::{Program, run_level};
use selio::{JoinHandle, block_on};
use std::future::Future;
use std::hint;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// How a poll goes on.
pub(super) enum Flow {
    Goes,
    Ends,
    Panics,
}

/// Does what the next bytes say. In a destructor the waker is one that does nothing.
pub(super) fn act(who: Who, cx: &mut Context<'_>) -> Flow {
    let threads = with(|world| world.may_thread);
    match with(|world| world.bytes.below(32)) {
        0..=5 => spawn(),
        6..=8 => wake_self(who, cx.waker()),
        9..=10 => keep_waker(who, cx.waker()),
        11..=13 => wake_other(),
        14..=15 => with_handle(|id, handle| {
            with(|world| world.note_abort(id));
            handle.abort();
            Some(handle)
        }),
        16..=18 => await_handle(who, cx),
        19 => with_handle(|id, handle| {
            with(|world| world.tasks[id].joiner = None);
            drop(handle);
            None
        }),
        20 => with_handle(|id, handle| {
            look_at(id, &handle);
            Some(handle)
        }),
        21 if with(|world| world.levels.len() < 3) => run_level(false),
        22..=24 => return Flow::Ends,
        25 => return Flow::Panics,
        26 if threads => wake_other_abroad(),
        27 if threads => wake_other_by_thread(),
        28 if threads => with_handle(handle_abroad),
        29 if threads => await_abroad(),
        30 if with(|world| world.may_door) => use_door(),
        _ => wake_self(who, cx.waker()),
    }
    Flow::Goes
}

/// A wait for a task to take on, if tasks of this program wait.
pub(super) fn some_wait() -> Option<Duration> {
    with(|world| {
        if !world.may_wait || !world.bytes.chance(8) {
            return None;
        }
        world.ordered = false;
        Some(Duration::from_micros(world.bytes.byte().into()))
    })
}

fn spawn() {
    let Some(id) = with(|world| {
        let level = world.innermost();
        (world.tasks.len() < MOST_TASKS).then(|| world.add_task(level))
    }) else {
        return;
    };
    with(|world| world.create(id));
    let handle = selio::spawn(Program::new(id));
    with(|world| {
        let ended = world.tasks[id].ending.is_some() || world.tasks[id].order.is_some();
        world.expect(ended, || format!("task {id} was spawned by what is dropped, and lives"));
    });
    look_at(id, &handle);
    keep_handle(id, handle);
}

/// Keeps a handle, or drops it.
fn keep_handle(id: usize, handle: JoinHandle<Output>) {
    if with(|world| world.bytes.chance(4)) {
        return drop(handle);
    }
    with(|world| world.handles.insert(id, handle));
}

fn look_at(id: usize, handle: &JoinHandle<Output>) {
    let finished = handle.is_finished();
    with(|world| {
        let ended = world.tasks[id].ending.is_some();
        world.expect(finished == ended, || format!("task {id} is finished: {finished}"));
    });
}

/// Takes a handle out, uses it, and puts it back if it is given back.
fn with_handle(using: impl FnOnce(usize, JoinHandle<Output>) -> Option<JoinHandle<Output>>) {
    let Some((id, handle)) = with(|world| {
        let all: Vec<usize> = world.handles.keys().copied().collect();
        let id = world.bytes.one_of(&all)?;
        Some((id, world.handles.remove(&id)?))
    }) else {
        return;
    };
    if let Some(handle) = using(id, handle) {
        with(|world| world.handles.insert(id, handle));
    }
}

/// Wakes on this thread.
pub(super) fn wake(who: Who, waker: &Waker) {
    with(|world| world.note_wake(who));
    waker.wake_by_ref();
}

fn wake_self(who: Who, waker: &Waker) {
    if !waker.will_wake(Waker::noop()) {
        wake(who, waker);
    }
}

fn keep_waker(who: Who, waker: &Waker) {
    if !waker.will_wake(Waker::noop()) {
        let waker = waker.clone();
        let former = with(|world| {
            world.wakers.push((who, waker));
            (world.wakers.len() > 40).then(|| world.wakers.swap_remove(0))
        });
        drop(former);
    }
}

/// A waker that was kept: a clone of it, or the thing itself.
fn any_waker() -> Option<(Who, Waker)> {
    let (who, waker, keep) = with(|world| {
        let len = world.wakers.len();
        if len == 0 {
            return None;
        }
        let index = world.bytes.below(len);
        let keep = world.bytes.chance(2);
        let (who, waker) = world.wakers.swap_remove(index);
        Some((who, waker, keep))
    })?;
    if keep {
        let clone = waker.clone();
        with(|world| world.wakers.push((who, clone)));
    }
    Some((who, waker))
}

fn wake_other() {
    if let Some((who, waker)) = any_waker() {
        with(|world| world.note_wake(who));
        waker.wake();
    }
}

/// From here on it is not known who comes next.
fn note_wake_abroad(who: Who) {
    with(|world| {
        world.ordered = false;
        if let Who::Task(id) = who {
            world.tasks[id].woken.store(true, Ordering::SeqCst);
        }
    });
}

fn wake_other_abroad() {
    if let Some((who, waker)) = any_waker() {
        note_wake_abroad(who);
        thread::scope(|scope| scope.spawn(move || waker.wake()).join().unwrap());
    }
}

fn wake_other_by_thread() {
    if let Some((who, waker)) = any_waker() {
        wake_by_thread(who, waker);
    }
}

/// Wakes from another thread, soon.
pub(super) fn wake_by_thread(who: Who, waker: Waker) {
    note_wake_abroad(who);
    let spins = with(|world| u32::from(world.bytes.byte()) * 16);
    let thread = thread::spawn(move || {
        (0..spins).for_each(|_| hint::spin_loop());
        waker.wake();
    });
    with(|world| world.wakes.push(thread));
}

/// Uses a handle on another thread while this one waits.
fn handle_abroad(id: usize, handle: JoinHandle<Output>) -> Option<JoinHandle<Output>> {
    with(|world| world.ordered = false);
    let how = with(|world| world.bytes.below(3));
    match how {
        0 => with(|world| world.note_abort(id)),
        1 => with(|world| world.tasks[id].joiner = None),
        _ => {}
    }
    let ended = with(|world| world.tasks[id].ending.is_some());
    let abroad = move || {
        match how {
            0 => handle.abort(),
            1 => {
                drop(handle);
                return (None, true);
            }
            _ => {}
        }
        let right = handle.is_finished() == ended;
        (Some(handle), right)
    };
    let (handle, right) = thread::scope(|scope| scope.spawn(abroad).join().unwrap());
    with(|world| world.expect(right, || format!("task {id} is finished, elsewhere: {}", !ended)));
    handle
}

/// Has another thread await a handle.
fn await_abroad() {
    with_handle(|id, handle| {
        // Until the other thread has polled it, its end wakes who awaited it before.
        with(|world| world.ordered &= world.tasks[id].joiner.take().is_none());
        let thread = thread::spawn(move || (id, block_on(handle)));
        with(|world| world.joins.push(thread));
        None
    });
}

/// Polls a handle, which is ready if its task has ended, and only then.
fn await_handle(who: Who, cx: &mut Context<'_>) {
    let real = !cx.waker().will_wake(Waker::noop());
    with_handle(|id, mut handle| {
        let ended = with(|world| world.tasks[id].ending.is_some());
        match Pin::new(&mut handle).poll(cx) {
            Poll::Ready(result) => {
                with(|world| world.note_result(id, result));
                None
            }
            Poll::Pending => {
                with(|world| {
                    world.expect(!ended, || format!("task {id} has ended, and its handle waits"));
                    world.tasks[id].joiner = real.then_some(who);
                });
                Some(handle)
            }
        }
    });
}

/// Orders a task by a `Handle`, here or on another thread; or makes one, or drops it.
fn use_door() {
    with(|world| world.ordered = false);
    if with(|world| world.doors.len() < 4 && world.bytes.chance(2)) {
        let (level, door) = (with(|world| world.innermost()), selio::handle());
        return with(|world| world.doors.push((level, door)));
    }
    let Some((level, door, keep)) = with(|world| {
        let len = world.doors.len();
        let index = if len == 0 { return None } else { world.bytes.below(len) };
        let (level, door) = world.doors.swap_remove(index);
        Some((level, door, !world.bytes.chance(4)))
    }) else {
        return;
    };
    if with(|world| world.tasks.len() < MOST_TASKS) {
        let id = with(|world| world.add_task(level));
        let order = Order { id, panics: with(|world| world.bytes.chance(8)) };
        let abroad = with(|world| world.may_thread && world.bytes.chance(2));
        let spawn = || door.spawn(move || order.carry_out());
        let handle = match abroad && !with(|world| world.is_closed(level)) {
            true => thread::scope(|scope| scope.spawn(spawn).join().unwrap()),
            false => spawn(),
        };
        look_at(id, &handle);
        keep_handle(id, handle);
    }
    if keep {
        with(|world| world.doors.push((level, door)));
    }
}

/// An order that was given to a door. It makes the future there.
struct Order {
    id: usize,
    panics: bool,
}

impl Order {
    fn carry_out(self) -> Program {
        with(|world| {
            let task = &world.tasks[self.id];
            let in_order = task.ending.is_none() && !task.aborted && task.order.is_none();
            let text = format!("an order that was withdrawn: {task:?}");
            world.expect(in_order, || text);
        });
        if self.panics {
            let marker = Marker(Who::Task(self.id), false);
            with(|world| world.tasks[self.id].outcome = Some(Ending::Panicked(marker)));
            resume_unwind(Box::new(marker));
        }
        let id = self.id;
        with(|world| world.create(id));
        std::mem::forget(self);
        Program::new(id)
    }
}

impl Drop for Order {
    /// It was refused or withdrawn, or it panics.
    fn drop(&mut self) {
        with(|world| {
            let Task { level, outcome, aborted, .. } = world.tasks[self.id];
            let reason = outcome.is_some() || aborted || world.is_closed(level);
            world.expect(reason, || format!("the order of task {} is lost", self.id));
            let ending = outcome.unwrap_or(Ending::Aborted);
            world.end_task(self.id, ending);
        });
    }
}
