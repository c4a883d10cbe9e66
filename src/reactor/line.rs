//! Who waits for one descriptor.

use std::mem;
use std::task::Waker;

/// What one waits for: to read or to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

/// A waker that was left, the key by which it is taken back, and the reactor of the thread that
/// left it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) key: u32,
    pub(super) thread: u32,
    pub(super) waker: Waker,
}

/// What a party that waits remembers of the waker it has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parked {
    /// Zero if there is none.
    pub(super) key: u32,
    /// The count of edges when it was left.
    pub(super) edges: u32,
}

impl Parked {
    pub(crate) const NOTHING: Self = Self { key: 0, edges: 0 };

    /// Stands for all callers of the poll functions of one direction: the last one is woken.
    pub(crate) const fn of_poll_function() -> Self {
        Self { key: POLLER, edges: 0 }
    }
}

/// The key of all callers of the poll functions of one direction.
const POLLER: u32 = 1;

/// All who wait for one descriptor. Most have a reader and nobody else ever, so that is what it has
/// room for.
#[derive(Debug)]
pub(super) struct Line {
    /// The first who waits to read.
    reader: Option<Waiting>,
    /// Made when somebody else waits for the first time.
    rest: Option<Box<Rest>>,
    /// The key that was given last.
    keys: u32,
}

#[derive(Debug, Default)]
struct Rest {
    /// The first who waits to write.
    writer: Option<Waiting>,
    others: Vec<(Direction, Waiting)>,
}

impl Default for Line {
    fn default() -> Self {
        Line { reader: None, rest: None, keys: POLLER }
    }
}

impl Line {
    /// A key that nobody has who waits here. After 2³² it begins anew: who left a waker so long ago,
    /// and was neither polled nor dropped since, may take back another's.
    #[inline]
    pub(super) fn new_key(&mut self) -> u32 {
        self.keys = self.keys.checked_add(1).unwrap_or(POLLER + 1);
        self.keys
    }

    /// Whether somebody waits for this direction in the place of the first.
    #[inline(always)]
    pub(super) fn has_first(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.reader.is_some(),
            Direction::Write => self.rest.as_ref().is_some_and(|rest| rest.writer.is_some()),
        }
    }

    pub(super) fn has_others(&self) -> bool {
        !self.others().is_empty()
    }

    fn others(&self) -> &[(Direction, Waiting)] {
        self.rest.as_ref().map_or(&[], |rest| &rest.others)
    }

    /// The place of the first.
    #[inline(always)]
    fn first(&mut self, direction: Direction) -> &mut Option<Waiting> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.rest.get_or_insert_default().writer,
        }
    }

    /// Lets the first wait for a direction, for which nobody waits.
    #[inline(always)]
    pub(super) fn add_first(&mut self, direction: Direction, waiting: Waiting) {
        let nobody = self.first(direction).replace(waiting);
        debug_assert!(nobody.is_none());
        // There is nothing to be dropped, and this says so.
        mem::forget(nobody);
    }

    pub(super) fn add(&mut self, direction: Direction, waiting: Waiting) {
        if self.has_first(direction) {
            self.rest.get_or_insert_default().others.push((direction, waiting));
        } else {
            self.add_first(direction, waiting);
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Waiting> {
        let writer = self.rest.iter().flat_map(|rest| &rest.writer);
        self.reader.iter().chain(writer).chain(self.others().iter().map(|(_, waiting)| waiting))
    }

    pub(super) fn find(&self, direction: Direction, key: u32) -> Option<&Waiting> {
        let first = match direction {
            Direction::Read => self.reader.as_ref(),
            Direction::Write => self.rest.as_ref().and_then(|rest| rest.writer.as_ref()),
        };
        let others = self.others().iter().filter(|(theirs, _)| *theirs == direction);
        first.into_iter().chain(others.map(|(_, it)| it)).find(|it| it.key == key)
    }

    pub(super) fn remove(&mut self, direction: Direction, key: u32) -> Option<Waiting> {
        if self.has_first(direction) {
            if let Some(first) = self.first(direction).take_if(|first| first.key == key) {
                return Some(first);
            }
        }
        let others = &mut self.rest.as_mut()?.others;
        let is_it = |(theirs, it): &(_, Waiting)| *theirs == direction && it.key == key;
        let position = others.iter().position(is_it)?;
        Some(others.swap_remove(position).1)
    }

    /// Gives up the first who waits to read.
    #[inline(always)]
    pub(super) fn take_reader(&mut self, woken: &mut Vec<Waker>) {
        if let Some(reader) = self.reader.take() {
            woken.push(reader.waker);
        }
    }

    /// Gives up all others who wait to read, if that has become possible, and all who wait to
    /// write, if that has.
    #[inline(always)]
    pub(super) fn take_rest(&mut self, reads: bool, writes: bool, woken: &mut Vec<Waker>) {
        if let Some(rest) = &mut self.rest {
            rest.take(reads, writes, woken);
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        let mut all = Vec::new();
        self.take_reader(&mut all);
        self.take_rest(true, true, &mut all);
        all
    }
}

impl Rest {
    #[inline(never)]
    fn take(&mut self, reads: bool, writes: bool, woken: &mut Vec<Waker>) {
        if writes {
            woken.extend(self.writer.take().map(|writer| writer.waker));
        }
        let mut at = 0;
        while let Some((direction, _)) = self.others.get(at) {
            let goes = match direction {
                Direction::Read => reads,
                Direction::Write => writes,
            };
            if goes {
                woken.push(self.others.swap_remove(at).1.waker);
            } else {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, POLLER};

    // G18
    #[test]
    fn keys_begin_anew_after_the_last() {
        let mut line = Line { keys: u32::MAX - 1, ..Line::default() };
        // Neither zero, which is nobody's, nor that of the poll functions.
        let keys = [line.new_key(), line.new_key(), line.new_key()];
        assert_eq!(keys, [u32::MAX, POLLER + 1, POLLER + 2]);
    }
}
