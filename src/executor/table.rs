//! The tasks of one executor, by their ids.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter;
use std::num::NonZeroU64;

use slab::Slab;

/// Names a task: where it stands in the table, and which of those that stood there it is. It leaves
/// the two upper bits to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskId(u64);

/// The bits of an id: the slot in the lower half, then the generation.
const SLOT: u64 = u32::MAX as u64;
const GENERATION: u64 = 0x3FFF_FFFF << 32;

/// Where the future stands that was given to `block_on`: it waits in line like a task, but is not
/// in the table.
const ROOT: usize = SLOT as usize;

/// The order of what is dropped before all others.
const FIRST_TO_GO: NonZeroU64 = NonZeroU64::MIN;

/// How many slots the table grows by at least.
const FEWEST_SLOTS: usize = 16;

impl TaskId {
    /// The generation counts the spawns, the lower 30 bits of them: an id that comes again in the
    /// same slot after as many costs a spurious poll.
    #[inline]
    fn new(slot: usize, order: NonZeroU64) -> Self {
        Self(order.get() << 32 & GENERATION | slot as u64)
    }

    #[inline]
    fn slot(self) -> usize {
        (self.0 & SLOT) as usize
    }

    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// The id in a number, whatever the two upper bits are.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits & (GENERATION | SLOT))
    }

    #[inline]
    pub(super) fn is_root(self) -> bool {
        self.slot() == ROOT
    }
}

/// Where tasks are kept between their polls.
pub(super) struct Table<B> {
    slots: RefCell<Slab<Entry<B>>>,
    /// The order of the task that came last.
    last: Cell<NonZeroU64>,
}

struct Entry<B> {
    /// Taken out while it is polled, so that the task may spawn, wake and abort whom it likes.
    body: Option<B>,
    /// Counts those that came: the left-over ones are dropped in the order of their creation, and
    /// slots are used again. Not zero, so that no word is needed to tell a vacant slot.
    order: NonZeroU64,
}

impl<B> Table<B> {
    pub(super) fn new() -> Self {
        Table { slots: RefCell::new(Slab::new()), last: Cell::new(FIRST_TO_GO) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    /// For how many tasks there is room.
    pub(super) fn capacity(&self) -> usize {
        self.slots.borrow().capacity()
    }

    fn count(&self) -> NonZeroU64 {
        let order = self.last.get().saturating_add(1);
        self.last.set(order);
        order
    }

    /// An id for a root future, which no other has had.
    pub(super) fn root_id(&self) -> TaskId {
        TaskId::new(ROOT, self.count())
    }

    #[inline]
    pub(super) fn insert(&self, body: B) -> TaskId {
        self.insert_as(self.count(), body)
    }

    /// Takes in what is to be dropped before all others.
    pub(super) fn insert_first_to_go(&self, body: B) -> TaskId {
        self.insert_as(FIRST_TO_GO, body)
    }

    fn insert_as(&self, order: NonZeroU64, body: B) -> TaskId {
        let mut slots = self.slots.borrow_mut();
        if slots.len() == slots.capacity() {
            make_room(&mut slots);
        }
        TaskId::new(slots.insert(Entry { body: Some(body), order }), order)
    }

    /// Takes a task out for a poll; `None` if it is done.
    #[inline]
    pub(super) fn take(&self, id: TaskId) -> Option<B> {
        let mut slots = self.slots.borrow_mut();
        let slot = id.slot();
        // A task that is done has given up its slot, perhaps to another.
        let entry = slots.get_mut(slot).filter(|entry| TaskId::new(slot, entry.order) == id)?;
        entry.body.take()
    }

    /// Puts a task back that is not done yet.
    #[inline]
    pub(super) fn put_back(&self, id: TaskId, body: B) {
        self.slots.borrow_mut()[id.slot()].body = Some(body);
    }

    /// Gives up the slot of a task that was taken out.
    #[inline]
    pub(super) fn remove(&self, id: TaskId) {
        self.slots.borrow_mut().remove(id.slot());
    }

    /// Takes out all that are left, in the order of their creation.
    #[cold]
    pub(super) fn take_all(&self) -> impl Iterator<Item = B> {
        let mut slots = self.slots.take();
        let orders = slots.iter().map(|(slot, entry)| Reverse((entry.order, slot)));
        // Far less code than to sort them.
        let mut left: BinaryHeap<_> = orders.collect();
        let slot_of_next = move || left.pop().map(|Reverse((_, slot))| slot);
        iter::from_fn(slot_of_next).filter_map(move |slot| slots.remove(slot).body)
    }
}

/// Makes the table larger by a quarter: tasks are many, and what doubles is half empty.
#[cold]
fn make_room<B>(slots: &mut Slab<Entry<B>>) {
    let more = (slots.len() / 4).max(FEWEST_SLOTS);
    slots.reserve_exact(more);
}
