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

use super::line::{Direction, Line, Parked, Waiting};
use super::{Reactor, spend_budget, warn_if_not_driven};
use crate::panics::wake_all;
use crate::selector::Reported;
use crate::sys::descriptor::{self, Polled};
use crate::sys::lock::{Guard, Lock};

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
    line: Line,
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
            state: Lock::default(),
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

    /// The count of edges, if it is that of the last try that found nothing more to do.
    #[inline]
    fn nothing_new(&self, direction: Direction) -> Option<u32> {
        let readiness = &self.readiness[direction as usize];
        let edges = readiness.edges.load(Ordering::Acquire);
        (edges == readiness.drained.load(Ordering::Relaxed)).then_some(edges)
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
    pub(super) fn collect(&self, reported: Reported, woken: &mut Vec<Waker>) {
        self.collect_locked(self.lock(), reported, woken);
    }

    /// As [`collect`](Self::collect), unless somebody has locked the source: then nothing is done.
    #[inline]
    pub(super) fn try_collect(&self, reported: Reported, woken: &mut Vec<Waker>) -> bool {
        let Some(state) = self.state.try_lock() else { return false };
        self.collect_locked(state, reported, woken);
        true
    }

    #[inline(always)]
    fn collect_locked(
        &self,
        mut state: Guard<'_, State>,
        reported: Reported,
        woken: &mut Vec<Waker>,
    ) {
        if reported.is_unusual() {
            self.plain_stream.store(false, Ordering::Relaxed);
            self.short_is_drained.store(false, Ordering::Relaxed);
        }
        let (reads, writes) = (reported.reads(), reported.writes());
        if writes {
            self.count_edge(Direction::Write);
        }
        if reads {
            self.count_edge(Direction::Read);
            state.line.take_reader(woken);
        }
        state.line.take_rest(reads, writes, woken);
    }

    /// Called under the state's lock, and therefore a plain load and store.
    #[inline(always)]
    fn count_edge(&self, direction: Direction) {
        let edges = &self.readiness[direction as usize].edges;
        edges.store(edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Gives up all wakers if one of them was left by another thread than that of the reactor
    /// `home`.
    pub(super) fn collect_foreign(&self, home: u32, woken: &mut Vec<Waker>) {
        let mut state = self.lock();
        if state.line.all().any(|waiting| waiting.thread != home) {
            woken.append(&mut state.line.take_all());
        }
    }

    /// Whether it is registered with a reactor that is driven.
    pub(crate) fn is_watched(&self) -> bool {
        self.lock().home.as_ref().is_some_and(|home| home.is_driven())
    }

    /// Leaves the reactor, and gives up who still waits, to be dropped by the caller.
    pub(crate) fn leave(&self) -> Vec<Waker> {
        let mut state = self.lock();
        let left = state.line.take_all();
        let home = state.home.take();
        drop(state);
        if let Some(home) = home {
            home.unregister(self.fd);
        }
        left
    }

    /// A waiter of its own for one direction, for a future to hold.
    pub(crate) fn waiter(self: &Arc<Self>, direction: Direction) -> Waiter<'_> {
        Waiter { source: self, direction, parked: Parked::NOTHING }
    }

    /// Leaves the waker of a poll function: the last one that was left for this direction is woken.
    pub(crate) fn poll_wait(
        self: &Arc<Self>,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.wait(direction, &mut Parked::of_poll_function(), cx)
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
        let edges = self.edges(direction);
        let ready = match direction {
            Direction::Read => descriptor::is_readable(self.fd)?,
            Direction::Write => descriptor::is_writable(self.fd)?,
        };
        self.note_answer(direction, edges, ready);
        Ok(ready)
    }

    /// Asks for both directions. Whoever has just connected mostly finds nothing to read yet, and
    /// knows by this without a call that would fail.
    fn ask_kernel_for_both(&self) -> io::Result<Polled> {
        let edges = [Direction::Read, Direction::Write].map(|direction| self.edges(direction));
        let polled = descriptor::poll_both(self.fd)?;
        self.note_answer(Direction::Read, edges[0], polled.readable);
        self.note_answer(Direction::Write, edges[1], polled.writable);
        Ok(polled)
    }

    #[inline]
    fn edges(&self, direction: Direction) -> u32 {
        self.readiness[direction as usize].edges.load(Ordering::Acquire)
    }

    /// Takes note of what the kernel has answered to a question that was asked at `edges`.
    fn note_answer(&self, direction: Direction, edges: u32, ready: bool) {
        self.drained(direction, if ready { edges.wrapping_sub(1) } else { edges });
    }

    /// Leaves a waker, or is ready if a try is worth it again. Ready with an error if the
    /// descriptor cannot be waited for.
    #[inline]
    pub(crate) fn wait(
        self: &Arc<Self>,
        direction: Direction,
        parked: &mut Parked,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.park(direction, parked, cx) {
            None => Poll::Pending,
            Some(waker) => self.wait_in_line(direction, parked, waker),
        }
    }

    /// Leaves a waker in the common case: that of the first to wait for this direction, on the thread
    /// where the descriptor is watched. Otherwise gives it, for [`wait_in_line`](Self::wait_in_line).
    #[inline(always)]
    pub(crate) fn park(
        &self,
        direction: Direction,
        parked: &mut Parked,
        cx: &mut Context<'_>,
    ) -> Option<Waker> {
        if parked.key != 0 {
            return self.park_again(direction, parked, cx);
        }
        // Foreign code, and therefore before the lock.
        let waker = cx.waker().clone();
        let mut state = self.lock();
        let Some((thread, edges)) = self.place_for_first(&state, direction) else {
            drop(state);
            return Some(waker);
        };
        let key = state.line.new_key();
        *parked = Parked { key, edges };
        state.line.add_first(direction, Waiting { key, thread, waker });
        None
    }

    /// As [`park`](Self::park), for a party that has left a waker before, which may be there still.
    #[inline(never)]
    fn park_again(
        &self,
        direction: Direction,
        parked: &mut Parked,
        cx: &mut Context<'_>,
    ) -> Option<Waker> {
        if self.waits_already(direction, parked.key, cx.waker()) {
            return None;
        }
        let (key, waker) = (parked.key, cx.waker().clone());
        let mut state = self.lock();
        // The waker that it has left before may be among the others.
        let place = self.place_for_first(&state, direction).filter(|_| !state.line.has_others());
        let Some((thread, edges)) = place else {
            drop(state);
            return Some(waker);
        };
        *parked = Parked { key, edges };
        state.line.add_first(direction, Waiting { key, thread, waker });
        None
    }

    /// In the common case, that of the first to wait for this direction, on the thread where the
    /// descriptor is watched: that thread, and the count of edges.
    #[inline(always)]
    fn place_for_first(&self, state: &State, direction: Direction) -> Option<(u32, u32)> {
        let thread = state.drives_here()?;
        let edges = self.nothing_new(direction)?;
        (!state.line.has_first(direction)).then_some((thread, edges))
    }

    /// As [`wait`](Self::wait), whoever else waits and wherever the descriptor is watched.
    #[cold]
    pub(crate) fn wait_in_line(
        self: &Arc<Self>,
        direction: Direction,
        parked: &mut Parked,
        waker: Waker,
    ) -> Poll<io::Result<()>> {
        // What comes back is dropped here, where no lock is held.
        match Reactor::with_current(|here| self.leave_waker(direction, parked, waker, here))? {
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
        parked: &mut Parked,
        waker: Waker,
        here: &Arc<Reactor>,
    ) -> Left {
        warn_if_not_driven(here);
        let mut state = self.lock();
        let Some(edges) = self.nothing_new(direction) else { return Left::NotNow(waker) };
        let former = state.line.remove(direction, parked.key);
        let key = if parked.key == 0 { state.line.new_key() } else { parked.key };
        *parked = Parked { key, edges };
        state.line.add(direction, Waiting { key, thread: here.id, waker });
        match self.settle(&mut state, here) {
            Ok(()) => Left::Waiting(former),
            Err(error) => {
                self.forget_drained();
                let own = state.line.remove(direction, key);
                Left::Refused(error, [former, own], state.line.take_all())
            }
        }
    }

    /// Makes both directions worth a try: nobody watches the descriptor, so that no edge will tell
    /// what has come since the last one. Called under the state's lock.
    #[cold]
    fn forget_drained(&self) {
        self.count_edge(Direction::Read);
        self.count_edge(Direction::Write);
    }

    /// Whether this very waker waits under this key, on this thread, and nothing has happened
    /// since.
    fn waits_already(&self, direction: Direction, key: u32, waker: &Waker) -> bool {
        let state = self.lock();
        state.home.as_ref().is_some_and(Reactor::is_current)
            && self.nothing_new(direction).is_some()
            && state.line.find(direction, key).is_some_and(|it| it.waker.will_wake(waker))
    }

    /// Sees to it that a driven reactor watches the descriptor: the one it is with if others wait
    /// there, else this thread's.
    fn settle(self: &Arc<Self>, state: &mut State, here: &Arc<Reactor>) -> io::Result<()> {
        let shared = state.line.all().any(|waiting| waiting.thread != here.id);
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

    /// Takes the waker back that a party has left.
    #[inline]
    pub(crate) fn take_back(&self, direction: Direction, parked: Parked) {
        // An edge since then has taken the waker, so that most parties need not look for it.
        if parked.key != 0 && self.edges(direction) == parked.edges {
            self.withdraw(direction, parked.key);
        }
    }

    #[cold]
    fn withdraw(&self, direction: Direction, key: u32) {
        let waiting = self.lock().line.remove(direction, key);
        drop(waiting);
    }
}

impl State {
    /// The id of the reactor that watches the descriptor, if that is this thread's and it is
    /// driven.
    #[inline]
    fn drives_here(&self) -> Option<u32> {
        let home = self.home.as_ref()?;
        home.is_driven_here().then_some(home.id)
    }
}

/// One party that waits for one direction of a source. Dropping it takes its waker back.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    source: &'a Arc<Source>,
    direction: Direction,
    parked: Parked,
}

impl Waiter<'_> {
    /// Ready when the kernel says so, whatever was done to the descriptor behind our back; see
    /// `poll(2)`.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.source.ask_kernel(self.direction)? {
            ready!(self.source.wait(self.direction, &mut self.parked, cx))?;
        }
        spend_budget(cx).map(Ok)
    }

    /// For the writing side of a socket for which `connect(2)` is under way: ready when that has
    /// ended, with whether it may have failed.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let polled = self.source.ask_kernel_for_both()?;
            if polled.writable {
                return spend_budget(cx).map(|()| Ok(polled.failed));
            }
            ready!(self.source.wait(self.direction, &mut self.parked, cx))?;
        }
    }
}

impl Drop for Waiter<'_> {
    #[inline]
    fn drop(&mut self) {
        self.source.take_back(self.direction, self.parked);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Driving, Release, Turn, drive};
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn what_is_told_of_a_locked_source_is_not_lost() {
        let reactor = Reactor::new().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let source = Arc::new(Source::new(&near));
        reactor.register(&source).unwrap();
        let before = source.edges(Direction::Read);
        far.write_all(b"x").unwrap();
        let (locked, is_locked) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _held = source.lock();
                locked.send(()).unwrap();
                thread::sleep(Duration::from_millis(50));
            });
            is_locked.recv().unwrap();
            let mut turn = Turn::new();
            reactor.turn(Some(Duration::ZERO), &mut turn, |_| true).unwrap();
        });
        assert_ne!(source.edges(Direction::Read), before);
        reactor.unregister(source.fd());
    }

    #[test]
    fn who_waits_where_it_is_watched_takes_the_short_way() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (near, _far) = UnixStream::pair().unwrap();
        let (source, read) = (Arc::new(Source::new(&near)), Direction::Read);
        let driving = drive().unwrap();
        source.drained(read, source.edges(read));
        let mut parked = Parked::NOTHING;
        assert!(source.park(read, &mut parked, cx).is_some(), "nobody watches it yet");
        assert!(source.wait(read, &mut parked, cx).is_pending());
        // Once an edge has taken the waker, and once as somebody new.
        _ = source.lock().line.take_all();
        assert!(source.park(read, &mut parked, cx).is_none());
        source.take_back(read, parked);
        assert!(source.park(read, &mut { Parked::NOTHING }, cx).is_none());
        drop(source.leave());
        drop(driving);
    }

    #[test]
    fn what_has_left_is_watched_no_more() {
        let reactor = Reactor::new().unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let source = Arc::new(Source::new(&near));
        reactor.register(&source).unwrap();
        assert_eq!(reactor.watched.load(Ordering::Relaxed), 1);
        reactor.unregister(source.fd());
        assert_eq!(reactor.watched.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_who_drives_it_sends_guests_away_if_there_were_any() {
        let (near, _far) = UnixStream::pair().unwrap();
        let source = Arc::new(Source::new(&near));
        let end = |mut driving: Driving| driving.reactor.take().unwrap().end_drive();
        let outer = drive().unwrap();
        let reactor = Arc::clone(outer.reactor());
        reactor.register(&source).unwrap();
        assert!(reactor.lend());
        assert!(!end(drive().unwrap()), "another goes on");
        assert!(reactor.is_driven_here());
        assert!(end(outer));
        assert!(!reactor.is_driven() && !reactor.is_driven_here());

        reactor.lends.store(false, Ordering::Relaxed);
        assert!(!end(drive().unwrap()), "there was no guest");
        reactor.unregister(source.fd());
        // The thread is to let go of it.
        drop(drive().unwrap());
    }

    #[test]
    fn a_thread_that_has_let_go_of_it_does_not_drive_it() {
        let driving = drive().unwrap();
        let reactor = Arc::clone(driving.reactor());
        assert!(reactor.is_driven_here());
        // As exit(3) does in the midst of a `block_on`.
        drop(Release);
        assert!(!reactor.is_driven_here());
    }
}
