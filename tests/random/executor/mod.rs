//! The executor against a list of tasks.
//!
//! A program's tasks draw what they do from its bytes as they are polled and dropped. As long as
//! everything happens on one thread the model knows whose turn comes next; from then on it knows
//! still that nobody who was woken is forgotten, and how each task ends.
#![allow(unsafe_code, reason = "`poll(2)`, which the standard library lacks")]

mod actions;
mod world;

use crate::bytes::Bytes;
use selio::{Driver, Timer, block_on};
use std::future::Future;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;
use world::{Ending, Marker, Output, Who, World, set_world, with};

/// How often a root future lets the others run before it looks whether somebody was forgotten: the
/// executor asks other threads for news every 61 polls.
const ROUNDS: usize = 200;

/// Runs a program.
pub(crate) fn run(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let driven = bytes.chance(4);
    set_world(Some(World::new(bytes)));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run_level(driven);
        settle();
    }));
    let world = set_world(None).expect("it was put there");
    world.assert_no_fault();
    ended.unwrap_or_else(|payload| resume_unwind(payload));
    let outputs = world.outputs.clone();
    drop(world);
    assert_eq!(outputs.load(Ordering::SeqCst), 0, "outputs that were never dropped");
}

/// What is asked of handles, wakers and threads that have outlived their `block_on`.
fn settle() {
    let (wakes, joins) =
        with(|world| (std::mem::take(&mut world.wakes), std::mem::take(&mut world.joins)));
    wakes.into_iter().for_each(|thread| thread.join().unwrap());
    for thread in joins {
        let (id, result) = thread.join().unwrap();
        with(|world| world.note_result(id, result));
    }
    let (wakers, handles) =
        with(|world| (std::mem::take(&mut world.wakers), std::mem::take(&mut world.handles)));
    let (first, second): (Vec<_>, Vec<_>) =
        wakers.into_iter().map(|(_, waker)| waker).partition(|_| with(|it| it.bytes.chance(2)));
    first.into_iter().for_each(Waker::wake);
    thread::scope(|scope| scope.spawn(|| drop(second)).join().unwrap());
    for (id, mut handle) in handles {
        match Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => with(|world| world.note_result(id, result)),
            Poll::Pending => with(|it| it.expect(false, || format!("handle {id} says nothing"))),
        }
    }
}

/// Runs a `block_on`, or a driver, with a program inside, and looks how it ends.
fn run_level(driven: bool) {
    let level = with(World::begin_level);
    let root = Root { level, polls: 0, rounds: 0, not_send: PhantomData };
    let ended =
        catch_unwind(AssertUnwindSafe(|| if driven { drive(root) } else { block_on(root) }));
    let panic = ended.err().map(|payload| match payload.downcast::<Marker>() {
        Ok(marker) => *marker,
        Err(payload) => resume_unwind(payload),
    });
    with(|world| {
        let expected = world.end_level(level);
        world.expect(panic == expected, || format!("{panic:?} came, and not {expected:?}"));
    });
}

/// A loop around `poll(2)`.
fn drive(root: Root) {
    let mut driver = Driver::new(root).unwrap();
    let mut lost = 0;
    while driver.turn().is_pending() {
        let left = driver.next_deadline().map(|it| it.saturating_duration_since(Instant::now()));
        let millis = left.map_or(5000, |left| left.as_nanos().div_ceil(1_000_000) as i32);
        let mut asked = libc::pollfd { fd: driver.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the one entry lives through the call.
        let ready = unsafe { libc::poll(&raw mut asked, 1, millis) };
        // Once may be because the whole process was stopped meanwhile, or by a signal.
        lost = if ready > 0 || left.is_some() { 0 } else { lost + 1 };
        assert!(lost < 3, "the wake of a driver is lost");
    }
}

/// The future that a `block_on` runs. It always sees to it that it is woken.
struct Root {
    level: usize,
    polls: usize,
    rounds: usize,
    not_send: PhantomData<*const ()>,
}

impl Future for Root {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (level, who) = (self.level, Who::Root(self.level));
        // A driver queues it before its first turn.
        with(|world| world.begin_poll_of_root(level, self.polls == 0));
        self.polls += 1;
        if with(|world| world.bytes.is_empty()) {
            return self.finish(cx);
        }
        for _ in 0..with(|world| 1 + world.bytes.below(4)) {
            match actions::act(who, cx) {
                actions::Flow::Goes => {}
                actions::Flow::Ends if with(|world| world.bytes.chance(8)) => return self.end(),
                actions::Flow::Ends => {}
                actions::Flow::Panics if with(|world| world.bytes.chance(8)) => {
                    let marker = Marker(who, false);
                    with(|world| {
                        let level = world.level(level).expect("it runs");
                        (level.closing, level.panic) = (true, Some(marker));
                    });
                    resume_unwind(Box::new(marker));
                }
                actions::Flow::Panics => {}
            }
        }
        if with(|world| world.may_thread && world.bytes.chance(4)) {
            actions::wake_by_thread(who, cx.waker().clone());
        } else {
            actions::wake(who, cx.waker());
        }
        Poll::Pending
    }
}

impl Root {
    fn end(&self) -> Poll<()> {
        with(|world| world.level(self.level).expect("it runs").closing = true);
        Poll::Ready(())
    }

    /// Lets the others run for some rounds, and looks whether somebody was forgotten.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wakes = with(|world| std::mem::take(&mut world.wakes));
        wakes.into_iter().for_each(|thread| thread.join().unwrap());
        if self.rounds < with(|world| if world.ordered { 3 } else { ROUNDS }) {
            self.rounds += 1;
            actions::wake(Who::Root(self.level), cx.waker());
            return Poll::Pending;
        }
        with(|world| world.expect_quiet(self.level));
        self.end()
    }
}

/// The future of a task.
struct Program {
    id: usize,
    timer: Option<Timer>,
    not_send: PhantomData<*const ()>,
}

impl Program {
    fn new(id: usize) -> Self {
        Self { id, timer: None, not_send: PhantomData }
    }

    /// What the poll has come to, and the task will.
    fn ends(&self, outcome: Ending) {
        with(|world| world.tasks[self.id].outcome = Some(outcome));
    }
}

impl Future for Program {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        let (id, who) = (self.id, Who::Task(self.id));
        with(|world| world.begin_poll(id));
        if let Some(timer) = &mut self.timer {
            if Pin::new(timer).poll(cx).is_ready() {
                self.timer = None;
            }
        }
        if with(|world| world.bytes.is_empty()) {
            return Poll::Pending;
        }
        for _ in 0..with(|world| 1 + world.bytes.below(4)) {
            match actions::act(who, cx) {
                actions::Flow::Goes => {}
                actions::Flow::Ends => {
                    self.ends(Ending::Done);
                    return Poll::Ready(Output::new(id));
                }
                actions::Flow::Panics => {
                    let marker = Marker(who, false);
                    self.ends(Ending::Panicked(marker));
                    resume_unwind(Box::new(marker));
                }
            }
        }
        if let Some(duration) = actions::some_wait() {
            let mut timer = Timer::after(duration);
            _ = Pin::new(&mut timer).poll(cx);
            self.timer = Some(timer);
        }
        Poll::Pending
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let acts = with(|world| {
            world.begin_drop(self.id);
            world.tasks[self.id].acts_in_drop && !world.bytes.is_empty()
        });
        if acts {
            let who = Who::Task(self.id);
            _ = actions::act(who, &mut Context::from_waker(Waker::noop()));
        }
        if let Some(marker) = with(|world| world.end_drop(self.id)) {
            resume_unwind(Box::new(marker));
        }
    }
}
