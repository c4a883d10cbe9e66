//! Children without pidfds: the handler for SIGCHLD, and what it finds and leaves behind.
#![allow(unsafe_code, reason = "handlers that count, and errno")]

use crate::kit;
use crate::kit::keys;
use keys::{EXITED, assert_silent, drain, one_key, pipe, put, raise, ready, set_handler, watched};
use selio::selector::{Events, Selector};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("every_thread_blocks_sigchld", every_thread_blocks_sigchld),
        ("two_selectors_while_sigchld_is_blocked", two_selectors_while_sigchld_is_blocked),
        ("beside_a_registered_signal", beside_a_registered_signal),
        ("registered_signal_of_another_selector", registered_signal_of_another_selector),
        ("exit_while_its_signal_is_unregistered", exit_while_its_signal_is_unregistered),
        ("found_handler_is_called", found_handler_is_called),
        ("found_handler_gets_all_arguments", found_handler_gets_all_arguments),
        ("handler_is_one_write", handler_is_one_write),
        ("handler_on_top_keeps_its_place", handler_on_top_keeps_its_place),
        ("last_of_several_gives_back", last_of_several_gives_back),
        ("internals_do_not_show", internals_do_not_show),
        ("rebuild_keeps_the_watch", rebuild_keeps_the_watch),
        ("forked_child_has_children_too", forked_child_has_children_too),
        ("pidfd_is_refused_in_many_ways", pidfd_is_refused_in_many_ways),
        ("pidfd_runs_out_of_descriptors", pidfd_runs_out_of_descriptors),
        ("_signals", part_signals),
    ])
}

fn without_pidfd() {
    kit::refuse(&[(libc::SYS_pidfd_open, libc::ENOSYS)]);
}

/// Starts a child that ends when [`let_go`] is called.
fn start() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn let_go(child: &mut Child) {
    drop(child.stdin.take());
}

fn end(mut child: Child) {
    let_go(&mut child);
    assert!(child.wait().unwrap().success());
}

// D07: several exits while one SIGCHLD is pending, which nobody takes but the selector.
fn every_thread_blocks_sigchld() {
    without_pidfd();
    kit::block_signal(libc::SIGCHLD);
    let mut selector = Selector::new().unwrap();
    for _ in 0..3 {
        let mut all: Vec<_> = (0..4).map(|_| start()).collect();
        for child in &all {
            selector.register_process(child.id(), ()).unwrap();
        }
        all.iter_mut().for_each(let_go);
        let mut unseen = all.len();
        while unseen > 0 {
            let keys = selector.select(keys::SOON).unwrap();
            assert!(!keys.is_empty(), "{unseen} exits were lost");
            unseen -= keys.len();
            keys.iter().for_each(|key| selector.unregister(key.fd()).unwrap());
        }
        all.into_iter().for_each(end);
    }
    assert_silent(&mut selector);
    assert_eq!(kit::signal_mask(), [libc::SIGCHLD]);
}

fn two_selectors_while_sigchld_is_blocked() {
    without_pidfd();
    kit::block_signal(libc::SIGCHLD);
    let mut both = [Selector::new().unwrap(), Selector::new().unwrap()];
    for _ in 0..2 {
        let mut children = [start(), start()];
        for (selector, child) in both.iter_mut().zip(&children) {
            selector.register_process(child.id(), ()).unwrap();
        }
        children.iter_mut().for_each(let_go);
        // Whichever reads the one signal, both are told.
        for selector in both.iter_mut().rev() {
            let key = one_key(selector);
            assert_eq!(key.events(), EXITED);
            selector.unregister(key.fd()).unwrap();
        }
        children.into_iter().for_each(end);
    }
}

// D05
fn beside_a_registered_signal() {
    without_pidfd();
    let mut selector = Selector::new().unwrap();
    let signal = selector.register_signal(libc::SIGCHLD, ()).unwrap();
    for _ in 0..2 {
        let mut child = start();
        let process = selector.register_process(child.id(), ()).unwrap();
        let_go(&mut child);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let keys = ready(&mut selector);
            assert!(!keys.is_empty(), "only {seen:?}");
            seen.extend(keys);
        }
        seen.sort_by_key(|&(fd, _)| fd);
        assert_eq!(seen, [(signal, Events::SIGNAL), (process, EXITED)]);
        end(child);
        assert_silent(&mut selector);
        selector.unregister(process).unwrap();
    }
}

// D05: whoever reads the signal tells the selectors that wait for children.
fn registered_signal_of_another_selector() {
    without_pidfd();
    let mut signals = Selector::new().unwrap();
    signals.register_signal(libc::SIGCHLD, ()).unwrap();
    let mut children = Selector::new().unwrap();
    let mut child = start();
    children.register_process(child.id(), ()).unwrap();
    let_go(&mut child);
    assert_eq!(one_key(&mut signals).events(), Events::SIGNAL);
    assert_eq!(one_key(&mut children).events(), EXITED);
    end(child);
}

// D07: what is pending is taken away before the signal is unblocked, and the exit is seen even so.
fn exit_while_its_signal_is_unregistered() {
    without_pidfd();
    let mut selector = Selector::new().unwrap();
    let signal = selector.register_signal(libc::SIGCHLD, ()).unwrap();
    let mut child = start();
    let process = selector.register_process(child.id(), ()).unwrap();
    let_go(&mut child);
    kit::eventually("the child has ended", || kit::zombies() == [child.id() as i32]);
    selector.unregister(signal).unwrap();
    assert_eq!(kit::signal_mask(), []);
    assert_eq!(ready(&mut selector), [(process, EXITED)]);
    end(child);
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(signo: libc::c_int) {
    assert_eq!(signo, libc::SIGCHLD);
    CALLS.fetch_add(1, Ordering::SeqCst);
}

fn count_calls(flags: i32) {
    set_handler(libc::SIGCHLD, count as extern "C" fn(libc::c_int) as usize, flags);
}

fn found_handler_is_called() {
    without_pidfd();
    count_calls(libc::SA_NOCLDSTOP);
    let found = kit::disposition(libc::SIGCHLD);
    let mut selector = Selector::new().unwrap();
    let mut child = start();
    let fd = selector.register_process(child.id(), ()).unwrap();
    let during = kit::disposition(libc::SIGCHLD);
    assert_ne!(during.handler, found.handler);
    assert_ne!(during.flags & libc::SA_NOCLDSTOP, 0, "what was found about stops is kept");
    kit::kill(child.id() as i32, libc::SIGSTOP).unwrap();
    kit::kill(child.id() as i32, libc::SIGCONT).unwrap();
    let_go(&mut child);
    assert_eq!(ready(&mut selector).len(), 1);
    end(child);
    selector.unregister(fd).unwrap();
    assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    assert_eq!(kit::disposition(libc::SIGCHLD), found);
}

fn found_handler_gets_all_arguments() {
    extern "C" fn note(signo: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        assert!(signo == libc::SIGCHLD && !context.is_null());
        // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO.
        let info = unsafe { &*info };
        // SAFETY: a SIGCHLD has this field.
        SENDER.store(unsafe { info.si_pid() }, Ordering::SeqCst);
        // SAFETY: this returns the address of this thread's `errno`.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: the address is valid as long as the thread runs.
        unsafe { *errno = libc::EXDEV };
    }
    without_pidfd();
    let handler: extern "C" fn(_, *mut libc::siginfo_t, *mut libc::c_void) = note;
    set_handler(libc::SIGCHLD, handler as usize, libc::SA_SIGINFO);
    let mut selector = Selector::new().unwrap();
    let mut child = start();
    selector.register_process(child.id(), ()).unwrap();
    // SAFETY: this returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    let_go(&mut child);
    while SENDER.load(Ordering::SeqCst) == 0 {
        // SAFETY: the address is valid as long as the thread runs.
        unsafe { errno.write_volatile(libc::ENOTTY) };
        (0..1_000).for_each(|_| std::hint::spin_loop());
        // SAFETY: as above.
        assert_eq!(unsafe { errno.read_volatile() }, libc::ENOTTY, "the handler changes errno");
    }
    assert_eq!(SENDER.load(Ordering::SeqCst), child.id() as i32);
    assert_eq!(ready(&mut selector).len(), 1);
    end(child);
}

// B12
fn handler_is_one_write() {
    let Some((ended, trace)) = kit::rerun("_signals").strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    // The log has the child's calls as well.
    let own = format!("{} ", ended.output.trim());
    for (from, to) in [("empty", "enough"), ("full", "end")] {
        let mut calls = trace.between(from, to);
        calls.lines.retain(|line| line.starts_with(&own));
        // A `getpid` and the `kill` send the signal; the other asks whether this is a child of
        // `vfork`, whose memory is its parent's.
        let expected = [("getpid", 2), ("kill", 1), ("write", 1), ("rt_sigreturn", 1)];
        let expected = expected.map(|(call, count)| (call.to_string(), count));
        assert_eq!(calls.counts(), HashMap::from(expected), "from {from} to {to}");
        assert_eq!(calls.lines.iter().any(|line| line.contains("EAGAIN")), from == "full");
    }
}

fn part_signals() {
    println!("{}", std::process::id());
    without_pidfd();
    let before = kit::open_fds();
    let mut selector = Selector::new().unwrap();
    let child = start();
    selector.register_process(child.id(), ()).unwrap();
    // SAFETY: this returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid as long as the thread runs.
    unsafe { errno.write_volatile(libc::ENOTTY) };
    kit::mark("empty");
    raise(libc::SIGCHLD);
    kit::mark("enough");
    // Whatever eventfds there are: the handler's write fails now, and that is its own affair.
    let opened = kit::open_fds().into_iter().filter(|fd| !before.contains(fd));
    for (number, _) in opened.filter(|(_, name)| name.contains("eventfd")) {
        fill(number);
    }
    kit::mark("full");
    // SAFETY: as above.
    unsafe { errno.write_volatile(libc::ENOTTY) };
    raise(libc::SIGCHLD);
    // SAFETY: as above.
    assert_eq!(unsafe { errno.read_volatile() }, libc::ENOTTY, "the handler changes errno");
    kit::mark("end");
    end(child);
}

/// Fills the counter of an eventfd as far as one write can.
fn fill(number: i32) {
    let much = (u64::MAX - 2).to_ne_bytes();
    for bytes in [much, 1_u64.to_ne_bytes(), 1_u64.to_ne_bytes()] {
        // SAFETY: the eight bytes live through the call, which does not block if they are too many.
        unsafe { libc::write(number, bytes.as_ptr().cast(), bytes.len()) };
    }
}

fn handler_on_top_keeps_its_place() {
    without_pidfd();
    let mut selector = Selector::new().unwrap();
    let child = start();
    let fd = selector.register_process(child.id(), ()).unwrap();
    count_calls(0);
    let on_top = kit::disposition(libc::SIGCHLD);
    selector.unregister(fd).unwrap();
    assert_eq!(kit::disposition(libc::SIGCHLD), on_top);
    end(child);
    assert_eq!(CALLS.load(Ordering::SeqCst), 1);

    // Ours is beneath it, so it is not put on top again, and comes back to nobody's cost.
    let child = start();
    let fd = selector.register_process(child.id(), ()).unwrap();
    assert_eq!(kit::disposition(libc::SIGCHLD), on_top);
    selector.unregister(fd).unwrap();
    end(child);
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
}

// E25
fn last_of_several_gives_back() {
    without_pidfd();
    let before = keys::dispositions();
    let mut all: Vec<_> = (0..3).map(|_| Selector::new().unwrap()).collect();
    let children: Vec<_> = (0..3).map(|_| start()).collect();
    for (selector, child) in all.iter_mut().zip(&children) {
        selector.register_process(child.id(), ()).unwrap();
    }
    while let Some(selector) = all.pop() {
        assert_eq!(keys::changed_since(&before), [libc::SIGCHLD]);
        thread::spawn(move || drop(selector)).join().unwrap();
    }
    assert_eq!(keys::changed_since(&before), []);
    children.into_iter().for_each(end);
}

// A25
fn internals_do_not_show() {
    without_pidfd();
    let mut selector = Selector::new().unwrap();
    let mut child = start();
    let fd = selector.register_process(child.id(), ()).unwrap();
    assert_eq!(selector.len(), 1);
    let numbers: Vec<_> = watched(&selector).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), 3, "the stand-in, the notice and the signalfd");
    for number in numbers.into_iter().filter(|&number| number != fd) {
        assert!(!selector.contains(number) && selector.data(number).is_none());
        assert_eq!(selector.unregister(number).unwrap_err().kind(), ErrorKind::NotFound);
    }
    raise(libc::SIGCHLD);
    assert_silent(&mut selector);
    let_go(&mut child);
    assert_eq!(ready(&mut selector), [(fd, EXITED)]);
    assert!(watched(&selector).is_empty(), "without children nothing is watched");
    end(child);
}

// A01
fn rebuild_keeps_the_watch() {
    without_pidfd();
    let mut selector = Selector::new().unwrap();
    let mut children = [start(), start()];
    for child in &children {
        selector.register_process(child.id(), ()).unwrap();
    }
    let before = watched(&selector);
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    let duplicate = std::fs::File::from(kit::dup(&reader));
    let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
    drop(reader);
    selector.unregister(number).unwrap();
    put(&writer);
    assert_silent(&mut selector);
    assert_eq!(drain(&duplicate), 1);
    assert_eq!(watched(&selector), before);
    for child in &mut children {
        let_go(child);
        assert_eq!(one_key(&mut selector).events(), EXITED);
    }
    assert!(watched(&selector).is_empty());
    children.into_iter().for_each(end);
}

/// A forked child inherits the handler and the descriptor that it writes to, and needs others of
/// its own.
fn forked_child_has_children_too() {
    without_pidfd();
    let mut selector = Selector::new().unwrap();
    let mut mine = start();
    selector.register_process(mine.id(), ()).unwrap();
    let pid = kit::in_child(|| {
        let mut selector = Selector::new().unwrap();
        let mut child = start();
        let fd = selector.register_process(child.id(), ()).unwrap();
        let_go(&mut child);
        assert_eq!(ready(&mut selector), [(fd, EXITED)]);
        end(child);
        selector.unregister(fd).unwrap();
    });
    assert!(kit::wait_status(pid).success());
    assert_silent(&mut selector);
    let_go(&mut mine);
    assert_eq!(ready(&mut selector).len(), 1);
    end(mine);
}

// E11
fn pidfd_is_refused_in_many_ways() {
    let child = start();
    let mut selector = Selector::new().unwrap();
    // Of two filters the later one decides, so what is refused for good comes last.
    let ways = [libc::EACCES, libc::ENODEV, libc::EINVAL, libc::EMFILE, libc::ENFILE, libc::ENOMEM];
    for errno in ways.into_iter().chain([libc::EPERM]) {
        kit::refuse(&[(libc::SYS_pidfd_open, errno)]);
        let registered = selector.register_process(child.id(), errno);
        let is_lack = [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&errno);
        let code = registered.err().and_then(|error| error.raw_os_error());
        assert_eq!(code, is_lack.then_some(errno));
    }
    let mut unseen = selector.len();
    assert_eq!(unseen, 4);
    end(child);
    while unseen > 0 {
        let keys = selector.select(keys::SOON).unwrap();
        assert!(!keys.is_empty());
        unseen -= keys.len();
    }
    assert!(selector.is_empty());
}

// E11
fn pidfd_runs_out_of_descriptors() {
    let mut selector = Selector::new().unwrap();
    let mut child = start();
    let before = kit::set_nofile_limit(0);
    let error = selector.register_process(child.id(), ()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    kit::set_nofile_limit(before);
    let fd = selector.register_process(child.id(), ()).unwrap();
    if kernel_has_pidfd() {
        let links = kit::open_fds();
        let (_, link) = links.iter().find(|(number, _)| *number == fd).unwrap();
        assert!(link.contains("pidfd"), "{link}: pidfds were ruled out for good");
    }
    let_go(&mut child);
    assert_eq!(ready(&mut selector).len(), 1);
    end(child);
}

fn kernel_has_pidfd() -> bool {
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, keys::own_pid(), 0) };
    fd >= 0
}
