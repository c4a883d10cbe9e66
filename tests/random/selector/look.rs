//! Looks, and what they have to bring.

use super::entries::{Entry, Handle, Kind};
use super::files::{poll, readiness};
use super::{Side, World, assert_kind};
use selio::selector::{Events, ReadyKey};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

const NOW: Option<Duration> = Some(Duration::ZERO);
/// As many keys as one look brings at most.
const BATCH: usize = 64;

/// What is ready, by the numbers of the registrations.
pub(super) type Ready = BTreeMap<RawFd, Events>;

impl World {
    pub(super) fn select(&mut self, side: usize) {
        let timeout = if self.bytes.chance(16) { Some(Duration::from_micros(200)) } else { NOW };
        self.look(side, BATCH, |it| {
            let start = Instant::now();
            let keys = it.selector.select(timeout).unwrap();
            assert!(!keys.is_empty() || Some(start.elapsed()) >= timeout, "it has not waited");
            keys
        });
    }

    pub(super) fn select_into(&mut self, side: usize) {
        let mut keys = vec![ReadyKey::EMPTY; self.bytes.below(6)];
        if keys.is_empty() {
            let result = self.sides[side].selector.select_into(NOW, &mut keys);
            return assert_kind(result, ErrorKind::InvalidInput);
        }
        self.look(side, keys.len(), |it| {
            let count = it.selector.select_into(NOW, &mut keys).unwrap();
            assert!(keys[count..].iter().all(|key| key.events().is_empty()));
            keys.truncate(count);
            keys
        });
    }

    /// Looks, and compares what comes with what is ready before and after.
    fn look(&mut self, side: usize, limit: usize, look: impl FnOnce(&mut Side) -> Vec<ReadyKey>) {
        self.await_timers(side);
        if self.sides[side].may_move() {
            self.expect_a_new_set(side);
        }
        let before = self.ready(side, true);
        let keys = look(&mut self.sides[side]);
        assert!(keys.len() <= limit);
        let after = self.ready(side, false);
        let it = &self.sides[side];
        let certain = !it.orphans && !it.halved;
        assert!(!certain || keys.len() >= before.len().min(limit), "{keys:?} of {before:?}");
        for (number, ready) in &before {
            let key = keys.iter().find(|key| key.fd() == *number);
            let told = key.map_or(Events::NONE, ReadyKey::events);
            let left_out = key.is_none() && keys.len() >= limit || limit < BATCH && !certain;
            let entry = &it.entries[number];
            assert!(
                left_out || told.contains(*ready),
                "{ready:?} was not told, {key:?}, {entry:?}"
            );
        }
        if keys.is_empty() && after.is_empty() && !it.halved {
            self.expect_an_end_of_looks(side);
        }
        self.note_keys(side, &keys, &after);
    }

    /// What was dropped without a key must not come again and again. A one-shot of the batch in which
    /// the selector has moved to another set is armed there once more, and dropped once more.
    fn expect_an_end_of_looks(&mut self, side: usize) {
        let it = &mut self.sides[side];
        let has_fired = |entry: &&Entry| matches!(&entry.kind, Kind::Handle(it) if it.fired);
        let mut most = it.entries.values().filter(has_fired).count();
        while poll(it.selector.as_raw_fd(), libc::POLLIN, 0) != 0 {
            assert_ne!(most, 0, "there is something to see, and nothing to tell");
            most -= 1;
            assert_eq!(it.selector.select_into(NOW, &mut [ReadyKey::EMPTY]).unwrap(), 0);
        }
    }

    /// Takes note of keys, each of which has to be of something that is ready.
    fn note_keys(&mut self, side: usize, keys: &[ReadyKey], ready: &Ready) {
        for (index, key) in keys.iter().enumerate() {
            // Two files under one number make two, which is the program's fault.
            let vague = matches!(
                self.sides[side].entries.get(&key.fd()),
                Some(Entry { kind: Kind::Handle(Handle { vague: true, .. }), .. })
            );
            let twice = keys[..index].iter().any(|other| other.fd() == key.fd());
            assert!(!twice || vague, "two keys of one registration: {keys:?}");
            let allowed = ready.get(&key.fd()).copied().unwrap_or(Events::NONE);
            assert!(allowed.contains(key.events()), "{key:?}, but {allowed:?} is ready");
            self.note(side, key);
        }
    }

    fn note(&mut self, side: usize, key: &ReadyKey) {
        let it = &mut self.sides[side];
        let entry = it.entries.get_mut(&key.fd()).expect("a key of what is registered");
        let data = it.selector.get(key).expect("a key that is not stale");
        assert_eq!(data.value, entry.data);
        assert!(!key.events().is_empty());
        match &mut entry.kind {
            Kind::Handle(handle) => handle.note(key),
            Kind::Timer(timer) => {
                timer.expirations += key.expirations();
                timer.finished = timer.oneshot;
                let finished = Events::ONESHOT | Events::FINISHED;
                assert_eq!(key.events().contains(finished), timer.oneshot);
                assert!(key.expirations() > 0 && timer.expirations <= timer.most(), "too early");
            }
            Kind::Signal(signal) => {
                assert_eq!(key.signal_info().expect("its cause").signo(), *signal);
                self.pending.take(*signal);
            }
            Kind::Process { child, finished } => {
                assert!(self.children.has_ended(*child) && !*finished);
                *finished = true;
            }
            Kind::Event(event) => {
                let event = &mut self.events[*event];
                assert_eq!(key.count(), std::mem::take(&mut event.triggers));
            }
        }
        self.stale.truncate(16);
        self.stale.insert(0, (side, entry.registration, *key));
    }

    /// Whatever the selector may take for other files from now on.
    fn expect_a_new_set(&mut self, side: usize) {
        for (number, entry) in &mut self.sides[side].entries {
            if let Kind::Handle(handle) = &mut entry.kind {
                handle.vague |= self.files.file(*number) != Some(handle.file);
            }
        }
    }

    /// The kernel may be late with a timer, but not for ever.
    fn await_timers(&self, side: usize) {
        for (number, entry) in &self.sides[side].entries {
            if let Kind::Timer(timer) = &entry.kind {
                let due = timer.oneshot && timer.most() > 0 && !timer.finished;
                assert!(!due || poll(*number, libc::POLLIN, 5000) != 0, "a timer that is lost");
            }
        }
    }

    /// What has to be told, or what may be.
    fn ready(&self, side: usize, must: bool) -> Ready {
        let all = self.sides[side].entries.iter();
        let all = all.map(|(number, entry)| (*number, self.ready_of(*number, entry, must)));
        all.filter(|(_, events)| !events.is_empty()).collect()
    }

    fn ready_of(&self, number: RawFd, entry: &Entry, must: bool) -> Events {
        let finished = Events::ONESHOT | Events::FINISHED;
        let if_so = |is_ready, events| if is_ready { events } else { Events::NONE };
        match &entry.kind {
            Kind::Handle(handle) => self.ready_of_handle(handle, must),
            Kind::Timer(timer) => {
                let due = !timer.finished && (!must || poll(number, libc::POLLIN, 0) != 0);
                if_so(due, Events::TIMER | if_so(timer.oneshot, finished))
            }
            Kind::Signal(signal) => if_so(self.pending.count(*signal) > 0, Events::SIGNAL),
            Kind::Process { child, finished: told } => {
                if_so(self.children.has_ended(*child) && !told, Events::PROCESS | finished)
            }
            Kind::Event(event) => if_so(self.events[*event].triggers > 0, Events::USER),
        }
    }

    /// What is ready of the handles that tell a change only.
    pub(super) fn ready_on_edge(&self, side: usize) -> Ready {
        let handles = self.sides[side].entries.iter().filter_map(|(number, entry)| {
            let Kind::Handle(handle) = &entry.kind else { return None };
            let is_edge = handle.interest.contains(Events::EDGE);
            is_edge.then(|| (*number, self.ready_of_handle(handle, false)))
        });
        handles.collect()
    }

    fn ready_of_handle(&self, handle: &Handle, must: bool) -> Events {
        if handle.vague {
            let unasked = Events::ERROR | Events::HANGUP;
            return if must { Events::NONE } else { handle.interest | unasked };
        }
        if handle.is_suspended() || handle.fired || must && !handle.must_come() {
            return Events::NONE;
        }
        match self.files.number_of(handle.file) {
            Some(number) => readiness(number, handle.interest),
            None => Events::NONE,
        }
    }

    /// Waits with the half that waits, and leaves what comes for later.
    pub(super) fn wait(&mut self, side: usize) {
        let registrations = self.registrations;
        let it = &mut self.sides[side];
        if it.raw.is_empty() {
            it.raw_since = registrations;
            for entry in it.entries.values_mut() {
                if let Kind::Handle(handle) = &mut entry.kind {
                    handle.on_its_way |= handle.is_oneshot();
                    handle.fresh = false;
                }
            }
        }
        it.poller.wait(NOW, &mut it.raw).unwrap();
        it.halved = true;
    }

    /// Takes what was waited for, of what is still registered and is still ready or has been.
    pub(super) fn take(&mut self, side: usize) {
        let mut keys = vec![ReadyKey::EMPTY; self.bytes.below(6)];
        self.await_timers(side);
        let it = &mut self.sides[side];
        let count = it.selector.take(&mut it.raw, &mut keys);
        keys.truncate(count);
        let mut allowed = self.ready(side, false);
        let it = &self.sides[side];
        for key in &keys {
            let entry = it.entries.get(&key.fd()).expect("a key of what is registered");
            assert!(entry.registration <= it.raw_since, "{key:?} came before it was registered");
            if let Kind::Handle(handle) = &entry.kind {
                // It was ready then.
                let unasked = Events::ERROR | Events::HANGUP;
                let may =
                    if handle.is_suspended() { Events::NONE } else { handle.interest | unasked };
                allowed.insert(key.fd(), may);
            }
        }
        if it.may_move() {
            self.expect_a_new_set(side);
        }
        self.note_keys(side, &keys, &allowed);
    }
}

impl Handle {
    fn note(&mut self, key: &ReadyKey) {
        assert_eq!(key.events().contains(Events::ONESHOT), self.is_oneshot());
        assert!(!self.fired || self.vague, "a one-shot that came twice: {key:?}");
        self.fired = self.is_oneshot();
        self.fresh = false;
    }
}
