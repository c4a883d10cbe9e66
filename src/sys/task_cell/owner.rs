//! The end of a task's cell that makes the output.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::{Body, GONE, Header, Stage, TaskCell, hand_over};

/// The owner's end, whatever lies in the place.
struct Owner<H: 'static>(NonNull<Header<H>>);

impl<H> Owner<H> {
    #[inline]
    fn header(&self) -> &Header<H> {
        // SAFETY: the cell is not freed while it has an owner.
        unsafe { self.0.as_ref() }
    }

    /// # Panics
    ///
    /// If there is no output yet.
    #[inline]
    fn hand_over(self) -> Option<Waker> {
        assert_eq!(self.header().stage.get(), Stage::Output, "there is no output yet");
        let cell = ManuallyDrop::new(self).0;
        // SAFETY: an output lies there, and the owner's end is no more.
        unsafe { hand_over(cell) }
    }
}

impl<H> Drop for Owner<H> {
    fn drop(&mut self) {
        let abandon = self.header().kind.abandon;
        // SAFETY: the cell is of that kind, and the owner's end is no more after this.
        unsafe { abandon(self.0) };
    }
}

/// The owner's end before there is a body. Dropped, it hands over that nothing was
/// [finished](Body::unfinished).
pub(crate) struct Giver<B: Body>(Owner<B::Head>, PhantomData<fn(B)>);

// SAFETY: there is no body. The output goes with it, and the head is reached by both ends.
unsafe impl<B: Body> Send for Giver<B> where B::Output: Send {}

/// The owner's end once there is a body. Dropped, it drops the body and then hands over that nothing was
/// [finished](Body::unfinished).
pub(crate) struct Runner<H: 'static>(Owner<H>);

impl<B: Body> Giver<B> {
    /// # Safety
    ///
    /// The cell is vacant and one for such a body, and this is its only owner.
    #[inline]
    pub(super) unsafe fn new(cell: NonNull<Header<B::Head>>) -> Self {
        Giver(Owner(cell), PhantomData)
    }

    pub(crate) fn head(&self) -> &B::Head {
        &self.0.header().head
    }

    /// Puts the body in its place.
    #[inline]
    pub(crate) fn start(self, body: B) -> Runner<B::Head> {
        let cell = self.0.0;
        // SAFETY: a giver's cell is one of this type.
        let place = unsafe { TaskCell::<B>::place(cell) };
        // SAFETY: the place is the owner's, is vacant, and has room for a body.
        unsafe { place.cast().write(body) };
        self.0.header().stage.set(Stage::Body);
        Runner(self.0)
    }

    /// Gives an output without a body, and gets the waker of who waits for it.
    pub(crate) fn give(self, output: B::Output) -> Option<Waker> {
        // SAFETY: a giver's cell is one of this type, and its place is vacant.
        unsafe { TaskCell::<B>::write_output(self.0.0, output) };
        self.0.hand_over()
    }
}

impl<H> Runner<H> {
    /// The head, and the body to be polled.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&H, Polling<'_, H>) {
        let runner = &*self;
        (&runner.0.header().head, Polling(&runner.0))
    }

    /// Whether the taker is gone, for good. If so, what it did with the head before is seen.
    #[inline]
    pub(crate) fn is_detached(&self) -> bool {
        self.0.header().state.load(Ordering::Acquire) == GONE
    }

    /// Hands the output over, and gets the waker of who waits for it. If nobody does or will, the output
    /// is dropped.
    ///
    /// # Panics
    ///
    /// If the body is not done yet. If the drop of the output does.
    #[inline]
    pub(crate) fn hand_over(self) -> Option<Waker> {
        self.0.hand_over()
    }
}

/// The right to poll a body once, which whoever has the [`Runner`] alone has.
pub(crate) struct Polling<'a, H: 'static>(&'a Owner<H>);

impl<H> Polling<'_, H> {
    /// Polls the body where it lies. When it is done, it has been dropped, and its output can be
    /// [handed over](Runner::hand_over).
    ///
    /// # Panics
    ///
    /// If it was done already.
    #[inline]
    pub(crate) fn poll(self, cx: &mut Context<'_>) -> Poll<()> {
        let header = self.0.header();
        assert_eq!(header.stage.get(), Stage::Body, "a body was polled after its end");
        let poll = header.kind.poll;
        // SAFETY: the cell is of that kind and the owner's, and a body lies there. There is one
        // `Polling` at a time, and this is its end.
        unsafe { poll(self.0.0, cx) }
    }
}

impl<B: Body> fmt::Debug for Giver<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Giver").finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Runner<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("stage", &self.0.header().stage.get())
            .finish_non_exhaustive()
    }
}
