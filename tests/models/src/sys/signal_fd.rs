//! Nothing is blocked, so that a signalfd is never readable.

use super::event_fd::EventFd;
use super::signal_record::SignalRecord;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

#[derive(Debug)]
pub(crate) struct SignalFd(EventFd);

impl SignalFd {
    pub(crate) fn new(_: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        Ok(Self(EventFd::new()?))
    }

    pub(crate) fn set(&self, _: impl IntoIterator<Item = i32>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn read(&self) -> io::Result<Option<SignalRecord>> {
        Ok(None)
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
