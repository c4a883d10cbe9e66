//! The deadlines of one thread, the nearest first.

use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

/// How many children a node of the heap has. Four of them share two cache lines at most, and the
/// heap is half as deep as with two.
const ARITY: usize = 4;

/// How many deadlines within a window are a crowd.
const CROWD: usize = 8;

/// How many of the first nodes are looked at for a crowd. The nearest stand there, though not all
/// of them.
const LOOKED_AT: usize = 32;

/// Marks the place of an alarm that stands among the new ones.
const NEW: usize = 1 << (usize::BITS - 1);

/// A heap of deadlines, ordered by deadline and then by the order of their making, in which each
/// alarm knows its place and can be taken out from the middle.
///
/// New deadlines stand beside the heap until somebody asks for the nearest: most timers bound
/// something that ends in time, and those that are made and dropped between two turns are never
/// sorted.
#[derive(Debug)]
pub(super) struct Timers {
    heap: Vec<Node>,
    new: Vec<New>,
    /// Every alarm that its owner has not taken out, due or not.
    alarms: Slab<Waiting>,
    /// Where each alarm stands that is not due, by its key: in the heap, or, marked, in `new`.
    places: Vec<usize>,
    made: u64,
    /// The heap has deadlines as nanoseconds from then: one number to compare.
    base: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    /// `None` once it is due.
    waker: Option<Waker>,
    order: u64,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    deadline: u64,
    alarm: usize,
}

#[derive(Debug, Clone, Copy)]
struct New {
    deadline: Instant,
    alarm: usize,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Timers {
            heap: Vec::new(),
            new: Vec::new(),
            alarms: Slab::new(),
            places: Vec::new(),
            made: 0,
            base: None,
        }
    }

    /// Whether no deadline is to come.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.new.is_empty()
    }

    /// Adds an alarm and returns its key.
    #[inline]
    pub(super) fn insert(&mut self, deadline: Instant, waker: Waker) -> usize {
        let order = self.made;
        self.made = order.wrapping_add(1);
        let alarm = self.alarms.insert(Waiting { waker: Some(waker), order });
        let place = NEW | self.new.len();
        match self.places.get_mut(alarm) {
            Some(known) => *known = place,
            None => self.places.push(place),
        }
        self.new.push(New { deadline, alarm });
        alarm
    }

    /// Takes an alarm out and gives its waker back, to be dropped when nothing is borrowed; `None`
    /// if it was due.
    #[inline]
    pub(super) fn remove(&mut self, alarm: usize) -> Option<Waker> {
        let waker = self.alarms.remove(alarm).waker?;
        let place = self.places[alarm];
        if place & NEW == 0 {
            self.remove_at(place);
        } else {
            self.new.swap_remove(place & !NEW);
            if let Some(moved) = self.new.get(place & !NEW) {
                self.places[moved.alarm] = place;
            }
        }
        Some(waker)
    }

    /// The waker that an alarm will wake; `None` if it is due.
    #[inline]
    pub(super) fn waker(&mut self, alarm: usize) -> Option<&mut Waker> {
        self.alarms[alarm].waker.as_mut()
    }

    /// The wakers of all that are not due.
    pub(super) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.alarms.into_iter().filter_map(|(_, waiting)| waiting.waker)
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
        for node in first.iter().filter(|node| node.deadline <= horizon) {
            count += 1;
            last = node.deadline.max(last);
        }
        (count >= CROWD).then_some(last)
    }

    /// Takes out all that is due and adds their wakers to `woken`, in order.
    pub(super) fn take_due(&mut self, woken: &mut Vec<Waker>) {
        self.sort();
        let now = self.number(Instant::now());
        while let Some(nearest) = self.heap.first().copied().filter(|it| it.deadline <= now) {
            self.remove_at(0);
            woken.extend(self.alarms[nearest.alarm].waker.take());
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
    fn sort(&mut self) {
        for index in 0..self.new.len() {
            let New { deadline, alarm } = self.new[index];
            let node = Node { deadline: self.number(deadline), alarm };
            self.heap.push(node);
            self.sift_up(self.heap.len() - 1, node);
        }
        self.new.clear();
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
            if !self.is_before(node, self.heap[parent]) {
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
            if self.is_before(child, first) {
                (first, at) = (child, from + it);
            }
        }
        Some(at)
    }

    /// Whether one goes off before the other. Deadlines are seldom equal, so that the order is kept
    /// elsewhere.
    #[inline]
    fn is_before(&self, one: Node, other: Node) -> bool {
        one.deadline < other.deadline
            || (one.deadline == other.deadline && self.order(one) < self.order(other))
    }

    #[cold]
    fn order(&self, node: Node) -> u64 {
        self.alarms[node.alarm].order
    }

    #[inline]
    fn place(&mut self, position: usize, node: Node) {
        self.heap[position] = node;
        self.places[node.alarm] = position;
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
