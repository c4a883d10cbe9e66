//! Handles: descriptors that are the user's own.

use super::events::Events;
use crate::sys::epoll::mask;
use std::io;
use std::mem;
use std::os::fd::RawFd;

/// What makes a handle watched at all.
const DIRECTIONS: Events = Events::READ.union(Events::WRITE).union(Events::PRIORITY);

/// What a user may ask for.
const INTEREST: Events =
    DIRECTIONS.union(Events::EDGE).union(Events::ONESHOT).union(Events::EXCLUSIVE);

/// What epoll is asked for on behalf of a handle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handle {
    pub(super) fd: RawFd,
    interest: Events,
    /// A one-shot handle has fired: the kernel keeps it silent until it is updated.
    pub(super) fired: bool,
}

impl Handle {
    /// Checks a set of events that a user asks for.
    pub(super) fn new(fd: RawFd, interest: Events) -> io::Result<Self> {
        let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !INTEREST.contains(interest) {
            return refused(
                "only READ, WRITE, PRIORITY, EDGE, ONESHOT and EXCLUSIVE can be asked for",
            );
        }
        // The kernel says EINVAL without a reason (epoll_ctl(2)).
        let with_exclusive = Events::ONESHOT | Events::PRIORITY;
        if interest.contains(Events::EXCLUSIVE) && interest.intersects(with_exclusive) {
            return refused("EXCLUSIVE goes with READ, WRITE and EDGE only");
        }
        Ok(Self { fd, interest, fired: false })
    }

    /// A suspended handle stays out of epoll, which would report errors and hang-ups even to who
    /// asks for nothing.
    pub(super) fn is_suspended(self) -> bool {
        !self.interest.intersects(DIRECTIONS)
    }

    pub(super) fn is_exclusive(self) -> bool {
        self.interest.contains(Events::EXCLUSIVE)
    }

    /// Whether the kernel would report it again and again as long as it is ready.
    pub(super) fn is_level_triggered(self) -> bool {
        !self.interest.contains(Events::EDGE) && !self.fired
    }

    /// Returns the epoll mask. A peer that shuts down its writing is told with read interest only,
    /// or it would be an event that means nothing; and not with EXCLUSIVE, where the kernel refuses
    /// it and EPOLLIN has to do.
    pub(super) fn epoll_mask(self) -> u32 {
        let bit = |event, mask| {
            if self.interest.contains(event) { mask } else { 0 }
        };
        let hangup = if self.is_exclusive() { 0 } else { bit(Events::READ, mask::RDHUP) };
        hangup
            | bit(Events::READ, mask::IN)
            | bit(Events::WRITE, mask::OUT)
            | bit(Events::PRIORITY, mask::PRI)
            | bit(Events::EDGE, mask::ET)
            | bit(Events::ONESHOT, mask::ONESHOT)
            | bit(Events::EXCLUSIVE, mask::EXCLUSIVE)
    }

    /// Returns what an epoll mask says to the interest of now, which may have changed since the
    /// wait; empty if nothing.
    ///
    /// A hang-up or an error comes alone: an empty pipe whose writer closed has no EPOLLIN, a full
    /// one whose reader closed no EPOLLOUT. Either ends every wait, so both count as both
    /// directions.
    #[inline]
    pub(super) fn report(&mut self, reported: u32) -> Events {
        let has = |bits| reported & bits != 0;
        let both = Events::READ | Events::WRITE;
        let mut events = Events::NONE;
        if has(mask::IN) {
            events |= Events::READ;
        }
        if has(mask::OUT) {
            events |= Events::WRITE;
        }
        if has(mask::PRI | mask::RDHUP | mask::HUP | mask::ERR) {
            if has(mask::PRI) {
                events |= Events::PRIORITY;
            }
            if has(mask::RDHUP) {
                events |= Events::READ;
            }
            if has(mask::HUP | mask::ERR) {
                events |= both;
            }
        }
        events = events & self.interest & DIRECTIONS;
        if has(mask::RDHUP | mask::HUP | mask::ERR) {
            events |= self.hangup_and_error(reported);
        }
        if self.interest.contains(Events::ONESHOT) && !events.is_empty() {
            if mem::replace(&mut self.fired, true) {
                // An event was on its way when the selector moved to a new epoll set, and that set
                // has told of it again.
                return Events::NONE;
            }
            events |= Events::ONESHOT;
        }
        events
    }

    /// Returns what is reported unasked, except to a handle that has been suspended since the wait.
    #[cold]
    fn hangup_and_error(self, reported: u32) -> Events {
        let mut events = Events::NONE;
        if self.is_suspended() {
            return events;
        }
        let peer_closed = reported & mask::RDHUP != 0 && self.interest.contains(Events::READ);
        if peer_closed || reported & mask::HUP != 0 {
            events |= Events::HANGUP;
        }
        if reported & mask::ERR != 0 {
            events |= Events::ERROR;
        }
        events
    }
}
