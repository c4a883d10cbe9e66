//! The handler is always there: the models call what it calls.

use super::signal_pipe::{self, SignalPipe};
use super::signal_record::SignalRecord;
use std::io;

pub(crate) const CHILD_SIGNAL: i32 = libc::SIGCHLD;

#[derive(Debug)]
pub(crate) struct Caught(i32);

impl Caught {
    pub(crate) fn new(signal: i32) -> io::Result<Self> {
        SignalPipe::get()?;
        Ok(Self(signal))
    }

    pub(crate) fn signal(&self) -> i32 {
        self.0
    }
}

pub(crate) fn is_ignored(_: i32) -> bool {
    false
}

pub(crate) fn forward_child_notice() {}

/// What the handler does at a signal.
pub(crate) fn deliver(signal: i32) {
    signal_pipe::send(&SignalRecord::of(signal));
}
