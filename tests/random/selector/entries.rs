//! What the model knows of each registration.

use super::files::FileId;
use selio::selector::Events;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is registered with a descriptor: a number, and a count of those that live.
#[derive(Debug)]
pub(super) struct Datum {
    pub(super) value: u64,
    pub(super) _alive: Arc<()>,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// A number that never comes again; the first data's.
    pub(super) registration: u64,
    pub(super) data: u64,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Handle(Handle),
    Timer(Timer),
    Signal(i32),
    Process { child: usize, finished: bool },
    Event(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Handle {
    /// The file that was meant, whatever its number is now.
    pub(super) file: FileId,
    pub(super) interest: Events,
    /// A one-shot handle that has been reported.
    pub(super) fired: bool,
    /// It has not been reported since it was made, updated, or became ready for more.
    pub(super) fresh: bool,
    /// The half that waits may have got its one-shot, which nobody has taken.
    pub(super) on_its_way: bool,
    /// The program has done what makes it a matter of chance which file it is.
    pub(super) vague: bool,
}

#[derive(Debug)]
pub(super) struct Timer {
    pub(super) started: Instant,
    pub(super) after: Duration,
    pub(super) oneshot: bool,
    pub(super) expirations: u64,
    pub(super) finished: bool,
}

impl Entry {
    pub(super) fn new(data: u64, kind: Kind) -> Self {
        Self { registration: data, data, kind }
    }

    pub(super) fn is_finished(&self) -> bool {
        match &self.kind {
            Kind::Timer(timer) => timer.finished,
            Kind::Process { finished, .. } => *finished,
            _ => false,
        }
    }
}

impl Handle {
    pub(super) fn new(file: FileId, interest: Events) -> Self {
        Self { file, interest, fired: false, fresh: true, on_its_way: false, vague: false }
    }

    pub(super) fn is_valid(&self) -> bool {
        let with_exclusive = Events::ONESHOT | Events::PRIORITY;
        !(self.interest.contains(Events::TIMER)
            || self.is_exclusive() && self.interest.intersects(with_exclusive))
    }

    pub(super) fn is_suspended(&self) -> bool {
        !self.interest.intersects(Events::READ | Events::WRITE | Events::PRIORITY)
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.interest.contains(Events::EXCLUSIVE)
    }

    pub(super) fn is_oneshot(&self) -> bool {
        self.interest.contains(Events::ONESHOT)
    }

    /// Whether being ready is enough for a key to come.
    pub(super) fn must_come(&self) -> bool {
        let edge_is_over = self.interest.contains(Events::EDGE) && !self.fresh;
        !(self.vague || self.on_its_way || edge_is_over || self.is_exclusive())
    }
}

impl Timer {
    pub(super) fn new(after: Duration, oneshot: bool) -> Self {
        Self { started: Instant::now(), after, oneshot, expirations: 0, finished: false }
    }

    /// How often it may have expired by now.
    pub(super) fn most(&self) -> u64 {
        let elapsed = self.started.elapsed();
        match self.after {
            _ if self.oneshot => u64::from(elapsed >= self.after),
            after => (elapsed.as_nanos() / after.as_nanos()) as u64,
        }
    }
}
