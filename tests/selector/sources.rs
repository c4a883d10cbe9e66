//! Timers and events: what the selector reads itself.
#![allow(
    unsafe_code,
    reason = "timers that are set, and numbers that are replaced, behind their owner"
)]

use crate::kit;
use crate::kit::keys;
use keys::{
    EXPIRED, SOON, assert_nothing, assert_silent, is_watched, millis, one_key, pipe, put, ready,
};
use selio::selector::{Events, RawEvents, ReadyKey, SelectEvent, Selector};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("zero_fires_at_once", zero_fires_at_once),
        ("zero_does_not_repeat", zero_does_not_repeat),
        ("timers_are_never_early", timers_are_never_early),
        ("what_never_fires", what_never_fires),
        ("missed_expirations_are_counted", missed_expirations_are_counted),
        ("shortest_period", shortest_period),
        ("finished_timer_stays_until_unregistered", finished_timer_stays_until_unregistered),
        ("timers_are_monotonic", timers_are_monotonic),
        ("timer_set_anew_between_wait_and_take", timer_set_anew_between_wait_and_take),
        ("unregistered_timer_does_not_fire", unregistered_timer_does_not_fire),
        ("unreadable_timer_is_a_key", unreadable_timer_is_a_key),
        ("unreadable_sources_cost_nobody_else", unreadable_sources_cost_nobody_else),
        ("triggers_add_up", triggers_add_up),
        ("event_registered_twice", event_registered_twice),
        ("full_counter_is_success", full_counter_is_success),
        ("counter_read_by_somebody_else", counter_read_by_somebody_else),
        ("one_of_two_selectors_reports", one_of_two_selectors_reports),
        ("unregistered_event_stays_open", unregistered_event_stays_open),
        ("trigger_tells_of_a_replaced_number", trigger_tells_of_a_replaced_number),
        ("event_is_dropped_while_triggered", event_is_dropped_while_triggered),
    ])
}

// C01
fn zero_fires_at_once() {
    let mut selector = Selector::new().unwrap();
    for after in [Duration::ZERO, Duration::from_nanos(1)] {
        for _ in 0..20 {
            let timer = selector.register_timer(after, true, ()).unwrap();
            assert_eq!(selector.len(), 1, "it does not fire while it is registered");
            let keys = selector.select(None).unwrap();
            assert_eq!((keys[0].fd(), keys[0].events()), (timer, EXPIRED));
            assert_eq!(keys[0].expirations(), 1);
            selector.unregister(timer).unwrap();
        }
    }
}

// C01
fn zero_does_not_repeat() {
    let mut selector = Selector::new().unwrap();
    let before = kit::open_fds();
    let error = selector.register_timer(Duration::ZERO, false, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(selector.is_empty());
    assert_eq!(kit::open_fds(), before);
}

// C02
fn timers_are_never_early() {
    let mut selector = Selector::new().unwrap();
    let mut state = 42_u64;
    for _ in 0..5 {
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let after = Duration::from_nanos((state >> 33) % 5_000_000);
            let deadline = Instant::now() + after;
            selector.register_timer(after, true, deadline).unwrap();
        }
        while !selector.is_empty() {
            let keys = selector.select(SOON).unwrap();
            let now = Instant::now();
            assert!(!keys.is_empty(), "{} timers never fire", selector.len());
            for key in keys {
                let deadline = selector.unregister(key.fd()).unwrap();
                assert!(now >= deadline, "early by {:?}", deadline - now);
            }
        }
    }
}

// C06
fn what_never_fires() {
    let mut selector = Selector::new().unwrap();
    for after in [Duration::MAX, Duration::from_secs(1 << 63), Duration::from_secs(i64::MAX as u64)]
    {
        for oneshot in [true, false] {
            selector.register_timer(after, oneshot, ()).unwrap();
        }
    }
    assert_silent(&mut selector);
    assert_eq!(selector.len(), 6);
}

// C11
fn missed_expirations_are_counted() {
    let mut selector = Selector::new().unwrap();
    let start = Instant::now();
    let timer = selector.register_timer(millis(10), false, ()).unwrap();
    thread::sleep(millis(105));
    let key = one_key(&mut selector);
    let elapsed = start.elapsed();
    assert_eq!((key.fd(), key.events()), (timer, Events::TIMER));
    assert!((10..=elapsed.as_millis() as u64 / 10 + 1).contains(&key.expirations()), "{key:?}");
    assert_eq!((key.count(), key.signal_info().is_none()), (0, true));
    // The next key counts anew.
    let both = key.expirations() + one_key(&mut selector).expirations();
    assert!(both <= start.elapsed().as_millis() as u64 / 10 + 1, "{both}");
    assert_eq!((selector.len(), selector.contains(timer)), (1, true));
}

// C11
fn shortest_period() {
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(Duration::from_nanos(1), false, ()).unwrap();
    thread::sleep(millis(10));
    let key = one_key(&mut selector);
    assert!(key.expirations() >= 1_000_000, "{key:?}");
    selector.unregister(timer).unwrap();
    assert_silent(&mut selector);
}

fn finished_timer_stays_until_unregistered() {
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(millis(1), true, "data").unwrap();
    assert_eq!((selector.len(), is_watched(&selector, timer)), (1, true));
    let key = one_key(&mut selector);
    assert_eq!((key.fd(), key.events()), (timer, EXPIRED));
    assert_eq!((selector.len(), selector.is_empty()), (0, true));
    assert!(selector.contains(timer) && !is_watched(&selector, timer));
    assert_eq!((selector.get(&key), selector.data(timer)), (Some(&"data"), Some(&"data")));
    assert!(selector.take_error(&key).unwrap().is_none());
    assert_silent(&mut selector);
    assert_eq!(selector.unregister(timer).unwrap(), "data");
    assert!(!selector.contains(timer) && selector.get(&key).is_none());
    assert!(!kit::open_number(timer));
}

// C15
fn timers_are_monotonic() {
    let mut selector = Selector::new().unwrap();
    for oneshot in [true, false] {
        let timer = selector.register_timer(Duration::from_secs(9), oneshot, ()).unwrap();
        let info = kit::fdinfo(timer);
        assert!(info.contains(&format!("clockid: {}\n", libc::CLOCK_MONOTONIC)), "{info}");
    }
}

/// Sets a timer through its number, as nobody should.
fn set_timer(timer: RawFd, after: Duration) {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec { tv_sec: after.as_secs() as libc::time_t, ..zero };
    let setting = libc::itimerspec { it_interval: zero, it_value: value };
    // SAFETY: the setting lives through the call, and the old one is not asked for.
    let returned =
        unsafe { libc::timerfd_settime(timer, 0, &raw const setting, std::ptr::null_mut()) };
    assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
}

// C16
fn timer_set_anew_between_wait_and_take() {
    let mut selector = Selector::new().unwrap();
    let first = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    let second = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    let mut events = RawEvents::new();
    kit::eventually("both are ready", || {
        events = RawEvents::new();
        selector.poller().wait(SOON, &mut events).unwrap();
        events.len() == 2
    });
    set_timer(second, Duration::from_secs(9));
    let mut keys = [ReadyKey::EMPTY; 4];
    assert_eq!(selector.take(&mut events, &mut keys), 1);
    assert_eq!((keys[0].fd(), keys[0].events()), (first, EXPIRED));
    assert_eq!((selector.len(), is_watched(&selector, second)), (1, true));
    assert_silent(&mut selector);
}

fn unregistered_timer_does_not_fire() {
    let mut selector = Selector::new().unwrap();
    for oneshot in [true, false] {
        let timer = selector.register_timer(millis(20), oneshot, 7).unwrap();
        assert_eq!(selector.unregister(timer).unwrap(), 7);
        assert!(!kit::open_number(timer));
        assert_eq!(selector.unregister(timer).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_silent(&mut selector);
}

/// Puts a file that cannot be read like this under a number, after keeping what was there alive:
/// epoll goes on reporting it.
fn make_unreadable(number: RawFd) -> OwnedFd {
    // SAFETY: the number is open as long as its registration lives, which is longer than this
    // borrow.
    let duplicate = kit::dup(unsafe { BorrowedFd::borrow_raw(number) });
    kit::dup2(File::open("/dev/null").unwrap(), number);
    duplicate
}

// A18
fn unreadable_timer_is_a_key() {
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(millis(5), false, ()).unwrap();
    let duplicate = make_unreadable(timer);
    let key = one_key(&mut selector);
    assert_eq!((key.fd(), key.events()), (timer, Events::TIMER | Events::ERROR));
    assert_eq!(key.expirations(), 0);
    assert!(selector.take_error(&key).unwrap().is_some());
    assert_eq!(selector.len(), 1, "it has not finished");
    selector.unregister(timer).unwrap();
    assert_silent(&mut selector);
    drop(duplicate);
}

// A18
fn unreadable_sources_cost_nobody_else() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    let timer = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    selector.register_event(&event, ()).unwrap();
    let signal = selector.register_signal(libc::SIGUSR1, ()).unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    event.trigger().unwrap();
    keys::raise(libc::SIGUSR1);
    let _duplicates = [timer, event.as_raw_fd(), signal].map(make_unreadable);
    put(&writer);
    let mut expected = [
        (timer, Events::TIMER | Events::ERROR),
        (event.as_raw_fd(), Events::USER | Events::ERROR),
        (signal, Events::SIGNAL | Events::ERROR),
        (reader.as_raw_fd(), Events::READ),
    ];
    expected.sort_by_key(|&(fd, _)| fd);
    for _ in 0..2 {
        let mut seen = ready(&mut selector);
        seen.sort_by_key(|&(fd, _)| fd);
        assert_eq!(seen, expected);
    }
    for (number, _) in expected {
        selector.unregister(number).unwrap();
    }
    assert_silent(&mut selector);
}

// B08
fn triggers_add_up() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    // A trigger before the registration counts.
    event.trigger().unwrap();
    selector.register_event(&event, ()).unwrap();
    (0..4).for_each(|_| event.clone().trigger().unwrap());
    let key = one_key(&mut selector);
    assert_eq!((key.fd(), key.events(), key.count()), (event.as_raw_fd(), Events::USER, 5));
    assert_eq!((key.expirations(), key.signal_info().is_none()), (0, true));
    assert_silent(&mut selector);
    event.trigger().unwrap();
    assert_eq!(one_key(&mut selector).count(), 1);
    assert_eq!(selector.len(), 1);
}

fn event_registered_twice() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, "first").unwrap();
    let error = selector.register_event(&event.clone(), "second").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = selector.register_handle(&event, Events::READ, "third").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(selector.data(event.as_raw_fd()), Some(&"first"));
    assert_eq!(selector.unregister_event(&event.clone()).unwrap(), "first");
    assert_eq!(selector.unregister_event(&event).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Writes to a counter through its number.
fn add(event: &SelectEvent, count: u64) {
    let mut file = File::from(kit::dup(event));
    file.write_all(&count.to_ne_bytes()).unwrap();
}

// B01
fn full_counter_is_success() {
    const FULL: u64 = u64::MAX - 1;
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, ()).unwrap();
    add(&event, FULL);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| event.trigger().unwrap());
        }
    });
    assert_eq!(one_key(&mut selector).count(), FULL);
    assert_silent(&mut selector);
}

// B14
fn counter_read_by_somebody_else() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, ()).unwrap();
    event.trigger().unwrap();
    let mut events = RawEvents::new();
    selector.poller().wait(SOON, &mut events).unwrap();
    assert_eq!(File::from(kit::dup(&event)).read(&mut [0; 8]).unwrap(), 8);
    assert_eq!(events.len(), 1);
    assert_eq!(selector.take(&mut events, &mut [ReadyKey::EMPTY; 4]), 0);
    assert_silent(&mut selector);
    event.trigger().unwrap();
    assert_eq!(one_key(&mut selector).count(), 1);
}

// B14
fn one_of_two_selectors_reports() {
    let event = SelectEvent::new().unwrap();
    let mut both = [Selector::new().unwrap(), Selector::new().unwrap()];
    for selector in &mut both {
        selector.register_event(&event, ()).unwrap();
    }
    for first in [0, 1] {
        event.trigger().unwrap();
        let mut events = [RawEvents::new(), RawEvents::new()];
        for (selector, events) in both.iter().zip(&mut events) {
            selector.poller().wait(SOON, events).unwrap();
            assert_eq!(events.len(), 1);
        }
        let mut keys = [ReadyKey::EMPTY; 2];
        assert_eq!(both[first].take(&mut events[first], &mut keys), 1);
        assert_eq!(both[1 - first].take(&mut events[1 - first], &mut keys), 0);
        both.iter_mut().for_each(assert_nothing);
    }
}

fn unregistered_event_stays_open() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    let number = event.as_raw_fd();
    selector.register_event(&event, ()).unwrap();
    event.trigger().unwrap();
    selector.unregister_event(&event).unwrap();
    event.trigger().unwrap();
    assert_silent(&mut selector);
    selector.register_event(&event, ()).unwrap();
    assert_eq!(one_key(&mut selector).count(), 2);
    // The selector holds it too: it is closed by whoever is last.
    drop(event);
    assert!(kit::open_number(number));
    selector.unregister(number).unwrap();
    assert!(!kit::open_number(number));
}

fn trigger_tells_of_a_replaced_number() {
    let event = SelectEvent::new().unwrap();
    let (reader, writer) = pipe();
    kit::dup2(&reader, event.as_raw_fd());
    assert_eq!(event.trigger().unwrap_err().raw_os_error(), Some(libc::EBADF));
    drop(writer);
}

// B11
fn event_is_dropped_while_triggered() {
    let before = kit::open_fds();
    for _ in 0..100 {
        let mut selector = Selector::new().unwrap();
        let event = SelectEvent::new().unwrap();
        let clone = event.clone();
        let stop = AtomicBool::new(false);
        let triggers = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let clone = clone;
                let mut triggers = 0;
                while !stop.load(Ordering::Relaxed) {
                    clone.trigger().unwrap();
                    triggers += 1;
                }
                triggers
            });
            selector.register_event(&event, ()).unwrap();
            let seen = one_key(&mut selector).count();
            selector.unregister_event(&event).unwrap();
            drop((event, selector));
            // Nobody gets what is triggered now.
            let (reader, _writer) = pipe();
            stop.store(true, Ordering::Relaxed);
            assert_eq!((&reader).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
            (seen, thread.join().unwrap())
        });
        assert!((1..=triggers.1).contains(&triggers.0));
    }
    assert_eq!(kit::open_fds(), before);
}
