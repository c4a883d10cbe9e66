//! The kernel's objects as far as the models need them: eventfds, pipes of records, epoll sets that
//! watch edges, and futexes.
//!
//! Each call is one moment, in which a thread may be switched before; and whoever uses an object
//! sees what those did before who used it earlier, as the kernel's locks have it.

use crate::atomics::{AtomicU32, AtomicUsize};
use crate::model::backend::{Thread, current, park};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

pub mod calls;
pub mod fd;

/// How much an eventfd may count to: small, so that it becomes full.
static MOST_COUNTED: AtomicU64 = AtomicU64::new(1);
/// How many records a pipe takes.
static PIPE_ROOM: AtomicU64 = AtomicU64::new(1);

static FILES: Mutex<BTreeMap<RawFd, Arc<File>>> = Mutex::new(BTreeMap::new());
static FUTEXES: Mutex<Futexes> = Mutex::new(Futexes { spare: Vec::new(), used: BTreeMap::new() });
/// How many words may be slept at in a run.
const MOST_FUTEXES: usize = 2;

pub fn set_most_counted(most: u64) {
    MOST_COUNTED.store(most, Ordering::Relaxed);
}

pub fn set_pipe_room(records: u64) {
    PIPE_ROOM.store(records, Ordering::Relaxed);
}

/// Forgets what the last run has left.
pub(crate) fn reset() {
    FILES.lock().unwrap().clear();
    let mut futexes = FUTEXES.lock().unwrap();
    futexes.used.clear();
    // Made before there is any other thread.
    futexes.spare = (0..MOST_FUTEXES).map(|_| Arc::default()).collect();
}

/// The order in which an object is used.
#[derive(Debug, Default)]
struct Order(AtomicUsize);

impl Order {
    fn next(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[derive(Debug)]
enum Content {
    Counter { count: u64, most: u64 },
    Pipe { records: VecDeque<Vec<u8>>, room: u64 },
}

#[derive(Debug)]
pub(crate) struct File {
    order: Order,
    content: Mutex<Content>,
    watchers: Mutex<Vec<(Weak<Set>, u64)>>,
}

/// What a call would say.
enum Refused {
    WouldBlock,
    Invalid,
}

fn open(content: Content) -> Arc<File> {
    let (content, watchers) = (Mutex::new(content), Mutex::new(Vec::new()));
    Arc::new(File { order: Order::default(), content, watchers })
}

fn new_counter() -> RawFd {
    install(&open(Content::Counter { count: 0, most: MOST_COUNTED.load(Ordering::Relaxed) }))
}

fn new_pipe() -> [RawFd; 2] {
    let room = PIPE_ROOM.load(Ordering::Relaxed);
    let file = open(Content::Pipe { records: VecDeque::new(), room });
    [install(&file), install(&file)]
}

fn install(file: &Arc<File>) -> RawFd {
    let mut files = FILES.lock().unwrap();
    let fd = files.last_key_value().map_or(1000, |(last, _)| last + 1);
    files.insert(fd, Arc::clone(file));
    fd
}

pub(crate) fn file(fd: RawFd) -> Option<Arc<File>> {
    FILES.lock().unwrap().get(&fd).cloned()
}

fn close(fd: RawFd) {
    let file = FILES.lock().unwrap().remove(&fd);
    drop(file);
}

/// Whether a read would not block, as poll(2) tells.
pub fn is_readable(fd: RawFd) -> bool {
    let Some(file) = file(fd) else { return true };
    file.order.next();
    file.is_readable()
}

impl File {
    fn is_readable(&self) -> bool {
        match &*self.content.lock().unwrap() {
            Content::Counter { count, .. } => *count > 0,
            Content::Pipe { records, .. } => !records.is_empty(),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Refused> {
        self.order.next();
        self.put(bytes)?;
        let watchers = self.watchers.lock().unwrap().clone();
        for (set, token) in watchers {
            if let Some(set) = set.upgrade() {
                set.report(token);
            }
        }
        Ok(bytes.len())
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut *self.content.lock().unwrap() {
            Content::Counter { count, most } => {
                let more = u64::from_ne_bytes(bytes.try_into().map_err(|_| Refused::Invalid)?);
                let sum = count.checked_add(more).filter(|sum| *sum <= *most || *count == 0);
                *count = sum.ok_or(Refused::WouldBlock)?;
            }
            Content::Pipe { records, room } if (records.len() as u64) < *room => {
                records.push_back(bytes.to_vec());
            }
            Content::Pipe { .. } => return Err(Refused::WouldBlock),
        }
        Ok(())
    }

    fn read(&self, target: &mut [u8]) -> Result<usize, Refused> {
        self.order.next();
        match &mut *self.content.lock().unwrap() {
            Content::Counter { count: 0, .. } => Err(Refused::WouldBlock),
            Content::Counter { count, .. } => {
                let bytes = std::mem::take(count).to_ne_bytes();
                target.get_mut(..bytes.len()).ok_or(Refused::Invalid)?.copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Content::Pipe { records, .. } if records.is_empty() => Err(Refused::WouldBlock),
            Content::Pipe { records, .. } => {
                let mut length = 0;
                while let Some(room) =
                    records.front().and_then(|it| target.get_mut(length..length + it.len()))
                {
                    length += room.len();
                    room.copy_from_slice(&records.pop_front().expect("it was there"));
                }
                Ok(length)
            }
        }
    }
}

/// An epoll set. All that it watches is watched for reading, and for edges.
#[derive(Debug, Default)]
pub struct Set {
    order: Order,
    state: Mutex<SetState>,
}

#[derive(Debug, Default)]
struct SetState {
    watched: BTreeMap<u64, Weak<File>>,
    ready: Vec<u64>,
    sleeper: Option<Thread>,
}

impl Set {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Watches a descriptor. If there is something to read already, that is an edge.
    pub fn add(self: &Arc<Self>, fd: RawFd, token: u64) {
        // One that is not modelled, another set for instance, is never ready.
        let Some(file) = file(fd) else { return };
        self.order.next();
        self.state.lock().unwrap().watched.insert(token, Arc::downgrade(&file));
        file.order.next();
        file.watchers.lock().unwrap().push((Arc::downgrade(self), token));
        if file.is_readable() {
            self.report(token);
        }
    }

    pub fn delete(self: &Arc<Self>, token: u64) {
        self.order.next();
        let mut state = self.state.lock().unwrap();
        state.ready.retain(|ready| *ready != token);
        let file = state.watched.remove(&token);
        drop(state);
        if let Some(file) = file.and_then(|file| file.upgrade()) {
            let is_it = |(set, theirs): &(Weak<Set>, u64)| {
                std::ptr::eq(set.as_ptr(), Arc::as_ptr(self)) && *theirs == token
            };
            file.watchers.lock().unwrap().retain(|watcher| !is_it(watcher));
        }
    }

    fn report(&self, token: u64) {
        self.order.next();
        let mut state = self.state.lock().unwrap();
        if !state.watched.contains_key(&token) {
            return;
        }
        if !state.ready.contains(&token) {
            state.ready.push(token);
        }
        let sleeper = state.sleeper.take();
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
    }

    /// Waits for edges; with a timeout, it only looks.
    pub fn wait(&self, timeout: Option<Duration>) -> Vec<u64> {
        loop {
            self.order.next();
            let mut state = self.state.lock().unwrap();
            let SetState { watched, ready, sleeper } = &mut *state;
            // What was read meanwhile is no event any more.
            let still = |token: &u64| {
                watched.get(token).and_then(Weak::upgrade).is_some_and(|file| file.is_readable())
            };
            let tokens: Vec<u64> = ready.drain(..).filter(still).collect();
            if !tokens.is_empty() || timeout.is_some() {
                return tokens;
            }
            *sleeper = Some(current());
            drop(state);
            park();
        }
    }
}

struct Futexes {
    spare: Vec<Arc<Futex>>,
    /// By the address of the word.
    used: BTreeMap<usize, Arc<Futex>>,
}

/// Those who sleep at one address.
#[derive(Debug, Default)]
struct Futex {
    order: Order,
    sleepers: Mutex<VecDeque<Arc<Sleeper>>>,
}

#[derive(Debug)]
struct Sleeper {
    thread: Thread,
    woken: std::sync::atomic::AtomicBool,
}

fn futex(word: &AtomicU32) -> Arc<Futex> {
    let address = std::ptr::from_ref(word) as usize;
    let Futexes { spare, used } = &mut *FUTEXES.lock().unwrap();
    Arc::clone(used.entry(address).or_insert_with(|| spare.pop().expect("words enough")))
}

/// Sleeps until somebody wakes, unless the word is not this any more.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    let futex = futex(word);
    futex.order.next();
    if word.latest() != value {
        return;
    }
    let sleeper = Arc::new(Sleeper { thread: current(), woken: false.into() });
    futex.sleepers.lock().unwrap().push_back(Arc::clone(&sleeper));
    while !sleeper.woken.load(Ordering::SeqCst) {
        park();
    }
}

pub fn futex_wake_one(word: &AtomicU32) {
    let futex = futex(word);
    futex.order.next();
    let sleeper = futex.sleepers.lock().unwrap().pop_front();
    if let Some(sleeper) = sleeper {
        sleeper.woken.store(true, Ordering::SeqCst);
        sleeper.thread.unpark();
    }
}
