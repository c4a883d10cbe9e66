//! Random operations, against a model that a `HashMap` is enough for.

use crate::kit;
use crate::kit::keys;
use keys::{EXPIRED, NOW, drain, pipe, put};
use selio::selector::{Events, ReadyKey, SelectEvent, Selector};
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[("selector_does_as_the_model", selector_does_as_the_model)])
}

const SEEDS: u64 = 60;
const STEPS: usize = 300;

/// The sets that handles are registered with.
const INTERESTS: [Events; 5] = [
    Events::NONE,
    Events::READ,
    Events::WRITE,
    Events::READ.union(Events::ONESHOT),
    Events::READ.union(Events::EDGE),
];

// T13
fn selector_does_as_the_model() {
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step();
            world.compare(&format!("seed {seed}, step {step}"));
        }
    }
}

/// A generator of numbers that look random and are the same each time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }
}

/// A pipe's writing end, and whether there is something to read.
struct Pipe {
    writer: File,
    has_bytes: bool,
}

/// What the model knows of one registration.
#[derive(Clone, Debug)]
struct Entry {
    data: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Handle(Handle),
    Event { triggers: u64 },
    Timer { finished: bool },
}

#[derive(Clone, Debug)]
struct Handle {
    pipe: usize,
    interest: Events,
    fired: bool,
    /// Something was written since the last look, or it was armed anew.
    edge: bool,
    /// The descriptor was closed while it was registered: what comes of it now is the user's
    /// fault.
    closed: bool,
}

struct World {
    random: Random,
    selector: Selector<u64>,
    pipes: Vec<Pipe>,
    /// The reading ends that are open, and their duplicates, with the number of their pipe.
    readers: HashMap<RawFd, (usize, File)>,
    events: HashMap<RawFd, SelectEvent>,
    entries: HashMap<RawFd, Entry>,
    stale: Vec<ReadyKey>,
    next_data: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            selector: Selector::new().unwrap(),
            pipes: Vec::new(),
            readers: HashMap::new(),
            events: HashMap::new(),
            entries: HashMap::new(),
            stale: Vec::new(),
            next_data: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=1 if self.readers.len() < 24 => self.open(),
            2 if self.readers.len() < 24 => self.duplicate(),
            3 => self.close(),
            4..=6 => self.register(),
            7..=8 => self.update(),
            9..=10 => self.unregister(),
            11..=12 => self.write(),
            13 => self.read(),
            14 => self.register_event(),
            15 => self.trigger(),
            16 => self.register_timer(),
            17 => self.set_data(),
            _ => self.select(),
        }
    }

    fn data(&mut self) -> u64 {
        self.next_data += 1;
        self.next_data
    }

    /// A number of any sort, sorted before it is chosen: a map's order differs from run to run.
    fn any(&mut self, numbers: impl Iterator<Item = RawFd>) -> Option<RawFd> {
        let mut all: Vec<_> = numbers.collect();
        all.sort_unstable();
        self.random.one_of(&all)
    }

    fn any_reader(&mut self) -> Option<RawFd> {
        let numbers: Vec<_> = self.readers.keys().copied().collect();
        self.any(numbers.into_iter())
    }

    fn any_entry(&mut self) -> Option<RawFd> {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        self.any(numbers.into_iter())
    }

    fn open(&mut self) {
        let (reader, writer) = pipe();
        self.readers.insert(reader.as_raw_fd(), (self.pipes.len(), reader));
        self.pipes.push(Pipe { writer, has_bytes: false });
    }

    fn duplicate(&mut self) {
        if let Some(number) = self.any_reader() {
            let (pipe, file) = &self.readers[&number];
            let (pipe, file) = (*pipe, File::from(kit::dup(file)));
            self.readers.insert(file.as_raw_fd(), (pipe, file));
        }
    }

    /// Closes a descriptor, registered or not.
    fn close(&mut self) {
        let Some(number) = self.any_reader() else { return };
        self.readers.remove(&number);
        if let Some(Entry { kind: Kind::Handle(handle), .. }) = self.entries.get_mut(&number) {
            handle.closed = true;
        }
    }

    fn register(&mut self) {
        let (Some(number), data) = (self.any_reader(), self.data()) else { return };
        let interest = self.random.one_of(&INTERESTS).unwrap();
        let (pipe, file) = &self.readers[&number];
        let result = self.selector.register_handle(file, interest, data);
        if self.entries.contains_key(&number) {
            return assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        result.unwrap();
        let handle = Handle { pipe: *pipe, interest, fired: false, edge: true, closed: false };
        self.entries.insert(number, Entry { data, kind: Kind::Handle(handle) });
    }

    fn update(&mut self) {
        let Some(number) = self.any_entry() else { return };
        let interest = self.random.one_of(&INTERESTS).unwrap();
        let result = self.selector.update_handle(number, interest);
        match &mut self.entries.get_mut(&number).unwrap().kind {
            // It may be refused, or be about what has the number now.
            Kind::Handle(handle) if handle.closed => {}
            Kind::Handle(handle) => {
                result.unwrap();
                (handle.interest, handle.fired, handle.edge) = (interest, false, true);
            }
            _ => assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput),
        }
    }

    fn unregister(&mut self) {
        if let Some(number) = self.any_entry() {
            let entry = self.entries.remove(&number).unwrap();
            assert_eq!(self.selector.unregister(number).unwrap(), entry.data);
        }
        let stranger = self.random.below(64) as RawFd;
        if !self.entries.contains_key(&stranger) {
            let error = self.selector.unregister(stranger).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }

    fn write(&mut self) {
        // A pipe without readers is out of the game.
        let Some(number) = self.any_reader() else { return };
        let index = self.readers[&number].0;
        put(&self.pipes[index].writer);
        self.pipes[index].has_bytes = true;
        for entry in self.entries.values_mut() {
            if let Kind::Handle(handle) = &mut entry.kind {
                handle.edge |= handle.pipe == index;
            }
        }
    }

    fn read(&mut self) {
        let Some(number) = self.any_reader() else { return };
        let (index, file) = &self.readers[&number];
        if self.pipes[*index].has_bytes {
            drain(file);
            self.pipes[*index].has_bytes = false;
        }
    }

    fn register_event(&mut self) {
        let (event, data) = (SelectEvent::new().unwrap(), self.data());
        let number = event.as_raw_fd();
        let result = self.selector.register_event(&event, data);
        if self.entries.contains_key(&number) {
            return assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        result.unwrap();
        self.events.insert(number, event);
        self.entries.insert(number, Entry { data, kind: Kind::Event { triggers: 0 } });
    }

    fn trigger(&mut self) {
        let numbers: Vec<_> = self.events.keys().copied().collect();
        let Some(number) = self.any(numbers.into_iter()) else { return };
        self.events[&number].trigger().unwrap();
        if let Some(Entry { kind: Kind::Event { triggers }, .. }) = self.entries.get_mut(&number) {
            *triggers += 1;
        }
        if self.random.below(8) == 0 {
            // The selector keeps it, if it is registered.
            self.events.remove(&number);
        }
    }

    fn register_timer(&mut self) {
        let data = self.data();
        match self.selector.register_timer(Duration::ZERO, true, data) {
            Ok(number) => {
                let kind = Kind::Timer { finished: false };
                assert!(self.entries.insert(number, Entry { data, kind }).is_none());
            }
            // The kernel gave it the number of a handle that was closed too early.
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
        }
    }

    fn set_data(&mut self) {
        let (number, data) = (self.random.below(64) as RawFd, self.data());
        let result = self.selector.set_data(number, data);
        match self.entries.get_mut(&number) {
            Some(entry) => assert_eq!(result, Ok(std::mem::replace(&mut entry.data, data))),
            None => assert_eq!(result, Err(data)),
        }
    }

    fn select(&mut self) {
        let keys = self.selector.select(NOW).unwrap();
        let seen: HashMap<_, _> = keys.iter().map(|key| (key.fd(), *key)).collect();
        assert_eq!(seen.len(), keys.len(), "one key for each: {keys:?}");
        for key in &keys {
            let entry = self.entries.get(&key.fd()).expect("a key of what is registered");
            assert_eq!(self.selector.get(key), Some(&entry.data));
        }
        for (number, entry) in &mut self.entries {
            let key = seen.get(number);
            match &mut entry.kind {
                Kind::Handle(handle) => handle.see(key, &self.pipes),
                Kind::Event { triggers } => {
                    assert_eq!(key.map_or(0, ReadyKey::count), *triggers);
                    *triggers = 0;
                }
                Kind::Timer { finished } => {
                    let events = key.map(ReadyKey::events);
                    assert!(events.is_none() || !*finished && events == Some(EXPIRED));
                    *finished |= events.is_some();
                }
            }
        }
        self.stale = keys;
    }

    /// Compares what can be asked without waiting.
    fn compare(&mut self, when: &str) {
        let is_counted = |entry: &&Entry| !matches!(entry.kind, Kind::Timer { finished: true });
        let len = self.entries.values().filter(is_counted).count();
        assert_eq!(self.selector.len(), len, "{when}");
        assert_eq!(self.selector.is_empty(), len == 0);
        for number in -1..96 {
            let expected = self.entries.get(&number).map(|entry| &entry.data);
            assert_eq!(self.selector.data(number), expected, "{when}, {number}");
            assert_eq!(self.selector.contains(number), expected.is_some(), "{when}, {number}");
        }
        // A key finds the data of its own registration, which never comes again, or nobody.
        for key in &self.stale {
            let found = self.selector.get(key);
            assert!(found.is_none() || found == self.entries.get(&key.fd()).map(|it| &it.data));
        }
    }
}

impl Handle {
    /// Compares a key, or its absence, with what is to be expected after this look.
    fn see(&mut self, key: Option<&ReadyKey>, pipes: &[Pipe]) {
        if self.closed {
            return;
        }
        let reads = self.interest.contains(Events::READ);
        let ready = pipes[self.pipe].has_bytes && reads && !self.fired;
        let is_edge = self.interest.contains(Events::EDGE);
        match key {
            Some(key) => {
                let expected = self.interest - Events::EDGE;
                assert!(ready, "{key:?} came of {self:?}");
                assert_eq!(key.events(), expected, "{self:?}");
                self.fired = self.interest.contains(Events::ONESHOT);
            }
            // An edge may come again, since a new epoll set begins with what is ready.
            None => assert!(!ready || is_edge && !self.edge, "no key of {self:?}"),
        }
        self.edge = false;
    }
}
