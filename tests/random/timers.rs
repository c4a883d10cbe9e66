//! Timers against a list of deadlines.
//!
//! When a turn reads the clock, and when a timer that was given a duration read it, is known from
//! both sides only. So each deadline is a range, which is a single instant where the program has
//! said one.

use crate::bytes::Bytes;
use crate::kit;
use crate::kit::timers::HOUR;
use futures_core::Stream;
use kit::poll_with;
use selio::time::{MissedTicks, sleep};
use selio::{Driver, Timer, block_on};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

const MOST_TIMERS: usize = 48;

/// Runs a program.
pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::new(Bytes::new(bytes));
    while !world.bytes.is_empty() {
        match world.bytes.below(8) {
            0 => world.steps_outside(|| block_on(sleep(Duration::ZERO))),
            1 => world.steps_outside(drive),
            _ => block_on(world.steps_inside()),
        }
    }
    world.end();
}

/// A turn of somebody else's loop.
fn drive() {
    let mut driver = Driver::new(sleep(Duration::ZERO)).unwrap();
    loop {
        if driver.turn().is_ready() {
            return;
        }
        assert!(driver.next_deadline().is_some());
    }
}

/// Which wakers were woken, in order. Each waker holds the log, so that its owners are the wakers
/// that live, and one more.
type Log = Arc<Mutex<Vec<usize>>>;

/// A deadline, which is not before the one and not after the other.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: Instant,
    to: Instant,
}

impl Range {
    fn exactly(deadline: Instant) -> Self {
        Self { from: deadline, to: deadline }
    }

    /// What comes so long after a reading of the clock, between an earlier one and now; `None` if
    /// that is beyond the end of time.
    fn after(earlier: Instant, duration: Duration) -> Option<Self> {
        let now = Instant::now();
        Some(Self { from: earlier.checked_add(duration)?, to: now.checked_add(duration)? })
    }

    fn is_exact(self) -> bool {
        self.from == self.to
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was not polled since it was set.
    Set,
    /// It stands in the queue of this thread, behind those with lower numbers.
    Waits(usize),
    /// It has woken.
    Woken,
    /// It stood in the queue of another thread, which has ended.
    Elsewhere,
    /// It has told its last tick.
    Over(Instant),
}

#[derive(Debug)]
struct Entry {
    timer: Timer,
    /// `None` if it never goes off.
    deadline: Option<Range>,
    /// A former tick with which the next one is aligned.
    aligned: Option<Instant>,
    period: Option<Duration>,
    missed: MissedTicks,
    state: State,
    /// The number of the waker it was last polled with.
    waker: usize,
}

impl Entry {
    /// Whether it has to go off before another.
    fn is_before(&self, other: &Entry) -> bool {
        let (Some(own), Some(others)) = (self.deadline, other.deadline) else { return false };
        let equal = own.is_exact() && others.is_exact() && own.from == others.from;
        let (State::Waits(own_wait), State::Waits(other_wait)) = (self.state, other.state) else {
            return false;
        };
        own.to < others.from || equal && own_wait < other_wait
    }

    fn set(&mut self, deadline: Option<Range>, period: Option<Duration>) {
        (self.deadline, self.period) = (deadline, period);
        (self.aligned, self.state) = (None, State::Set);
    }

    /// Compares a tick with what it can be, and goes on to the next.
    fn tick(&mut self, tick: Instant, earlier: Instant) {
        let now = Instant::now();
        let deadline = self.deadline.expect("a timer that goes off");
        assert!(deadline.from <= tick && tick <= deadline.to, "{tick:?}, but {self:?}");
        assert!(tick <= now, "early");
        self.state = State::Over(tick);
        let Some(period) = self.period else { return };
        if let Some(former) = self.aligned {
            assert_eq!((tick - former).as_nanos() % period.as_nanos(), 0, "not aligned");
        }
        self.aligned = (self.missed == MissedTicks::Skip).then_some(tick);
        self.state = State::Set;
        self.deadline = Some(self.next(tick, period, earlier, now));
    }

    /// The tick after one, told between two readings of the clock.
    fn next(&self, tick: Instant, period: Duration, earlier: Instant, now: Instant) -> Range {
        let next = tick + period;
        match self.missed {
            _ if next > now => Range::exactly(next),
            MissedTicks::Burst => Range::exactly(next),
            MissedTicks::Delay if next > earlier => Range { from: next, to: now + period },
            MissedTicks::Delay => Range { from: earlier + period, to: now + period },
            MissedTicks::Skip => {
                let first_after = |time: Instant| {
                    let passed = time.saturating_duration_since(tick).as_nanos();
                    let periods = passed / period.as_nanos() + 1;
                    let nanos = u64::try_from(periods * period.as_nanos()).unwrap();
                    tick + Duration::from_nanos(nanos)
                };
                Range { from: first_after(earlier), to: first_after(now) }
            }
        }
    }
}

struct World {
    bytes: Bytes,
    log: Log,
    entries: Vec<Entry>,
    wakers: usize,
    waits: usize,
    last_deadline: Instant,
}

impl World {
    fn new(bytes: Bytes) -> Self {
        let (entries, last_deadline) = (Vec::new(), Instant::now());
        Self { bytes, log: Log::default(), entries, wakers: 0, waits: 0, last_deadline }
    }

    /// Some steps without a loop, and then one turn.
    fn steps_outside(&mut self, turn: fn()) {
        for _ in 0..self.bytes.below(8) {
            self.step();
        }
        let before = Instant::now();
        turn();
        self.check(before);
    }

    async fn steps_inside(&mut self) {
        for _ in 0..self.bytes.below(5) {
            for _ in 0..self.bytes.below(32) {
                self.step();
            }
            assert!(self.log.lock().unwrap().is_empty(), "woken without a turn");
            let before = Instant::now();
            match self.bytes.below(16) {
                0 => sleep(Duration::from_micros(300)).await,
                1 => block_on(sleep(Duration::ZERO)),
                _ => sleep(Duration::ZERO).await,
            };
            self.check(before);
        }
    }

    fn step(&mut self) {
        let len = self.entries.len();
        let what = self.bytes.below(16);
        if len == 0 || what < 4 && len < MOST_TIMERS {
            return self.make();
        }
        let index = self.bytes.below(len);
        match what {
            0..=4 => drop(self.entries.swap_remove(index)),
            5..=6 => self.set(index),
            7 => self.elsewhere(index),
            _ => self.poll(index),
        }
    }

    /// Mostly within some hundred microseconds of now; often one that another timer has.
    fn any_deadline(&mut self) -> Instant {
        match self.bytes.below(8) {
            0..=2 => {}
            3 => self.last_deadline = Instant::now() + HOUR,
            _ => {
                let past = Duration::from_micros(600);
                let deadline =
                    Instant::now() + 10 * Duration::from_micros(self.bytes.byte().into());
                self.last_deadline = deadline.checked_sub(past).unwrap_or(deadline);
            }
        }
        self.last_deadline
    }

    fn any_duration(&mut self) -> Duration {
        match self.bytes.below(16) {
            0 => Duration::MAX,
            1 => Duration::ZERO,
            _ => Duration::from_micros(u64::from(self.bytes.byte()) * 8 + 1),
        }
    }

    fn any_period(&mut self) -> Duration {
        self.any_duration().max(Duration::from_nanos(1)).min(HOUR)
    }

    fn make(&mut self) {
        let missed = [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip];
        let missed = missed[self.bytes.below(3)];
        let timer = Timer::never().missed_ticks(missed);
        let state = State::Set;
        let waker = usize::MAX;
        let entry =
            Entry { timer, deadline: None, aligned: None, period: None, missed, state, waker };
        self.entries.push(entry);
        let index = self.entries.len() - 1;
        self.set(index);
    }

    /// Sets a timer, or puts a new one into its place.
    fn set(&mut self, index: usize) {
        let (at, after, period) = (self.any_deadline(), self.any_duration(), self.any_period());
        let (how, new) = (self.bytes.below(5), self.bytes.chance(3));
        let missed = self.entries[index].missed;
        let timer = &mut self.entries[index].timer;
        let earlier = Instant::now();
        if new {
            *timer = match how {
                0 => Timer::at(at),
                1 => Timer::after(after),
                2 => Timer::interval_at(at, period),
                3 => Timer::interval(period),
                _ => Timer::never(),
            };
            *timer = std::mem::replace(timer, Timer::never()).missed_ticks(missed);
        } else {
            match how {
                0 => timer.set_at(at),
                1 => timer.set_after(after),
                2 => timer.set_interval_at(at, period),
                3 => timer.set_interval(period),
                _ => timer.set_after(Duration::MAX),
            }
        }
        let (deadline, period) = match how {
            0 => (Some(Range::exactly(at)), None),
            1 => (Range::after(earlier, after), None),
            2 => (Some(Range::exactly(at)), Some(period)),
            3 => (Range::after(earlier, period), Some(period)),
            _ => (None, None),
        };
        let entry = &mut self.entries[index];
        entry.set(deadline, period);
        assert_eq!(entry.timer.will_fire(), deadline.is_some());
    }

    /// A waker of its own, or the one it was polled with before.
    fn any_waker(&mut self, index: usize) -> Waker {
        let entry = &mut self.entries[index];
        if entry.waker == usize::MAX || self.bytes.chance(2) {
            (entry.waker, self.wakers) = (self.wakers, self.wakers + 1);
        }
        let (log, number) = (Arc::clone(&self.log), entry.waker);
        kit::closure_waker(move || log.lock().unwrap().push(number))
    }

    /// Polls a timer, as a future or as a stream: it is ready if it has woken, and only then.
    fn poll(&mut self, index: usize) {
        let (waker, stream) = (self.any_waker(index), self.bytes.chance(2));
        let entry = &mut self.entries[index];
        let earlier = Instant::now();
        let polled = poll(&mut entry.timer, &waker, stream);
        let now = Instant::now();
        let deadline = entry.deadline;
        let due = |time: Instant, range: Range| range.from <= time;
        match (entry.state, polled) {
            (State::Over(tick), Poll::Ready(again)) => assert!(!stream && tick == again),
            (State::Over(_), Poll::Pending) => assert!(stream),
            (State::Woken, Poll::Ready(tick)) => entry.tick(tick, earlier),
            // It has come back from another thread: the deadline alone counts.
            (State::Elsewhere, Poll::Ready(tick)) => entry.tick(tick, earlier),
            (State::Elsewhere, Poll::Pending) => {
                assert!(deadline.is_none_or(|it| it.to > earlier), "due, and pending");
                self.begin_wait(index);
            }
            (State::Set, Poll::Pending) if deadline.is_some() => self.begin_wait(index),
            (State::Set | State::Waits(_), Poll::Pending) => {}
            (state, polled) => {
                let due = deadline.is_some_and(|it| due(now, it));
                panic!("{polled:?} of one that is {state:?}, due: {due}")
            }
        }
        let entry = &self.entries[index];
        let fires = !matches!(entry.state, State::Over(_)) && entry.deadline.is_some();
        assert_eq!(entry.timer.will_fire(), fires);
    }

    fn begin_wait(&mut self, index: usize) {
        self.entries[index].state = State::Waits(self.waits);
        self.waits += 1;
    }

    /// Takes a timer to another thread, which drops it, sets it, polls it or awaits it.
    fn elsewhere(&mut self, index: usize) {
        let (how, waker) = (self.bytes.below(4), self.any_waker(index));
        let at = self.any_deadline();
        let mut entry = self.entries.swap_remove(index);
        let near = |it: Range| it.to < Instant::now() + Duration::from_millis(5);
        let earlier = Instant::now();
        let timer = &mut entry.timer;
        let there = |body: &mut (dyn FnMut() -> Poll<Instant> + Send)| {
            thread::scope(|scope| scope.spawn(body).join().unwrap())
        };
        match how {
            0 => return thread::scope(|scope| scope.spawn(move || drop(entry)).join().unwrap()),
            1 => {
                _ = there(&mut || {
                    timer.set_at(at);
                    Poll::Pending
                });
                entry.set(Some(Range::exactly(at)), None);
            }
            2 if entry.deadline.is_some_and(near) => {
                let tick = there(&mut || Poll::Ready(block_on(&mut *timer)));
                entry.note_elsewhere(tick, earlier);
            }
            _ => {
                let polled = there(&mut || poll_with(timer, &waker));
                assert!(
                    entry.state != State::Set || polled.is_pending(),
                    "ready at its first poll"
                );
                entry.note_elsewhere(polled, earlier);
            }
        }
        self.entries.push(entry);
    }

    /// Compares what was woken since an earlier reading of the clock with the list.
    fn check(&mut self, before: Instant) {
        let (now, woken) = (Instant::now(), std::mem::take(&mut *self.log.lock().unwrap()));
        let mut gone: Vec<usize> = Vec::new();
        for number in woken {
            let waits = |it: &Entry| it.waker == number && matches!(it.state, State::Waits(_));
            let index = self.entries.iter().position(waits);
            let index = index.expect("the wake of one that waits");
            let entry = &self.entries[index];
            assert!(entry.deadline.is_some_and(|it| it.from <= now), "early: {entry:?}");
            assert!(!gone.contains(&index), "twice: {entry:?}");
            let later = gone.iter().find(|&&other| entry.is_before(&self.entries[other]));
            assert!(later.is_none(), "out of order: {entry:?}");
            gone.push(index);
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if matches!(entry.state, State::Waits(_)) && !gone.contains(&index) {
                let due = entry.deadline.is_some_and(|it| it.to <= before);
                assert!(!due, "due, and not gone off: {entry:?}");
                let later = gone.iter().find(|&&other| entry.is_before(&self.entries[other]));
                assert!(later.is_none(), "passed over: {entry:?}");
            }
        }
        gone.into_iter().for_each(|index| self.entries[index].state = State::Woken);
    }

    /// Nothing is lost: whatever is to come soon comes; and what is dropped leaves nothing behind.
    fn end(&mut self) {
        let soon = Instant::now() + Duration::from_millis(20);
        let waiting = self.entries.iter().filter(|it| matches!(it.state, State::Waits(_)));
        let deadlines = waiting.filter_map(|it| it.deadline).map(|it| it.to);
        if let Some(last) = deadlines.filter(|it| *it < soon).max() {
            block_on(async {
                Timer::at(last).await;
                sleep(Duration::ZERO).await;
            });
            self.check(last);
        }
        self.entries.clear();
        block_on(sleep(Duration::ZERO));
        assert!(self.log.lock().unwrap().is_empty(), "the wake of one that was dropped");
        assert_eq!(Arc::strong_count(&self.log), 1, "wakers that were never dropped");
    }
}

impl Entry {
    /// Takes note of a poll, or an await, on another thread that has ended.
    fn note_elsewhere(&mut self, polled: Poll<Instant>, earlier: Instant) {
        match (self.state, polled) {
            (State::Over(tick), Poll::Ready(again)) => assert_eq!(tick, again),
            (State::Over(_), Poll::Pending) => panic!("over, and pending"),
            (_, Poll::Ready(tick)) => self.tick(tick, earlier),
            (State::Set, Poll::Pending) if self.deadline.is_none() => {}
            (_, Poll::Pending) => self.state = State::Elsewhere,
        }
    }
}

/// Polls as a future or as a stream.
fn poll(timer: &mut Timer, waker: &Waker, stream: bool) -> Poll<Instant> {
    if stream {
        let polled = Pin::new(timer).poll_next(&mut Context::from_waker(waker));
        return polled.map(|tick| tick.expect("it never ends"));
    }
    poll_with(timer, waker)
}
