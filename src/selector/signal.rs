//! Signals that are read through a descriptor.

use super::Events;
use super::kind::Object;
use super::ready_key::{Report, outcome};
use super::signal_info::SignalInfo;
use crate::sys::signal_action::{CHILD_SIGNAL, forward_child_notice};
use crate::sys::signal_fd::SignalFd;
use crate::sys::signal_mask;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A signalfd, and the block that makes its signal readable.
#[derive(Debug)]
pub(super) struct Signal {
    fd: SignalFd,
    number: i32,
    /// Present once `block` was called.
    blocked: Option<BlockedSignal>,
}

impl Signal {
    /// Opens the signalfd. Nothing is blocked yet, so that a registration which fails has not
    /// touched the mask.
    #[inline]
    pub(super) fn open(number: i32) -> io::Result<Self> {
        if let Some(why) = signal_mask::refusal(number) {
            let text = format!("signal {number} cannot be registered: {why}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Self { fd: SignalFd::new([number])?, number, blocked: None })
    }

    /// Blocks the signal in the calling thread until this value is dropped there.
    #[inline]
    pub(super) fn block(&mut self) {
        self.blocked = Some(BlockedSignal::new(self.number));
    }
}

impl Object for Signal {
    #[inline]
    fn fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }

    /// Takes one signal. Further ones that are pending keep the descriptor ready, and come as
    /// further keys.
    #[inline]
    fn read(&self) -> Option<(Events, Report)> {
        let record = self.fd.read();
        outcome(Events::SIGNAL, record.map(|record| Some(Report::Signal(SignalInfo::new(record?)))))
    }

    #[inline]
    fn signal(&self) -> Option<i32> {
        Some(self.number)
    }
}

impl Drop for Signal {
    /// Unblocks the signal, if this was the last that had it blocked. What is still pending is
    /// taken first: unblocking it would let it act, and the default action of most signals is to
    /// end the process. It is not taken through the signalfd, whose number may be another file's by
    /// now.
    #[inline]
    fn drop(&mut self) {
        let Some(blocked) = self.blocked.take() else {
            return;
        };
        if blocked.release() {
            signal_mask::take_pending(self.number);
            signal_mask::unblock(self.number);
            if self.number == CHILD_SIGNAL {
                // One that was taken may have told of a child that a selector is waiting for.
                forward_child_notice();
            }
        }
    }
}

/// One more reason why the thread that made this has a signal blocked.
///
/// Only that thread can give its mask back, so a value that is released on another one leaves the
/// signal blocked.
#[derive(Debug)]
struct BlockedSignal {
    number: i32,
    thread: usize,
}

impl BlockedSignal {
    #[inline]
    fn new(number: i32) -> Self {
        let thread = BLOCKS.try_with(|blocks| {
            let mut blocks = blocks.borrow_mut();
            match blocks.signals.iter_mut().find(|block| block.number == number) {
                Some(block) => block.count += 1,
                None => {
                    let before = signal_mask::block(number);
                    blocks.signals.push(Block { number, count: 1, before });
                }
            }
            blocks.thread
        });
        // A thread whose locals are gone is about to end, and its mask with it: zero is nobody's
        // number.
        let thread = thread.unwrap_or_else(|_| {
            signal_mask::block(number);
            0
        });
        Self { number, thread }
    }

    /// Gives this reason up, and tells whether the signal is now to be unblocked.
    #[inline]
    fn release(self) -> bool {
        let last = BLOCKS.try_with(|blocks| {
            let mut blocks = blocks.borrow_mut();
            if blocks.thread != self.thread {
                return false;
            }
            let known = blocks.signals.iter().position(|block| block.number == self.number);
            let Some(at) = known else {
                return false;
            };
            blocks.signals[at].count -= 1;
            if blocks.signals[at].count > 0 {
                return false;
            }
            !blocks.signals.swap_remove(at).before
        });
        last.unwrap_or(false)
    }
}

/// What selectors have blocked in one thread.
struct Blocks {
    /// A number for the thread: unlike an address or the system's id, it never comes again.
    thread: usize,
    /// There are few.
    signals: Vec<Block>,
}

struct Block {
    number: i32,
    count: usize,
    /// Whether the program itself had it blocked, and keeps it so.
    before: bool,
}

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    static BLOCKS: RefCell<Blocks> = RefCell::new(Blocks {
        thread: NEXT_THREAD.fetch_add(1, Ordering::Relaxed),
        signals: Vec::new(),
    });
}
