//! A selector as the reactor uses it: edges, handles, and data by a token that is never used again.

#[path = "../target/house/selector/events.rs"]
mod events;
#[path = "../target/house/selector/reported.rs"]
mod reported;
#[path = "../target/house/selector/signal_info.rs"]
mod signal_info;

pub use events::Events;
pub(crate) use reported::Reported;
pub use signal_info::SignalInfo;

use crate::sys::epoll::mask;
use std::collections::BTreeMap;
use std::io;
use std::kernel::Set;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::plain::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Selector<T> {
    set: Arc<Set>,
    entries: BTreeMap<u64, (RawFd, T)>,
    last: u64,
}

impl<T> Selector<T> {
    pub fn new() -> io::Result<Self> {
        Ok(Self { set: Set::new(), entries: BTreeMap::new(), last: 0 })
    }

    pub fn poller(&self) -> Poller {
        Poller { set: Arc::clone(&self.set) }
    }

    pub fn register_handle(&mut self, handle: impl AsFd, _: Events, data: T) -> io::Result<()> {
        self.register_number(handle.as_fd().as_raw_fd(), Events::READ, data)
    }

    pub(crate) fn register_number(&mut self, fd: RawFd, _: Events, data: T) -> io::Result<()> {
        assert!(self.entries.values().all(|(known, _)| *known != fd), "registered twice");
        self.last += 1;
        self.entries.insert(self.last, (fd, data));
        self.set.add(fd, self.last);
        Ok(())
    }

    pub fn unregister(&mut self, fd: RawFd) -> io::Result<T> {
        let found = self.entries.iter().find(|(_, (known, _))| *known == fd);
        let token = *found.expect("it is registered here").0;
        self.set.delete(token);
        Ok(self.entries.remove(&token).expect("it was found").1)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|(_, data)| data)
    }

    pub(crate) fn take_each(&mut self, events: &mut RawEvents, mut give: impl FnMut(Reported, &T)) {
        for token in events.0.drain(..) {
            if let Some((_, data)) = self.entries.get(&token) {
                give(Reported(mask::IN), data);
            }
        }
    }
}

impl<T> AsFd for Selector<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        nobody()
    }
}

/// A descriptor that is not modelled.
fn nobody() -> BorrowedFd<'static> {
    // SAFETY: nothing is done with it.
    unsafe { BorrowedFd::borrow_raw(-1) }
}

#[derive(Clone, Debug)]
pub struct Poller {
    set: Arc<Set>,
}

impl Poller {
    pub fn wait(&self, timeout: Option<Duration>, events: &mut RawEvents) -> io::Result<()> {
        if events.is_empty() {
            events.0 = self.set.wait(timeout);
        }
        Ok(())
    }

    pub(crate) fn wait_anew(
        &self,
        timeout: Option<Duration>,
        events: &mut RawEvents,
    ) -> io::Result<()> {
        events.0 = self.set.wait(timeout);
        Ok(())
    }

    pub(crate) fn is_ours(&self) -> bool {
        true
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        nobody()
    }
}

#[derive(Debug)]
pub struct RawEvents(Vec<u64>);

impl RawEvents {
    pub fn with_capacity(_: usize) -> Self {
        Self(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
