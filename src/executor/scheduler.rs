//! What is ready to run: tasks as wakers see them, the two queues, and the task table.
//!
//! Each `block_on` has one [`Scheduler`], which never leaves its thread, and one [`Remote`], the
//! part of it that other threads may touch. A waker holds a [`Task`], which is plain `Send` data:
//! where the task stands in the table, whether it is queued, and the remote part. No future can be
//! reached from a waker, so wakers may be cloned, woken and dropped on any thread, also after
//! the executor is gone, and none of that drops a future.
//!
//! # The protocol of a wake
//!
//! 1. `queued` is swapped to true. If it was true, the task is in a queue already, and the poll to
//!    come sees what was written before this wake: the swap here and the one before the poll are
//!    read-modify-writes that acquire and release.
//! 2. If the task belongs to the innermost executor of this thread, it goes to the local queue,
//!    without a lock.
//! 3. Otherwise it goes to the remote queue, under its lock; if the owner sleeps, the eventfd is
//!    written, once for each sleep.
//!
//! The owner sets `asleep` in its last look at the remote queue, under its lock, if there is
//! nothing in it: either the lock's order shows the owner what was pushed, or it shows the pusher
//! that the owner is asleep. So there is at most one write for each wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use slab::Slab;
use waker_fn::waker_fn;

use crate::sys::event_fd::EventFd;
use crate::sys::lock::{Guard, Lock};

/// A task's future as the table keeps it. When it is done, it gives back the waker of whoever
/// awaits its `JoinHandle`.
pub(super) type TaskFuture = Pin<Box<dyn Future<Output = Option<Waker>>>>;

/// How many tasks that are done are kept to be used again.
const SPARE_TASKS: usize = 256;

/// What a queue holds: a task, or the future that was given to `block_on`. They wait in the same
/// line.
#[derive(Debug)]
pub(super) enum Runnable {
    Root,
    Task(Arc<Task>),
}

/// The part of a task that its wakers share.
#[derive(Debug)]
pub(super) struct Task {
    slot: usize,
    queued: AtomicBool,
    remote: Arc<Remote>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        INNERMOST.with(|innermost| match &*innermost.borrow() {
            Some(it) if Arc::ptr_eq(&it.remote, &self.remote) => it.push(Runnable::Task(self)),
            _ => Arc::clone(&self.remote).push(Runnable::Task(self)),
        });
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        INNERMOST.with(|innermost| match &*innermost.borrow() {
            Some(it) if Arc::ptr_eq(&it.remote, &self.remote) => {
                it.push(Runnable::Task(Arc::clone(self)))
            }
            _ => self.remote.push(Runnable::Task(Arc::clone(self))),
        });
    }
}

/// The part of an executor that any thread may touch, at any time.
#[derive(Debug)]
pub(super) struct Remote {
    /// What other threads have made ready; `None` once the executor has ended.
    queue: Lock<Option<Vec<Runnable>>>,
    /// True from the owner's last look at the queue until the owner is up again. Who turns it
    /// false writes the eventfd.
    asleep: AtomicBool,
    /// Whether the root future is in a queue.
    root_queued: AtomicBool,
    /// Weak, for wakers and handles may live long, and need not keep the descriptor of a thread
    /// open that has ended.
    wakeup: Weak<EventFd>,
}

impl Remote {
    fn new(wakeup: &Arc<EventFd>) -> Arc<Self> {
        Arc::new(Remote {
            queue: Lock::new(Some(Vec::new())),
            asleep: AtomicBool::new(false),
            root_queued: AtomicBool::new(false),
            wakeup: Arc::downgrade(wakeup),
        })
    }

    fn lock(&self) -> Guard<'_, Option<Vec<Runnable>>> {
        self.queue.lock()
    }

    fn push(&self, runnable: Runnable) {
        let refused = match &mut *self.lock() {
            Some(queue) => {
                queue.push(runnable);
                None
            }
            // Handed out of the lock, for it is dropped here.
            None => Some(runnable),
        };
        // The lock orders this load after the owner's store if the owner looked before the push, so
        // a load may go first.
        if refused.is_none()
            && self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
        {
            if let Some(wakeup) = self.wakeup.upgrade() {
                // An eventfd that is neither full nor closed takes every write, and we hold it.
                _ = wakeup.wake();
            }
        }
    }

    fn wake_root(self: &Arc<Self>) {
        if self.root_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        INNERMOST.with(|innermost| match &*innermost.borrow() {
            Some(it) if Arc::ptr_eq(&it.remote, self) => it.push(Runnable::Root),
            _ => self.push(Runnable::Root),
        });
    }
}

/// One entry of the task table.
struct Entry {
    /// Taken out while it is polled, so that the task may spawn, wake and abort whom it likes.
    future: Option<TaskFuture>,
    task: Arc<Task>,
    /// Counts the spawns from one on: left-over tasks are dropped in the order of their creation,
    /// and slots are used again. Zero goes before all.
    order: u64,
}

/// The run queue and the task table of one `block_on`.
pub(super) struct Scheduler {
    remote: Arc<Remote>,
    local: RefCell<VecDeque<Runnable>>,
    tasks: RefCell<Slab<Entry>>,
    /// Tasks that are done, to be used again for new ones if no waker of theirs is left.
    spare: RefCell<Vec<Arc<Task>>>,
    spawned: Cell<u64>,
    closing: Cell<bool>,
}

thread_local! {
    /// The innermost executor of this thread. Who sets it puts the former one back, so it needs no
    /// destructor; and without one it can still be asked while the thread's other thread-locals are
    /// being destroyed.
    static INNERMOST: ManuallyDrop<RefCell<Option<Rc<Scheduler>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Puts back, when it is dropped, the innermost executor that another one has covered.
pub(super) struct Entered {
    outer: Option<Rc<Scheduler>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let inner = INNERMOST.with(|innermost| innermost.replace(self.outer.take()));
        drop(inner);
    }
}

impl Scheduler {
    /// The eventfd is written when the owner sleeps and has to get up.
    pub(super) fn new(wakeup: &Arc<EventFd>) -> Rc<Self> {
        Rc::new(Scheduler {
            remote: Remote::new(wakeup),
            local: RefCell::new(VecDeque::new()),
            tasks: RefCell::new(Slab::new()),
            spare: RefCell::new(Vec::new()),
            spawned: Cell::new(0),
            closing: Cell::new(false),
        })
    }

    /// Is the innermost executor of this thread until the guard is dropped.
    pub(super) fn enter(self: &Rc<Self>) -> Entered {
        Entered { outer: INNERMOST.with(|innermost| innermost.replace(Some(Rc::clone(self)))) }
    }

    /// Refuses what other threads still push.
    pub(super) fn end(&self) {
        let remote = self.remote.lock().take();
        drop(remote);
        drop(self.local.take());
    }

    /// The innermost executor of this thread.
    pub(super) fn current() -> Option<Rc<Self>> {
        INNERMOST.with(|innermost| innermost.borrow().clone())
    }

    #[inline(always)]
    fn push(&self, runnable: Runnable) {
        self.local.borrow_mut().push_back(runnable);
    }

    /// What is to be polled next. If there is nothing, in the queue of other threads neither, it is
    /// announced that the owner is about to sleep.
    #[inline]
    pub(super) fn next(&self) -> Option<Runnable> {
        self.pop().or_else(|| if self.may_sleep() { None } else { self.pop() })
    }

    #[inline]
    fn pop(&self) -> Option<Runnable> {
        self.local.borrow_mut().pop_front()
    }

    /// Moves what other threads have made ready to the back of the local queue.
    #[inline]
    pub(super) fn collect_remote(&self) {
        match &mut *self.remote.lock() {
            Some(queue) if !queue.is_empty() => self.append(queue),
            _ => {}
        }
    }

    #[cold]
    fn append(&self, queue: &mut Vec<Runnable>) {
        self.local.borrow_mut().extend(queue.drain(..));
    }

    /// Looks at the other threads' queue once more, the own one being empty, and announces that the
    /// owner is about to sleep: false if there is something to do instead, and then nobody
    /// needs to write the eventfd.
    fn may_sleep(&self) -> bool {
        let mut remote = self.remote.lock();
        if let Some(queue) = remote.as_mut().filter(|queue| !queue.is_empty()) {
            self.append(queue);
            return false;
        }
        // Under the lock: who pushes later sees it and wakes us, and who pushed before was
        // collected.
        self.remote.asleep.store(true, Ordering::SeqCst);
        true
    }

    /// Tells other threads that no eventfd is needed any more.
    pub(super) fn woke_up(&self) {
        self.remote.asleep.store(false, Ordering::Relaxed);
    }

    /// The waker of the future that was given to `block_on`.
    pub(super) fn root_waker(&self) -> Waker {
        let remote = Arc::clone(&self.remote);
        waker_fn(move || remote.wake_root())
    }

    /// Prepares the poll of the root future: later wakes queue it anew.
    pub(super) fn begin_root(&self) {
        self.remote.root_queued.swap(false, Ordering::AcqRel);
    }

    /// True once left-over tasks are being dropped: no task is taken in any more.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Takes a task in and queues it for its first poll.
    pub(super) fn insert(&self, future: TaskFuture) -> Arc<Task> {
        let order = self.spawned.get() + 1;
        self.spawned.set(order);
        self.insert_as(order, future)
    }

    /// Takes a task in that is dropped before all others when the executor ends.
    pub(super) fn insert_first_to_go(&self, future: TaskFuture) -> Arc<Task> {
        self.insert_as(0, future)
    }

    fn insert_as(&self, order: u64, future: TaskFuture) -> Arc<Task> {
        let mut tasks = self.tasks.borrow_mut();
        let vacant = tasks.vacant_entry();
        let task = self.new_task(vacant.key());
        vacant.insert(Entry { future: Some(future), task: Arc::clone(&task), order });
        self.push(Runnable::Task(Arc::clone(&task)));
        task
    }

    fn new_task(&self, slot: usize) -> Arc<Task> {
        if let Some(mut task) = self.spare.borrow_mut().pop() {
            // With a waker of the former task about, it would be another task that this waker
            // wakes.
            if let Some(spare) = Arc::get_mut(&mut task) {
                spare.slot = slot;
                *spare.queued.get_mut() = true;
                return task;
            }
        }
        Arc::new(Task { slot, queued: AtomicBool::new(true), remote: Arc::clone(&self.remote) })
    }

    /// Takes a task's future out of the table for a poll; `None` if the task is done. Later wakes
    /// queue it anew.
    #[inline]
    pub(super) fn begin_poll(&self, task: &Task) -> Option<(usize, TaskFuture)> {
        // Acquires what was written before any wake since the last poll, also by those that found
        // the task queued.
        task.queued.swap(false, Ordering::AcqRel);
        let mut tasks = self.tasks.borrow_mut();
        // A task that is done has given up its slot, perhaps to another.
        let entry = tasks.get_mut(task.slot).filter(|entry| ptr::eq(&*entry.task, task))?;
        Some((task.slot, entry.future.take()?))
    }

    /// Puts the future of a task back that is not done yet.
    #[inline]
    pub(super) fn put_back(&self, slot: usize, future: TaskFuture) {
        let mut tasks = self.tasks.borrow_mut();
        tasks[slot].future = Some(future);
    }

    /// Gives up the slot of a task that is done, and whose future is in the hands of the caller.
    pub(super) fn remove(&self, slot: usize) {
        let Entry { task, .. } = self.tasks.borrow_mut().remove(slot);
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_TASKS {
            spare.push(task);
        }
    }

    /// Refuses new tasks from now on and takes out those that are left, in the order of their
    /// creation.
    pub(super) fn close(&self) -> Vec<TaskFuture> {
        self.closing.set(true);
        let mut left: Vec<Entry> = self.tasks.take().into_iter().map(|(_, entry)| entry).collect();
        left.sort_unstable_by_key(|entry| entry.order);
        left.into_iter().filter_map(|entry| entry.future).collect()
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("remote", &self.remote).finish_non_exhaustive()
    }
}
