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
//! 3. Otherwise it goes to the remote queue, under its lock; if the owner sleeps, the eventfd is
//!    written, once for each sleep.
//!
//! The owner sets `asleep` in its last look at the remote queue, under its lock, if there is
//! nothing in it: either the lock's order shows the owner what was pushed, or it shows the pusher
//! that the owner is asleep. So there is at most one write for each wait. An owner that spins before
//! it sleeps looks at the queue as often as at the kernel, and sets `asleep` when it is through.
//!
//! # Tasks that nobody wakes
//!
//! Many tasks are done in their first poll, or only ever wake themselves. One [`TaskWaker`] serves
//! all of those in turn. When a poll leaves a clone of it somewhere, it becomes that task's own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

use super::table::{Table, TaskId};
use crate::reactor;
use crate::sys::event_fd::EventFd;
use crate::sys::lock::{Guard, Lock};

pin_project! {
    /// A task as the table keeps it. When its future is done, it gives back the waker of whoever awaits the `JoinHandle`.
    #[project = Projection]
    pub(super) struct Body<F: ?Sized> {
        // What its wakers share, once it has one of its own.
        task: Option<Arc<Task>>,
        #[pin]
        future: F,
    }
}

pub(super) type TaskBody = Pin<Box<Body<dyn Future<Output = Option<Waker>>>>>;

/// How much room the queue and the table of an executor may have that is kept to be used again.
const LONGEST_KEPT: usize = 1024;

/// The bit of a task's state, besides its id, that says that it is in a queue.
const QUEUED: u64 = 1 << 62;

/// The part of a task that its wakers share.
#[derive(Debug)]
struct Task {
    /// Its id, and whether it is queued.
    state: AtomicU64,
    remote: Arc<Remote>,
}

impl Task {
    #[inline]
    fn id(&self) -> Option<TaskId> {
        TaskId::from_bits(self.state.load(Ordering::Relaxed))
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED == 0 {
            self.id().into_iter().for_each(|id| self.remote.schedule(id));
        }
    }
}

impl Task {
    fn new(remote: &Arc<Remote>, id: TaskId) -> Arc<Self> {
        Arc::new(Task { state: AtomicU64::new(id.to_bits()), remote: Arc::clone(remote) })
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
    /// True from the owner's last look at the queue until the owner is up again. Who turns it
    /// false writes the eventfd.
    asleep: AtomicBool,
    /// Weak, for wakers and handles may live long, and need not keep the descriptor of a thread
    /// open that has ended.
    wakeup: Weak<EventFd>,
}

impl Remote {
    fn new(wakeup: &Arc<EventFd>) -> Arc<Self> {
        Arc::new(Remote {
            queue: Lock::new(Some(Vec::new())),
            asleep: AtomicBool::new(false),
            wakeup: Arc::downgrade(wakeup),
        })
    }

    fn lock(&self) -> Guard<'_, Option<Vec<TaskId>>> {
        self.queue.lock()
    }

    /// Queues a task for its next poll, from whatever thread.
    #[inline]
    pub(super) fn schedule(&self, id: TaskId) {
        INNERMOST.with(|innermost| match &*innermost.borrow() {
            Some(it) if ptr::eq(&*it.remote, self) => it.push(id),
            _ => self.push(id),
        });
    }

    fn push(&self, id: TaskId) {
        let taken = self.lock().as_mut().map(|queue| queue.push(id)).is_some();
        // The lock orders this load after the owner's store if the owner looked before the push, so
        // a load may go first.
        if taken && self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst)
        {
            if let Some(wakeup) = self.wakeup.upgrade() {
                // An eventfd that is neither full nor closed takes every write, and we hold it.
                _ = wakeup.wake();
            }
        }
    }
}

/// How a poll of a task has ended.
pub(super) enum Polled {
    Pending,
    Done,
    /// And somebody awaits it.
    DoneFor(Waker),
}

impl Polled {
    /// Looks at the result where it lies, piece by piece. Nearly always it is pending, and to copy
    /// all of it, of which a word has just been written, takes longer than the rest of the poll.
    #[inline(always)]
    fn of(future: Pin<&mut dyn Future<Output = Option<Waker>>>, waker: &Waker) -> Self {
        match future.poll(&mut Context::from_waker(waker)) {
            Poll::Pending => Self::Pending,
            Poll::Ready(None) => Self::Done,
            Poll::Ready(Some(joiner)) => Self::DoneFor(joiner),
        }
    }
}

/// The run queue and the task table of one `block_on`.
pub(super) struct Scheduler {
    remote: Arc<Remote>,
    local: RefCell<VecDeque<TaskId>>,
    pub(super) tasks: Table<TaskBody>,
    /// For the next task that has none of its own.
    spare: Cell<Option<Box<TaskWaker>>>,
    root: TaskWaker,
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
        let (remote, tasks) = (Remote::new(wakeup), Table::new());
        Rc::new(Scheduler {
            root: TaskWaker::new(Task::new(&remote, tasks.root_id())),
            remote,
            local: RefCell::new(VecDeque::new()),
            tasks,
            spare: Cell::new(None),
            closing: Cell::new(false),
        })
    }

    /// Is the innermost executor of this thread until the guard is dropped.
    pub(super) fn enter(self: &Rc<Self>) -> Entered {
        Entered { outer: INNERMOST.with(|innermost| innermost.replace(Some(Rc::clone(self)))) }
    }

    /// Ends, all tasks being gone. Refuses what other threads still push, or, if nobody could push
    /// anything, is as new, and says so.
    pub(super) fn end(&self) -> bool {
        let forgotten = self.is_forgotten();
        if forgotten {
            self.local.borrow_mut().clear();
            // Ids count on, so that no old one means anything in the next `block_on`.
            self.root.serve(self.tasks.root_id());
            self.closing.set(false);
        } else {
            let remote = self.remote.lock().take();
            drop(remote);
            drop(self.local.take());
        }
        forgotten
    }

    /// Whether no waker and no handle of this executor is left but its own. What has become large is
    /// not kept either.
    fn is_forgotten(&self) -> bool {
        let spare = self.spare.take();
        let own = 2 + usize::from(spare.is_some());
        self.spare.set(spare);
        Arc::strong_count(&self.remote) == own
            && !self.root.is_shared()
            && self.local.borrow().capacity() <= LONGEST_KEPT
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
        self.local.borrow_mut().push_back(id);
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
    fn append(&self, queue: &mut Vec<TaskId>) {
        // Not `extend`, whose code is ten times as long.
        queue.drain(..).for_each(|id| self.push(id));
    }

    /// Looks at the other threads' queue once more, the own one being empty: false if there is
    /// something to do. Else it can be announced that the owner is about to sleep, and has to be woken
    /// by the eventfd.
    pub(super) fn may_rest(&self, announce: bool) -> bool {
        let mut remote = self.remote.lock();
        if let Some(queue) = remote.as_mut().filter(|queue| !queue.is_empty()) {
            self.append(queue);
            return false;
        }
        if announce {
            // Under the lock: who pushes later sees it and wakes us, and who pushed before was
            // collected.
            self.remote.asleep.store(true, Ordering::SeqCst);
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
        let own = self.root.task.id() == Some(id);
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
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(super) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Takes a task in and queues it for its first poll. It has the table's
    /// [next id](Table::next_id).
    #[inline]
    pub(super) fn insert(&self, future: impl Future<Output = Option<Waker>> + 'static) {
        self.push(self.tasks.insert(Box::pin(Body { task: None, future })));
    }

    /// Takes a task in that is dropped before all others when the executor ends.
    pub(super) fn insert_first_to_go(&self, future: impl Future<Output = Option<Waker>> + 'static) {
        self.push(self.tasks.insert_first_to_go(Box::pin(Body { task: None, future })));
    }

    /// Polls a task that was taken out. Later wakes queue it anew.
    #[inline]
    pub(super) fn poll(&self, id: TaskId, body: &mut TaskBody) -> Polled {
        let Projection { task, future } = body.as_mut().project();
        if let Some(task) = task {
            task.begin_poll();
            let waker = Waker::from(Arc::clone(task));
            return Polled::of(future, &waker);
        }
        let spare = self.take_spare(id);
        let polled = Polled::of(future, &spare.waker);
        if spare.is_shared() {
            *task = Some(Arc::clone(&spare.task));
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
