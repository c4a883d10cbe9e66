//! One descriptor: what is known of its readiness, who waits for it, and where.
//!
//! A source is registered with the reactor of the thread that first has to *wait* for it: once, for
//! both directions, edge-triggered. No `epoll_ctl` follows while it stays there.
//!
//! # Edges
//!
//! Each direction counts the edges that the kernel has reported, and remembers the count at which
//! it was last found drained. It is worth a try while the two differ. Whoever finds the descriptor
//! drained stores the count it read *before* it tried: an edge that came meanwhile has made the
//! count greater, and stays.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker, ready};

use super::{Reactor, spend_budget, warn_if_not_driven};
use crate::panics::wake_all;
use crate::selector::Events;
use crate::sys::descriptor;
use crate::sys::lock::{Guard, Lock};

/// What one waits for: to read or to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

/// A descriptor as the reactor knows it.
#[derive(Debug)]
pub(crate) struct Source {
    fd: RawFd,
    /// Whether the object is nothing but a socket; see [`Source::bare_socket`].
    bare_socket: bool,
    /// Whether it is a TCP stream of which no hang-up, error or urgent data were ever reported.
    plain_stream: AtomicBool,
    /// Whether a short read or write means that nothing is left; see [`Source::trusts_short`].
    short_is_drained: AtomicBool,
    readiness: [Readiness; 2],
    state: Lock<State>,
}

#[derive(Debug)]
struct Readiness {
    /// Written under the state's lock only.
    edges: AtomicU32,
    drained: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    home: Option<Arc<Reactor>>,
    /// The first waiter of each direction; nearly always there is no other.
    first: [Option<Waiting>; 2],
    others: Vec<(Direction, Waiting)>,
    /// The key of the next waiter. Keys are not used again.
    keys: u64,
}

/// A waker that was left, the key by which it is taken back, and the reactor of the thread that
/// left it.
#[derive(Debug)]
struct Waiting {
    key: u64,
    thread: u64,
    waker: Waker,
}

/// What became of a waker.
enum Left {
    /// It waits, in place of this one of the same key.
    Waiting(Option<Waiting>),
    /// There was no need: something has happened since the last try.
    NotNow(Waker),
    /// The descriptor cannot be waited for. What was left under this key is given back, and what
    /// others had left is given up.
    Refused(io::Error, [Option<Waiting>; 2], Vec<Waker>),
}

/// The key of the waiter that stands for all callers of the poll functions of one direction: the
/// last one is woken.
const POLLER: u64 = 0;

impl Source {
    /// A source whose descriptor is worth a first try in both directions.
    pub(crate) fn new(io: &impl AsFd) -> Self {
        let readiness = || Readiness { edges: AtomicU32::new(1), drained: AtomicU32::new(0) };
        Source {
            fd: io.as_fd().as_raw_fd(),
            bare_socket: false,
            plain_stream: AtomicBool::new(false),
            short_is_drained: AtomicBool::new(false),
            readiness: [readiness(), readiness()],
            state: Lock::new(State { keys: POLLER + 1, ..State::default() }),
        }
    }

    /// Says that this is a TCP stream without an upper-layer protocol; see
    /// [`Source::trusts_short`].
    pub(crate) fn plain_stream(self) -> Self {
        self.plain_stream.store(true, Ordering::Relaxed);
        self
    }

    /// Says that the object is a socket of std's type, and not something that writes to one in its
    /// own way.
    pub(crate) fn of_bare_socket(mut self) -> Self {
        self.bare_socket = true;
        self
    }

    /// The socket, if the object is nothing but one: what is sent past the object, by a call that
    /// std does not make, is what the object would have sent.
    pub(crate) fn bare_socket(&self) -> Option<RawFd> {
        self.bare_socket.then_some(self.fd)
    }

    /// The number that was registered, whatever the object behind it says later.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// The count of edges to give to [`drained`](Self::drained) later, if a try is worth it.
    #[inline]
    pub(crate) fn worth_a_try(&self, direction: Direction) -> Option<u32> {
        let readiness = &self.readiness[direction as usize];
        let edges = readiness.edges.load(Ordering::Acquire);
        (edges != readiness.drained.load(Ordering::Relaxed)).then_some(edges)
    }

    /// Notes that a try that began at `edges` found nothing more to do.
    #[inline]
    pub(crate) fn drained(&self, direction: Direction, edges: u32) {
        self.readiness[direction as usize].drained.store(edges, Ordering::Relaxed);
    }

    /// Whether a read or write that moves less than was asked for means that nothing is left for
    /// now.
    ///
    /// For a TCP stream it means that the buffer is drained or full, which saves the failing call
    /// that would tell. It does not hold once a hang-up, an error or urgent data were reported: a
    /// read stops short at each of them, and no new edge may follow. And it is of no use before the
    /// stream is registered, for to register it costs more than the call: a stream whose end is
    /// there already need never be.
    #[inline]
    pub(crate) fn trusts_short(&self) -> bool {
        self.short_is_drained.load(Ordering::Relaxed)
    }

    /// Takes note of an event and gives up the wakers of its directions.
    #[cold]
    pub(super) fn collect(&self, events: Events, woken: &mut Vec<Waker>) {
        self.collect_locked(self.lock(), events, woken);
    }

    /// As [`collect`](Self::collect), unless somebody has locked the source: then nothing is done.
    #[inline]
    pub(super) fn try_collect(&self, events: Events, woken: &mut Vec<Waker>) -> bool {
        let Some(state) = self.state.try_lock() else { return false };
        self.collect_locked(state, events, woken);
        true
    }

    #[inline(always)]
    fn collect_locked(&self, mut state: Guard<'_, State>, events: Events, woken: &mut Vec<Waker>) {
        if events.intersects(Events::HANGUP | Events::ERROR | Events::PRIORITY) {
            self.plain_stream.store(false, Ordering::Relaxed);
            self.short_is_drained.store(false, Ordering::Relaxed);
        }
        for (direction, event) in
            [(Direction::Read, Events::READ), (Direction::Write, Events::WRITE)]
        {
            if events.contains(event) {
                // A plain load and store, since edges are counted under the lock.
                let edges = &self.readiness[direction as usize].edges;
                edges.store(edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
                state.take(direction, woken);
            }
        }
    }

    /// Gives up all wakers if one of them was left by another thread than that of the reactor
    /// `home`.
    pub(super) fn collect_foreign(&self, home: u64, woken: &mut Vec<Waker>) {
        let mut state = self.lock();
        if state.all().any(|waiting| waiting.thread != home) {
            woken.append(&mut state.take_all());
        }
    }

    /// Whether it is registered with a reactor that is driven.
    pub(crate) fn is_watched(&self) -> bool {
        self.lock().home.as_ref().is_some_and(|home| home.is_driven())
    }

    /// Leaves the reactor, and gives up who still waits, to be dropped by the caller.
    pub(crate) fn leave(&self) -> Vec<Waker> {
        let mut state = self.lock();
        let left = state.take_all();
        let home = state.home.take();
        drop(state);
        if let Some(home) = home {
            home.unregister(self.fd);
        }
        left
    }

    /// A waiter of its own for one direction, for a future to hold.
    pub(crate) fn waiter(self: &Arc<Self>, direction: Direction) -> Waiter<'_> {
        Waiter { source: self, direction, left: None }
    }

    /// Leaves the waker of a poll function: the last one that was left for this direction is woken.
    pub(crate) fn poll_wait(
        self: &Arc<Self>,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.wait(direction, &mut Some((POLLER, 0)), cx)
    }

    /// As [`Waiter::poll_ready`], for the callers of the poll functions.
    pub(crate) fn poll_ready(
        self: &Arc<Self>,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.ask_kernel(direction)? {
            ready!(self.poll_wait(direction, cx))?;
        }
        // Charged when it is ready only: a task that has to wait lets the others run anyway.
        spend_budget(cx).map(Ok)
    }

    /// Asks `poll(2)` whether a try would block, and takes note of the answer, so that a try or a
    /// wait that follows agrees with it.
    fn ask_kernel(&self, direction: Direction) -> io::Result<bool> {
        let edges = self.readiness[direction as usize].edges.load(Ordering::Acquire);
        let ready = match direction {
            Direction::Read => descriptor::is_readable(self.fd)?,
            Direction::Write => descriptor::is_writable(self.fd)?,
        };
        self.drained(direction, if ready { edges.wrapping_sub(1) } else { edges });
        Ok(ready)
    }

    /// Leaves a waker, or is ready if a try is worth it again. Ready with an error if the
    /// descriptor cannot be waited for.
    #[inline]
    fn wait(
        self: &Arc<Self>,
        direction: Direction,
        left: &mut Option<(u64, u32)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if left.is_some_and(|(key, _)| self.waits_already(direction, key, cx.waker())) {
            return Poll::Pending;
        }
        // Foreign code, and therefore before the lock.
        let waker = cx.waker().clone();
        let mut state = self.lock();
        // The common case, in one piece: the first to wait for this direction, on the thread where
        // the descriptor is watched. Who may have left a waker before might find it among the
        // others.
        if let (Some(thread), None, None) =
            (state.drives_here(), &state.first[direction as usize], self.worth_a_try(direction))
        {
            if left.is_none() || state.others.is_empty() {
                let key = left.map_or_else(|| state.new_key(), |(key, _)| key);
                let edges = self.readiness[direction as usize].edges.load(Ordering::Relaxed);
                *left = Some((key, edges));
                state.first[direction as usize] = Some(Waiting { key, thread, waker });
                return Poll::Pending;
            }
        }
        drop(state);
        self.wait_in_line(direction, left, waker)
    }

    /// As [`wait`](Self::wait), whoever else waits and wherever the descriptor is watched.
    #[cold]
    fn wait_in_line(
        self: &Arc<Self>,
        direction: Direction,
        left: &mut Option<(u64, u32)>,
        waker: Waker,
    ) -> Poll<io::Result<()>> {
        // What comes back is dropped here, where no lock is held.
        match Reactor::with_current(|here| self.leave_waker(direction, left, waker, here))? {
            Left::Waiting(_former) => Poll::Pending,
            Left::NotNow(_waker) => Poll::Ready(Ok(())),
            Left::Refused(error, _own, stranded) => {
                // Whoever else waits has lost its reactor as well: polled again, each finds out for
                // itself. The one that asks is told now: a waker that polls when it is woken would
                // ask for ever.
                wake_all(stranded);
                Poll::Ready(Err(error))
            }
        }
    }

    fn leave_waker(
        self: &Arc<Self>,
        direction: Direction,
        left: &mut Option<(u64, u32)>,
        waker: Waker,
        here: &Arc<Reactor>,
    ) -> Left {
        warn_if_not_driven(here);
        let mut state = self.lock();
        if self.worth_a_try(direction).is_some() {
            return Left::NotNow(waker);
        }
        let edges = self.readiness[direction as usize].edges.load(Ordering::Relaxed);
        let (key, former) = match *left {
            Some((key, _)) => (key, state.remove(direction, key)),
            None => (state.new_key(), None),
        };
        *left = Some((key, edges));
        state.add(direction, Waiting { key, thread: here.id, waker });
        match self.settle(&mut state, here) {
            Ok(()) => Left::Waiting(former),
            Err(error) => {
                self.forget_drained();
                let own = state.remove(direction, key);
                Left::Refused(error, [former, own], state.take_all())
            }
        }
    }

    /// Makes both directions worth a try: nobody watches the descriptor, so that no edge will tell
    /// what has come since the last one. Called under the state's lock.
    #[cold]
    fn forget_drained(&self) {
        for Readiness { edges, .. } in &self.readiness {
            edges.store(edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
    }

    /// Whether this very waker waits under this key, on this thread, and nothing has happened
    /// since.
    fn waits_already(&self, direction: Direction, key: u64, waker: &Waker) -> bool {
        let state = self.lock();
        state.home.as_ref().is_some_and(Reactor::is_current)
            && self.worth_a_try(direction).is_none()
            && state.find(direction, key).is_some_and(|it| it.waker.will_wake(waker))
    }

    /// Sees to it that a driven reactor watches the descriptor: the one it is with if others wait
    /// there, else this thread's.
    fn settle(self: &Arc<Self>, state: &mut State, here: &Arc<Reactor>) -> io::Result<()> {
        let shared = state.all().any(|waiting| waiting.thread != here.id);
        if let Some(home) = &state.home {
            if Arc::ptr_eq(home, here) {
                return Ok(());
            }
            // Others are not taken along to where nothing waits.
            if shared && (home.lend() || !here.is_driven()) {
                return Ok(());
            }
            home.unregister(self.fd);
            state.home = None;
        }
        here.register(self)?;
        if shared {
            // The others are strangers there, and have to be sent home when it ends.
            here.lend();
        }
        state.home = Some(Arc::clone(here));
        let plain = self.plain_stream.load(Ordering::Relaxed);
        self.short_is_drained.store(plain, Ordering::Relaxed);
        Ok(())
    }

    #[cold]
    fn withdraw(&self, direction: Direction, key: u64) {
        let waiting = self.lock().remove(direction, key);
        drop(waiting);
    }
}

impl State {
    /// The id of the reactor that watches the descriptor, if that is this thread's and it is
    /// driven.
    #[inline]
    fn drives_here(&self) -> Option<u64> {
        let home = self.home.as_ref()?;
        (home.is_current() && home.is_driven()).then_some(home.id)
    }

    fn new_key(&mut self) -> u64 {
        let key = self.keys;
        self.keys += 1;
        key
    }

    fn all(&self) -> impl Iterator<Item = &Waiting> {
        self.first.iter().flatten().chain(self.others.iter().map(|(_, waiting)| waiting))
    }

    fn find(&self, direction: Direction, key: u64) -> Option<&Waiting> {
        let others =
            self.others.iter().filter(|(theirs, _)| *theirs == direction).map(|(_, it)| it);
        self.first[direction as usize].iter().chain(others).find(|it| it.key == key)
    }

    fn add(&mut self, direction: Direction, waiting: Waiting) {
        let first = &mut self.first[direction as usize];
        if first.is_none() {
            *first = Some(waiting);
        } else {
            self.others.push((direction, waiting));
        }
    }

    fn remove(&mut self, direction: Direction, key: u64) -> Option<Waiting> {
        if let Some(first) = self.first[direction as usize].take_if(|first| first.key == key) {
            return Some(first);
        }
        let mut others = self.others.iter();
        let position = others.position(|(theirs, it)| *theirs == direction && it.key == key)?;
        Some(self.others.swap_remove(position).1)
    }

    fn take_all(&mut self) -> Vec<Waker> {
        let mut all = Vec::new();
        self.take(Direction::Read, &mut all);
        self.take(Direction::Write, &mut all);
        all
    }

    #[inline]
    fn take(&mut self, direction: Direction, woken: &mut Vec<Waker>) {
        if let Some(first) = self.first[direction as usize].take() {
            woken.push(first.waker);
        }
        if !self.others.is_empty() {
            self.take_others(direction, woken);
        }
    }

    #[cold]
    fn take_others(&mut self, direction: Direction, woken: &mut Vec<Waker>) {
        let mut at = 0;
        while at < self.others.len() {
            if self.others[at].0 == direction {
                woken.push(self.others.swap_remove(at).1.waker);
            } else {
                at += 1;
            }
        }
    }
}

/// One party that waits for one direction of a source. Dropping it takes its waker back.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    source: &'a Arc<Source>,
    direction: Direction,
    /// The key under which a waker was left, and the count of edges at that time.
    left: Option<(u64, u32)>,
}

impl Waiter<'_> {
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Leaves the waker of this party; see [`Source::wait`].
    pub(crate) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.wait(self.direction, &mut self.left, cx)
    }

    /// Ready when the kernel says so, whatever was done to the descriptor behind our back; see
    /// `poll(2)`.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.source.ask_kernel(self.direction)? {
            ready!(self.poll_wait(cx))?;
        }
        spend_budget(cx).map(Ok)
    }
}

impl Drop for Waiter<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some((key, edges)) = self.left else { return };
        // An edge since then has taken the waker, so that most waiters need not look for it.
        if self.source.readiness[self.direction as usize].edges.load(Ordering::Acquire) == edges {
            self.source.withdraw(self.direction, key);
        }
    }
}
