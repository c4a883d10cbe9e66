//! Waiting, and making keys of what has happened.

use super::kind::Kind;
use super::process::{BLOCKED_CHILD_SIGNAL, CHILD_NOTICE};
use super::ready_key::Report;
use super::table::Entry;
use super::token::Token;
use super::{Events, Poller, RawEvents, ReadyKey, Reported, Selector, refused};
use crate::sys::epoll::{Epoll, mask};
use crate::sys::event_fd::EventFd;
use crate::sys::signal_action::{CHILD_SIGNAL, forward_child_notice};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// The name under which a set that was moved away from reports that it is to be left.
const RETIRED: Token = Token::reserved(3);

/// How many keys `select` returns at most, and how many events the selector's own buffer holds.
const BATCH: usize = 64;

impl<T> Selector<T> {
    /// Waits until something is ready or the time is up, and returns the keys of what is ready, at
    /// most 64.
    ///
    /// `None` waits for ever, and a timeout of zero only looks. Otherwise it waits for at least the
    /// timeout if nothing becomes ready, to the nanosecond from Linux 5.11 on and to the next
    /// millisecond before. A signal handler that runs meanwhile does not end the wait: a program
    /// that wants to notice triggers a [`SelectEvent`](super::SelectEvent) in its handler.
    ///
    /// An empty vector says that the time is up.
    ///
    /// # Errors
    ///
    /// Those of epoll_wait(2) other than EINTR; none is known to happen in a program that leaves
    /// the descriptor alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::Selector;
    /// use std::time::Duration;
    ///
    /// let mut selector = Selector::<()>::new()?;
    /// assert!(selector.select(Some(Duration::from_millis(1)))?.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn select(&mut self, timeout: Option<Duration>) -> io::Result<Vec<ReadyKey>> {
        let mut keys = Vec::new();
        self.select_each(timeout, BATCH, |key| keys.push(key))?;
        Ok(keys)
    }

    /// Waits as [`select`](Self::select) does, writes the keys to a buffer from its start, and
    /// returns how many.
    ///
    /// It allocates nothing. One call fills at most 64 keys, however long the buffer is; the others
    /// come with the next call. What the buffer holds after the last key is not touched.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the buffer is empty; else as `select`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{ReadyKey, Selector};
    /// use std::time::Duration;
    ///
    /// let mut selector = Selector::<()>::new()?;
    /// let mut keys = [ReadyKey::EMPTY; 16];
    /// assert_eq!(selector.select_into(Some(Duration::from_millis(1)), &mut keys)?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn select_into(
        &mut self,
        timeout: Option<Duration>,
        keys: &mut [ReadyKey],
    ) -> io::Result<usize> {
        if keys.is_empty() {
            return Err(refused("there is no room for a key: the buffer is empty"));
        }
        let limit = keys.len().min(BATCH);
        let mut places = keys.iter_mut();
        self.select_each(timeout, limit, |key| {
            if let Some(place) = places.next() {
                *place = key;
            }
        })
    }

    /// Waits until there is a key or the time is up. A wait that brings none, because a signal
    /// handler ended it or all it brought was stale, is followed by another for what is left of the
    /// time.
    fn select_each(
        &mut self,
        timeout: Option<Duration>,
        limit: usize,
        mut give: impl FnMut(ReadyKey),
    ) -> io::Result<usize> {
        let deadline = Deadline::after(timeout);
        let mut left = timeout;
        loop {
            let mut count = 0;
            self.wait_and_take(left, limit, |key| {
                give(key);
                count += 1;
            })?;
            left = deadline.left();
            let time_is_up = left == Some(Duration::ZERO) && !mem::take(&mut self.look_again);
            if count > 0 || time_is_up {
                return Ok(count);
            }
        }
    }

    /// Waits once, for at most as many events as there is room for keys, so that none is left over.
    fn wait_and_take(
        &mut self,
        timeout: Option<Duration>,
        limit: usize,
        mut give: impl FnMut(ReadyKey),
    ) -> io::Result<()> {
        self.poller.wait_limited(timeout, &mut self.events, limit)?;
        while let Some(event) = self.events.pop() {
            if let Some(key) = self.key(event) {
                give(key);
            }
        }
        Ok(())
    }

    /// Returns the half that waits, for who shares a selector between threads.
    ///
    /// # Examples
    ///
    /// See [`Poller`].
    #[must_use]
    pub fn poller(&self) -> Poller {
        self.poller.clone()
    }

    /// Makes keys of what a [`Poller`] of this selector has waited for, writes them to a buffer
    /// from its start, and returns how many.
    ///
    /// Timers, signals and events are read on the way. Events that have gone stale since the wait
    /// make no key. What finds no room stays in `events`, for the next call.
    ///
    /// # Panics
    ///
    /// If `events` holds some that another selector's poller has waited for.
    ///
    /// # Examples
    ///
    /// See [`Poller`].
    #[track_caller]
    pub fn take(&mut self, events: &mut RawEvents, keys: &mut [ReadyKey]) -> usize {
        assert!(
            events.is_empty() || events.selector == self.poller.selector,
            "these are another selector's events: take them with the one whose poller waited",
        );
        let mut count = 0;
        while count < keys.len() {
            let Some(event) = events.pop() else { break };
            if let Some(key) = self.key(event) {
                keys[count] = key;
                count += 1;
            }
        }
        count
    }

    /// Takes all that a poller of this selector has waited for, and gives it to a closure with the
    /// data it belongs to, without looking each key up again. It is for the reactor, which registers
    /// handles only, and does not update them.
    #[inline]
    pub(crate) fn take_each(&mut self, events: &mut RawEvents, mut give: impl FnMut(Reported, &T)) {
        debug_assert!(events.is_empty() || events.selector == self.poller.selector);
        for (reported, data) in events.take_all() {
            let token = Token::from_data(data);
            match self.table.by_token(token) {
                Some(entry) => give(Reported(reported), &entry.data),
                None => self.stray(token),
            }
        }
    }

    /// Makes a key of an event; `None` if it means nothing to the user, or nothing any more.
    ///
    /// Handles are what a busy program has most, and there is nothing to read for them: their keys
    /// are made here, in line, and the others elsewhere.
    #[inline]
    fn key(&mut self, (reported, data): (u32, u64)) -> Option<ReadyKey> {
        let token = Token::from_data(data);
        match self.table.by_token_mut(token) {
            Some(Entry { kind: Kind::Handle(handle), .. }) => {
                let events = handle.report(reported);
                (!events.is_empty())
                    .then(|| ReadyKey::new(token, handle.fd, events, Report::Nothing))
            }
            Some(_) => self.key_of_source(token),
            None => {
                self.stray(token);
                None
            }
        }
    }

    /// Makes a key of what the selector reads itself.
    #[inline(never)]
    fn key_of_source(&mut self, token: Token) -> Option<ReadyKey> {
        let entry = self.table.by_token_mut(token)?;
        if entry.finished {
            self.stray(token);
            return None;
        }
        let (events, report) = entry.kind.read()?;
        let key = ReadyKey::new(token, entry.kind.fd(), events, report);
        if events.intersects(Events::FINISHED | Events::SIGNAL) {
            self.after_reading(&key);
        }
        Some(key)
    }

    /// Does what a key of a signal or of a one-shot kind asks for.
    #[cold]
    fn after_reading(&mut self, key: &ReadyKey) {
        if key.signal_info().is_some_and(|info| info.signo() == CHILD_SIGNAL) {
            forward_child_notice();
        }
        if key.events().contains(Events::FINISHED) {
            if let Some(entry) = self.table.finish(key.token) {
                entry.in_set = false;
                self.unwatch(key.fd(), true);
            }
        }
    }

    /// Deals with an event that no living entry has.
    #[cold]
    fn stray(&mut self, token: Token) {
        match token {
            CHILD_NOTICE | BLOCKED_CHILD_SIGNAL => self.look_at_children(token),
            RETIRED => {}
            // A duplicate of a closed descriptor is alive, and would report at every wait.
            _ if self.orphans => self.rebuild(),
            _ => {}
        }
    }

    fn look_at_children(&mut self, told_by: Token) {
        let takes_signals = !self.has_signal(CHILD_SIGNAL);
        let Some(children) = &mut self.children else { return };
        if told_by == CHILD_NOTICE {
            children.check(&self.poller.epoll);
            self.look_again = true;
            return;
        }
        // What the user wants to have as keys must stay; reading those keys tells the selectors.
        if takes_signals {
            children.drain_signals();
        }
        children.tell_others();
    }

    /// Moves to a new epoll set, which knows nothing of the descriptors that were closed while they
    /// were registered.
    ///
    /// If there is no descriptor, memory or watch for it now, everything stays as it is, and the
    /// next stray event tries again.
    #[cold]
    fn rebuild(&mut self) {
        let Ok(new) = Epoll::new() else { return };
        let Ok(outside) = self.move_to(&new) else { return };
        let Ok(retired) = self.retire_set() else { return };
        if self.poller.epoll.replace(new).is_err() {
            self.unwatch(retired.as_fd().as_raw_fd(), false);
            return;
        }
        self.retired = Some(retired);
        for fd in outside {
            if let Some((_, entry)) = self.table.by_fd_mut(fd) {
                entry.in_set = false;
            }
        }
        self.orphans = false;
    }

    /// Makes the present set readable as long as the returned event lives: whoever waits in it, on
    /// another thread, comes back at once and waits in the set that has the number by then.
    fn retire_set(&mut self) -> io::Result<EventFd> {
        let retired = self.retired.take().map_or_else(EventFd::new, Ok)?;
        retired.signal()?;
        let fd = retired.as_fd().as_raw_fd();
        self.poller.epoll.add(fd, mask::IN, RETIRED.to_data())?;
        Ok(retired)
    }

    /// Adds what is watched to another set, and returns what cannot join it, because it was closed
    /// as well, and what need not: a one-shot that has fired joins when it is updated.
    fn move_to(&self, new: &Epoll) -> io::Result<Vec<RawFd>> {
        self.children.as_ref().map_or(Ok(()), |children| children.join(new))?;
        let mut outside = Vec::new();
        for (token, entry) in self.table.in_set() {
            if matches!(entry.kind, Kind::Handle(handle) if handle.fired) {
                outside.push(entry.kind.fd());
                continue;
            }
            match new.add(entry.kind.fd(), entry.kind.epoll_mask(), token.to_data()) {
                Ok(()) => {}
                // The living must not be left behind for a lack that passes.
                Err(error) if is_lack(&error) => return Err(error),
                Err(_) => outside.push(entry.kind.fd()),
            }
        }
        Ok(outside)
    }
}

/// Tells a lack of memory or of watches (epoll(7), `max_user_watches`) from a descriptor that
/// cannot be watched.
fn is_lack(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull)
}

/// When a wait ends.
enum Deadline {
    /// It ends only with a key. A time that the clock cannot express will never come either.
    Never,
    /// It has only looked.
    Now,
    At(Instant),
}

impl Deadline {
    #[inline]
    fn after(timeout: Option<Duration>) -> Self {
        match timeout {
            None => Self::Never,
            Some(Duration::ZERO) => Self::Now,
            Some(timeout) => Instant::now().checked_add(timeout).map_or(Self::Never, Self::At),
        }
    }

    #[inline]
    fn left(&self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Now => Some(Duration::ZERO),
            Self::At(instant) => Some(instant.saturating_duration_since(Instant::now())),
        }
    }
}
