//! What the model knows: the tasks, the calls of `block_on` they run in, and who is to be polled.

use crate::bytes::Bytes;
use selio::{Handle, JoinError, JoinHandle};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::thread::{self, ThreadId};

pub(super) const MOST_TASKS: usize = 150;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Looks at the world, or changes it. Nothing of selio may be called meanwhile, which could come
/// back here.
pub(super) fn with<R>(body: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| body(world.borrow_mut().as_mut().expect("a program that runs")))
}

pub(super) fn set_world(world: Option<World>) -> Option<World> {
    WORLD.with(|place| place.replace(world))
}

/// Who is polled: a task, or the future of a `block_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Root(usize),
    Task(usize),
}

/// What a panic of the program carries: whose it is, and whether its destructor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker(pub(super) Who, pub(super) bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Panicked(Marker),
    Aborted,
}

/// What a task returns: it counts those that live.
#[derive(Debug)]
pub(super) struct Output {
    task: usize,
    living: Arc<AtomicUsize>,
}

impl Output {
    pub(super) fn new(task: usize) -> Self {
        let living = with(|world| Arc::clone(&world.outputs));
        living.fetch_add(1, Ordering::SeqCst);
        Self { task, living }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(super) struct Task {
    /// The `block_on` it belongs to.
    pub(super) level: usize,
    /// The order of creation, once it was created.
    pub(super) order: Option<usize>,
    /// It stands in the queue.
    queued: bool,
    /// It was woken since it was last polled, perhaps by another thread.
    pub(super) woken: Arc<AtomicBool>,
    pub(super) aborted: bool,
    /// What its last poll has come to.
    pub(super) outcome: Option<Ending>,
    pub(super) ending: Option<Ending>,
    pub(super) drops: usize,
    /// Who awaits its handle.
    pub(super) joiner: Option<Who>,
    pub(super) panics_in_drop: bool,
    pub(super) acts_in_drop: bool,
}

/// A running `block_on`.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) id: usize,
    queue: VecDeque<Who>,
    root_queued: bool,
    /// The root future has ended, so that what is left is dropped.
    pub(super) closing: bool,
    last_dropped: usize,
    /// The panic that the call is to end with.
    pub(super) panic: Option<Marker>,
}

pub(super) struct World {
    pub(super) bytes: Bytes,
    pub(super) tasks: Vec<Task>,
    pub(super) levels: Vec<Level>,
    levels_made: usize,
    orders: usize,
    pub(super) handles: BTreeMap<usize, JoinHandle<Output>>,
    pub(super) wakers: Vec<(Who, Waker)>,
    /// With the level that each belongs to.
    pub(super) doors: Vec<(usize, Handle)>,
    /// Threads that wake, and do not wait.
    pub(super) wakes: Vec<thread::JoinHandle<()>>,
    /// Threads that await a task.
    pub(super) joins: Vec<thread::JoinHandle<(usize, Result<Output, JoinError>)>>,
    pub(super) outputs: Arc<AtomicUsize>,
    home: ThreadId,
    /// Nothing has come from elsewhere so far, so it is known who comes next.
    pub(super) ordered: bool,
    /// Whose turn it was last.
    turn: Option<Who>,
    pub(super) may_thread: bool,
    pub(super) may_door: bool,
    pub(super) may_wait: bool,
    faults: Vec<String>,
}

impl World {
    pub(super) fn new(mut bytes: Bytes) -> Self {
        let first = bytes.byte();
        Self {
            bytes,
            tasks: Vec::new(),
            levels: Vec::new(),
            levels_made: 0,
            orders: 0,
            handles: BTreeMap::new(),
            wakers: Vec::new(),
            doors: Vec::new(),
            wakes: Vec::new(),
            joins: Vec::new(),
            outputs: Arc::default(),
            home: thread::current().id(),
            ordered: true,
            turn: None,
            may_thread: first & 1 != 0,
            may_door: first & 2 != 0,
            may_wait: first & 4 != 0,
            faults: Vec::new(),
        }
    }

    /// Notes what is wrong. A panic would be taken for one of the program's.
    pub(super) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(what());
        }
    }

    #[track_caller]
    pub(super) fn assert_no_fault(&self) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }

    pub(super) fn level(&mut self, id: usize) -> Option<&mut Level> {
        self.levels.iter_mut().find(|level| level.id == id)
    }

    pub(super) fn innermost(&self) -> usize {
        self.levels.last().expect("a `block_on` that runs").id
    }

    /// Whether what is left of a level is dropped, or was.
    pub(super) fn is_closed(&mut self, level: usize) -> bool {
        self.level(level).is_none_or(|level| level.closing)
    }

    pub(super) fn begin_level(&mut self) -> usize {
        let id = self.levels_made;
        self.levels_made += 1;
        self.levels.push(Level {
            id,
            queue: VecDeque::new(),
            root_queued: false,
            closing: false,
            last_dropped: 0,
            panic: None,
        });
        id
    }

    /// Ends a level, all of whose tasks have ended, and returns its panic.
    pub(super) fn end_level(&mut self, id: usize) -> Option<Marker> {
        let level = self.levels.pop().expect("the level that was begun");
        assert_eq!(level.id, id);
        for index in 0..self.tasks.len() {
            let task = &self.tasks[index];
            let ended = task.ending.is_some() && (task.drops == 1 || task.order.is_none());
            let text = format!("task {index} is left over: {task:?}");
            self.expect(task.level != id || ended, || text);
        }
        // A destructor's panic ends there if another goes on already.
        level.panic.filter(|marker| !(marker.1 && thread::panicking()))
    }

    /// Notes a task that belongs to a level, and may have still to be created there.
    pub(super) fn add_task(&mut self, level: usize) -> usize {
        let (panics_in_drop, acts_in_drop) = (self.bytes.chance(16), self.bytes.chance(4));
        let refused = self.is_closed(level);
        self.tasks.push(Task {
            level,
            order: None,
            queued: false,
            woken: Arc::default(),
            aborted: false,
            outcome: None,
            ending: None,
            drops: 0,
            joiner: None,
            panics_in_drop: panics_in_drop && !refused,
            acts_in_drop: acts_in_drop && !refused,
        });
        self.tasks.len() - 1
    }

    /// A task is created, and is to be polled.
    pub(super) fn create(&mut self, id: usize) {
        let level = self.tasks[id].level;
        if !self.is_closed(level) {
            self.orders += 1;
            self.tasks[id].order = Some(self.orders);
            self.note_wake(Who::Task(id));
        }
    }

    /// Somebody is woken, or aborted, on this thread, and goes to the end of the queue.
    pub(super) fn note_wake(&mut self, who: Who) {
        let level = match who {
            Who::Root(level) => level,
            Who::Task(id) if self.tasks[id].ending.is_some() => return,
            Who::Task(id) => {
                self.tasks[id].woken.store(true, Ordering::SeqCst);
                self.tasks[id].level
            }
        };
        // Another level's goes the way of other threads.
        self.ordered &= self.levels.last().is_some_and(|innermost| innermost.id == level);
        let queued = match who {
            Who::Root(_) => self.level(level).map(|level| &mut level.root_queued),
            Who::Task(id) => Some(&mut self.tasks[id].queued),
        };
        let before = queued.is_none_or(|queued| std::mem::replace(queued, true));
        let known = !before && self.ordered;
        if let (true, Some(level)) = (known, self.level(level)) {
            level.queue.push_back(who);
        }
    }

    /// It is somebody's turn: to be polled, or to be dropped if that was ordered.
    fn begin_turn(&mut self, who: Who) {
        let here = thread::current().id() == self.home;
        self.expect(here, || format!("{who:?} has its turn on another thread"));
        let level = match who {
            Who::Root(level) => level,
            Who::Task(id) => self.tasks[id].level,
        };
        self.turn = Some(who);
        let innermost = self.innermost() == level;
        self.expect(innermost, || format!("{who:?} has its turn inside another `block_on`"));
        if !self.ordered {
            return;
        }
        let next = loop {
            match self.level(level).and_then(|level| level.queue.pop_front()) {
                Some(Who::Task(id)) if self.tasks[id].ending.is_some() => {}
                next => break next,
            }
        };
        self.expect(next == Some(who), || format!("it was the turn of {next:?}, not of {who:?}"));
    }

    pub(super) fn begin_poll_of_root(&mut self, level: usize, is_first: bool) {
        if !is_first {
            self.begin_turn(Who::Root(level));
        }
        let closing = self.is_closed(level);
        self.expect(!closing, || format!("root {level} was polled after its end"));
        if let Some(level) = self.level(level) {
            level.root_queued = false;
        }
    }

    pub(super) fn begin_poll(&mut self, id: usize) {
        self.begin_turn(Who::Task(id));
        let task = &mut self.tasks[id];
        task.queued = false;
        task.woken.store(false, Ordering::SeqCst);
        let living = task.outcome.is_none() && task.ending.is_none() && !task.aborted;
        let text = format!("polled at its end: {task:?}");
        self.expect(living, || text);
    }

    /// A task's future is dropped: it has ended in its poll, was aborted, or is left over.
    pub(super) fn begin_drop(&mut self, id: usize) {
        self.tasks[id].drops += 1;
        let here = thread::current().id() == self.home;
        let once = self.tasks[id].drops == 1;
        let text = format!("not dropped once, and here: {:?}", self.tasks[id]);
        self.expect(here && once, || text);
        let (level, order) = (self.tasks[id].level, self.tasks[id].order);
        if self.tasks[id].outcome.is_some() {
            return;
        }
        let aborted = self.tasks[id].aborted;
        match (self.is_closed(level), order) {
            (true, Some(order)) => {
                let level = self.level(level).expect("a `block_on` that ends");
                let later = std::mem::replace(&mut level.last_dropped, order) < order;
                self.expect(later, || format!("task {id} is dropped before an older one"));
            }
            (true, None) => {}
            (false, _) => {
                self.begin_turn(Who::Task(id));
                self.expect(aborted, || format!("task {id} is dropped without a reason"));
            }
        }
    }

    /// What is told to the handle, as soon as the destructor has ended; and its panic.
    pub(super) fn end_drop(&mut self, id: usize) -> Option<Marker> {
        let (level, task) = (self.tasks[id].level, &self.tasks[id]);
        let panic = task.panics_in_drop.then_some(Marker(Who::Task(id), true));
        let (outcome, aborted) = (task.outcome, task.aborted);
        let ending = match (outcome, panic) {
            (Some(Ending::Done), Some(marker)) => Ending::Panicked(marker),
            (Some(outcome), _) => outcome,
            (None, Some(marker)) if aborted && !self.is_closed(level) => Ending::Panicked(marker),
            (None, _) => Ending::Aborted,
        };
        if outcome.is_none() && self.is_closed(level) {
            if let Some(level) = self.level(level) {
                level.panic = level.panic.or(panic);
            }
        }
        self.end_task(id, ending);
        panic
    }

    pub(super) fn end_task(&mut self, id: usize, ending: Ending) {
        self.tasks[id].ending = Some(ending);
        if let Some(joiner) = self.tasks[id].joiner.take() {
            self.note_wake(joiner);
        }
    }

    pub(super) fn note_abort(&mut self, id: usize) {
        if self.tasks[id].ending.is_none() && !self.tasks[id].aborted {
            self.tasks[id].aborted = true;
            // One that has still to be created is looked at then.
            if self.tasks[id].order.is_some() {
                self.note_wake(Who::Task(id));
                // An abort in the task's own poll may count when that is over, after what it wakes yet.
                self.ordered &= self.turn != Some(Who::Task(id));
            }
        }
    }

    /// Compares what a handle has given with the end of its task.
    pub(super) fn note_result(&mut self, id: usize, result: Result<Output, JoinError>) {
        let told = match result {
            Ok(output) if output.task == id => Some(Ending::Done),
            Ok(_) => None,
            Err(error) if error.is_aborted() => Some(Ending::Aborted),
            Err(error) => error.into_panic().downcast().ok().map(|it| Ending::Panicked(*it)),
        };
        let ending = self.tasks[id].ending;
        self.expect(told.is_some() && told == ending, || {
            format!("task {id} has ended as {ending:?}, and its handle gave {told:?}")
        });
    }

    /// Everything that was woken has been polled, what was aborted has ended, and what was ordered
    /// was created.
    pub(super) fn expect_quiet(&mut self, level: usize) {
        for index in 0..self.tasks.len() {
            let task = &self.tasks[index];
            let lost = task.woken.load(Ordering::SeqCst) || task.aborted || task.order.is_none();
            let text = format!("a wake, an abort or an order is lost: task {index}, {task:?}");
            let alive = task.level == level && task.ending.is_none();
            self.expect(!(alive && lost), || text);
        }
    }
}
