//! Whether the test kit itself sees what it is there to see.
#![allow(unsafe_code, reason = "the bare system calls that the kit shall make fail or count")]

mod kit;

use kit::case;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: kit::CountingAllocator = kit::CountingAllocator;

/// With this variable the binary is a runner of cases that pass, fail and hang, for `the_report`.
const DEMO_VARIABLE: &str = "SELIO_TEST_KIT_DEMO";

/// How many lines each of two writers has.
const LINES: usize = 1000;

fn main() {
    if std::env::var_os(DEMO_VARIABLE).is_some() {
        return kit::run_cases(&[
            case("passes", || {}),
            case("panics", part_panics),
            case("hangs", part_hangs).secs(1),
            case("is_passed_over", || kit::pass_over("a reason")),
            case("_part", || {}),
        ]);
    }
    kit::run_cases(&[runner_cases(), oracle_cases(), parts()].concat());
}

/// How cases are run, watched and made to fail.
fn runner_cases() -> Vec<kit::Case> {
    vec![
        case("a_hanging_case_is_killed", a_hanging_case_is_killed),
        case("a_panicking_case_fails", a_panicking_case_fails),
        case("a_case_that_dies_by_a_signal", a_case_that_dies_by_a_signal),
        case("a_case_that_is_passed_over", a_case_that_is_passed_over),
        case("nothing_written_is_lost", nothing_written_is_lost),
        case("what_a_case_leaves_behind_ends", what_a_case_leaves_behind_ends),
        case("the_report", the_report),
        case("the_arguments", the_arguments),
        case("a_case_starts_fresh", a_case_starts_fresh),
        case("the_watchdog_aborts", the_watchdog_aborts),
        case("refused_calls_fail", refused_calls_fail),
        case("refusals_by_argument", refusals_by_argument),
        case("strace_counts_calls", strace_counts_calls),
        case("strace_counts_a_program", strace_counts_a_program),
        case("strace_injects_faults", strace_injects_faults),
    ]
}

/// What the oracles see, and the small tools.
fn oracle_cases() -> Vec<kit::Case> {
    vec![
        case("a_spin_is_not_quiet", a_spin_is_not_quiet),
        case("a_leaked_descriptor_shows", a_leaked_descriptor_shows),
        case("a_leaked_thread_shows", a_leaked_thread_shows),
        case("a_zombie_shows", a_zombie_shows),
        case("a_blocked_signal_shows", a_blocked_signal_shows),
        case("a_handler_shows", a_handler_shows),
        case("leaked_memory_shows", leaked_memory_shows),
        case("the_descriptor_limit", the_descriptor_limit),
        case("queued_signals_arrive", queued_signals_arrive),
        case("forked_children_report", forked_children_report),
        case("the_next_pid", the_next_pid),
        case("pipes_and_sockets", pipes_and_sockets),
        case("numbers_change_hands", numbers_change_hands),
        case("drops_are_checked", drops_are_checked),
        case("wakers_count_and_misbehave", wakers_count_and_misbehave),
        case("time_from_below", time_from_below),
    ]
}

/// What the cases run in a further process.
fn parts() -> Vec<kit::Case> {
    vec![
        case("_hangs", part_hangs),
        case("_panics", part_panics),
        case("_aborts", || std::process::abort()),
        case("_is_passed_over", || kit::pass_over("no such thing here")),
        case("_two_write", part_two_write),
        case("_leaves_a_child", part_leaves_a_child),
        case("_starts_under_noise", part_starts_under_noise),
        case("_watchdog", part_watchdog),
        case("_makes_calls", part_makes_calls),
    ]
}

fn part_hangs() {
    println!("about to hang");
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn part_panics() {
    println!("a word on stdout");
    panic!("a word on stderr");
}

fn a_hanging_case_is_killed() {
    let ended = kit::rerun("_hangs").secs(1).run();
    assert!(ended.timed_out && !ended.success());
    assert_eq!(ended.signal(), None, "the watchdog's signal is not the case's");
    assert!(ended.output.contains("about to hang"));
    kit::assert_at_least(ended.elapsed, Duration::from_secs(1));
}

fn a_panicking_case_fails() {
    let ended = kit::rerun("_panics").run();
    assert!(!ended.success() && !ended.timed_out);
    assert_eq!(ended.status.code(), Some(101));
    assert!(ended.output.contains("a word on stdout"));
    assert!(ended.output.contains("a word on stderr"));
    let judged = catch_unwind(AssertUnwindSafe(|| ended.assert_success().elapsed));
    assert!(judged.is_err());
}

fn a_case_that_dies_by_a_signal() {
    kit::rerun("_aborts").run().assert_signal(libc::SIGABRT);
}

fn a_case_that_is_passed_over() {
    let ended = kit::rerun("_is_passed_over").run();
    assert_eq!(ended.passed_over(), Some("no such thing here"));
    assert!(!ended.success());
}

fn part_two_write() {
    let lines = |word| (0..LINES).for_each(|_| println!("{word}"));
    let child = kit::in_child(|| lines("child"));
    lines("parent");
    assert!(kit::wait_status(child).success());
}

/// What two processes write at a time is kept, all of it.
fn nothing_written_is_lost() {
    let ended = kit::rerun("_two_write").run();
    ended.assert_success();
    for word in ["child", "parent"] {
        assert_eq!(ended.output.lines().filter(|&line| line == word).count(), LINES, "{word}");
    }
}

fn part_leaves_a_child() {
    let pid = kit::in_child(part_hangs);
    println!("child {pid}");
}

fn what_a_case_leaves_behind_ends() {
    let ended = kit::rerun("_leaves_a_child").run();
    ended.assert_success();
    let pid = ended.output.lines().find_map(|line| line.strip_prefix("child "));
    let pid: i32 = pid.unwrap().parse().unwrap();
    // It is init's to reap; a zombie will do.
    let state = format!("/proc/{pid}/stat");
    kit::eventually("the child left behind is gone", || {
        std::fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "))
    });
}

fn demo(args: &[&str]) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(DEMO_VARIABLE, "1").env_remove(kit::CASE_VARIABLE).args(args);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

fn the_report() {
    let (output, text) = demo(&[]);
    assert_eq!(output.status.code(), Some(101), "{text}");
    let lines = [
        "running 4 tests",
        "test passes ... ok",
        "test panics ... FAILED",
        "test hangs ... FAILED",
        "passed over: is_passed_over: a reason",
        "test is_passed_over ... ok",
        "---- panics ----",
        "a word on stdout",
        "panics: ended with exit status: 101",
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line} not in:\n{text}");
    }
    // How long that was depends on the machine's load.
    let killed = text.lines().find(|line| line.starts_with("hangs: killed by the watchdog after "));
    assert!(killed.is_some_and(|line| line.ends_with(" s: it hangs")), "{text}");
    let result = "test result: FAILED. 2 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; ";
    assert!(text.contains(result), "{text}");
}

fn the_arguments() {
    let (output, text) = demo(&["--exact", "passes", "--nocapture", "-q", "--color", "never"]);
    assert!(output.status.success());
    let result = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; ";
    assert!(text.contains(result), "{text}");
    let (_, text) = demo(&["--skip", "pa", "--test-threads=1", "--format", "pretty"]);
    assert!(text.contains("running 1 test\ntest hangs"), "{text}");
    let (_, text) = demo(&["--list", "--format", "terse"]);
    assert_eq!(text, "passes: test\npanics: test\nhangs: test\nis_passed_over: test\n");
    let (_, text) = demo(&["--list", "--format", "terse", "--ignored"]);
    assert_eq!(text, "");
    let (_, text) = demo(&["--exact", "is_passed_over", "--nocapture"]);
    assert!(text.contains("passed over: a reason\n"), "{text}");
}

fn a_case_starts_fresh() {
    kit::block_signal(libc::SIGTERM);
    // SAFETY: SIG_IGN is no function of ours that could be unfit for a handler.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    assert!(kit::disposition(libc::SIGINT).is_ignored());
    kit::rerun("_starts_under_noise").run().assert_success();
}

fn part_starts_under_noise() {
    assert_eq!(kit::signal_mask(), []);
    assert!(kit::disposition(libc::SIGINT).is_default());
    assert!(kit::disposition(libc::SIGPIPE).is_ignored());
    assert_eq!(kit::threads(), 1);
    assert_eq!(kit::case_name(), "_starts_under_noise");
    let own = kit::signal_sets(own_pid());
    assert_eq!(own.ignored, [libc::SIGPIPE]);
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn the_watchdog_aborts() {
    let ended = kit::rerun("_watchdog").run();
    ended.assert_signal(libc::SIGABRT);
    let message = "watchdog: test `_watchdog` still runs after 1 s: it hangs";
    assert!(ended.output.contains(message), "{}", ended.output);
}

fn part_watchdog() {
    drop(kit::watchdog(1));
    kit::eventually("the watchdog's thread has ended", || kit::threads() == 1);
    let _guard = kit::watchdog(1);
    part_hangs();
}

fn eventfd() -> io::Result<i32> {
    // SAFETY: the call takes two numbers.
    match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd),
    }
}

fn epoll() -> i32 {
    // SAFETY: the call takes a number.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert_ne!(fd, -1);
    fd
}

fn epoll_ctl(epoll: i32, op: i32, fd: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: 1, u64: 7 };
    // SAFETY: the event lives through the call.
    match unsafe { libc::epoll_ctl(epoll, op, fd, &raw mut event) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn refused_calls_fail() {
    let worker = thread::spawn(thread::park);
    assert!(eventfd().is_ok());
    kit::refuse(&[
        (libc::SYS_pidfd_open, libc::ENOSYS),
        (libc::SYS_eventfd2, libc::EMFILE),
        (libc::SYS_getppid, 0),
    ]);
    assert_eq!(errno(eventfd()), Some(libc::EMFILE));
    // SAFETY: the call takes two numbers.
    assert_eq!(unsafe { libc::syscall(libc::SYS_pidfd_open, 1, 0) }, -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS));
    // SAFETY: the call takes nothing.
    assert_eq!(unsafe { libc::getppid() }, 0);
    let abroad = thread::spawn(|| errno(eventfd())).join().unwrap();
    assert_eq!(abroad, Some(libc::EMFILE));
    kit::refuse(&[(libc::SYS_eventfd2, libc::ENOMEM)]);
    assert_eq!(errno(eventfd()), Some(libc::ENOMEM), "the later filter wins");
    worker.thread().unpark();
    worker.join().unwrap();
}

fn refusals_by_argument() {
    let (set, fd) = (epoll(), eventfd().unwrap());
    epoll_ctl(set, libc::EPOLL_CTL_ADD, fd).unwrap();
    let add = u32::try_from(libc::EPOLL_CTL_ADD).unwrap();
    kit::refuse_when(libc::SYS_epoll_ctl, 1, add, libc::ENOSPC);
    let another = eventfd().unwrap();
    assert_eq!(errno(epoll_ctl(set, libc::EPOLL_CTL_ADD, another)), Some(libc::ENOSPC));
    epoll_ctl(set, libc::EPOLL_CTL_MOD, fd).unwrap();
    epoll_ctl(set, libc::EPOLL_CTL_DEL, fd).unwrap();
}

fn part_makes_calls() {
    let (set, fd) = (epoll(), eventfd().unwrap());
    kit::mark("begin");
    epoll_ctl(set, libc::EPOLL_CTL_ADD, fd).unwrap();
    kit::mark("middle");
    epoll_ctl(set, libc::EPOLL_CTL_MOD, fd).unwrap();
    let removed = thread::spawn(move || epoll_ctl(set, libc::EPOLL_CTL_DEL, fd)).join();
    println!("removed: {:?}", removed.unwrap().map_err(|error| error.kind()));
    kit::mark("end");
}

const NO_STRACE: &str = "strace is missing or not permitted";

fn strace_counts_calls() {
    let Some((ended, trace)) = kit::rerun("_makes_calls").strace() else {
        kit::pass_over(NO_STRACE);
    };
    ended.assert_success();
    assert_eq!(trace.count("epoll_ctl"), 3, "{}", trace.lines.join("\n"));
    assert_eq!(trace.counts()["epoll_create1"], 1);
    assert_eq!(trace.between("begin", "middle").counts(), HashMap::from([("epoll_ctl".into(), 1)]));
    let rest = trace.between("middle", "end");
    assert_eq!(rest.count("epoll_ctl"), 2);
    assert!(rest.calls("epoll_ctl")[0].contains("EPOLL_CTL_MOD"));
}

fn strace_counts_a_program() {
    let Some(counts) = kit::strace_counts("sh", &["-c", "true & wait"]) else {
        kit::pass_over(NO_STRACE);
    };
    assert_eq!(counts["execve"], 1);
    assert_eq!(counts["exit_group"], 2, "the shell's and its child's");
    let (ended, trace) = kit::strace_log("sh", &["-c", "exit 3"]).unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(trace.count("execve"), 1);
}

fn strace_injects_faults() {
    let inject = ["-e", "inject=epoll_ctl:error=ENOENT:when=1"];
    let case = kit::rerun("_makes_calls");
    let Some((ended, _)) = case.strace_with(&inject) else {
        kit::pass_over(NO_STRACE);
    };
    // Each thread counts for itself, and the first thread's first call is an `unwrap`.
    assert!(!ended.success(), "{}", ended.output);
    assert!(ended.output.contains("No such file or directory"), "{}", ended.output);
}

fn a_spin_is_not_quiet() {
    let pause = Duration::from_millis(300);
    let (_, elapsed) = kit::took(|| kit::assert_quiet(|| thread::sleep(pause)));
    kit::assert_at_least(elapsed, pause);
    let before = kit::thread_cpu_time();
    let spin = || {
        let start = Instant::now();
        while start.elapsed() < pause {
            std::hint::spin_loop();
        }
    };
    let judged = catch_unwind(|| kit::assert_quiet(spin));
    if kit::thread_cpu_time() - before < pause / 5 {
        kit::pass_over("others have the core");
    }
    assert!(judged.is_err());
}

fn a_leaked_descriptor_shows() {
    let before = kit::open_fds();
    assert_eq!(before.len(), 3, "{before:?}");
    let fd = eventfd().unwrap();
    let after = kit::open_fds();
    let new: Vec<_> = after.iter().filter(|entry| !before.contains(entry)).collect();
    assert_eq!(new, [&(fd, "anon_inode:[eventfd]".to_string())]);
    assert!(kit::fdinfo(fd).contains("eventfd-count:"));
    kit::raw_close(fd);
    assert_eq!(kit::open_fds(), before);
}

fn a_leaked_thread_shows() {
    assert_eq!(kit::threads(), 1);
    let thread = thread::spawn(thread::park);
    assert_eq!(kit::threads(), 2);
    thread.thread().unpark();
    thread.join().unwrap();
    kit::eventually("the thread is gone", || kit::threads() == 1);
}

fn a_zombie_shows() {
    assert_eq!(kit::zombies(), []);
    let pid = kit::in_child(|| {});
    kit::eventually("the child has ended", || kit::zombies() == [pid]);
    assert!(kit::wait_status(pid).success());
    assert_eq!(kit::zombies(), []);
}

fn a_blocked_signal_shows() {
    assert_eq!(kit::signal_mask(), []);
    let runs = Arc::new(Barrier::new(2));
    let thread = thread::spawn({
        let runs = Arc::clone(&runs);
        move || (runs.wait(), thread::park())
    });
    runs.wait();
    kit::block_signal(libc::SIGUSR1);
    assert_eq!(kit::signal_mask(), [libc::SIGUSR1]);
    let mut masks: Vec<_> = kit::thread_masks().into_values().collect();
    masks.sort();
    assert_eq!(masks, [vec![], vec![libc::SIGUSR1]]);
    kit::unblock_signal(libc::SIGUSR1);
    assert_eq!(kit::signal_mask(), []);
    thread.thread().unpark();
    thread.join().unwrap();
}

extern "C" fn handler(_: i32) {}

fn a_handler_shows() {
    let before = kit::disposition(libc::SIGUSR1);
    assert!(before.is_default());
    let handler = handler as extern "C" fn(i32) as usize;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, handler) };
    let after = kit::disposition(libc::SIGUSR1);
    assert_eq!(after.handler, handler);
    assert_ne!(after.flags & libc::SA_RESTART, 0);
    assert_ne!(after, before);
    let own = kit::signal_sets(own_pid());
    assert!(own.caught.contains(&libc::SIGUSR1));
}

fn leaked_memory_shows() {
    let (bytes, count) = (kit::allocated_bytes(), kit::allocations());
    let block = Box::new([0_u8; 1000]);
    assert_eq!(kit::allocated_bytes(), bytes + 1000);
    assert_eq!(kit::allocations(), count + 1);
    let mut grown = vec![0_u8; 10];
    grown.reserve_exact(90);
    assert_eq!(kit::allocated_bytes(), bytes + 1100);
    drop((block, grown));
    assert_eq!(kit::allocated_bytes(), bytes);
}

fn the_descriptor_limit() {
    let before = kit::set_nofile_limit(4);
    let last = eventfd().unwrap();
    assert_eq!(errno(eventfd()), Some(libc::EMFILE));
    assert_eq!(kit::set_nofile_limit(before), 4);
    assert!(eventfd().unwrap() > last);
}

static VALUES: AtomicUsize = AtomicUsize::new(0);

extern "C" fn add_value(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a siginfo that lives through its run.
    let info = unsafe { &*info };
    // SAFETY: what sigqueue has sent carries a value.
    let value = unsafe { info.si_value() };
    VALUES.fetch_add(value.sival_ptr.addr() & 0xFFFF_FFFF, Ordering::SeqCst);
}

fn queued_signals_arrive() {
    // SAFETY: sigaction is plain integers and an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = add_value;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    let signo = libc::SIGRTMIN() + 1;
    // SAFETY: the action lives through the call; the handler only adds to an atomic.
    unsafe { libc::sigaction(signo, &raw const action, std::ptr::null_mut()) };
    let own = own_pid();
    kit::block_signal(signo);
    for value in 1..=4 {
        kit::sigqueue(own, signo, value).unwrap();
    }
    assert_eq!(VALUES.load(Ordering::SeqCst), 0);
    kit::unblock_signal(signo);
    assert_eq!(VALUES.load(Ordering::SeqCst), 10);
    assert_eq!(errno(kit::kill(i32::MAX, 0)), Some(libc::ESRCH));
}

fn forked_children_report() {
    let good = kit::in_child(|| {});
    let bad = kit::in_child(|| panic!("this panic is wanted"));
    let slow = kit::in_child(part_hangs);
    assert_eq!(kit::wait_status(good).code(), Some(0));
    assert_eq!(kit::wait_status(bad).code(), Some(101));
    kit::kill(slow, libc::SIGTERM).unwrap();
    let status = kit::wait_status(slow);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
}

fn the_next_pid() {
    let pid = kit::in_child(|| {});
    assert!(kit::wait_status(pid).success());
    let _turn = kit::choose_alone();
    for _ in 0..100 {
        kit::choose_pid(pid as u32);
        let next = kit::in_child(|| {});
        kit::wait_status(next);
        if next == pid {
            return;
        }
    }
    kit::pass_over(kit::TAKEN);
}

fn pipes_and_sockets() {
    let (reader, writer) = kit::pipe();
    assert!(!kit::is_nonblocking(&reader));
    kit::set_nonblocking(&reader, true);
    let copy = kit::dup(&reader);
    assert!(kit::is_nonblocking(&copy) && !kit::is_nonblocking(&writer));
    kit::set_nonblocking(&copy, false);
    assert!(!kit::is_nonblocking(&reader));
    std::fs::File::from(writer).write_all(b"word").unwrap();
    let mut read = String::new();
    std::fs::File::from(reader).read_to_string(&mut read).unwrap();
    assert_eq!(read, "word");
    let (mut client, mut server) = kit::tcp_pair();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
    let (one, other) = kit::socketpair(libc::SOCK_SEQPACKET);
    std::fs::File::from(one).write_all(b"ab").unwrap();
    assert_eq!(std::fs::File::from(other).read(&mut [0; 8]).unwrap(), 2);
    let error = std::net::TcpStream::connect(kit::refused_addr()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

fn numbers_change_hands() {
    let (reader, writer) = kit::pipe();
    let event = eventfd().unwrap();
    kit::dup2(&writer, event);
    assert!(kit::open_fds().iter().any(|(fd, what)| *fd == event && what.starts_with("pipe:")));
    let number = reader.into_raw_fd();
    assert!(kit::open_number(number));
    kit::raw_close(number);
    assert!(!kit::open_number(number));
    assert!(kit::open_number(writer.as_raw_fd()));
}

/// Carries a value over to another thread, against the rules.
struct Smuggled(kit::DropCheck);

// SAFETY: `DropCheck` is of use on any thread; it only counts being there as a fault.
unsafe impl Send for Smuggled {}

fn drops_are_checked() {
    let log = kit::DropLog::new();
    let (first, second) = (log.check(), log.check());
    drop(first);
    assert_eq!((log.made(), log.living(), log.dropped()), (2, 1, 1));
    assert!(catch_unwind(AssertUnwindSafe(|| log.assert_all_dropped())).is_err());
    drop(second);
    log.assert_all_dropped();
    let smuggled = Smuggled(log.check());
    let abroad = move || {
        let smuggled = smuggled;
        drop(smuggled.0);
    };
    thread::spawn(abroad).join().unwrap();
    assert_eq!(log.dropped_abroad(), 1);
    let mut twice = std::mem::ManuallyDrop::new(log.check());
    for _ in 0..2 {
        // SAFETY: none, strictly: the second drop is the fault to be seen. It touches only what is
        // never freed.
        unsafe { std::mem::ManuallyDrop::drop(&mut twice) };
    }
    assert_eq!(log.dropped_twice(), 1);
    assert!(catch_unwind(AssertUnwindSafe(|| log.assert_no_fault())).is_err());
}

fn wakers_count_and_misbehave() {
    let (counter, waker) = kit::CountingWaker::new();
    let copy = waker.clone();
    assert_eq!(counter.wakers(), 2);
    waker.wake_by_ref();
    copy.wake();
    assert_eq!((counter.wakes(), counter.wakers()), (2, 1));
    let seen = Rc::new(Cell::new(0));
    let mut future = std::pin::pin!(std::future::poll_fn(|cx| {
        seen.set(seen.get() + 1);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    assert!(kit::poll_with(&mut future, &waker).is_pending());
    assert_eq!((counter.wakes(), seen.get()), (3, 1));
    assert_eq!(kit::poll_once(async { 5 }), Poll::Ready(5));
    let bad = kit::panics_on_wake();
    assert!(catch_unwind(|| bad.wake_by_ref()).is_err());
    let bad = kit::panics_on_clone();
    assert!(catch_unwind(|| bad.clone()).is_err());
    let bad = kit::panics_on_drop();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(bad))).is_err());
    hostile_wakers_are_freed();
}

fn hostile_wakers_are_freed() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = |weight: usize| {
        let calls = Arc::clone(&calls);
        move || {
            calls.fetch_add(weight, Ordering::SeqCst);
        }
    };
    let hostile = kit::hostile().on_clone(count(1)).on_wake(count(10)).on_drop(count(100));
    let waker = hostile.waker();
    let copy = waker.clone();
    waker.wake_by_ref();
    waker.wake();
    drop(copy);
    assert_eq!(calls.load(Ordering::SeqCst), 121);
    assert_eq!(Arc::strong_count(&calls), 1, "the closures are freed");
}

fn time_from_below() {
    let ms = Duration::from_millis;
    kit::assert_at_least(ms(20), ms(20));
    kit::assert_at_least(ms(900), ms(20));
    assert!(catch_unwind(|| kit::assert_at_least(ms(19), ms(20))).is_err());
    assert!(catch_unwind(|| kit::assert_at_least(ms(9000), ms(20))).is_err());
}
