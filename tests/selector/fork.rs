//! Forked children and programs that are executed: what they share with the selector's process.

use crate::kit;
use crate::kit::keys;
use keys::{
    EXITED, EXPIRED, assert_silent, is_watched, millis, one_key, own_pid, pipe, put, raise, ready,
    watched,
};
use selio::selector::{Events, SelectEvent, Selector};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("programs_inherit_no_descriptor", programs_inherit_no_descriptor),
        ("programs_inherit_no_descriptor_of_the_fallback", || {
            without_pidfd();
            programs_inherit_no_descriptor();
        }),
        ("dropped_in_a_forked_child", || in_a_forked_child(drop)),
        ("dropped_in_a_forked_child_without_pidfd", || {
            without_pidfd();
            in_a_forked_child(drop);
        }),
        ("unregistered_in_a_forked_child", || in_a_forked_child(unregister_all)),
        ("unregistered_in_a_forked_child_without_pidfd", || {
            without_pidfd();
            in_a_forked_child(unregister_all);
        }),
        ("selector_of_its_own_in_a_forked_child", selector_of_its_own_in_a_forked_child),
        ("forked_child_dies_by_its_signal", forked_child_dies_by_its_signal),
        ("signal_of_a_forked_child_stays_there", signal_of_a_forked_child_stays_there),
        ("closing_tells_epoll_nothing", closing_tells_epoll_nothing),
        ("_closing", part_closing),
    ])
}

fn without_pidfd() {
    kit::refuse(&[(libc::SYS_pidfd_open, libc::ENOSYS)]);
}

/// A selector with one of each kind.
struct World {
    selector: Selector<()>,
    event: SelectEvent,
    ends: (File, File),
    child: Child,
    timer: RawFd,
    signal: RawFd,
    process: RawFd,
}

impl World {
    fn new() -> Self {
        let mut selector = Selector::new().unwrap();
        let (event, ends) = (SelectEvent::new().unwrap(), pipe());
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        selector.register_event(&event, ()).unwrap();
        selector.register_handle(&ends.0, Events::READ, ()).unwrap();
        let timer = selector.register_timer(millis(50), true, ()).unwrap();
        let signal = selector.register_signal(libc::SIGTERM, ()).unwrap();
        let process = selector.register_process(child.id(), ()).unwrap();
        Self { selector, event, ends, child, timer, signal, process }
    }

    /// Makes everything ready, and sees that each is told.
    fn works(mut self) {
        self.event.trigger().unwrap();
        put(&self.ends.1);
        raise(libc::SIGTERM);
        drop(self.child.stdin.take());
        let expected = BTreeSet::from([
            (self.event.as_raw_fd(), "USER"),
            (self.ends.0.as_raw_fd(), "READ"),
            (self.timer, "TIMER | ONESHOT | FINISHED"),
            (self.signal, "SIGNAL"),
            (self.process, "PROCESS | ONESHOT | FINISHED"),
        ]);
        let expected = expected.into_iter().map(|(fd, text)| (fd, text.to_string()));
        let expected: BTreeSet<_> = expected.collect();
        let mut seen = BTreeSet::new();
        while seen != expected {
            let keys = ready(&mut self.selector);
            assert!(!keys.is_empty(), "only {seen:?}");
            seen.extend(keys.into_iter().map(|(fd, events)| (fd, format!("{events:?}"))));
        }
        self.child.wait().unwrap();
    }
}

// A28
fn programs_inherit_no_descriptor() {
    let mut world = World::new();
    let list = || {
        let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = list();
    assert!(!before.contains("anon_inode") && !before.contains("pidfd"), "{before}");

    // The epoll set that takes the place of another is no different.
    let (reader, writer) = pipe();
    world.selector.register_handle(&reader, Events::READ, ()).unwrap();
    let duplicate = kit::dup(&reader);
    let number = reader.as_raw_fd();
    drop(reader);
    world.selector.unregister(number).unwrap();
    put(&writer);
    assert_eq!(ready(&mut world.selector), [(world.timer, EXPIRED)]);
    drop(duplicate);
    let after = list();
    assert!(!after.contains("anon_inode") && !after.contains("pidfd"), "{after}");
    drop(world.child.stdin.take());
    world.child.wait().unwrap();
}

/// Does something with a forked child's copy of the selector, and sees that the parent's is as it
/// was.
fn in_a_forked_child(act: fn(Selector<()>)) {
    let mut world = World::new();
    let before = watched(&world.selector);
    let disposition = keys::disposition(libc::SIGCHLD);
    let mut copy = Some(world.selector);
    let pid = kit::in_child(|| act(copy.take().unwrap()));
    assert!(kit::wait_status(pid).success());
    world.selector = copy.unwrap();
    assert_eq!(watched(&world.selector), before);
    assert_eq!(kit::signal_mask(), [libc::SIGTERM]);
    assert_eq!(keys::disposition(libc::SIGCHLD), disposition);
    world.works();
}

// A29
fn unregister_all(mut selector: Selector<()>) {
    for number in (0..100).filter(|&number| selector.contains(number)).collect::<Vec<_>>() {
        selector.unregister(number).unwrap();
    }
    assert!(selector.is_empty());
}

fn selector_of_its_own_in_a_forked_child() {
    let world = World::new();
    let pid = kit::in_child(|| {
        let mut own = Selector::new().unwrap();
        let event = SelectEvent::new().unwrap();
        own.register_event(&event, ()).unwrap();
        let timer = own.register_timer(Duration::ZERO, true, ()).unwrap();
        assert_eq!(ready(&mut own), [(timer, EXPIRED)]);
        event.trigger().unwrap();
        assert_eq!(ready(&mut own), [(event.as_raw_fd(), Events::USER)]);
        let mut child = Command::new("true").spawn().unwrap();
        let process = own.register_process(child.id(), ()).unwrap();
        assert_eq!(ready(&mut own), [(process, EXITED)]);
        child.wait().unwrap();
        own.unregister(process).unwrap();
        assert!(!is_watched(&own, process));
        let signal = own.register_signal(libc::SIGUSR1, ()).unwrap();
        raise(libc::SIGUSR1);
        assert_eq!(ready(&mut own), [(signal, Events::SIGNAL)]);
    });
    assert!(kit::wait_status(pid).success());
    world.works();
}

// D12: once it has dropped its copy, the child's mask is as if the selector were not there.
fn forked_child_dies_by_its_signal() {
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGTERM, ()).unwrap();
    let mut copy = Some(selector);
    let pid = kit::in_child(|| {
        drop(copy.take());
        assert_eq!(kit::signal_mask(), []);
        raise(libc::SIGTERM);
    });
    assert_eq!(kit::wait_status(pid).signal(), Some(libc::SIGTERM));
    let mut selector = copy.unwrap();
    assert_silent(&mut selector);
    assert_eq!(kit::signal_mask(), [libc::SIGTERM]);
    raise(libc::SIGTERM);
    assert_eq!(ready(&mut selector), [(fd, Events::SIGNAL)]);
}

// D12: what is sent to the child does not show here, nor is what is sent here taken by it.
fn signal_of_a_forked_child_stays_there() {
    let mut selector = Selector::new().unwrap();
    selector.register_signal(libc::SIGTERM, ()).unwrap();
    let (reader, writer) = pipe();
    kit::set_nonblocking(&reader, false);
    let mut copy = Some(selector);
    let pid = kit::in_child(|| {
        raise(libc::SIGTERM);
        kit::raw_close(writer.as_raw_fd());
        // The parent's is pending by then.
        assert_eq!(keys::drain(&reader), 1);
        drop(copy.take());
    });
    let mut selector = copy.unwrap();
    kit::eventually("the child has its signal", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending = status.lines().find(|line| line.starts_with("ShdPnd:")).unwrap();
        pending.ends_with("4000")
    });
    assert_silent(&mut selector);
    raise(libc::SIGTERM);
    put(&writer);
    assert!(kit::wait_status(pid).success(), "what was pending in the child was drained there");
    let info = one_key(&mut selector).signal_info().unwrap();
    assert_eq!(info.pid() as i32, own_pid());
}

// A29: whoever deletes from a set that a forked child shares with its parent blinds the parent.
fn closing_tells_epoll_nothing() {
    for mode in ["", "without_pidfd"] {
        let part = kit::rerun("_closing").env("SELIO_TEST_MODE", mode);
        let Some((ended, trace)) = part.strace() else {
            kit::pass_over("there is no strace that may trace");
        };
        ended.assert_success();
        let during = trace.between("closing", "closed");
        assert_eq!(during.count("epoll_ctl"), 0, "{:?}", during.lines);
        assert!(during.count("close") >= 4, "{:?}", during.lines);
    }
}

fn part_closing() {
    if std::env::var("SELIO_TEST_MODE").unwrap() == "without_pidfd" {
        without_pidfd();
    }
    let World { selector, mut child, event, ends, .. } = World::new();
    kit::mark("closing");
    drop(selector);
    kit::mark("closed");
    drop((event, ends, child.stdin.take()));
    child.wait().unwrap();
}
