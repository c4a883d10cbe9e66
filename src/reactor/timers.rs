//! The deadlines of one reactor, the nearest first.

use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

/// How many children a node of the heap has. Four of them share two cache lines, and the heap is
/// half as deep as with two.
const ARITY: usize = 4;

/// A heap of deadlines, ordered by deadline and then by the order of their making, in which each
/// alarm knows its place and can be taken out from the middle.
///
/// New deadlines stand behind the heap until somebody asks for the nearest: most timers bound
/// something that ends in time, and those that are made and dropped between two turns are never
/// sorted.
#[derive(Debug)]
pub(super) struct Timers {
    /// The heap, and behind it what is new.
    nodes: Vec<Node>,
    /// How many of the nodes are the heap.
    sorted: usize,
    /// The waker of each alarm; `None` once it is due, until its owner takes note.
    alarms: Slab<Option<Waker>>,
    /// Where in the heap each alarm stands that is not due, by its key.
    positions: Vec<usize>,
    made: u64,
    /// Deadlines are kept as nanoseconds from then: one number to compare.
    base: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    deadline: u64,
    order: u64,
    alarm: usize,
}

impl Node {
    /// Whether it goes off before the other one. Deadlines are seldom equal.
    #[inline]
    fn is_before(&self, other: &Self) -> bool {
        self.deadline < other.deadline
            || (self.deadline == other.deadline && self.order < other.order)
    }
}

impl Timers {
    pub(super) fn new() -> Self {
        Timers {
            nodes: Vec::new(),
            sorted: 0,
            alarms: Slab::new(),
            positions: Vec::new(),
            made: 0,
            base: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// An instant as a number: nanoseconds from the base, which stands in the middle. What is 292
    /// years away or more is at an end.
    fn number(&self, instant: Instant) -> u64 {
        const BASE: u64 = 1 << 63;
        match instant.checked_duration_since(self.base) {
            Some(after) => BASE.saturating_add(nanoseconds(after)),
            None => BASE.saturating_sub(nanoseconds(self.base - instant)),
        }
    }

    /// Adds an alarm and returns its key.
    pub(super) fn insert(&mut self, deadline: Instant, waker: Waker) -> usize {
        let alarm = self.alarms.insert(Some(waker));
        let position = self.nodes.len();
        match self.positions.get_mut(alarm) {
            Some(known) => *known = position,
            None => self.positions.push(position),
        }
        let deadline = self.number(deadline);
        let order = self.made;
        self.made = order.wrapping_add(1);
        self.nodes.push(Node { deadline, order, alarm });
        alarm
    }

    /// Takes an alarm out and gives its waker back, to be dropped without the lock; `None` if it
    /// was due.
    pub(super) fn remove(&mut self, alarm: usize) -> Option<Waker> {
        let waker = self.alarms.remove(alarm)?;
        self.remove_at(self.positions[alarm]);
        Some(waker)
    }

    /// The waker that an alarm will wake; `None` if it is due.
    pub(super) fn waker(&mut self, alarm: usize) -> Option<&mut Waker> {
        self.alarms[alarm].as_mut()
    }

    /// How long a wait may last that `limit` bounds as well; `None` is for ever. The clock is read
    /// only if there is a deadline.
    pub(super) fn bound(&mut self, limit: Option<Duration>) -> Option<Duration> {
        if limit == Some(Duration::ZERO) {
            return limit;
        }
        self.sort();
        let Some(nearest) = self.nodes.first() else { return limit };
        let left = nearest.deadline.saturating_sub(self.number(Instant::now()));
        let left = Duration::from_nanos(left);
        Some(limit.map_or(left, |limit| limit.min(left)))
    }

    /// Takes out all that is due and adds their wakers to `woken`, in order.
    pub(super) fn take_due(&mut self, woken: &mut Vec<Waker>) {
        self.sort();
        let now = self.number(Instant::now());
        while let Some(nearest) = self.nodes.first().copied().filter(|it| it.deadline <= now) {
            self.remove_at(0);
            woken.extend(self.alarms[nearest.alarm].take());
        }
    }

    /// Makes what is new part of the heap.
    fn sort(&mut self) {
        while self.sorted < self.nodes.len() {
            self.sorted += 1;
            self.sift_up(self.sorted - 1);
        }
    }

    fn remove_at(&mut self, position: usize) {
        let mut hole = position;
        if position < self.sorted {
            self.sorted -= 1;
            hole = self.sorted;
            if position < hole {
                // What came from the end of the heap belongs further down, or, if that was in
                // another branch, further up.
                self.place(position, self.nodes[hole]);
                self.sift_down(position);
                self.sift_up(position);
            }
        }
        if let Some(last) = self.nodes.pop() {
            if hole < self.nodes.len() {
                self.place(hole, last);
            }
        }
    }

    fn sift_up(&mut self, mut position: usize) {
        let node = self.nodes[position];
        let start = position;
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !node.is_before(&self.nodes[parent]) {
                break;
            }
            self.place(position, self.nodes[parent]);
            position = parent;
        }
        if position != start {
            self.place(position, node);
        }
    }

    fn sift_down(&mut self, mut position: usize) {
        let node = self.nodes[position];
        while let Some(child) = self.first_child(position) {
            if !self.nodes[child].is_before(&node) {
                break;
            }
            self.place(position, self.nodes[child]);
            position = child;
        }
        self.place(position, node);
    }

    /// The position of the child that comes first.
    #[inline]
    fn first_child(&self, position: usize) -> Option<usize> {
        let from = position * ARITY + 1;
        let children = self.nodes[..self.sorted].get(from..)?;
        let (mut first, others) = children.split_first()?;
        let mut at = from;
        for (it, child) in others.iter().take(ARITY - 1).enumerate() {
            if child.is_before(first) {
                (first, at) = (child, from + 1 + it);
            }
        }
        Some(at)
    }

    #[inline]
    fn place(&mut self, position: usize, node: Node) {
        self.nodes[position] = node;
        self.positions[node.alarm] = position;
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
