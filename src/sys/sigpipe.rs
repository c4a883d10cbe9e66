//! Calls that raise `SIGPIPE` when nobody is there to read, and take no flag against it.

use super::signal_action;
use super::signal_mask::{block, is_pending, take_one, unblock};

/// What `SIGPIPE` did to the process when somebody last looked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sigpipe {
    /// Whether it is at its default action. Nothing needs to be done where it is ignored, as std
    /// leaves it, and a handler is there because somebody wants to hear of it.
    kills: bool,
}

impl Sigpipe {
    pub(crate) fn look() -> Self {
        Sigpipe { kills: signal_action::is_default(libc::SIGPIPE) }
    }

    /// Makes a call of whose failure only its error tells. The kernel sends the signal to the
    /// thread that makes the call (also if a part of the bytes went through), so that is where it
    /// is held back and taken.
    #[inline]
    pub(crate) fn spare<T>(self, call: impl FnOnce() -> T) -> T {
        if self.kills { spare(call) } else { call() }
    }
}

#[cold]
fn spare<T>(call: impl FnOnce() -> T) -> T {
    let was_blocked = block(libc::SIGPIPE);
    // One that is pending already is somebody else's, and merges with ours.
    let was_pending = was_blocked && is_pending(libc::SIGPIPE);
    let result = call();
    if !was_pending {
        take_one(libc::SIGPIPE);
    }
    if !was_blocked {
        unblock(libc::SIGPIPE);
    }
    result
}
