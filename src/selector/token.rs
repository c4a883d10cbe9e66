//! The name of a registration, as epoll carries it.

/// Names one registration, in 64 bits of epoll data: where it stands in the table, and which of
/// those that stood there it is.
///
/// Without the generation, an event that was on its way when its descriptor was unregistered would
/// reach the next owner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Token {
    /// A slot that no entry has: there are fewer descriptors than `i32::MAX`.
    const RESERVED: u32 = u32::MAX;

    /// What an empty key names.
    pub(super) const NOBODY: Self = Self::reserved(0);

    /// A name for one of the selector's own descriptors, which no entry and no key of a user has.
    pub(super) const fn reserved(number: u32) -> Self {
        Self { slot: Self::RESERVED, generation: number }
    }

    #[inline]
    pub(super) fn to_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    #[inline]
    pub(super) fn from_data(data: u64) -> Self {
        Self { slot: data as u32, generation: (data >> 32) as u32 }
    }
}
