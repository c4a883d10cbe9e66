//! What is ready to run: tasks as wakers see them, the two queues, and the task table.
//!
//! Each `block_on` has one [`Scheduler`], which never leaves its thread, and one [`Remote`], the
//! part of it that other threads may touch. A waker holds a [`Task`], which is plain `Send` data:
//! which task it is, whether it is queued, and the remote part. No future can be reached from a
//! waker, so wakers may be cloned, woken and dropped on any thread, also after the executor is
//! gone, and none of that drops a future.
//!
//! # The protocol of a wake
//!
//! 1. `QUEUED` is set. If it was set, the task is in a queue already, and the poll to come sees
//!    what was written before this wake: the setting here and the clearing before the poll are
//!    read-modify-writes that acquire and release.
//! 2. If the task belongs to the innermost executor of this thread, it goes to the local queue,
//!    without a lock.
//! 3. Otherwise it goes to the remote queue, under its lock, and sets `filled`; if the owner sleeps,
//!    the eventfd is written, once for each sleep.
//!
//! The owner looks at `filled` and locks the queue only if there is something in it. Before it sleeps
//! it sets `asleep` and looks once more, and who pushes sets `filled` before it looks at `asleep`:
//! all four in one order, so that either the owner sees what was pushed, or the pusher sees that
//! the owner is asleep. So there is at most one write for each wait. An owner that spins before it
//! sleeps looks at `filled` at least as often as at the kernel, and sets `asleep` when it is through.
//!
//! # Tasks that nobody wakes
//!
//! Many tasks are done in their first poll, or only ever wake themselves. One [`TaskWaker`] serves
//! all of those in turn. When a poll leaves a clone of it somewhere, it becomes that task's own, and the
//! one by which an abort wakes the task. Also when a poll leaves none, and the task waits: then nothing
//! else can wake it.

use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::join::Abort;
use super::table::{Table, TaskId};
use crate::reactor;
use crate::sys::event_fd::EventFd;
use crate::sys::fifo::Fifo;
use crate::sys::lock::{Guard, Lock};
use crate::sys::task_cell::Runner;

/// A task as the table keeps it.
pub(super) type TaskBody = Runner<Abort>;

/// How much room the queue and the table of an executor may have that is kept to be used again.
const LONGEST_KEPT: usize = 1024;

/// The bit of a task's state, besides its id, that says that it is in a queue.
const QUEUED: u64 = 1 << 62;

/// The part of a task that its wakers share.
#[derive(Debug)]
pub(super) struct Task {
    /// Its id, and whether it is queued.
    state: AtomicU64,
    remote: Arc<Remote>,
}

impl Task {
    #[inline]
    fn id(&self) -> TaskId {
        TaskId::from_bits(self.state.load(Ordering::Relaxed))
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.queue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
    }
}

impl Task {
    fn new(remote: &Arc<Remote>, id: TaskId) -> Arc<Self> {
        Arc::new(Task { state: AtomicU64::new(id.to_bits()), remote: Arc::clone(remote) })
    }

    #[inline(always)]
    fn queue(&self) {
        if self.state.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED == 0 {
            self.remote.schedule(self.id());
        }
    }

    /// Whether it is in a queue.
    #[inline]
    fn is_queued(&self) -> bool {
        self.state.load(Ordering::Relaxed) & QUEUED != 0
    }

    /// Notes that the poll begins: later wakes queue the task anew. Acquires what was written
    /// before any wake since the last poll, also by those that found the task queued.
    #[inline]
    fn begin_poll(&self) {
        self.state.fetch_and(!QUEUED, Ordering::AcqRel);
    }
}

/// What tasks are polled with that have no waker of their own, and the root future.
struct TaskWaker {
    task: Arc<Task>,
    waker: Waker,
}

impl TaskWaker {
    fn new(task: Arc<Task>) -> Self {
        TaskWaker { waker: Waker::from(Arc::clone(&task)), task }
    }

    /// Makes it this task's, which is not queued. Nobody else may have a clone.
    #[inline]
    fn serve(&self, id: TaskId) {
        self.task.state.store(id.to_bits(), Ordering::Relaxed);
    }

    #[inline]
    fn is_queued(&self) -> bool {
        self.task.is_queued()
    }

    /// Whether anybody else has a clone.
    #[inline]
    fn is_shared(&self) -> bool {
        if Arc::strong_count(&self.task) > 2 {
            return true;
        }
        // Whoever dropped the last clone is through with the task before it serves another.
        fence(Ordering::Acquire);
        false
    }
}

/// The part of an executor that any thread may touch, at any time.
#[derive(Debug)]
pub(super) struct Remote {
    /// What other threads have made ready; `None` once the executor has ended.
    queue: Lock<Option<Vec<TaskId>>>,
    /// Whether there is something in the queue. Written under its lock.
    filled: AtomicBool,
    /// True from before the owner's last look until the owner is up again. Who turns it false
    /// writes the eventfd.
    asleep: AtomicBool,
    /// Weak, for wakers and handles may live long, and need not keep the descriptor of a thread
    /// open that has ended.
    wakeup: Weak<EventFd>,
}

impl Remote {
    fn new(wakeup: &Arc<EventFd>) -> Arc<Self> {
        Arc::new(Remote {
            queue: Lock::new(Some(Vec::new())),
            filled: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wakeup: Arc::downgrade(wakeup),
        })
    }

    fn lock(&self) -> Guard<'_, Option<Vec<TaskId>>> {
        self.queue.lock()
    }

    /// Queues a task for its next poll, from whatever thread.
    #[inline(always)]
    fn schedule(&self, id: TaskId) {
        INNERMOST.with(|innermost| match &*innermost.borrow() {
            Some(it) if ptr::eq(&*it.remote, self) => it.push(id),
            _ => self.push(id),
        });
    }

    fn push(&self, id: TaskId) {
        if !self.enqueue(id) {
            return;
        }
        // If the owner has not seen that the queue is filled, it has said before that it sleeps.
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            if let Some(wakeup) = self.wakeup.upgrade() {
                // An eventfd that is neither full nor closed takes every write, and we hold it.
                _ = wakeup.wake();
            }
        }
    }

    /// Adds a task to the queue; false if the executor has ended.
    #[inline]
    fn enqueue(&self, id: TaskId) -> bool {
        let mut queue = self.lock();
        let Some(queue) = &mut *queue else { return false };
        queue.push(id);
        self.filled.store(true, Ordering::SeqCst);
        true
    }
}

/// The run queue and the task table of one `block_on`.
pub(super) struct Scheduler {
    remote: Arc<Remote>,
    local: Fifo<TaskId>,
    pub(super) tasks: Table<TaskBody>,
    /// For the next task that has none of its own.
    spare: Cell<Option<Box<TaskWaker>>>,
    root: TaskWaker,
    closing: Cell<bool>,
    /// Whether it may serve several executors, one after the other.
    keeps: bool,
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

impl Entered {
    /// As dropping it, in line.
    #[inline(always)]
    pub(super) fn leave(mut self) {
        let outer = self.outer.take();
        mem::forget(self);
        let inner = INNERMOST.with(|innermost| innermost.replace(outer));
        drop(inner);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        Entered { outer: self.outer.take() }.leave();
    }
}

impl Scheduler {
    /// The eventfd is written when the owner sleeps and has to get up.
    pub(super) fn new(wakeup: &Arc<EventFd>, keeps: bool) -> Rc<Self> {
        let (remote, tasks) = (Remote::new(wakeup), Table::new());
        Rc::new(Scheduler {
            root: TaskWaker::new(Task::new(&remote, tasks.root_id())),
            remote,
            local: Fifo::new(),
            tasks,
            spare: Cell::new(None),
            closing: Cell::new(false),
            keeps,
        })
    }

    /// Is the innermost executor of this thread until the guard is dropped.
    #[inline(always)]
    pub(super) fn enter(self: &Rc<Self>) -> Entered {
        Entered { outer: INNERMOST.with(|innermost| innermost.replace(Some(Rc::clone(self)))) }
    }

    /// Ends, all tasks being gone. Refuses what other threads still push, or, if nobody could push
    /// anything and it is to be kept, is as new, and says so.
    #[inline(always)]
    pub(super) fn end(&self) -> bool {
        let forgotten = self.keeps && self.is_forgotten();
        if forgotten {
            self.local.clear();
            if self.root.is_queued() {
                // Ids count on, so that one that is still in a queue means nothing in the next
                // `block_on`.
                self.root.serve(self.tasks.root_id());
            }
            self.closing.set(false);
        } else {
            self.refuse();
        }
        forgotten
    }

    #[cold]
    fn refuse(&self) {
        let remote = self.remote.lock().take();
        drop(remote);
    }

    /// Whether no waker and no handle of this executor is left but its own. What has become large is
    /// not kept either.
    #[inline(always)]
    fn is_forgotten(&self) -> bool {
        let spare = self.spare.take();
        let own = 2 + usize::from(spare.is_some());
        self.spare.set(spare);
        Arc::strong_count(&self.remote) == own
            && !self.root.is_shared()
            && self.local.capacity() <= LONGEST_KEPT
            && self.tasks.capacity() <= LONGEST_KEPT
    }

    /// Does something with the innermost executor of this thread. It must not run foreign code.
    pub(super) fn with_current<R>(f: impl FnOnce(Option<&Scheduler>) -> R) -> R {
        INNERMOST.with(|innermost| f(innermost.borrow().as_deref()))
    }

    /// The innermost executor of this thread.
    pub(super) fn current() -> Option<Rc<Self>> {
        INNERMOST.with(|innermost| innermost.borrow().clone())
    }

    #[inline(always)]
    fn push(&self, id: TaskId) {
        self.local.push(id);
    }

    /// What is to be polled next. If there is nothing, in the queue of other threads neither, it is
    /// announced that the owner is about to sleep, unless it spins before: then the turn that follows
    /// announces it.
    #[inline]
    pub(super) fn next(&self) -> Option<TaskId> {
        self.pop().or_else(|| if self.may_rest(!reactor::spins()) { None } else { self.pop() })
    }

    #[inline]
    fn pop(&self) -> Option<TaskId> {
        self.local.pop()
    }

    /// Moves what other threads have made ready to the back of the local queue.
    #[inline]
    pub(super) fn collect_remote(&self) {
        if self.remote.filled.load(Ordering::Relaxed) {
            self.append_remote();
        }
    }

    #[cold]
    fn append_remote(&self) {
        let mut remote = self.remote.lock();
        self.remote.filled.store(false, Ordering::Relaxed);
        remote.iter_mut().for_each(|queue| self.local.append(queue));
    }

    /// Looks at the other threads' queue once more, the own one being empty: false if there is
    /// something to do. Else it can be announced that the owner is about to sleep, and has to be woken
    /// by the eventfd.
    #[inline]
    pub(super) fn may_rest(&self, announce: bool) -> bool {
        // Not announced if it need not be: who would see it would write the eventfd for nothing.
        if self.remote.filled.load(Ordering::Relaxed) {
            self.append_remote();
            return false;
        }
        if announce {
            self.remote.asleep.store(true, Ordering::SeqCst);
            if self.remote.filled.load(Ordering::SeqCst) {
                self.woke_up();
                self.append_remote();
                return false;
            }
        }
        true
    }

    /// Tells other threads that no eventfd is needed any more.
    pub(super) fn woke_up(&self) {
        self.remote.asleep.store(false, Ordering::Relaxed);
    }

    /// Queues the future that was given to `block_on`.
    pub(super) fn wake_root(&self) {
        self.root.waker.wake_by_ref();
    }

    /// Prepares a poll of the root future: later wakes queue it anew. False if the id is that of an
    /// earlier `block_on`'s.
    #[inline]
    pub(super) fn begin_root(&self, id: TaskId) -> bool {
        let own = self.root.task.id() == id;
        if own {
            self.root.task.begin_poll();
        }
        own
    }

    /// What the root future is polled with.
    #[inline]
    pub(super) fn root_waker(&self) -> &Waker {
        &self.root.waker
    }

    /// True once left-over tasks are being dropped: no task is taken in any more.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Takes a task in and queues it for its first poll.
    #[inline]
    pub(super) fn insert(&self, task: TaskBody) {
        self.push(self.tasks.insert(task));
    }

    /// Takes a task in that is dropped before all others when the executor ends.
    pub(super) fn insert_first_to_go(&self, task: TaskBody) {
        self.push(self.tasks.insert_first_to_go(task));
    }

    /// Polls a task that was taken out. Later wakes queue it anew.
    #[inline]
    pub(super) fn poll(&self, id: TaskId, body: &mut TaskBody) -> Poll<()> {
        let (abort, polling) = body.parts();
        if let Some(task) = abort.get() {
            task.shared.begin_poll();
            return polling.poll(&mut Context::from_waker(task.waker()));
        }
        let spare = self.take_spare(id);
        let polled = polling.poll(&mut Context::from_waker(&spare.waker));
        if spare.is_shared() {
            if polled.is_pending() {
                abort.keep(Arc::clone(&spare.task));
            }
            return polled;
        }
        // Nobody has a waker, and it has not woken itself: only an abort can bring its next poll, one that
        // may come yet, or one that has come during this poll from a handle that is gone by now.
        let may_be_aborted = !body.is_detached() || body.parts().0.is_ordered();
        if polled.is_pending() && !spare.is_queued() && may_be_aborted {
            body.parts().0.keep(Arc::clone(&spare.task));
        } else {
            self.spare.set(Some(spare));
        }
        polled
    }

    #[inline]
    fn take_spare(&self, id: TaskId) -> Box<TaskWaker> {
        match self.spare.take() {
            Some(spare) => {
                spare.serve(id);
                spare
            }
            None => Box::new(TaskWaker::new(Task::new(&self.remote, id))),
        }
    }

    /// Refuses new tasks from now on, and tells whether any are left.
    #[inline]
    pub(super) fn close(&self) -> bool {
        self.closing.set(true);
        !self.tasks.is_empty()
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("remote", &self.remote).finish_non_exhaustive()
    }
}
