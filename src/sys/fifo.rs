//! A queue of plain values for one thread.

use std::cell::UnsafeCell;

/// First in, first out. A `RefCell` would be asked for each value, when it comes and when it goes,
/// whether it is borrowed, and here it never can be: values that are `Copy` run no code of anybody's.
pub(crate) struct Fifo<T>(UnsafeCell<Ring<T>>);

/// std's `VecDeque` takes any number of slots, and more instructions to go round.
struct Ring<T> {
    /// None, or as many as a power of two.
    slots: Vec<T>,
    /// How many values have ever gone, and come. The difference is not greater than the number of
    /// slots.
    gone: usize,
    come: usize,
}

/// How many slots there are at first.
const FEWEST_SLOTS: usize = 16;

impl<T: Copy> Fifo<T> {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Ring { slots: Vec::new(), gone: 0, come: 0 }))
    }

    /// Does something with the ring. Nothing below does anything else in it than to move values that
    /// are `Copy`, so that nothing comes back here.
    #[inline(always)]
    fn with<R>(&self, f: impl FnOnce(&mut Ring<T>) -> R) -> R {
        // SAFETY: the cell cannot be shared between threads, and on this one `f` does not come back:
        // this reference is the only one.
        f(unsafe { &mut *self.0.get() })
    }

    #[inline(always)]
    pub(crate) fn push(&self, value: T) {
        self.with(|ring| ring.push(value));
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<T> {
        self.with(Ring::pop)
    }

    /// Moves all of these here, in their order.
    pub(crate) fn append(&self, more: &mut Vec<T>) {
        self.with(|ring| more.drain(..).for_each(|value| ring.push(value)));
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.with(|ring| ring.slots.len())
    }

    #[inline]
    pub(crate) fn clear(&self) {
        self.with(|ring| ring.gone = ring.come);
    }
}

impl<T: Copy> Ring<T> {
    #[inline(always)]
    fn push(&mut self, value: T) {
        if self.come.wrapping_sub(self.gone) == self.slots.len() {
            self.grow(value);
        }
        let at = self.place(self.come);
        // SAFETY: `place` gives one of the slots, of which there are some now.
        *unsafe { self.slots.get_unchecked_mut(at) } = value;
        self.come = self.come.wrapping_add(1);
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<T> {
        if self.gone == self.come {
            return None;
        }
        // SAFETY: `place` gives one of the slots, and there are some, for there is a value.
        let value = *unsafe { self.slots.get_unchecked(self.place(self.gone)) };
        self.gone = self.gone.wrapping_add(1);
        Some(value)
    }

    /// The slot of a value, less than the number of slots unless that is zero.
    #[inline(always)]
    fn place(&self, number: usize) -> usize {
        number & self.slots.len().wrapping_sub(1)
    }

    /// Doubles the number of slots. The new ones hold some value, whichever.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, value: T) {
        let slots = self.slots.len();
        let first = self.place(self.gone);
        self.slots.rotate_left(if slots == 0 { 0 } else { first });
        self.slots.resize((2 * slots).max(FEWEST_SLOTS), value);
        (self.gone, self.come) = (0, slots);
    }
}

#[cfg(test)]
mod tests {
    use super::{FEWEST_SLOTS, Fifo};
    use std::collections::VecDeque;

    #[test]
    fn what_came_first_goes_first() {
        let (queue, mut expected) = (Fifo::new(), VecDeque::new());
        assert_eq!(queue.pop(), None);
        let mut next = 0;
        // The ring is full, and grows, with its first value in each of its slots.
        for round in 0..200 {
            for _ in 0..round % 17 {
                queue.push(next);
                expected.push_back(next);
                next += 1;
            }
            queue.append(&mut vec![next, next + 1]);
            expected.extend([next, next + 1]);
            next += 2;
            for _ in 0..round % 13 {
                assert_eq!(queue.pop(), expected.pop_front());
            }
        }
        assert!(queue.capacity() > FEWEST_SLOTS);
        while let Some(value) = expected.pop_front() {
            assert_eq!(queue.pop(), Some(value));
        }
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn it_can_be_emptied() {
        let queue = Fifo::new();
        queue.push(1);
        queue.clear();
        assert_eq!(queue.pop(), None);
        assert!(queue.capacity() > 0);
        queue.push(2);
        assert_eq!(queue.pop(), Some(2));
    }
}
