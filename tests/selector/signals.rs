//! Signals that are read through the selector: what is blocked, what is told, what is given back.
#![allow(unsafe_code, reason = "signals from threads, descriptors and timers")]

use crate::kit;
use crate::kit::keys;
use keys::{
    NOW, SOON, assert_nothing, assert_silent, is_watched, millis, one_key, own_pid, pipe, put,
    raise, ready, summary, watched,
};
use selio::selector::{Events, RawEvents, ReadyKey, Selector};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("signals_that_cannot_be_registered", signals_that_cannot_be_registered),
        ("every_other_signal_can", every_other_signal_can),
        ("one_bit_of_one_thread", one_bit_of_one_thread),
        ("what_the_program_blocked_stays_blocked", what_the_program_blocked_stays_blocked),
        ("registrations_are_counted", registrations_are_counted),
        ("dropping_the_selector_gives_back_too", dropping_the_selector_gives_back_too),
        ("pending_signal_does_not_kill", pending_signal_does_not_kill),
        ("pending_signals_of_all_kinds_are_drained", pending_signals_of_all_kinds_are_drained),
        ("drained_while_handlers_interrupt", drained_while_handlers_interrupt),
        ("unregistered_on_another_thread", unregistered_on_another_thread),
        ("another_threads_registrations_do_not_count", another_threads_registrations_do_not_count),
        ("taken_on_another_thread", taken_on_another_thread),
        ("registered_twice_in_one_selector", registered_twice_in_one_selector),
        ("registered_in_two_selectors", registered_in_two_selectors),
        ("read_by_the_other_after_the_wait", read_by_the_other_after_the_wait),
        ("ordinary_signals_merge", ordinary_signals_merge),
        ("queued_signals_come_one_by_one", queued_signals_come_one_by_one),
        ("who_sent_it", who_sent_it),
        ("what_a_child_left", what_a_child_left),
        ("which_descriptor_is_ready", which_descriptor_is_ready),
        ("which_timer_has_expired", which_timer_has_expired),
        ("children_inherit_the_mask", children_inherit_the_mask),
    ])
}

// D08
fn signals_that_cannot_be_registered() {
    let mut selector = Selector::new().unwrap();
    let open = kit::open_fds();
    let named = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];
    let odd = [libc::SIGILL, 0, -1, i32::MIN, i32::MAX, libc::SIGRTMAX() + 1, 32, 33];
    for signo in named.into_iter().chain(odd) {
        let error = selector.register_signal(signo, ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signo}");
        assert!(error.to_string().contains(&signo.to_string()));
    }
    assert_eq!((kit::signal_mask(), kit::open_fds()), (vec![], open));
    assert!(selector.is_empty() && watched(&selector).is_empty());
}

fn every_other_signal_can() {
    let mut selector = Selector::new().unwrap();
    let refused = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];
    let is_refused = |signo: &i32| refused.contains(signo) || *signo == libc::SIGILL;
    let ordinary = (1..32).filter(|signo| !is_refused(signo));
    let all: Vec<i32> = ordinary.chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect();
    for &signo in &all {
        selector.register_signal(signo, signo).unwrap();
    }
    assert_eq!(kit::signal_mask(), all);
    // One by one, because SIGCONT and the signals that stop discard each other.
    for &signo in &all {
        raise(signo);
        let key = one_key(&mut selector);
        assert_eq!(key.signal_info().unwrap().signo(), signo);
        assert_eq!(selector.get(&key), Some(&signo));
    }
    drop(selector);
    assert_eq!(kit::signal_mask(), []);
}

// D19
fn one_bit_of_one_thread() {
    let (stop, wait) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel();
    let other = thread::spawn(move || {
        ready.send(()).unwrap();
        let _ = wait.recv();
    });
    is_ready.recv().unwrap();
    kit::block_signal(libc::SIGHUP);
    let before = kit::thread_masks();
    let dispositions = keys::dispositions();
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGTERM, ()).unwrap();
    let mut during = kit::thread_masks();
    let own = during.get_mut(&own_pid()).unwrap();
    assert_eq!(*own, [libc::SIGHUP, libc::SIGTERM]);
    own.pop();
    assert_eq!(during, before);
    assert_eq!(keys::changed_since(&dispositions), []);
    selector.unregister(fd).unwrap();
    assert_eq!(kit::thread_masks(), before);
    drop(stop);
    other.join().unwrap();
}

fn what_the_program_blocked_stays_blocked() {
    let mut selector = Selector::new().unwrap();
    kit::block_signal(libc::SIGUSR1);
    let fd = selector.register_signal(libc::SIGUSR1, ()).unwrap();
    raise(libc::SIGUSR1);
    selector.unregister(fd).unwrap();
    assert_eq!(kit::signal_mask(), [libc::SIGUSR1]);
    // And what is pending stays pending, for whoever the program has in mind.
    selector.register_signal(libc::SIGUSR1, ()).unwrap();
    assert_eq!(selector.select(NOW).unwrap()[0].events(), Events::SIGNAL);
}

// D05: one of several subscriptions goes.
fn registrations_are_counted() {
    let mut all: Vec<_> = (0..3).map(|_| Selector::new().unwrap()).collect();
    let fds: Vec<_> =
        all.iter_mut().map(|it| it.register_signal(libc::SIGTERM, ()).unwrap()).collect();
    for (index, fd) in fds.iter().enumerate() {
        assert_eq!(kit::signal_mask(), [libc::SIGTERM]);
        raise(libc::SIGTERM);
        assert_eq!(ready(all.last_mut().unwrap()), [(fds[2], Events::SIGNAL)]);
        all[index].unregister(*fd).unwrap();
    }
    assert_eq!(kit::signal_mask(), []);
    // A second round counts from zero.
    let fd = all[0].register_signal(libc::SIGTERM, ()).unwrap();
    assert_eq!(kit::signal_mask(), [libc::SIGTERM]);
    all[0].unregister(fd).unwrap();
    assert_eq!(kit::signal_mask(), []);
}

fn dropping_the_selector_gives_back_too() {
    let mut selector = Selector::new().unwrap();
    let open = kit::open_fds();
    let mut other = Selector::new().unwrap();
    for signo in [libc::SIGTERM, libc::SIGINT, libc::SIGRTMIN()] {
        other.register_signal(signo, ()).unwrap();
        raise(signo);
    }
    selector.register_signal(libc::SIGINT, ()).unwrap();
    drop(other);
    assert_eq!(kit::signal_mask(), [libc::SIGINT]);
    assert_eq!(selector.select(NOW).unwrap().len(), 1);
    drop(selector);
    assert_eq!(kit::signal_mask(), []);
    assert!(kit::open_fds().len() < open.len());
}

// D03
fn pending_signal_does_not_kill() {
    let mut one = Selector::new().unwrap();
    let mut other = Selector::new().unwrap();
    let first = one.register_signal(libc::SIGTERM, ()).unwrap();
    let second = other.register_signal(libc::SIGTERM, ()).unwrap();
    one.unregister(first).unwrap();
    assert_eq!(kit::signal_mask(), [libc::SIGTERM]);
    raise(libc::SIGTERM);
    other.unregister(second).unwrap();
    assert_eq!(kit::signal_mask(), []);
}

/// Sends a signal to the calling thread alone.
fn raise_here(signo: i32) {
    // SAFETY: the call takes a number.
    assert_eq!(unsafe { libc::raise(signo) }, 0);
}

// D03
fn pending_signals_of_all_kinds_are_drained() {
    let mut selector = Selector::new().unwrap();
    let real_time = libc::SIGRTMIN();
    let fds = [libc::SIGTERM, real_time].map(|it| selector.register_signal(it, ()).unwrap());
    raise(libc::SIGTERM);
    raise_here(libc::SIGTERM);
    raise_here(real_time);
    for value in 0..100 {
        kit::sigqueue(own_pid(), real_time, value).unwrap();
    }
    for fd in fds {
        selector.unregister(fd).unwrap();
    }
    assert_eq!(kit::signal_mask(), []);
}

// D03
fn drained_while_handlers_interrupt() {
    keys::alarm_every(std::time::Duration::from_micros(50));
    let mut selector = Selector::new().unwrap();
    for _ in 0..200 {
        let fd = selector.register_signal(libc::SIGRTMIN(), ()).unwrap();
        for value in 0..20 {
            kit::sigqueue(own_pid(), libc::SIGRTMIN(), value).unwrap();
        }
        selector.unregister(fd).unwrap();
    }
    assert_eq!(kit::signal_mask(), []);
}

// D15
fn unregistered_on_another_thread() {
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGUSR2, ()).unwrap();
    let elsewhere = move || {
        // A thread is born with its parent's mask.
        assert_eq!(kit::signal_mask(), [libc::SIGUSR2]);
        selector.unregister(fd).unwrap();
        assert_eq!(kit::signal_mask(), [libc::SIGUSR2]);
        let fd = selector.register_signal(libc::SIGHUP, ()).unwrap();
        (selector, fd)
    };
    let (mut selector, fd) = thread::spawn(elsewhere).join().unwrap();
    assert_eq!(kit::signal_mask(), [libc::SIGUSR2]);
    // The thread that blocked it is gone: nobody's mask is changed in its stead.
    selector.unregister(fd).unwrap();
    assert_eq!(kit::signal_mask(), [libc::SIGUSR2]);
    raise(libc::SIGUSR2);
    let fd = selector.register_signal(libc::SIGUSR2, ()).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::SIGNAL)]);
}

// D15: each thread counts its own.
fn another_threads_registrations_do_not_count() {
    let (send, receive) = mpsc::channel::<(Selector<()>, i32)>();
    let elsewhere = thread::spawn(move || {
        let mut own = Selector::new().unwrap();
        let own_fd = own.register_signal(libc::SIGUSR2, ()).unwrap();
        let (mut other, fd) = receive.recv().unwrap();
        other.unregister(fd).unwrap();
        assert_eq!(kit::signal_mask(), [libc::SIGUSR2]);
        own.unregister(own_fd).unwrap();
        assert_eq!(kit::signal_mask(), []);
    });
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGUSR2, ()).unwrap();
    send.send((selector, fd)).unwrap();
    elsewhere.join().unwrap();
    assert_eq!(kit::signal_mask(), [libc::SIGUSR2]);
}

// D15
fn taken_on_another_thread() {
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGUSR1, ()).unwrap();
    let waiting = thread::spawn(move || {
        let seen = ready(&mut selector);
        (selector, seen)
    });
    thread::sleep(millis(20));
    raise(libc::SIGUSR1);
    let (mut selector, seen) = waiting.join().unwrap();
    assert_eq!(seen, [(fd, Events::SIGNAL)]);
    selector.unregister(fd).unwrap();
    assert_eq!(kit::signal_mask(), []);
}

// D04
fn registered_twice_in_one_selector() {
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGUSR1, 1).unwrap();
    let open = kit::open_fds();
    let error = selector.register_signal(libc::SIGUSR1, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!((kit::open_fds(), selector.len()), (open, 1));
    assert_eq!(selector.unregister(fd).unwrap(), 1);
    assert_eq!(kit::signal_mask(), [], "the second did not count");
    let fd = selector.register_signal(libc::SIGUSR1, 3).unwrap();
    assert!(is_watched(&selector, fd));
    // What is no signal takes none along when it leaves.
    selector.register_signal(libc::SIGHUP, 4).unwrap();
    let timer = selector.register_timer(millis(1), true, 5).unwrap();
    assert_eq!(selector.unregister(timer).unwrap(), 5);
    let error = selector.register_signal(libc::SIGHUP, 6).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

// D04
fn registered_in_two_selectors() {
    let mut both = [Selector::new().unwrap(), Selector::new().unwrap()];
    for selector in &mut both {
        selector.register_signal(libc::SIGUSR1, ()).unwrap();
    }
    for first in [0, 1] {
        raise(libc::SIGUSR1);
        assert_eq!(one_key(&mut both[first]).signal_info().unwrap().signo(), libc::SIGUSR1);
        both.iter_mut().for_each(assert_nothing);
    }
}

// D04: the second finds nothing to read, and that is no error.
fn read_by_the_other_after_the_wait() {
    let mut both = [Selector::new().unwrap(), Selector::new().unwrap()];
    let mut events = [RawEvents::new(), RawEvents::new()];
    for selector in &mut both {
        selector.register_signal(libc::SIGUSR1, ()).unwrap();
    }
    raise(libc::SIGUSR1);
    for (selector, events) in both.iter().zip(&mut events) {
        selector.poller().wait(SOON, events).unwrap();
        assert_eq!(events.len(), 1);
    }
    let mut keys = [ReadyKey::EMPTY; 2];
    assert_eq!(both[1].take(&mut events[1], &mut keys), 1);
    assert_eq!(both[0].take(&mut events[0], &mut keys), 0);
    assert_silent(&mut both[0]);
}

// D06
fn ordinary_signals_merge() {
    let mut selector = Selector::new().unwrap();
    let fd = selector.register_signal(libc::SIGUSR1, ()).unwrap();
    (0..3).for_each(|_| raise(libc::SIGUSR1));
    assert_eq!(ready(&mut selector), [(fd, Events::SIGNAL)]);
    assert_silent(&mut selector);
    raise(libc::SIGUSR1);
    assert_eq!(ready(&mut selector), [(fd, Events::SIGNAL)]);
}

fn queued_signals_come_one_by_one() {
    let mut selector = Selector::new().unwrap();
    let signo = libc::SIGRTMIN();
    selector.register_signal(signo, ()).unwrap();
    let values = [0, 1, -1, i32::MAX, i32::MIN, 5, 6, 7, 8, 9];
    for value in values {
        kit::sigqueue(own_pid(), signo, value).unwrap();
    }
    for value in values {
        let info = one_key(&mut selector).signal_info().unwrap();
        assert_eq!((info.signo(), info.value()), (signo, value));
        assert_eq!((info.code(), info.pid()), (libc::SI_QUEUE, std::process::id()));
        assert_eq!(info.pointer() as u32, value as u32);
    }
    assert_silent(&mut selector);
}

fn who_sent_it() {
    let mut selector = Selector::new().unwrap();
    selector.register_signal(libc::SIGUSR1, ()).unwrap();
    // SAFETY: the call takes nothing and always succeeds.
    let uid = unsafe { libc::getuid() };
    let parent = own_pid();
    let child = kit::in_child(|| kit::kill(parent, libc::SIGUSR1).unwrap());
    let key = one_key(&mut selector);
    let info = key.signal_info().unwrap();
    assert_eq!((info.signo(), info.code()), (libc::SIGUSR1, libc::SI_USER));
    assert_eq!((info.pid(), info.uid()), (child as u32, uid));
    assert_eq!((key.expirations(), key.count()), (0, 0));
    kit::wait_status(child);

    raise_here(libc::SIGUSR1);
    let info = one_key(&mut selector).signal_info().unwrap();
    assert_eq!((info.code(), info.pid()), (-6, std::process::id()), "SI_TKILL");
}

fn what_a_child_left() {
    let mut selector = Selector::new().unwrap();
    selector.register_signal(libc::SIGCHLD, ()).unwrap();
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let info = one_key(&mut selector).signal_info().unwrap();
    assert_eq!((info.signo(), info.code()), (libc::SIGCHLD, libc::CLD_EXITED));
    assert_eq!((info.pid(), info.status()), (child.id(), 7));
    assert_eq!(child.wait().unwrap().code(), Some(7), "nothing was reaped");
    let mut child = Command::new("sleep").arg("9").spawn().unwrap();
    child.kill().unwrap();
    let info = one_key(&mut selector).signal_info().unwrap();
    assert_eq!((info.code(), info.status()), (libc::CLD_KILLED, libc::SIGKILL));
    assert!(info.user_time() < 1_000 && info.system_time() < 1_000);
    child.wait().unwrap();
}

// SIGIO with F_SETSIG tells which descriptor is ready, and for what.
fn which_descriptor_is_ready() {
    const F_SETSIG: i32 = 10;
    let mut selector = Selector::new().unwrap();
    let signo = libc::SIGRTMIN();
    selector.register_signal(signo, ()).unwrap();
    let (reader, writer) = pipe();
    let settings = [(F_SETSIG, signo), (libc::F_SETOWN, own_pid()), (libc::F_SETFL, libc::O_ASYNC)];
    for (command, value) in settings {
        // SAFETY: the descriptor is open, and these commands take a number.
        let returned = unsafe { libc::fcntl(reader.as_raw_fd(), command, value) };
        assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
    }
    put(&writer);
    let info = one_key(&mut selector).signal_info().unwrap();
    assert_eq!((info.signo(), info.fd()), (signo, reader.as_raw_fd()));
    assert_ne!(info.band() & libc::POLLIN as u32, 0);
}

// A POSIX timer tells how many of its expirations were merged.
fn which_timer_has_expired() {
    let mut selector = Selector::new().unwrap();
    let signo = libc::SIGRTMIN();
    selector.register_signal(signo, ()).unwrap();
    // SAFETY: `sigevent` is plain integers, for which zero is a value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, signo);
    event.sigev_value.sival_ptr = std::ptr::without_provenance_mut(0x1234);
    let mut timer = std::ptr::null_mut();
    // SAFETY: both structs live through the call.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    assert_eq!(made, 0, "timer_create");
    let period = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let setting = libc::itimerspec { it_interval: period, it_value: period };
    // SAFETY: the timer was made above, and the setting lives through the call.
    let set = unsafe { libc::timer_settime(timer, 0, &raw const setting, std::ptr::null_mut()) };
    assert_eq!(set, 0, "timer_settime");
    thread::sleep(millis(20));
    let info = one_key(&mut selector).signal_info().unwrap();
    assert_eq!((info.signo(), info.code(), info.value()), (signo, libc::SI_TIMER, 0x1234));
    assert!(info.overrun() >= 10, "{}", info.overrun());
    let first = info.timer_id();
    assert_eq!(one_key(&mut selector).signal_info().unwrap().timer_id(), first);
    assert!(format!("{info:?}").starts_with("SignalInfo { signo: "));
    // Else it would go on when the selector is gone, and end the process.
    // SAFETY: the timer was made above, and is not used again.
    assert_eq!(unsafe { libc::timer_delete(timer) }, 0, "timer_delete");
}

// D10, as far as it is documented: children are born with the mask of the thread that starts them.
fn children_inherit_the_mask() {
    let mut selector = Selector::new().unwrap();
    let mask_of_a_child = || {
        let mut child = Command::new("sleep").arg("9").spawn().unwrap();
        let blocked = kit::signal_sets(child.id() as i32).blocked;
        child.kill().unwrap();
        child.wait().unwrap();
        blocked
    };
    let fd = selector.register_signal(libc::SIGUSR1, ()).unwrap();
    assert_eq!(mask_of_a_child(), [libc::SIGUSR1]);
    selector.unregister(fd).unwrap();
    assert_eq!(mask_of_a_child(), []);
    assert_eq!(summary(&selector.select(NOW).unwrap()), []);
}
