//! Programs that are started while signals are waited for: they begin as if nobody did.
#![allow(unsafe_code, reason = "programs are started in every way that there is")]

use crate::kit;
use crate::kit::arrivals;
use crate::kit::keys;
use arrivals::{assert_none, expect, next, of};
use libc::c_int;
use selio::selector::Selector;
use selio::signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signals};
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        kit::case("programs_have_the_sets_they_would_have", programs_have_their_sets),
        kit::case("programs_inherit_no_descriptor", programs_inherit_no_descriptor),
        kit::case("programs_die_by_what_we_wait_for", programs_die_by_what_we_wait_for),
        kit::case("what_was_ignored_is_default_in_programs", what_was_ignored_is_default),
        kit::case("programs_are_started_in_a_storm", programs_are_started_in_a_storm).secs(60),
        kit::case("a_program_dies_before_it_has_begun", a_program_dies_before_it_has_begun),
        kit::case("a_storm_meets_programs_and_failures", a_storm_meets_programs),
        kit::case("children_end_beside_a_selector", || beside_a_selector(false)),
        kit::case("children_end_beside_a_selector_while_blocked", || beside_a_selector(true)),
        kit::case("what_nobody_reads_is_not_written", || what_nobody_reads(false)),
        kit::case("what_nobody_reads_is_not_written_while_blocked", || what_nobody_reads(true)),
        kit::case("a_selector_comes_and_goes", || a_selector_comes_and_goes(false)),
        kit::case("a_selector_comes_and_goes_while_blocked", || a_selector_comes_and_goes(true)),
    ]
}

/// How a program is started.
type Way = fn(&str) -> ExitStatus;

/// With posix_spawn, with fork and exec, and by the C library.
const WAYS: [Way; 3] = [
    |script| shell(script).status().unwrap(),
    |script| forked(script).status().unwrap(),
    |script| {
        let script = CString::new(script).unwrap();
        // SAFETY: the text lives through the call.
        ExitStatus::from_raw(unsafe { libc::system(script.as_ptr()) })
    },
];

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn forked(script: &str) -> Command {
    before_exec(shell(script), || ())
}

/// A closure that runs between fork and exec makes std fork.
fn before_exec(mut command: Command, run: fn()) -> Command {
    let hook = move || {
        run();
        Ok(())
    };
    // SAFETY: the closures of these tests make system calls only.
    unsafe { command.pre_exec(hook) };
    command
}

/// What a shell that is started in some way finds its signal sets to be.
fn sets(way: Way) -> String {
    // SAFETY: the name lives through the call.
    let number = unsafe { libc::memfd_create(c"sets".as_ptr(), libc::MFD_CLOEXEC) };
    assert_ne!(number, -1);
    // SAFETY: the number is new, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(number) };
    let (process, number) = (std::process::id(), file.as_raw_fd());
    // The redirection is the shell's own, so that `self` is the shell.
    let script = format!(
        "while read -r line; do case $line in SigBlk*|SigIgn*|SigCgt*) echo \"$line\";; esac; \
         done </proc/self/status >>/proc/{process}/fd/{number}"
    );
    assert!(way(&script).success());
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    text
}

// D10
fn programs_have_their_sets() {
    kit::block_signal(SIGWINCH);
    keys::set_handler(libc::SIGURG, libc::SIG_IGN, 0);
    let before = WAYS.map(sets);
    for set in &before {
        assert!(set.contains("SigBlk:\t0000000008000000"), "{set}");
        // Neither are all sets empty: the comparison is of something.
        assert!(!set.contains("SigIgn:\t0000000000000000"), "{set}");
    }
    let mut signals =
        of([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH, SIGCHLD, libc::SIGQUIT, libc::SIGRTMIN()]);
    assert_eq!(WAYS.map(sets), before);
    assert!(signals.remove(SIGCHLD));
    assert_eq!(WAYS.map(sets), before);
    drop(signals);
    assert_eq!(WAYS.map(sets), before);
}

// D10
fn programs_die_by_what_we_wait_for() {
    let mut signals = of([SIGTERM, SIGUSR1]);
    for way in WAYS {
        let status = way("kill -TERM $$; sleep 5");
        assert_eq!(status.signal(), Some(SIGTERM));
        let mut child = shell("exec sleep 60").spawn().unwrap();
        kit::kill(child.id() as c_int, SIGUSR1).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGUSR1));
    }
    assert_none(&mut signals);
}

// A28: the pipe from the handler, and what a thread has by which it reads signals.
fn programs_inherit_no_descriptor() {
    kit::block_signal(SIGUSR2);
    let mut signals = of([SIGUSR1, SIGUSR2]);
    assert_none(&mut signals);
    assert!(kit::open_fds().iter().any(|(_, name)| name.contains("signalfd")));
    for make in [|command| command, |command| before_exec(command, || ())] {
        let mut command = Command::new("ls");
        command.args(["-l", "/proc/self/fd"]).stderr(Stdio::null());
        let listed = make(command).output().unwrap().stdout;
        let listed = String::from_utf8(listed).unwrap();
        // Its input, its output, which is a pipe, its errors, and the directory that it reads.
        assert_eq!(listed.matches(" -> ").count(), 4, "{listed}");
        assert!(!listed.contains("anon_inode"), "{listed}");
    }
    keys::raise(SIGUSR1);
    expect(&mut signals, SIGUSR1);
}

/// Whether a shell that is started now ignores SIGHUP.
fn ignores_hangup(way: Way) -> bool {
    way("kill -HUP $$").success()
}

// D14
fn what_was_ignored_is_default() {
    keys::set_handler(SIGHUP, libc::SIG_IGN, 0);
    for way in WAYS {
        assert!(ignores_hangup(way));
        let mut signals = of([SIGHUP]);
        // As documented: exec makes what is caught default.
        assert!(!ignores_hangup(way));
        keys::raise(SIGHUP);
        expect(&mut signals, SIGHUP);
        drop(signals);
        assert!(kit::disposition(SIGHUP).is_ignored());
        assert!(ignores_hangup(way));
    }
}

/// A thread that sends signals until it is dropped.
struct Storm {
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<c_int>>,
}

impl Storm {
    /// Calls something again and again, with numbers from 1 on.
    fn new(mut send: impl FnMut(c_int) + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let its_end = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut number = 0;
            while !its_end.load(Ordering::SeqCst) {
                number += 1;
                send(number);
            }
            number
        });
        Self { ends, thread: Some(thread) }
    }

    /// How often it was called.
    fn end(mut self) -> c_int {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

// D10: the kernel merges what is pending of such a signal, so the next one is sent when the one
// before has arrived; then each of them has to, once.
fn programs_are_started_in_a_storm() {
    static ARRIVED: AtomicI32 = AtomicI32::new(0);
    let mut signals = of([SIGUSR1]);
    let listener = thread::spawn(move || {
        loop {
            let (number, last) = (next(&mut signals).value(), ARRIVED.load(Ordering::SeqCst));
            if number == -1 {
                assert_none(&mut signals);
                return;
            }
            assert_eq!(number, last + 1, "lost, or twice");
            ARRIVED.store(number, Ordering::SeqCst);
        }
    });
    let storm = Storm::new(|number| {
        kit::sigqueue(keys::own_pid(), SIGUSR1, number).unwrap();
        while ARRIVED.load(Ordering::SeqCst) < number {
            thread::yield_now();
        }
    });
    for round in 0..1000 {
        let command = Command::new("true");
        let mut command = if round % 2 == 0 { command } else { before_exec(command, || ()) };
        let status = command.status().unwrap();
        assert!(status.success(), "{status}");
    }
    let sent = storm.end();
    kit::sigqueue(keys::own_pid(), SIGUSR1, -1).unwrap();
    listener.join().unwrap();
    assert!(sent > 100, "{sent}");
    assert_eq!(ARRIVED.load(Ordering::SeqCst), sent);
}

// D10, D12
fn a_program_dies_before_it_has_begun() {
    let mut signals = of([SIGTERM, SIGUSR1]);
    for signo in [SIGTERM, SIGUSR1] {
        let end = if signo == SIGTERM {
            || keys::raise(SIGTERM)
        } else {
            || {
                // SAFETY: the call takes a number. The signal is for this thread alone.
                unsafe { libc::raise(SIGUSR1) };
            }
        };
        let mut command = before_exec(Command::new("true"), end);
        // std sees a pipe that closes, which is what a program that has begun makes it see.
        let status = command.status().unwrap();
        assert_eq!(status.signal(), Some(signo), "{status}");
    }
    assert_none(&mut signals);
}

/// It has ended by itself, or by the storm.
#[track_caller]
fn assert_met(status: ExitStatus) {
    assert!(status.success() || status.signal() == Some(SIGUSR1), "{status}");
}

// D10: this time the storm is for everybody.
fn a_storm_meets_programs() {
    let mut signals = of([SIGUSR1, SIGUSR2]);
    let before = keys::dispositions();
    let storm = Storm::new(|_| {
        kit::kill(0, SIGUSR1).unwrap();
        thread::sleep(Duration::from_micros(300));
    });
    for round in 0..100 {
        let command = Command::new("true");
        let mut command = if round % 2 == 0 { command } else { before_exec(command, || ()) };
        assert_met(command.status().unwrap());
        expect(&mut signals, SIGUSR1);
        if round % 10 == 0 {
            // One that is killed before it can say that it failed seems to have begun.
            match Command::new("/no/such/program").status() {
                Ok(status) => assert_met(status),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
            }
        }
    }
    storm.end();
    assert_eq!(keys::dispositions(), before);
    keys::raise(SIGUSR2);
    while next(&mut signals).signo() != SIGUSR2 {}
}

fn start() -> Child {
    Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
}

fn let_go(child: &mut Child) {
    drop(child.stdin.take());
}

/// Registers a child with a selector that has looked at it once, as it does when it is new to it.
#[track_caller]
fn register(selector: &mut Selector<()>, child: &Child) -> RawFd {
    let fd = selector.register_process(child.id(), ()).unwrap();
    keys::assert_nothing(selector);
    fd
}

/// The stream tells of this child, and of nothing else.
#[track_caller]
fn assert_told(signals: &mut Signals, child: &Child) {
    let info = next(signals);
    assert_eq!((info.signo(), info.pid()), (SIGCHLD, child.id()));
    assert_eq!((info.code(), info.status()), (libc::CLD_EXITED, 0));
    assert_none(signals);
}

fn without_pidfd(blocked: bool) {
    kit::refuse(&[(libc::SYS_pidfd_open, libc::ENOSYS)]);
    if blocked {
        kit::block_signal(SIGCHLD);
    }
}

// D05: whoever looks first takes nothing away from the other.
fn beside_a_selector(blocked: bool) {
    without_pidfd(blocked);
    let before = keys::dispositions();
    let mut selector = Selector::new().unwrap();
    let mut signals = of([SIGCHLD]);
    for round in 0..6 {
        // The thread waits already, or does not yet.
        if round % 3 == 0 {
            assert_none(&mut signals);
        }
        let mut child = start();
        let fd = register(&mut selector, &child);
        let_go(&mut child);
        if round % 2 == 0 {
            assert_eq!(keys::ready(&mut selector), [(fd, keys::EXITED)]);
            assert_told(&mut signals, &child);
        } else {
            assert_told(&mut signals, &child);
            assert_eq!(keys::ready(&mut selector), [(fd, keys::EXITED)]);
        }
        keys::assert_nothing(&mut selector);
        child.wait().unwrap();
        selector.unregister(fd).unwrap();
    }
    // Exits merge, but none is missed by who looks for children.
    let mut children: Vec<_> = (0..20).map(|_| start()).collect();
    for child in &children {
        register(&mut selector, child);
    }
    children.iter_mut().for_each(let_go);
    expect(&mut signals, SIGCHLD);
    let mut seen = 0;
    while seen < children.len() {
        let keys = keys::ready(&mut selector);
        assert!(!keys.is_empty(), "only {seen}");
        seen += keys.len();
    }
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    drop((selector, signals));
    assert_eq!(keys::changed_since(&before), []);
}

// D05: each of them goes, and the other still gets what is its own.
fn a_selector_comes_and_goes(blocked: bool) {
    without_pidfd(blocked);
    let before = keys::dispositions();
    let mut signals = of([SIGCHLD]);
    let mut selector = Selector::new().unwrap();
    let mut one = start();
    register(&mut selector, &one);
    drop(selector);
    let_go(&mut one);
    assert_told(&mut signals, &one);

    let mut two = start();
    let mut selector = Selector::new().unwrap();
    let fd = register(&mut selector, &two);
    drop(signals);
    let_go(&mut two);
    assert_eq!(keys::ready(&mut selector), [(fd, keys::EXITED)]);

    let mut three = start();
    let fd = register(&mut selector, &three);
    let mut first = of([SIGCHLD]);
    let mut second = of([SIGCHLD]);
    let_go(&mut three);
    let thread = thread::spawn(move || {
        let info = next(&mut second);
        (info.pid(), kit::signal_mask())
    });
    assert_eq!(keys::ready(&mut selector), [(fd, keys::EXITED)]);
    assert_told(&mut first, &three);
    let mask = kit::signal_mask();
    assert_eq!(thread.join().unwrap(), (three.id(), mask));
    for child in [&mut one, &mut two, &mut three] {
        child.wait().unwrap();
    }
    drop((selector, first));
    assert_eq!(keys::changed_since(&before), []);
}

/// How many bytes are waiting in the only pipe there is.
fn unread() -> c_int {
    let pipes = kit::open_fds().into_iter().filter(|(number, link)| *number > 2 && is_pipe(link));
    let numbers: Vec<_> = pipes.map(|(number, _)| number).collect();
    let mut count = 0;
    // SAFETY: `count` lives through the call.
    unsafe { libc::ioctl(numbers[0], libc::FIONREAD, &raw mut count) };
    count
}

fn is_pipe(link: &str) -> bool {
    link.starts_with("pipe:")
}

/// The pipe is for streams: a selector alone would fill it, and nobody would empty it.
fn what_nobody_reads(blocked: bool) {
    without_pidfd(blocked);
    let signals = of([SIGUSR1]);
    assert_eq!(unread(), 0);
    let mut selector = Selector::new().unwrap();
    let pid = kit::in_child(|| thread::sleep(Duration::from_millis(50)));
    let fd = selector.register_process(pid as u32, ()).unwrap();
    assert_eq!(keys::ready(&mut selector), [(fd, keys::EXITED)]);
    assert_eq!(unread(), 0);
    kit::wait_status(pid);
    drop(signals);
    keys::raise(SIGCHLD);
    assert_eq!(unread(), 0);
}
