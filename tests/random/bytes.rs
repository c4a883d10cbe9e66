//! The bytes of a program, from which it draws what to do next.
#![allow(dead_code, reason = "each fuzz target uses a part of it")]

/// Draws numbers from bytes, and zeros when there are none left.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    next: usize,
}

impl Bytes {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), next: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next >= self.bytes.len()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.next).copied();
        self.next += 1;
        byte.unwrap_or(0)
    }

    /// A number below a bound of at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Whether the next byte says so, as every `one_in`th does.
    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }
}
