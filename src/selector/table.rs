//! The key table: from a descriptor's number, or from an event's data, to what is registered.

use super::kind::Kind;
use super::token::Token;
use slab::Slab;
use std::os::fd::RawFd;

/// One registration.
pub(super) struct Entry<T> {
    generation: u32,
    /// Whether epoll watches it: not while a handle is suspended, nor when a one-shot kind has
    /// fired.
    pub(super) in_set: bool,
    pub(super) finished: bool,
    pub(super) kind: Kind,
    pub(super) data: T,
}

/// All registrations of a selector.
pub(super) struct Table<T> {
    entries: Slab<Entry<T>>,
    /// From a descriptor's number to its slot. Numbers are small and dense, so this is an array.
    slots: Vec<u32>,
    next_generation: u32,
    finished: usize,
}

/// The slot of a number that is not registered.
const VACANT: u32 = u32::MAX;

impl<T> Table<T> {
    /// Makes an empty table whose generations start at a number that differs between selectors, so
    /// that a key which is shown to the wrong one is not taken for one of its own.
    pub(super) fn new(selector: usize) -> Self {
        let start = (selector as u32).wrapping_mul(0x9E37_79B9);
        Self {
            entries: Slab::new(),
            slots: vec![VACANT; 1024],
            next_generation: start,
            finished: 0,
        }
    }

    /// Returns the name of the entry that `insert` will make next.
    pub(super) fn next_token(&self) -> Token {
        Token { slot: self.entries.vacant_key() as u32, generation: self.next_generation }
    }

    /// Inserts an entry for a number that has none.
    pub(super) fn insert(&mut self, fd: RawFd, in_set: bool, kind: Kind, data: T) {
        let number = usize::try_from(fd).expect("a registered descriptor's number is not negative");
        if number >= self.slots.len() {
            self.slots.resize((number + 1).next_power_of_two(), VACANT);
        }
        let token = self.next_token();
        let entry = Entry { generation: token.generation, in_set, finished: false, kind, data };
        self.entries.insert(entry);
        self.slots[number] = token.slot;
        self.next_generation = self.next_generation.wrapping_add(1);
    }

    pub(super) fn remove(&mut self, fd: RawFd) -> Option<Entry<T>> {
        let slot = self.slot(fd)?;
        let entry = self.entries.remove(slot as usize);
        self.slots[fd as usize] = VACANT;
        self.finished -= usize::from(entry.finished);
        Some(entry)
    }

    /// Marks a one-shot entry that has fired.
    pub(super) fn finish(&mut self, token: Token) -> Option<&mut Entry<T>> {
        let entry = self.entries.get_mut(token.slot as usize)?;
        entry.finished = true;
        self.finished += 1;
        Some(entry)
    }

    fn slot(&self, fd: RawFd) -> Option<u32> {
        let slot = *self.slots.get(usize::try_from(fd).ok()?)?;
        (slot != VACANT).then_some(slot)
    }

    pub(super) fn contains(&self, fd: RawFd) -> bool {
        self.slot(fd).is_some()
    }

    /// Finds the entry of a number, whoever owned it when the question was thought of.
    pub(super) fn by_fd(&self, fd: RawFd) -> Option<&Entry<T>> {
        self.entries.get(self.slot(fd)? as usize)
    }

    pub(super) fn by_fd_mut(&mut self, fd: RawFd) -> Option<(Token, &mut Entry<T>)> {
        let slot = self.slot(fd)?;
        let entry = self.entries.get_mut(slot as usize)?;
        Some((Token { slot, generation: entry.generation }, entry))
    }

    #[inline]
    pub(super) fn by_token(&self, token: Token) -> Option<&Entry<T>> {
        let entry = self.entries.get(token.slot as usize)?;
        (entry.generation == token.generation).then_some(entry)
    }

    #[inline]
    pub(super) fn by_token_mut(&mut self, token: Token) -> Option<&mut Entry<T>> {
        let entry = self.entries.get_mut(token.slot as usize)?;
        (entry.generation == token.generation).then_some(entry)
    }

    /// How many entries may still become ready, or be made to.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.finished
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.data)
    }

    /// Every entry that epoll should be watching, with its name.
    pub(super) fn in_set(&self) -> impl Iterator<Item = (Token, &Entry<T>)> {
        let entries = self.entries.iter().filter(|(_, entry)| entry.in_set);
        entries
            .map(|(slot, entry)| (Token { slot: slot as u32, generation: entry.generation }, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Events;
    use super::super::handle::Handle;
    use super::{Kind, Table, Token};
    use std::os::fd::RawFd;

    fn insert(table: &mut Table<RawFd>, fd: RawFd) -> Token {
        let token = table.next_token();
        table.insert(fd, false, Kind::Handle(Handle::new(fd, Events::NONE).unwrap()), fd);
        token
    }

    // G18
    #[test]
    fn generations_begin_anew_after_the_last() {
        let mut table = Table::new(0);
        table.next_generation = u32::MAX;
        let (last, first) = (insert(&mut table, 3), insert(&mut table, 4));
        assert_eq!((last.generation, first.generation), (u32::MAX, 0));
        for (token, fd) in [(last, 3), (first, 4)] {
            assert_eq!(table.by_token(token).unwrap().data, fd);
        }
        table.remove(3).unwrap();
        let next = insert(&mut table, 3);
        assert_eq!(next.slot, last.slot);
        assert!(table.by_token(last).is_none() && table.by_token(next).is_some());
    }
}
