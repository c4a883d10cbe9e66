//! System calls that fail: nothing leaks, nothing stays half done, and the selector works on.

use crate::kit;
use crate::kit::keys;
use keys::{NOW, SOON, millis, pipe, put, raise, watched};
use selio::selector::{Events, SelectEvent, Selector};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How a part learns what to do, and whether a call of it is made to fail.
const OPERATION: &str = "SELIO_TEST_OPERATION";
const FAULT: &str = "SELIO_TEST_FAULT";

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("failed_registration_leaves_no_trace", failed_registration_leaves_no_trace),
        ("refused_number_can_be_registered_later", refused_number_can_be_registered_later),
        ("no_descriptor_left", no_descriptor_left),
        ("no_eventfd", no_eventfd),
        ("each_call_of_the_constructors", || each_call_fails_once(&["selector", "user_event"])),
        ("each_call_for_handles", || each_call_fails_once(&["handle", "resume", "change"])),
        ("each_call_for_suspending", || each_call_fails_once(&["suspend"])),
        ("each_call_for_events_and_timers", || each_call_fails_once(&["event", "timer"])),
        ("each_call_for_signals", || each_call_fails_once(&["signal"])),
        ("each_call_for_processes", || {
            kit::children::need_pidfd();
            each_call_fails_once(&["process"]);
        }),
        ("each_call_for_children", || each_call_fails_once(&["child"])),
        ("each_call_of_a_rebuild", || each_call_fails_once(&["rebuild"])),
        ("_part", part),
    ])
}

/// What a failed call must not change.
#[derive(Debug, PartialEq)]
struct State {
    len: usize,
    watched: Vec<(RawFd, u32)>,
    open: Vec<(i32, String)>,
    mask: Vec<i32>,
    child_signal: kit::Disposition,
}

fn state(selector: &Selector<&str>) -> State {
    State {
        len: selector.len(),
        watched: watched(selector),
        open: kit::open_fds(),
        mask: kit::signal_mask(),
        child_signal: keys::disposition(libc::SIGCHLD),
    }
}

// A04
fn failed_registration_leaves_no_trace() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let event = SelectEvent::new().unwrap();
    selector.register_handle(&reader, Events::READ, "living").unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let before = state(&selector);
    kit::refuse(&[(libc::SYS_epoll_ctl, libc::ENOSPC)]);
    register_everything_in_vain(&mut selector, &event, &child);
    assert_eq!(state(&selector), before);
    kit::refuse(&[(libc::SYS_pidfd_open, libc::ENOSYS)]);
    register_everything_in_vain(&mut selector, &event, &child);
    assert_eq!(state(&selector), before);
    put(&writer);
    assert_eq!(keys::ready(&mut selector), [(reader.as_raw_fd(), Events::READ)]);
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn register_everything_in_vain(selector: &mut Selector<&str>, event: &SelectEvent, child: &Child) {
    let errors = [
        selector.register_handle(event, Events::READ, "handle").unwrap_err(),
        selector.register_event(event, "event").unwrap_err(),
        selector.register_timer(Duration::ZERO, true, "timer").unwrap_err(),
        selector.register_signal(libc::SIGUSR1, "signal").unwrap_err(),
        selector.register_process(child.id(), "process").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
    assert!(!selector.contains(event.as_raw_fd()));
}

// A04
fn refused_number_can_be_registered_later() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let number = reader.as_raw_fd();
    // A suspended handle needs no watch. To resume it does, and epoll watches no files.
    selector.register_handle(&reader, Events::NONE, "pipe").unwrap();
    kit::dup2(File::open("/dev/null").unwrap(), number);
    for _ in 0..2 {
        let error = selector.update_handle(number, Events::WRITE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(selector.contains(number) && watched(&selector).is_empty());
    }
    kit::dup2(&writer, number);
    assert!(selector.select(NOW).unwrap().is_empty());
    selector.update_handle(number, Events::WRITE).unwrap();
    assert_eq!(selector.select(NOW).unwrap()[0].events(), Events::WRITE | Events::ERROR);
}

// A27
fn no_descriptor_left() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    let (reader, writer) = pipe();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let before = state(&selector);
    let limit = kit::set_nofile_limit(0);
    let errors = [
        Selector::<()>::new().err(),
        SelectEvent::new().err(),
        selector.register_timer(Duration::ZERO, true, "").err(),
        selector.register_signal(libc::SIGUSR1, "").err(),
        selector.register_process(child.id(), "").err(),
    ];
    // What needs no descriptor of its own goes on.
    selector.register_event(&event, "event").unwrap();
    selector.register_handle(&reader, Events::READ, "pipe").unwrap();
    event.trigger().unwrap();
    put(&writer);
    assert_eq!(selector.select(NOW).unwrap().len(), 2);
    selector.unregister_event(&event).unwrap();
    selector.unregister(reader.as_raw_fd()).unwrap();
    kit::set_nofile_limit(limit);
    for error in errors {
        assert_eq!(error.unwrap().raw_os_error(), Some(libc::EMFILE));
    }
    assert_eq!(state(&selector), before);
    selector.register_timer(Duration::ZERO, true, "").unwrap();
    selector.register_signal(libc::SIGUSR1, "").unwrap();
    selector.register_process(child.id(), "").unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
}

// B13
fn no_eventfd() {
    kit::refuse(&[(libc::SYS_eventfd2, libc::ENOSYS)]);
    for _ in 0..2 {
        let error = SelectEvent::new().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
    }
    // A selector needs none.
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    assert_eq!(keys::one_key(&mut selector).fd(), timer);
}

/// The calls that are made to fail, and how.
const FAULTS: [(&str, &str); 9] = [
    ("epoll_create1", "ENOMEM"),
    ("epoll_ctl", "ENOSPC"),
    ("eventfd2", "ENOMEM"),
    ("timerfd_create", "ENOMEM"),
    ("timerfd_settime", "ENOMEM"),
    ("signalfd4", "ENOMEM"),
    ("pidfd_open", "ENOMEM"),
    ("rt_sigaction", "EINVAL"),
    ("dup3", "EMFILE"),
];

// A04, A27: runs each operation once as it is, to learn what it calls, and then once for each call,
// which fails.
fn each_call_fails_once(operations: &[&str]) {
    for operation in operations {
        let part = kit::rerun("_part").env(OPERATION, operation);
        let Some((ended, trace)) = part.clone().strace() else {
            kit::pass_over("there is no strace that may trace");
        };
        ended.assert_success();
        let trace = of_one_process(&trace);
        let during = trace.between("begin", "end");
        let mut tried = 0;
        for (call, errno) in FAULTS {
            // The log's first lines are the case's start, where nothing is to fail.
            let all = trace.count(call);
            let after = trace.between("begin", "over").count(call);
            for index in 1..=during.count(call) {
                let when = all - after + index;
                let inject = format!("inject={call}:error={errno}:when={when}");
                let part = part.clone().env(FAULT, call);
                let (ended, _) = part.strace_with(&["-e", &inject]).unwrap();
                assert!(ended.success(), "{operation}, {inject}: {}", ended.output);
                tried += 1;
            }
        }
        assert!(tried > 0, "{operation} calls nothing that could fail");
    }
}

/// What the first process of a log does: faults are counted for each process apart.
fn of_one_process(trace: &kit::Trace) -> kit::Trace {
    let pid = |line: &str| line.split_whitespace().next().map(String::from);
    let first = pid(&trace.lines[0]);
    let lines = trace.lines.iter().filter(|line| pid(line) == first);
    kit::Trace { lines: lines.cloned().collect() }
}

/// A selector at work, and what the operations need.
struct World {
    selector: Selector<&'static str>,
    event: SelectEvent,
    living: (File, File),
    spare: (File, File),
    child: Child,
    orphan: Option<(OwnedFd, File)>,
}

impl World {
    fn new() -> Self {
        let mut selector = Selector::new().unwrap();
        let (living, spare) = (pipe(), pipe());
        selector.register_handle(&living.0, Events::READ, "living").unwrap();
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let event = SelectEvent::new().unwrap();
        Self { selector, event, living, spare, child, orphan: None }
    }

    /// Does what comes before the operation.
    fn prepare(&mut self, operation: &str) {
        let Self { selector, spare, .. } = self;
        let mut register = |events| selector.register_handle(&spare.0, events, "spare").unwrap();
        match operation {
            "resume" => register(Events::NONE),
            "change" => register(Events::WRITE),
            "suspend" => register(Events::READ),
            "child" => {
                kit::refuse(&[(libc::SYS_pidfd_open, libc::ENOSYS)]);
                // What is made once and kept is there from now on.
                let fd = selector.register_process(self.child.id(), "first").unwrap();
                selector.unregister(fd).unwrap();
            }
            "rebuild" => {
                selector.register_event(&self.event, "event").unwrap();
                let (reader, writer) = pipe();
                selector.register_handle(&reader, Events::READ, "orphan").unwrap();
                let duplicate = kit::dup(&reader);
                let number = reader.as_raw_fd();
                drop(reader);
                selector.unregister(number).unwrap();
                put(&writer);
                self.orphan = Some((duplicate, writer));
            }
            _ => {}
        }
    }

    /// Does it, and says what is registered by it now.
    fn run(&mut self, operation: &str) -> io::Result<Option<RawFd>> {
        let Self { selector, event, spare, child, .. } = self;
        let number = spare.0.as_raw_fd();
        Ok(match operation {
            "selector" => Selector::<()>::new().map(|_| None)?,
            "user_event" => SelectEvent::new().map(|_| None)?,
            "handle" => selector.register_handle(&spare.0, Events::READ, "").map(|()| None)?,
            "resume" | "change" => selector.update_handle(number, Events::READ).map(|()| None)?,
            "suspend" => selector.update_handle(number, Events::NONE).map(|()| None)?,
            "event" => selector.register_event(event, "").map(|()| Some(event.as_raw_fd()))?,
            "timer" => Some(selector.register_timer(millis(1), true, "")?),
            "signal" => Some(selector.register_signal(libc::SIGUSR1, "")?),
            "process" | "child" => Some(selector.register_process(child.id(), "")?),
            "rebuild" => {
                assert!(selector.select(NOW)?.is_empty());
                None
            }
            unknown => panic!("no operation is named {unknown}"),
        })
    }

    /// Makes everything ready, and sees that it is told.
    fn works(&mut self, operation: &str, registered: Option<RawFd>) {
        let mut expected = BTreeSet::from_iter(registered);
        expected.insert(self.living.0.as_raw_fd());
        put(&self.living.1);
        match operation {
            "handle" | "resume" | "change" => {
                put(&self.spare.1);
                expected.insert(self.spare.0.as_raw_fd());
            }
            "signal" => raise(libc::SIGUSR1),
            "event" => self.event.trigger().unwrap(),
            "rebuild" => {
                self.event.trigger().unwrap();
                expected.insert(self.event.as_raw_fd());
            }
            _ => {}
        }
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        let mut seen = BTreeSet::new();
        while seen != expected {
            let keys = self.selector.select(SOON).unwrap();
            assert!(!keys.is_empty(), "{seen:?} are told of {expected:?}");
            seen.extend(keys.iter().map(|key| key.fd()));
        }
    }
}

fn part() {
    let operation = std::env::var(OPERATION).unwrap();
    let fault = std::env::var(FAULT).ok();
    let mut world = World::new();
    world.prepare(&operation);
    let before = state(&world.selector);
    kit::mark("begin");
    let result = world.run(&operation);
    kit::mark("end");
    let result = match result {
        Err(error) => {
            assert!(fault.is_some(), "{error}");
            assert_eq!(state(&world.selector), before, "after {error}");
            world.run(&operation)
        }
        // A rebuild that fails is put off, and nobody's error.
        Ok(_) if fault.is_some() => {
            assert_eq!(operation, "rebuild", "a failed call passes for success");
            assert_eq!(state(&world.selector), before);
            world.run(&operation)
        }
        result => result,
    };
    world.works(&operation, result.unwrap());
    if operation == "rebuild" {
        let watched = watched(&world.selector).len();
        assert_eq!(watched, 2, "the orphan is gone, the living are not");
        drop(world.orphan.take());
    }
    kit::mark("over");
}
