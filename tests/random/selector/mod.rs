//! Two selectors that share descriptors, events, signals and children, against maps.
//!
//! What is ready is asked of `poll(2)` before and after each look: what was ready before has to be
//! told, and what is not ready after it must not be. What the program did to its descriptors, such
//! as to close or replace them while they were registered, the model follows by file and number.
#![allow(unsafe_code, reason = "signals, masks and forks, which the standard library lacks")]

mod entries;
mod files;
mod look;
mod others;

use crate::bytes::Bytes;
use crate::kit;
use entries::{Datum, Entry, Handle, Kind};
use files::{FileKind, Files, next_number};
use others::{Children, Pending};
use selio::selector::{Events, Poller, RawEvents, ReadyKey, SelectEvent, Selector};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

const MOST_NUMBERS: usize = 24;
const MOST_ENTRIES: usize = 40;

/// Runs a program.
pub(crate) fn run(bytes: &[u8]) {
    // SAFETY: nothing is called; a write to what nobody reads is an error then.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let (open, blocked) = (kit::open_fds(), kit::signal_mask());
    let alive = Arc::new(());
    let mut world = World::new(Bytes::new(bytes), &alive);
    while !world.bytes.is_empty() {
        world.step();
        world.compare();
    }
    drop(world);
    assert_eq!(Arc::strong_count(&alive), 1, "data that was never dropped");
    assert_eq!(kit::open_fds(), open, "descriptors that are still open");
    assert_eq!(kit::signal_mask(), blocked, "signals that are still blocked");
}

/// One of the two selectors, and what is registered there.
struct Side {
    selector: Selector<Datum>,
    entries: BTreeMap<RawFd, Entry>,
    poller: Poller,
    /// What was waited for and not taken, and how many registrations there were then.
    raw: RawEvents,
    raw_since: u64,
    /// The half that waits has been used alone: what it brought may be taken at any time.
    halved: bool,
    /// A file that can still report was closed under its number and unregistered.
    orphans: bool,
    /// A file was, which the selector cannot tell from one that still reports.
    suspects: bool,
}

/// An event of the program's, as long as that has it, and the triggers that nobody has taken.
struct Event {
    own: Option<SelectEvent>,
    triggers: u64,
}

struct World {
    bytes: Bytes,
    alive: Arc<()>,
    files: Files,
    sides: [Side; 2],
    events: Vec<Event>,
    pending: Pending,
    children: Children,
    /// Keys of some time ago, with the side and the registration they belong to.
    stale: Vec<(usize, u64, ReadyKey)>,
    registrations: u64,
    /// Forks cost much, so that few programs have one.
    forks_left: usize,
}

impl Side {
    fn new() -> Self {
        let selector = Selector::new().unwrap();
        Self {
            poller: selector.poller(),
            selector,
            entries: BTreeMap::new(),
            raw: RawEvents::with_capacity(8),
            raw_since: 0,
            halved: false,
            orphans: false,
            suspects: false,
        }
    }

    /// Whether the selector may move to another epoll set, where numbers are what they are by then:
    /// it does when something reports that is not registered.
    fn may_move(&self) -> bool {
        self.orphans || self.suspects && self.halved
    }
}

impl World {
    fn new(mut bytes: Bytes, alive: &Arc<()>) -> Self {
        let first = bytes.byte();
        Self {
            bytes,
            alive: Arc::clone(alive),
            // Born before there is anything to inherit.
            children: Children::start(if first % 16 == 15 { 2 } else { 0 }),
            files: Files::default(),
            sides: [Side::new(), Side::new()],
            events: Vec::new(),
            pending: Pending::default(),
            stale: Vec::new(),
            registrations: 0,
            forks_left: usize::from(first / 16 == 15) * 2,
        }
    }

    fn step(&mut self) {
        let side = usize::from(self.bytes.chance(4));
        match self.bytes.below(40) {
            0..=3 => self.open(),
            4..=5 => self.duplicate(),
            6 => self.noting_edges(Self::close),
            7 => self.noting_edges(Self::replace),
            8..=11 => self.register_handle(side),
            12..=14 => self.update(side),
            15..=17 => self.unregister(side),
            18..=21 => self.noting_edges(Self::transfer),
            22 => self.register_event(side),
            23..=24 => self.trigger(),
            25 => self.register_timer(side),
            26 => self.register_signal(side),
            27 => self.raise(),
            28 => self.register_process(side),
            29 => self.children.change(&mut self.bytes),
            30 => self.set_data(side),
            31 if self.forks_left > 0 => self.fork(),
            31..=32 => self.wait(side),
            33..=34 => self.take(side),
            35 => self.select_into(side),
            36 => self.abandon(side),
            _ => self.select(side),
        }
    }

    fn datum(&mut self) -> Datum {
        self.registrations += 1;
        Datum { value: self.registrations, _alive: Arc::clone(&self.alive) }
    }

    fn any_number(&mut self) -> Option<RawFd> {
        self.bytes.one_of(&self.files.numbers())
    }

    /// Most often a number that is registered there, else any.
    fn any_entry(&mut self, side: usize) -> RawFd {
        let all: Vec<_> = self.sides[side].entries.keys().copied().collect();
        if self.bytes.chance(16) {
            return RawFd::from(self.bytes.byte()) - 1;
        }
        self.bytes.one_of(&all).unwrap_or(-1)
    }

    fn any_interest(&mut self) -> Events {
        const COMMON: [Events; 7] = [
            Events::READ,
            Events::NONE,
            Events::WRITE,
            Events::READ.union(Events::WRITE),
            Events::READ.union(Events::ONESHOT),
            Events::READ.union(Events::EDGE),
            Events::READ.union(Events::EXCLUSIVE),
        ];
        const SINGLE: [Events; 7] = [
            Events::READ,
            Events::WRITE,
            Events::PRIORITY,
            Events::EDGE,
            Events::ONESHOT,
            Events::EXCLUSIVE,
            Events::TIMER,
        ];
        match self.bytes.below(12) {
            common @ 0..7 => COMMON[common],
            _ => {
                let bits = self.bytes.byte() & 0x3f;
                let bits = bits | u8::from(self.bytes.chance(32)) << 6;
                let chosen = (0..7).filter(|bit| bits >> bit & 1 == 1).map(|bit| SINGLE[bit]);
                chosen.fold(Events::NONE, Events::union)
            }
        }
    }

    fn open(&mut self) {
        const KINDS: [FileKind; 6] = [
            FileKind::Pipe,
            FileKind::Pipe,
            FileKind::Socket,
            FileKind::Tcp,
            FileKind::Counter,
            FileKind::Regular,
        ];
        let kind = KINDS[self.bytes.below(KINDS.len())];
        if self.files.numbers().len() < MOST_NUMBERS {
            self.files.open(kind);
        }
    }

    fn duplicate(&mut self) {
        if self.files.numbers().len() >= MOST_NUMBERS {
        } else if self.bytes.chance(3) {
            self.files.come_back();
        } else if let Some(number) = self.any_number() {
            self.files.duplicate(number);
        }
    }

    fn close(&mut self) {
        self.any_number().into_iter().for_each(|number| self.files.close(number));
    }

    /// Closes a handle's descriptor too early, while the file has another, and perhaps unregisters
    /// the one and brings back the other.
    fn abandon(&mut self, side: usize) {
        let handles = self.sides[side].entries.keys().copied();
        let own: Vec<_> = handles.filter(|&it| self.files.file(it).is_some()).collect();
        let Some(number) = self.bytes.one_of(&own) else { return };
        self.files.duplicate(number);
        self.files.close(number);
        let how = self.bytes.byte();
        if how & 1 != 0 {
            self.unregister_number(side, number);
        }
        if how & 2 != 0 {
            self.select(side);
        }
        if how & 4 != 0 {
            self.files.come_back();
        }
        if how & 8 != 0 && self.files.file(number).is_some() {
            self.register_number(side, number);
        }
    }

    fn replace(&mut self) {
        if let (Some(number), Some(over)) = (self.any_number(), self.any_number()) {
            self.files.replace(number, over);
        }
    }

    /// Changes files, and notes who has become ready for more by that: an edge that is to come.
    fn noting_edges(&mut self, change: fn(&mut Self)) {
        let ready = |world: &Self| [0, 1].map(|side| world.ready_on_edge(side));
        let before = ready(self);
        change(self);
        for (side, after) in ready(self).into_iter().enumerate() {
            for (number, events) in after {
                let more = before[side].get(&number).is_some_and(|it| !it.contains(events));
                let entry = self.sides[side].entries.get_mut(&number);
                if let Some(Entry { kind: Kind::Handle(handle), .. }) = entry {
                    handle.fresh |= more;
                }
            }
        }
    }

    fn transfer(&mut self) {
        let Some(number) = self.any_number() else { return };
        match self.bytes.below(16) {
            0..=5 => self.files.write(number, false),
            6 => self.files.write(number, true),
            7..=9 => self.files.read(number, false),
            10..=12 => self.files.read(number, true),
            13 => self.files.send_urgent(number),
            how => {
                self.files.shut_down(number, if how == 14 { libc::SHUT_WR } else { libc::SHUT_RD })
            }
        }
    }

    fn register_handle(&mut self, side: usize) {
        self.any_number().into_iter().for_each(|number| self.register_number(side, number));
    }

    fn register_number(&mut self, side: usize, number: RawFd) {
        let (interest, data) = (self.any_interest(), self.datum());
        let file = self.files.file(number).expect("an open number");
        let regular = self.files.kind(file) == FileKind::Regular;
        let it = &mut self.sides[side];
        if it.entries.len() >= MOST_ENTRIES {
            return;
        }
        let value = data.value;
        let result = it.selector.register_handle(self.files.borrow(number), interest, data);
        let handle = Handle::new(file, interest);
        if !handle.is_valid() {
            return assert_kind(result, ErrorKind::InvalidInput);
        }
        if it.entries.contains_key(&number) {
            return assert_kind(result, ErrorKind::AlreadyExists);
        }
        if regular && !handle.is_suspended() {
            return assert_kind(result, ErrorKind::PermissionDenied);
        }
        result.unwrap();
        it.entries.insert(number, Entry::new(value, Kind::Handle(handle)));
    }

    fn update(&mut self, side: usize) {
        let (number, interest) = (self.any_entry(side), self.any_interest());
        let current = self.files.file(number);
        let regular = current.is_some_and(|file| self.files.kind(file) == FileKind::Regular);
        let it = &mut self.sides[side];
        let may_move = it.may_move();
        let result = it.selector.update_handle(number, interest);
        let new = Handle::new(current.unwrap_or(usize::MAX), interest);
        if !new.is_valid() {
            return assert_kind(result, ErrorKind::InvalidInput);
        }
        let Some(entry) = it.entries.get_mut(&number) else {
            return assert_kind(result, ErrorKind::NotFound);
        };
        let Kind::Handle(old) = &mut entry.kind else {
            return assert_kind(result, ErrorKind::InvalidInput);
        };
        let same = current == Some(old.file);
        // Somebody else has the number, or had it, and is still in the set.
        let foreign = current.is_none() && kit::open_number(number);
        if old.vague || foreign || !same && may_move {
            old.vague |= !new.is_suspended() || !old.is_suspended();
            if result.is_ok() {
                *old = Handle { file: old.file, vague: old.vague, ..new };
            }
            return;
        }
        match (old.is_suspended(), new.is_suspended()) {
            (true, true) => result.unwrap(),
            (true, false) if regular => return assert_kind(result, ErrorKind::PermissionDenied),
            (true, false) if current.is_none() => return drop(result.unwrap_err()),
            (true, false) => result.unwrap(),
            (false, true) if same => result.unwrap(),
            // A one-shot that has been reported is not taken along to another set.
            (false, false) if may_move && old.fired && result.is_ok() => {}
            (false, false) if old.is_exclusive() || new.is_exclusive() => {
                return assert_kind(result, ErrorKind::InvalidInput);
            }
            (false, false) if same => result.unwrap(),
            (false, _) => return drop(result.unwrap_err()),
        }
        *old = if new.is_suspended() { Handle { file: old.file, ..new } } else { new };
    }

    fn unregister(&mut self, side: usize) {
        let number = self.any_entry(side);
        self.unregister_number(side, number);
    }

    fn unregister_number(&mut self, side: usize, number: RawFd) {
        let it = &mut self.sides[side];
        let result = it.selector.unregister(number);
        let Some(entry) = it.entries.remove(&number) else {
            return assert_kind(result, ErrorKind::NotFound);
        };
        assert_eq!(result.unwrap().value, entry.data);
        match entry.kind {
            Kind::Handle(handle) => {
                let gone = self.files.file(number) != Some(handle.file);
                let alive = self.files.number_of(handle.file).is_some();
                it.suspects |= gone && !handle.is_suspended();
                it.orphans |= handle.vague || gone && alive && !handle.is_suspended();
            }
            Kind::Signal(signal) if !self.has_signal(signal) => self.pending.clear(signal),
            _ => {}
        }
    }

    fn has_signal(&self, signal: i32) -> bool {
        let mut all = self.sides.iter().flat_map(|side| side.entries.values());
        all.any(|entry| matches!(entry.kind, Kind::Signal(other) if other == signal))
    }

    /// Registers what the selector makes a descriptor for. That may be given the number of a handle
    /// that was closed too early, and is refused then.
    fn register_own(
        &mut self,
        side: usize,
        kind: Kind,
        register: impl FnOnce(&mut Selector<Datum>, Datum) -> io::Result<RawFd>,
    ) {
        let (data, next) = (self.datum(), next_number());
        let it = &mut self.sides[side];
        let value = data.value;
        let result = register(&mut it.selector, data);
        if it.entries.contains_key(&next) {
            return assert_kind(result, ErrorKind::AlreadyExists);
        }
        assert_eq!(result.unwrap(), next);
        it.entries.insert(next, Entry::new(value, kind));
    }

    fn has_room(&self, side: usize) -> bool {
        self.sides[side].entries.len() < MOST_ENTRIES
    }

    fn register_timer(&mut self, side: usize) {
        const HOUR: Duration = Duration::from_secs(3600);
        const MICROS: fn(u64) -> Duration = Duration::from_micros;
        let choice = [Duration::ZERO, MICROS(1), MICROS(50), MICROS(700), HOUR, Duration::MAX];
        let after = choice[self.bytes.below(choice.len())];
        let oneshot = self.bytes.chance(2);
        if after.is_zero() && !oneshot {
            let data = self.datum();
            let result = self.sides[side].selector.register_timer(after, false, data);
            return assert_kind(result, ErrorKind::InvalidInput);
        }
        if self.has_room(side) {
            let kind = Kind::Timer(entries::Timer::new(after, oneshot));
            self.register_own(side, kind, |it, data| it.register_timer(after, oneshot, data));
        }
    }

    fn register_signal(&mut self, side: usize) {
        let signal = self.pending.any(&mut self.bytes);
        let refused = [0, -1, 65, libc::SIGKILL, libc::SIGSEGV, 32];
        let has = self.sides[side].entries.values();
        let has = has.into_iter().any(|it| matches!(it.kind, Kind::Signal(it) if it == signal));
        if has || self.bytes.chance(16) {
            let (kind, signal) = match has {
                true => (ErrorKind::AlreadyExists, signal),
                false => (ErrorKind::InvalidInput, refused[self.bytes.below(refused.len())]),
            };
            let data = self.datum();
            return assert_kind(self.sides[side].selector.register_signal(signal, data), kind);
        }
        if self.has_room(side) {
            let register = |it: &mut Selector<_>, data| it.register_signal(signal, data);
            self.register_own(side, Kind::Signal(signal), register);
        }
    }

    fn raise(&mut self) {
        let signal = self.pending.any(&mut self.bytes);
        if self.has_signal(signal) {
            self.pending.raise(signal);
        }
    }

    fn register_process(&mut self, side: usize) {
        if self.bytes.chance(8) {
            let (pid, data) = ([0, u32::MAX, i32::MAX as u32][self.bytes.below(3)], self.datum());
            return drop(self.sides[side].selector.register_process(pid, data).unwrap_err());
        }
        let Some((child, pid)) = self.children.any(&mut self.bytes) else { return };
        if self.has_room(side) {
            let kind = Kind::Process { child, finished: false };
            self.register_own(side, kind, |it, data| it.register_process(pid, data));
        }
    }

    fn register_event(&mut self, side: usize) {
        if self.events.len() < 8 && self.bytes.chance(2) {
            self.events.push(Event { own: Some(SelectEvent::new().unwrap()), triggers: 0 });
        }
        let Some((index, own)) = self.any_event() else { return };
        let data = self.datum();
        let it = &mut self.sides[side];
        let value = data.value;
        let result = it.selector.register_event(&own, data);
        if it.entries.contains_key(&own.as_raw_fd()) {
            return assert_kind(result, ErrorKind::AlreadyExists);
        }
        result.unwrap();
        it.entries.insert(own.as_raw_fd(), Entry::new(value, Kind::Event(index)));
    }

    fn any_event(&mut self) -> Option<(usize, SelectEvent)> {
        let all = self.events.iter().enumerate();
        let all: Vec<_> = all.filter(|(_, it)| it.own.is_some()).map(|(index, _)| index).collect();
        let index = self.bytes.one_of(&all)?;
        Some((index, self.events[index].own.clone()?))
    }

    /// Triggers an event, and sometimes forgets it: a selector that has it keeps it.
    fn trigger(&mut self) {
        let Some((index, own)) = self.any_event() else { return };
        own.trigger().unwrap();
        self.events[index].triggers += 1;
        if self.bytes.chance(8) {
            self.events[index].own = None;
        }
    }

    fn set_data(&mut self, side: usize) {
        let (number, data) = (self.any_entry(side), self.datum());
        let it = &mut self.sides[side];
        let value = data.value;
        let result = it.selector.set_data(number, data);
        match it.entries.get_mut(&number) {
            Some(entry) => {
                let old = std::mem::replace(&mut entry.data, value);
                assert_eq!(result.unwrap().value, old);
            }
            None => assert_eq!(result.unwrap_err().value, value),
        }
    }

    /// A child that unregisters some of what it has copied, and drops the rest, changes nothing here.
    fn fork(&mut self) {
        let count = self.bytes.below(4);
        self.forks_left -= 1;
        others::in_child(|| {
            for side in &mut self.sides {
                for &number in side.entries.keys().take(count) {
                    side.selector.unregister(number).unwrap();
                }
                let selector = std::mem::replace(&mut side.selector, Selector::new().unwrap());
                drop(selector);
            }
        });
    }

    /// Compares what can be asked without waiting.
    fn compare(&self) {
        for side in &self.sides {
            let living = side.entries.values().filter(|entry| !entry.is_finished()).count();
            assert_eq!(side.selector.len(), living);
            assert_eq!(side.selector.is_empty(), living == 0);
            for number in -1..64 {
                let expected = side.entries.get(&number).map(|entry| entry.data);
                let found = side.selector.data(number).map(|data| data.value);
                assert_eq!(found, expected, "descriptor {number}");
                assert_eq!(side.selector.contains(number), expected.is_some());
            }
        }
        for (own, registration, key) in &self.stale {
            for (index, side) in self.sides.iter().enumerate() {
                let entry = side.entries.get(&key.fd());
                let entry = entry.filter(|it| index == *own && it.registration == *registration);
                let found = side.selector.get(key).map(|data| data.value);
                assert_eq!(found, entry.map(|entry| entry.data), "{key:?}");
                let error = side.selector.take_error(key).map_err(|error| error.kind());
                assert_eq!(error.err(), entry.is_none().then_some(ErrorKind::NotFound));
            }
        }
        let registered = Pending::signals().into_iter().filter(|&it| self.has_signal(it));
        assert_eq!(others::blocked(), registered.collect::<Vec<_>>(), "signals that are blocked");
    }
}

#[track_caller]
fn assert_kind<T>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.map(drop).unwrap_err().kind(), kind);
}
