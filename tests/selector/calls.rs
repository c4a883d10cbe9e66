//! System calls, counted: what a wait, a key and a question cost, and what is never called.

use crate::kit;
use crate::kit::keys;
use keys::{NOW, SOON, assert_nothing, millis, one_key, pipe, put};
use selio::selector::{Events, RawEvents, ReadyKey, SelectEvent, Selector};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("idle_waits_cost_one_call_each", idle_waits_cost_one_call_each),
        ("timeouts_take_two_waits_at_most", timeouts_take_two_waits_at_most),
        ("refused_nanoseconds_are_remembered", refused_nanoseconds_are_remembered),
        ("refused_pidfds_are_remembered", refused_pidfds_are_remembered),
        ("keys_cost_what_they_must", keys_cost_what_they_must),
        ("only_sockets_are_asked_for_errors", only_sockets_are_asked_for_errors),
        ("leftovers_ask_the_kernel_nothing", leftovers_ask_the_kernel_nothing),
        ("_idle", part_idle),
        ("_timeouts", part_timeouts),
        ("_processes", part_processes),
        ("_keys", part_keys),
        ("_errors", part_errors),
        ("_leftovers", part_leftovers),
    ])
}

/// Runs a part under strace, with arguments, and returns the log.
fn trace(part: &str, arguments: &[&str]) -> kit::Trace {
    let Some((ended, trace)) = kit::rerun(part).strace_with(arguments) else {
        kit::pass_over("there is no strace that may trace");
    };
    ended.assert_success();
    trace
}

/// Whatever was called between two marks, by name, in order.
fn calls(trace: &kit::Trace, from: &str, to: &str) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = trace.between(from, to).counts().into_iter().collect();
    counts.sort();
    counts
}

fn counted(call: &str, count: u64) -> Vec<(String, u64)> {
    vec![(call.to_string(), count)]
}

/// Passes the case over if this kernel, or a sandbox, refuses the newest wait.
fn with_nanoseconds(trace: kit::Trace) -> kit::Trace {
    if trace.calls("epoll_pwait2").iter().any(|line| line.contains("= -1 E")) {
        kit::pass_over("there is no epoll_pwait2");
    }
    trace
}

/// The waits of a log in milliseconds; some architectures have one call, some the other.
fn old_waits(trace: &kit::Trace) -> usize {
    trace.count("epoll_wait") + trace.count("epoll_pwait")
}

// A37
fn idle_waits_cost_one_call_each() {
    let trace = with_nanoseconds(trace("_idle", &[]));
    assert_eq!(calls(&trace, "without timers", "done without"), counted("epoll_pwait2", 100));
    assert_eq!(calls(&trace, "with timers", "done"), counted("epoll_pwait2", 100));
}

fn part_idle() {
    let mut selector = Selector::new().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    selector.register_handle(&socket, Events::READ, ()).unwrap();
    let mut keys = [ReadyKey::EMPTY; 8];
    kit::mark("without timers");
    for _ in 0..100 {
        assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 0);
    }
    kit::mark("done without");
    selector.register_timer(Duration::from_secs(60), false, ()).unwrap();
    kit::mark("with timers");
    for _ in 0..100 {
        assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 0);
    }
    kit::mark("done");
}

// A22
fn timeouts_take_two_waits_at_most() {
    let fallback = "inject=epoll_pwait2:error=ENOSYS";
    for arguments in [&[][..], &["-e", fallback]] {
        let trace = trace("_timeouts", arguments);
        for (index, timeout) in TIMEOUTS.iter().enumerate() {
            let waits = trace.between(&index.to_string(), &format!("after {index}"));
            let count = waits.count("epoll_pwait2") + old_waits(&waits);
            assert!((1..=2).contains(&count), "{count} for {timeout:?}");
        }
    }
}

const TIMEOUTS: [Duration; 5] = [
    Duration::from_nanos(1),
    Duration::from_micros(900),
    Duration::from_micros(1_100),
    Duration::from_micros(20_500),
    Duration::from_micros(99_980),
];

fn part_timeouts() {
    let mut selector = Selector::<()>::new().unwrap();
    assert_nothing(&mut selector);
    for (index, timeout) in TIMEOUTS.into_iter().enumerate() {
        kit::mark(&index.to_string());
        let (keys, elapsed) = kit::took(|| selector.select(Some(timeout)).unwrap());
        kit::mark(&format!("after {index}"));
        assert!(keys.is_empty() && elapsed >= timeout);
    }
}

fn refused_nanoseconds_are_remembered() {
    for errno in ["ENOSYS", "EPERM"] {
        let inject = format!("inject=epoll_pwait2:error={errno}");
        let trace = trace("_idle", &["-e", &inject]);
        assert_eq!(trace.count("epoll_pwait2"), 1);
        let during = trace.between("with timers", "done");
        assert_eq!((during.lines.len(), old_waits(&during)), (100, 100));
    }
}

fn refused_pidfds_are_remembered() {
    for (errno, count) in [("ENOSYS", 1), ("EPERM", 1), ("EACCES", 3), ("EMFILE", 3)] {
        let inject = format!("inject=pidfd_open:error={errno}");
        let trace = trace("_processes", &["-e", &inject]);
        let asked = trace.between("begin", "end").count("pidfd_open");
        assert_eq!(asked, count, "{errno}");
    }
}

fn part_processes() {
    let mut selector = Selector::new().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    kit::mark("begin");
    for _ in 0..3 {
        _ = selector.register_process(child.id(), ());
    }
    kit::mark("end");
    child.wait().unwrap();
}

fn keys_cost_what_they_must() {
    let trace = with_nanoseconds(trace("_keys", &[]));
    let pairs = |expected: &[(&str, u64)]| -> Vec<(String, u64)> {
        expected.iter().map(|&(call, count)| (call.to_string(), count)).collect()
    };
    // A handle is its owner's to read.
    assert_eq!(calls(&trace, "handle", "handle done"), counted("epoll_pwait2", 10));
    assert_eq!(
        calls(&trace, "event", "event done"),
        pairs(&[("epoll_pwait2", 10), ("read", 10), ("write", 10)])
    );
    // A timer that has fired is taken out of the set, once.
    let once = pairs(&[("epoll_ctl", 1), ("epoll_pwait2", 2), ("read", 1)]);
    assert_eq!(calls(&trace, "timer", "done"), once);
}

fn part_keys() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    put(&writer);
    kit::mark("handle");
    (0..10).for_each(|_| _ = one_key(&mut selector));
    kit::mark("handle done");
    selector.unregister(std::os::fd::AsRawFd::as_raw_fd(&reader)).unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, ()).unwrap();
    kit::mark("event");
    for _ in 0..10 {
        event.trigger().unwrap();
        one_key(&mut selector);
    }
    kit::mark("event done");
    selector.register_timer(millis(1), true, ()).unwrap();
    kit::mark("timer");
    one_key(&mut selector);
    assert_nothing(&mut selector);
    kit::mark("done");
}

// A16
fn only_sockets_are_asked_for_errors() {
    let trace = trace("_errors", &[]);
    assert_eq!(trace.between("pipe", "pipe done").count("getsockopt"), 0);
    // Selecting takes nobody's error.
    assert_eq!(trace.between("socket", "selected").count("getsockopt"), 0);
    assert_eq!(trace.between("selected", "asked").count("getsockopt"), 1);
}

fn part_errors() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&writer, Events::WRITE, ()).unwrap();
    drop(reader);
    kit::mark("pipe");
    let key = one_key(&mut selector);
    assert!(key.events().contains(Events::ERROR));
    assert!(selector.take_error(&key).unwrap().is_none());
    selector.unregister(key.fd()).unwrap();
    kit::mark("pipe done");
    let (socket, peer) = UnixStream::pair().unwrap();
    drop(peer);
    selector.register_handle(&socket, Events::READ, ()).unwrap();
    kit::mark("socket");
    let key = one_key(&mut selector);
    kit::mark("selected");
    assert!(selector.take_error(&key).unwrap().is_none());
    kit::mark("asked");
}

fn leftovers_ask_the_kernel_nothing() {
    let trace = trace("_leftovers", &[]);
    assert_eq!(calls(&trace, "begin", "end"), []);
}

fn part_leftovers() {
    let mut selector = Selector::new().unwrap();
    let pipes = [pipe(), pipe(), pipe()];
    for (reader, writer) in &pipes {
        selector.register_handle(reader, Events::READ, ()).unwrap();
        put(writer);
    }
    let (poller, mut events) = (selector.poller(), RawEvents::new());
    poller.wait(SOON, &mut events).unwrap();
    kit::mark("begin");
    for _ in 0..3 {
        poller.wait(None, &mut events).unwrap();
        assert_eq!(selector.take(&mut events, &mut [ReadyKey::EMPTY]), 1);
    }
    kit::mark("end");
}
