//! Timers in ticks of a millisecond: one wheel, and in each slot a list that is linked both ways.

use std::time::{Duration, Instant};

const SLOTS: usize = 4096;
const NONE: u32 = u32::MAX;

struct Node {
    tick: u64,
    before: u32,
    after: u32,
}

/// Timers, known by numbers.
pub struct Wheel {
    base: Instant,
    /// The first tick that has not been looked at.
    next: u64,
    heads: Vec<u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    len: usize,
}

impl Wheel {
    /// Makes a wheel without timers.
    pub fn new() -> Self {
        let heads = vec![NONE; SLOTS];
        Self { base: Instant::now(), next: 0, heads, nodes: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// The beginning of the first tick at or after this.
    fn tick(&self, at: Instant) -> u64 {
        (at - self.base).as_nanos().div_ceil(1_000_000) as u64
    }

    /// Takes a timer in and gives its number.
    pub fn insert(&mut self, at: Instant) -> u32 {
        let tick = self.tick(at);
        let slot = tick as usize % SLOTS;
        let node = Node { tick, before: NONE, after: self.heads[slot] };
        let number = if let Some(number) = self.free.pop() {
            self.nodes[number as usize] = node;
            number
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        };
        let after = std::mem::replace(&mut self.heads[slot], number);
        if after != NONE {
            self.nodes[after as usize].before = number;
        }
        self.len += 1;
        number
    }

    /// Takes a timer out.
    pub fn remove(&mut self, number: u32) {
        let Node { tick, before, after } = self.nodes[number as usize];
        match before {
            NONE => self.heads[tick as usize % SLOTS] = after,
            before => self.nodes[before as usize].after = after,
        }
        if after != NONE {
            self.nodes[after as usize].before = before;
        }
        self.free.push(number);
        self.len -= 1;
    }

    /// Tells whether there are no timers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes out what is due, and says how long it is until the next slot that has timers.
    pub fn fire(&mut self, mut each: impl FnMut(u32)) -> Duration {
        let now = (Instant::now() - self.base).as_millis() as u64;
        while self.next <= now {
            let mut number = self.heads[self.next as usize % SLOTS];
            while number != NONE {
                let Node { tick, after, .. } = self.nodes[number as usize];
                if tick <= now {
                    self.remove(number);
                    each(number);
                }
                number = after;
            }
            self.next += 1;
        }
        let mut tick = self.next;
        while self.heads[tick as usize % SLOTS] == NONE && tick < self.next + SLOTS as u64 {
            tick += 1;
        }
        (self.base + Duration::from_millis(tick)).saturating_duration_since(Instant::now())
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}
