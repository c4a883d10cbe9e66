//! The deadlines of one thread, the nearest first.

use std::mem;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How many children a node of the heap has. Four of them share two cache lines at most, and the
/// heap is half as deep as with two.
const ARITY: usize = 4;

/// How many deadlines within a window are a crowd.
const CROWD: usize = 8;

/// How many of the first nodes are looked at for a crowd. The nearest stand there, though not all
/// of them.
const LOOKED_AT: usize = 32;

/// How many new deadlines may stand beside the heap while the table grows, and for how many there
/// is room later. They take more of it than the heap's nodes.
const MOST_NEW: usize = 256;

/// Marks the place of an alarm that stands among the new ones.
const NEW: u32 = 1 << 31;

/// How many places a table grows by at least.
const FEWEST_MORE: usize = 16;

/// A heap of deadlines, ordered by deadline and then by the order of their making, in which each
/// alarm knows its place and can be taken out from the middle.
///
/// New deadlines stand beside the heap until somebody asks for the nearest: most timers bound
/// something that ends in time, and those that are made and dropped between two turns are never
/// sorted.
///
/// What is done to one deadline writes to the places of some others, anywhere. So places are kept
/// close together, apart from the wakers.
#[derive(Debug)]
pub(super) struct Timers {
    heap: Vec<Node>,
    new: Vec<New>,
    /// Whom each alarm wakes; `None` once it is due. An alarm's key is its index, until its owner
    /// takes it out.
    wakers: Vec<Option<Waker>>,
    /// Where each alarm stands that is not due: in the heap, or, marked, in `new`. For a vacant key,
    /// the one that was vacant before it.
    places: Vec<u32>,
    /// The key to be given next; if there is none such, all are taken.
    vacant: u32,
    made: u32,
    /// The heap has deadlines as nanoseconds from then.
    base: Option<Instant>,
    /// What is taken out as due, kept for its room.
    due: Vec<u32>,
}

/// A deadline, the order of its making, and its alarm, in the order in which they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    deadline: u64,
    order: u32,
    alarm: u32,
}

#[derive(Debug, Clone, Copy)]
struct New {
    deadline: Instant,
    order: u32,
    alarm: u32,
}

impl Node {
    /// Whether it goes off before another. Deadlines are seldom equal.
    #[inline]
    fn is_before(self, other: Node) -> bool {
        self.deadline < other.deadline
            || (self.deadline == other.deadline && self.order < other.order)
    }
}

impl Timers {
    pub(super) const fn new() -> Self {
        Timers {
            heap: Vec::new(),
            new: Vec::new(),
            wakers: Vec::new(),
            places: Vec::new(),
            vacant: 0,
            made: 0,
            base: None,
            due: Vec::new(),
        }
    }

    /// Whether no deadline is to come.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.new.is_empty()
    }

    /// Adds an alarm and returns its key.
    #[inline]
    pub(super) fn insert(&mut self, deadline: Instant, waker: Waker) -> u32 {
        let (alarm, order) = (self.vacant, self.made);
        let places = self.places.get_mut(alarm as usize);
        let wakers = self.wakers.get_mut(alarm as usize);
        let (Some(place), Some(whom), Some(made)) = (places, wakers, order.checked_add(1)) else {
            self.prepare_insert();
            return self.insert(deadline, waker);
        };
        self.vacant = mem::replace(place, NEW | self.new.len() as u32);
        self.made = made;
        // A vacant place has no waker: there is nothing to be dropped, and this says so.
        mem::forget(whom.replace(waker));
        self.new.push(New { deadline, order, alarm });
        alarm
    }

    /// Takes an alarm out and gives its waker back, to be dropped when nothing is borrowed; `None`
    /// if it was due.
    #[inline]
    pub(super) fn remove(&mut self, alarm: u32) -> Option<Waker> {
        let waker = self.wakers[alarm as usize].take();
        let place = mem::replace(&mut self.places[alarm as usize], self.vacant);
        self.vacant = alarm;
        let waker = waker?;
        if place & NEW == 0 {
            self.remove_at(place as usize);
        } else {
            self.remove_new(alarm, place);
        }
        Some(waker)
    }

    /// Mostly it is the last one, and no other moves.
    #[inline]
    fn remove_new(&mut self, alarm: u32, place: u32) {
        let Some(last) = self.new.pop() else { return };
        if last.alarm != alarm {
            self.new[(place & !NEW) as usize] = last;
            self.places[last.alarm as usize] = place;
        }
    }

    /// The waker that an alarm will wake; `None` if it is due.
    #[inline]
    pub(super) fn waker(&mut self, alarm: u32) -> Option<&mut Waker> {
        self.wakers[alarm as usize].as_mut()
    }

    /// The wakers of all that are not due.
    pub(super) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.wakers.into_iter().flatten()
    }

    /// How long to wait for the nearest deadline, or for the last of a crowd of them within a window
    /// from now; `None` if there is none. The clock is read only if there is one.
    pub(super) fn left(&mut self, window: Duration) -> Option<Duration> {
        self.sort();
        let nearest = self.heap.first()?.deadline;
        let now = self.number(Instant::now());
        let horizon = now.saturating_add(nanoseconds(window));
        let end = if nearest > now && nearest <= horizon && self.heap.len() >= CROWD {
            self.end_of_crowd(horizon).unwrap_or(nearest)
        } else {
            nearest
        };
        Some(Duration::from_nanos(end.saturating_sub(now)))
    }

    /// The last of the deadlines up to the horizon, if there are many.
    fn end_of_crowd(&self, horizon: u64) -> Option<u64> {
        let first = &self.heap[..self.heap.len().min(LOOKED_AT)];
        let (mut count, mut last) = (0, 0);
        for deadline in first.iter().map(|node| node.deadline).filter(|it| *it <= horizon) {
            count += 1;
            last = deadline.max(last);
        }
        (count >= CROWD).then_some(last)
    }

    /// Takes out all that is due and adds their wakers to `woken`, in order.
    pub(super) fn take_due(&mut self, woken: &mut Vec<Waker>) {
        self.sort();
        let now = self.number(Instant::now());
        while let Some(nearest) = self.heap.first().copied().filter(|it| it.deadline <= now) {
            self.remove_at(0);
            self.due.push(nearest.alarm);
        }
        // The wakers lie anywhere, and have not been looked at for long: one after the other, with
        // nothing between, they are fetched together.
        for alarm in self.due.drain(..) {
            woken.extend(self.wakers[alarm as usize].take());
        }
    }

    /// An instant as a number: nanoseconds from the base, which stands in the middle. What is 292
    /// years away or more is at an end.
    fn number(&mut self, instant: Instant) -> u64 {
        const BASE: u64 = 1 << 63;
        let base = *self.base.get_or_insert_with(Instant::now);
        match instant.checked_duration_since(base) {
            Some(after) => BASE.saturating_add(nanoseconds(after)),
            None => BASE.saturating_sub(nanoseconds(base - instant)),
        }
    }

    /// Makes what is new part of the heap.
    #[inline]
    fn sort(&mut self) {
        if !self.new.is_empty() {
            self.sort_in();
        }
    }

    fn sort_in(&mut self) {
        make_room(&mut self.heap, self.new.len());
        for index in 0..self.new.len() {
            let New { deadline, order, alarm } = self.new[index];
            let node = Node { deadline: self.number(deadline), order, alarm };
            self.heap.push(node);
            self.sift_up(self.heap.len() - 1, node);
        }
        self.new.clear();
        self.new.shrink_to(MOST_NEW);
    }

    /// Sees to it that there is a key, and a number, for one alarm more.
    #[cold]
    fn prepare_insert(&mut self) {
        if self.made == u32::MAX {
            self.sort();
            self.count_anew();
        }
        if self.vacant as usize == self.places.len() {
            self.add_key();
        }
    }

    /// Gives those that wait the first numbers, in the same order. A sorted heap is a heap.
    fn count_anew(&mut self) {
        self.heap.sort_unstable();
        self.made = 0;
        for (place, node) in (0..).zip(&mut self.heap) {
            node.order = place;
            self.places[node.alarm as usize] = place;
            self.made = place + 1;
        }
    }

    /// Makes a key, the next to be given.
    fn add_key(&mut self) {
        if self.new.len() >= MOST_NEW {
            self.sort();
        }
        let next = u32::try_from(self.places.len() + 1).ok().filter(|next| *next < NEW);
        let next = next.expect("a thread has fewer than 2^31 timers");
        make_room(&mut self.places, 1);
        make_room(&mut self.wakers, 1);
        self.places.push(next);
        self.wakers.push(None);
    }

    fn remove_at(&mut self, position: usize) {
        let Some(last) = self.heap.pop() else { return };
        if position < self.heap.len() {
            // What came from the end belongs further down, or, if that was in another branch,
            // further up. Most often it belongs at an end again, so that on the way down it is
            // not compared.
            let hole = self.sink(position);
            self.sift_up(hole, last);
        }
    }

    /// Moves a hole down to an end.
    fn sink(&mut self, mut hole: usize) -> usize {
        while let Some(child) = self.first_child(hole) {
            self.place(hole, self.heap[child]);
            hole = child;
        }
        hole
    }

    /// Puts a node into a hole, or above it.
    fn sift_up(&mut self, mut hole: usize, node: Node) {
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            if !node.is_before(self.heap[parent]) {
                break;
            }
            self.place(hole, self.heap[parent]);
            hole = parent;
        }
        self.place(hole, node);
    }

    /// The position of the child that comes first.
    #[inline]
    fn first_child(&self, position: usize) -> Option<usize> {
        let from = position * ARITY + 1;
        let mut first = *self.heap.get(from)?;
        let mut at = from;
        for (it, &child) in self.heap[from..].iter().enumerate().take(ARITY).skip(1) {
            if child.is_before(first) {
                (first, at) = (child, from + it);
            }
        }
        Some(at)
    }

    #[inline]
    fn place(&mut self, position: usize, node: Node) {
        self.heap[position] = node;
        self.places[node.alarm as usize] = position as u32;
    }
}

/// Makes room for this many more, and if there is too little, by a quarter: timers are many, and
/// what doubles is half empty.
fn make_room<T>(table: &mut Vec<T>, more: usize) {
    if table.capacity() - table.len() < more {
        table.reserve_exact(more.max(FEWEST_MORE).max(table.len() / 4));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds alarms for one deadline and returns their keys.
    fn insert(timers: &mut Timers, count: usize, deadline: Instant) -> Vec<u32> {
        (0..count).map(|_| timers.insert(deadline, Waker::noop().clone())).collect()
    }

    #[test]
    fn the_order_is_strict() {
        let node = Node { deadline: 1, order: 1, alarm: 0 };
        let (earlier, later) = (Node { order: 0, ..node }, Node { deadline: 2, order: 0, ..node });
        assert!(!node.is_before(node));
        assert!(earlier.is_before(node) && !node.is_before(earlier));
        assert!(node.is_before(later) && !later.is_before(node));
    }

    #[test]
    fn equal_deadlines_keep_their_order_when_the_count_begins_anew() {
        let mut timers = Timers::new();
        timers.made = u32::MAX - 2;
        let keys = insert(&mut timers, 5, Instant::now());
        assert_eq!(timers.made, 5);

        timers.sort();
        let mut order = Vec::new();
        while let Some(first) = timers.heap.first().copied() {
            order.push(first.alarm);
            timers.remove_at(0);
        }
        assert_eq!(order, keys);
    }

    #[test]
    fn new_deadlines_do_not_pile_up_beside_the_heap() {
        let mut timers = Timers::new();
        let later = Instant::now() + Duration::from_secs(3600);
        let keys = insert(&mut timers, 10 * MOST_NEW, later);
        assert!(timers.new.len() <= MOST_NEW);
        assert_eq!(timers.heap.len() + timers.new.len(), keys.len());

        assert!(keys.into_iter().all(|key| timers.remove(key).is_some()));
        assert!(timers.is_empty());
    }

    #[test]
    fn what_is_taken_out_before_anybody_asks_is_never_sorted() {
        let mut timers = Timers::new();
        for key in insert(&mut timers, 3, Instant::now()) {
            assert!(timers.heap.is_empty());
            assert!(timers.remove(key).is_some());
        }
        assert!(timers.is_empty());
    }

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_reaches_for_the_last_of_a_crowd() {
        let (mut timers, first) = (Timers::new(), Instant::now() + Duration::from_secs(3600));
        let last = first + Duration::from_secs(59);
        insert(&mut timers, 1, first);
        insert(&mut timers, CROWD - 2, first + Duration::from_secs(1));
        let before = Instant::now();
        let lonely = timers.left(WINDOW).unwrap();
        assert!(before + lonely <= first && Instant::now() + lonely >= first);
        assert!(
            timers.left(Duration::from_secs(7200)).unwrap() <= lonely,
            "these are no crowd yet"
        );

        // The nearest is within the window from now, and so are enough others.
        insert(&mut timers, 1, last);
        let far = Duration::from_secs(3600) + WINDOW;
        let before = Instant::now();
        let crowded = timers.left(far).unwrap();
        assert!(before + crowded <= last && Instant::now() + crowded >= last);
        let before = Instant::now();
        let exact = timers.left(WINDOW).unwrap();
        assert!(before + exact <= first && Instant::now() + exact >= first);
    }

    #[test]
    fn what_is_due_waits_for_no_crowd() {
        let (mut timers, now) = (Timers::new(), Instant::now());
        insert(&mut timers, 2 * CROWD, now + Duration::from_secs(30));
        insert(&mut timers, 1, now);
        assert_eq!(timers.left(WINDOW), Some(Duration::ZERO));
    }
}
