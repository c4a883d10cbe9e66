//! Timers that are descriptors.

use super::Events;
use super::kind::Object;
use super::ready_key::{Report, outcome};
use crate::sys::timer_fd::TimerFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// A timerfd, and whether one expiration ends it.
#[derive(Debug)]
pub(super) struct Timer {
    timer: TimerFd,
    oneshot: bool,
}

impl Timer {
    /// Starts a timer; a repeating one needs a period.
    pub(super) fn start(after: Duration, oneshot: bool) -> io::Result<Self> {
        if after.is_zero() && !oneshot {
            let why = "a repeating timer needs a period above zero";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let period = if oneshot { Duration::ZERO } else { after };
        Ok(Self { timer: TimerFd::start(after, period)?, oneshot })
    }
}

impl Object for Timer {
    fn fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }

    fn read(&self) -> Option<(Events, Report)> {
        let expirations = self.timer.read().map(|count| count.map(Report::Count));
        let (events, report) = outcome(Events::TIMER, expirations)?;
        if self.oneshot && !events.contains(Events::ERROR) {
            return Some((events | Events::ONESHOT | Events::FINISHED, report));
        }
        Some((events, report))
    }
}
