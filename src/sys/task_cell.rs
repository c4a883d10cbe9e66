//! One allocation for a task: its body, in the same place its output after it, and the waker of who
//! waits for that.
//!
//! Safe parts would do: a box for the future, a counted allocation for its output, and a lock in it. But
//! that is two allocations a task, and as many atomic operations as the rest of spawning and joining
//! takes time. Here it is one allocation and one operation for a task that is done before anybody waits
//! for it, three for one that is awaited.
//!
//! # Ends
//!
//! The *owner's* end is a [`Giver`] while there is no body yet, which may be sent to where the body will
//! be made, and a [`Runner`] then, which stays on its thread, since a body may be such that it has to.
//! The other end is the [`Taker`]. The place of body and output, and `stage`, which says what lies there,
//! are the owner's until the state is `HANDING` or `GIVEN`; then the place is the taker's, and holds the
//! output. So the taker never reaches a body, and whoever frees the cell finds no body in it.
//!
//! # States
//!
//! `EMPTY`: nothing is given, and no waker lies there. `WAITING`: a waker lies there. `HANDING`: the output
//! lies there, and the owner is about to look once more at the cell. `GIVEN`: the output lies there, and
//! the cell is the taker's alone. `GONE`: the taker is, and the cell is the owner's alone.
//!
//! The taker goes to and fro between `EMPTY` and `WAITING`, and leaves from `EMPTY` or `HANDING` to `GONE`.
//! The owner goes from `EMPTY` to `GIVEN` if it can, else by way of `HANDING`, where it takes the waker.
//! The waker's place is the taker's in `EMPTY`; who ends `WAITING` has the waker. Who finds the other end
//! gone frees the cell: the taker at `GIVEN`, the owner at `GONE`.

mod owner;
mod taker;
#[cfg(test)]
mod tests;

use std::alloc::{Layout, dealloc};
use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, MaybeUninit, offset_of};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

pub(crate) use owner::{Giver, Runner};
pub(crate) use taker::Taker;

const EMPTY: u8 = 0;
const WAITING: u8 = 1;
const HANDING: u8 = 2;
const GIVEN: u8 = 3;
const GONE: u8 = 4;

/// What a cell is made for: it is polled, and gives way to its output.
pub(crate) trait Body: Sized + 'static {
    /// What both ends can look at.
    type Head: Send + Sync + 'static;
    type Output: 'static;

    fn poll(self: Pin<&mut Self>, head: &Self::Head, cx: &mut Context<'_>) -> Poll<Self::Output>;

    /// What is handed over, after `poll` has given an output and the body has been dropped, perhaps with
    /// a panic.
    fn ended(output: Self::Output, dropped: thread::Result<()>) -> Self::Output;

    /// What is handed over where no `poll` has given anything.
    fn unfinished() -> Self::Output;

    /// Ends the drop of an owner's end that had not handed over: there may be somebody to be woken, and
    /// a panic of the body's drop to go on.
    fn abandoned(dropped: thread::Result<()>, joiner: Option<Waker>);
}

/// What lies in the place that is the owner's first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Vacant,
    Body,
    Output,
}

/// What can be done with a cell by who does not know its body's type.
struct Kind<H: 'static> {
    poll: unsafe fn(NonNull<Header<H>>, &mut Context<'_>) -> Poll<()>,
    abandon: unsafe fn(NonNull<Header<H>>),
    drop_output: unsafe fn(*mut u8),
    /// Where the output lies, from the header on.
    output: usize,
    layout: Layout,
}

/// What both ends reach. The place behind it they reach by pointers of their own, so that nobody has a
/// reference to what is another's.
struct Header<H: 'static> {
    kind: &'static Kind<H>,
    waker: UnsafeCell<MaybeUninit<Waker>>,
    state: AtomicU8,
    /// The owner's, and not looked at by the taker.
    stage: Cell<Stage>,
    head: H,
}

#[repr(C)]
union Place<B: Body> {
    body: ManuallyDrop<B>,
    output: ManuallyDrop<B::Output>,
}

/// The header stands first, so that a pointer to it is one to the cell.
#[repr(C)]
struct TaskCell<B: Body> {
    header: Header<B::Head>,
    place: Place<B>,
}

impl<B: Body> TaskCell<B> {
    const KIND: Kind<B::Head> = Kind {
        poll: Self::poll,
        abandon: Self::abandon,
        drop_output: Self::drop_output,
        output: offset_of!(Self, place),
        layout: Layout::new::<Self>(),
    };

    /// A new cell without a body, which is not freed by itself.
    #[inline]
    fn vacant(head: B::Head) -> NonNull<Header<B::Head>> {
        let cell = NonNull::from(Box::leak(Box::<Self>::new_uninit())).cast();
        let header = Header {
            kind: &Self::KIND,
            waker: UnsafeCell::new(MaybeUninit::uninit()),
            state: AtomicU8::new(EMPTY),
            stage: Cell::new(Stage::Vacant),
            head,
        };
        // SAFETY: the cell is new, and the header stands first in it.
        unsafe { cell.write(header) };
        cell
    }

    /// # Safety
    ///
    /// The cell is one of this type, and is not freed.
    #[inline]
    unsafe fn place(cell: NonNull<Header<B::Head>>) -> NonNull<Place<B>> {
        // SAFETY: this is in the cell, of which the pointer is one to the whole.
        unsafe { cell.byte_add(offset_of!(Self, place)) }.cast()
    }

    /// # Safety
    ///
    /// The cell is one of this type, its place is the owner's, and holds no body and no output.
    #[inline]
    unsafe fn write_output(cell: NonNull<Header<B::Head>>, output: B::Output) {
        // SAFETY: as the caller says.
        let place = unsafe { Self::place(cell) };
        // SAFETY: the place is the caller's, and has room for an output.
        unsafe { place.cast().write(output) };
        // SAFETY: the cell is not freed.
        unsafe { cell.as_ref() }.stage.set(Stage::Output);
    }

    /// # Safety
    ///
    /// The cell is one of this type, its place is the owner's, and holds a body.
    #[inline]
    unsafe fn drop_body(cell: NonNull<Header<B::Head>>) -> thread::Result<()> {
        // SAFETY: as the caller says.
        let place = unsafe { Self::place(cell) };
        // SAFETY: the cell is not freed.
        unsafe { cell.as_ref() }.stage.set(Stage::Vacant);
        // SAFETY: a body lies there, and having noted that none does, nobody drops or polls it again.
        let drop_it = || unsafe { place.cast::<B>().drop_in_place() };
        panic::catch_unwind(AssertUnwindSafe(drop_it))
    }

    /// Polls the body where it lies; when it is done, its output lies there.
    ///
    /// # Safety
    ///
    /// The cell is one of this type, its place is the owner's, and holds a body; nobody else polls it.
    unsafe fn poll(cell: NonNull<Header<B::Head>>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: as the caller says.
        let place = unsafe { Self::place(cell) };
        // SAFETY: a body lies there, and nobody else reaches it while the owner polls.
        let body = unsafe { &mut *place.cast::<B>().as_ptr() };
        // SAFETY: it lies where it was put first, until it is dropped there.
        let body = unsafe { Pin::new_unchecked(body) };
        // SAFETY: the cell is not freed while it is the owner's.
        let head = unsafe { &(*cell.as_ptr()).head };
        let Poll::Ready(output) = body.poll(head, cx) else { return Poll::Pending };
        // SAFETY: the body lies there still.
        let dropped = unsafe { Self::drop_body(cell) };
        let output = B::ended(output, dropped);
        // SAFETY: the place is free now.
        unsafe { Self::write_output(cell, output) };
        Poll::Ready(())
    }

    /// Ends an owner's end that has not handed over.
    ///
    /// # Safety
    ///
    /// The cell is one of this type and the owner's, who does not use it again.
    #[cold]
    unsafe fn abandon(cell: NonNull<Header<B::Head>>) {
        // SAFETY: the cell is not freed.
        let stage = unsafe { cell.as_ref() }.stage.get();
        let dropped = match stage {
            // SAFETY: a body lies there.
            Stage::Body => unsafe { Self::drop_body(cell) },
            _ => Ok(()),
        };
        if stage != Stage::Output {
            // SAFETY: the place is free.
            unsafe { Self::write_output(cell, B::unfinished()) };
        }
        // SAFETY: an output lies there, and the caller does not use the cell again.
        let joiner = unsafe { hand_over(cell) };
        B::abandoned(dropped, joiner);
    }

    /// # Safety
    ///
    /// An output lies there, and nobody uses it again.
    unsafe fn drop_output(output: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { output.cast::<B::Output>().drop_in_place() }
    }
}

/// Hands the output over, and gives the waker of who waits for it. Where the taker is gone, the output
/// is dropped, and the cell freed.
///
/// # Safety
///
/// The cell is the owner's, an output lies in its place, and the owner does not use it again.
#[inline]
unsafe fn hand_over<H>(cell: NonNull<Header<H>>) -> Option<Waker> {
    // SAFETY: the cell is not freed while it is the owner's.
    let state = unsafe { &(*cell.as_ptr()).state };
    match state.compare_exchange(EMPTY, GIVEN, Ordering::Release, Ordering::Acquire) {
        Ok(_) => return None,
        // SAFETY: as the caller says.
        Err(WAITING) => return unsafe { hand_over_to_waiting(cell) },
        // SAFETY: it is `GONE`.
        Err(_) => unsafe { discard(cell) },
    }
    None
}

/// The same where a waker has been left, which may be taken back meanwhile.
///
/// # Safety
///
/// As for `hand_over`.
#[inline]
unsafe fn hand_over_to_waiting<H>(cell: NonNull<Header<H>>) -> Option<Waker> {
    // SAFETY: the cell is not freed while it is the owner's.
    let state = unsafe { &(*cell.as_ptr()).state };
    let joiner = match state.swap(HANDING, Ordering::AcqRel) {
        // SAFETY: the waker lay there, and the taker leaves it alone in `HANDING`.
        WAITING => Some(unsafe { take_waker(cell) }),
        GONE => {
            // SAFETY: the taker was gone before it could see the output.
            unsafe { discard(cell) };
            return None;
        }
        _ => None,
    };
    if state.swap(GIVEN, Ordering::AcqRel) == GONE {
        // The taker has left with the output.
        drop(Memory(cell));
    }
    joiner
}

/// Drops the output and frees the cell, the taker being gone.
///
/// # Safety
///
/// An output lies in the cell's place, and nobody else uses the cell any more.
unsafe fn discard<H>(cell: NonNull<Header<H>>) {
    let memory = Memory(cell);
    // SAFETY: the cell is not freed before the end of this function.
    let kind = unsafe { (*cell.as_ptr()).kind };
    // SAFETY: the output lies there, and nobody takes it.
    unsafe { (kind.drop_output)(memory.output()) };
}

/// # Safety
///
/// A waker lies in the cell, it is the caller's, and nobody takes it again.
unsafe fn take_waker<H>(cell: NonNull<Header<H>>) -> Waker {
    // SAFETY: the cell is not freed.
    let place = unsafe { &(*cell.as_ptr()).waker }.get();
    // SAFETY: the caller owns the place.
    let place = unsafe { &*place };
    // SAFETY: the caller says that it is filled, and that this copy is the only one to be used.
    unsafe { place.assume_init_read() }
}

/// A cell that belongs to one end alone, and is freed when this is dropped. What lies in its place is not
/// dropped with it.
struct Memory<H: 'static>(NonNull<Header<H>>);

impl<H> Memory<H> {
    /// Where the output lies.
    fn output(&self) -> *mut u8 {
        // SAFETY: the cell is not freed yet.
        let offset = unsafe { (*self.0.as_ptr()).kind }.output;
        // SAFETY: this is in the cell, of which the pointer is one to the whole.
        unsafe { self.0.as_ptr().cast::<u8>().add(offset) }
    }
}

impl<H> Drop for Memory<H> {
    fn drop(&mut self) {
        let header = self.0.as_ptr();
        // SAFETY: the cell is not freed yet.
        let layout = unsafe { (*header).kind }.layout;
        // SAFETY: as above, and a pointer to a field of it.
        let head = unsafe { &raw mut (*header).head };
        // SAFETY: nobody looks at the head any more. The header has nothing else to drop: no waker
        // lies there once an output was given or the taker is gone.
        unsafe { head.drop_in_place() };
        // SAFETY: it was allocated so, as a box of a cell of that kind.
        unsafe { dealloc(header.cast(), layout) };
    }
}

/// Makes the two ends of a cell that has no body yet. Both can look at the head.
#[inline]
pub(crate) fn vacant<B: Body>(head: B::Head) -> (Giver<B>, Taker<B::Head, B::Output>) {
    let cell = TaskCell::<B>::vacant(head);
    // SAFETY: the cell is new, and one for this body.
    let giver = unsafe { Giver::new(cell) };
    // SAFETY: and for the body's output.
    (giver, unsafe { Taker::new(cell) })
}
