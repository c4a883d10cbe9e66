//! Waiting: timeouts, interruptions, batches, and selectors that watch selectors.

use crate::kit;
use crate::kit::keys;
use keys::{
    NOW, SOON, alarm_every, assert_nothing, assert_silent, drain, millis, one_key, pipe, put,
    raise, ready, summary,
};
use selio::selector::{Events, ReadyKey, SelectEvent, Selector};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("handlers_do_not_end_the_wait", handlers_do_not_end_the_wait),
        ("handlers_do_not_end_a_wait_for_ever", handlers_do_not_end_a_wait_for_ever),
        ("handlers_that_trigger_do", handlers_that_trigger_do),
        ("stopped_and_continued", stopped_and_continued),
        ("timeouts_are_not_rounded_down", timeouts_are_not_rounded_down),
        ("longest_timeouts", longest_timeouts),
        ("timeouts_without_nanoseconds", timeouts_without_nanoseconds),
        ("timeouts_where_nanoseconds_are_forbidden", timeouts_where_nanoseconds_are_forbidden),
        ("many_threads_are_refused_at_once", many_threads_are_refused_at_once),
        ("zero_only_looks", zero_only_looks),
        ("dropped_events_do_not_end_the_wait", dropped_events_do_not_end_the_wait),
        ("buffer_bounds_the_batch", buffer_bounds_the_batch),
        ("keys_of_the_call_before", keys_of_the_call_before),
        ("at_most_64_keys", at_most_64_keys),
        ("select_into_allocates_nothing", select_into_allocates_nothing),
        ("selector_in_a_selector", selector_in_a_selector),
        ("selectors_in_circles", selectors_in_circles),
        ("closed_by_another_thread", closed_by_another_thread),
    ])
}

/// Waits for nothing, and says for how long.
fn wait_in_vain(timeout: Duration) -> Duration {
    let mut selector = Selector::<()>::new().unwrap();
    let (keys, elapsed) = kit::took(|| selector.select(Some(timeout)).unwrap());
    assert_eq!(summary(&keys), []);
    elapsed
}

// A21
fn handlers_do_not_end_the_wait() {
    alarm_every(millis(5));
    kit::assert_at_least(wait_in_vain(millis(200)), millis(200));
    let mut selector = Selector::<()>::new().unwrap();
    let start = Instant::now();
    let count = selector.select_into(Some(millis(100)), &mut [ReadyKey::EMPTY; 2]).unwrap();
    assert_eq!(count, 0);
    kit::assert_at_least(start.elapsed(), millis(100));
}

// A21
fn handlers_do_not_end_a_wait_for_ever() {
    alarm_every(millis(5));
    let mut selector = Selector::new().unwrap();
    let start = Instant::now();
    let timer = selector.register_timer(millis(100), true, ()).unwrap();
    let keys = selector.select(None).unwrap();
    assert_eq!(summary(&keys), [(timer, keys::EXPIRED)]);
    kit::assert_at_least(start.elapsed(), millis(100));
}

// A21: who wants to notice a handler triggers an event in it.
fn handlers_that_trigger_do() {
    static EVENT: OnceLock<SelectEvent> = OnceLock::new();
    extern "C" fn trigger(_: libc::c_int) {
        EVENT.get().unwrap().trigger().unwrap();
    }
    let event = EVENT.get_or_init(|| SelectEvent::new().unwrap());
    keys::set_handler(libc::SIGUSR1, trigger as extern "C" fn(libc::c_int) as usize, 0);
    let mut selector = Selector::new().unwrap();
    selector.register_event(event, ()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(millis(30));
            raise(libc::SIGUSR1);
        });
        let keys = selector.select(None).unwrap();
        assert_eq!(summary(&keys), [(event.as_raw_fd(), Events::USER)]);
    });
}

// A21: a stop ends the wait without a handler.
fn stopped_and_continued() {
    let (reader, writer) = pipe();
    let pid = kit::in_child(|| {
        put(&writer);
        kit::assert_at_least(wait_in_vain(millis(200)), millis(200));
    });
    kit::eventually("the child is about to wait", || (&reader).read(&mut [0]).is_ok());
    for _ in 0..3 {
        thread::sleep(millis(20));
        kit::kill(pid, libc::SIGSTOP).unwrap();
        thread::sleep(millis(10));
        kit::kill(pid, libc::SIGCONT).unwrap();
    }
    assert!(kit::wait_status(pid).success());
}

// A22
fn timeouts_are_not_rounded_down() {
    for micros in [0, 1, 900, 1_100, 99_980] {
        let timeout = Duration::from_micros(micros);
        kit::assert_at_least(wait_in_vain(timeout), timeout);
    }
}

// A22
fn longest_timeouts() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, ()).unwrap();
    let longest = [Duration::MAX, Duration::from_secs(i64::MAX as u64), millis(1 << 31)];
    for timeout in longest {
        event.trigger().unwrap();
        assert_eq!(selector.select(Some(timeout)).unwrap().len(), 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(millis(20));
                event.trigger()
            });
            let wait = || selector.select(Some(timeout)).unwrap().len();
            assert_eq!(kit::assert_quiet(wait), 1);
        });
    }
}

// A22
fn timeouts_without_nanoseconds() {
    kit::refuse(&[(libc::SYS_epoll_pwait2, libc::ENOSYS)]);
    all_timeouts();
}

// A22
fn timeouts_where_nanoseconds_are_forbidden() {
    kit::refuse(&[(libc::SYS_epoll_pwait2, libc::EPERM)]);
    all_timeouts();
}

fn all_timeouts() {
    timeouts_are_not_rounded_down();
    zero_only_looks();
    longest_timeouts();
    handlers_do_not_end_the_wait();
}

// A22: each of the threads may be the one that learns of it.
fn many_threads_are_refused_at_once() {
    const THREADS: usize = 8;
    kit::refuse(&[(libc::SYS_epoll_pwait2, libc::ENOSYS)]);
    let event = SelectEvent::new().unwrap();
    let start = Barrier::new(THREADS + 1);
    let wait = || {
        let mut selector = Selector::new().unwrap();
        let mut later = Selector::new().unwrap();
        selector.register_event(&event, ()).unwrap();
        later.register_timer(millis(20), true, ()).unwrap();
        start.wait();
        // The event wakes one of them; for the others the time is up.
        let (keys, elapsed) = kit::took(|| selector.select(Some(millis(50))).unwrap());
        assert!(!keys.is_empty() || elapsed >= millis(50));
        assert_eq!(later.select(None).unwrap().len(), 1);
        keys.len()
    };
    let woken: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(wait)).collect();
        event.trigger().unwrap();
        start.wait();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(woken, 1);
}

// A24
fn zero_only_looks() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    let mut keys = [ReadyKey::EMPTY; 4];
    for _ in 0..100 {
        assert_nothing(&mut selector);
        assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 0);
    }
    put(&writer);
    assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 1);
    for timeout in [NOW, Some(Duration::from_nanos(1)), SOON, None] {
        let keys = selector.select(timeout).unwrap();
        assert_eq!(summary(&keys), [(reader.as_raw_fd(), Events::READ)]);
    }
}

// A01, A24: what came of a wait was stale, so it waits on for what is left of its time.
fn dropped_events_do_not_end_the_wait() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let number = reader.as_raw_fd();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    let duplicate = kit::dup(&reader);
    drop(reader);
    selector.unregister(number).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(millis(20));
            put(&writer);
        });
        let (keys, elapsed) = kit::took(|| selector.select(Some(millis(100))).unwrap());
        assert_eq!(summary(&keys), []);
        kit::assert_at_least(elapsed, millis(100));
    });
    drop(duplicate);
}

/// Events that are registered with a selector and triggered, in its order.
fn triggered(selector: &mut Selector<usize>, count: usize) -> Vec<SelectEvent> {
    let all: Vec<_> = (0..count).map(|_| SelectEvent::new().unwrap()).collect();
    for (index, event) in all.iter().enumerate() {
        selector.register_event(event, index).unwrap();
        event.trigger().unwrap();
    }
    all
}

fn buffer_bounds_the_batch() {
    let mut selector = Selector::new().unwrap();
    let all = triggered(&mut selector, 5);
    assert!(selector.select_into(NOW, &mut []).is_err());
    let mut seen = Vec::new();
    for expected in [2, 2, 1, 0] {
        let mut keys = [ReadyKey::EMPTY; 2];
        assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), expected);
        seen.extend(keys[..expected].iter().map(|key| selector.get(key).copied().unwrap()));
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    drop(all);
}

// A20
fn keys_of_the_call_before() {
    let mut selector = Selector::new().unwrap();
    let all = triggered(&mut selector, 4);
    let mut keys = [ReadyKey::EMPTY; 8];
    assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 4);
    let before = keys;
    all[3].trigger().unwrap();
    assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 1);
    assert_eq!(selector.get(&keys[0]), Some(&3));
    assert_eq!(summary(&keys[1..]), summary(&before[1..]), "the rest is not touched");
    assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 0);
}

fn at_most_64_keys() {
    let mut selector = Selector::new().unwrap();
    let all = triggered(&mut selector, 100);
    let mut seen: Vec<_> = selector.select(NOW).unwrap();
    assert_eq!(seen.len(), 64);
    let mut keys = [ReadyKey::EMPTY; 100];
    assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 36);
    seen.extend(&keys[..36]);
    let mut seen: Vec<_> = seen.iter().map(|key| *selector.get(key).unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    all.iter().for_each(|event| event.trigger().unwrap());
    assert_eq!(selector.select_into(NOW, &mut keys).unwrap(), 64);
}

fn select_into_allocates_nothing() {
    let mut selector = Selector::new().unwrap();
    let all = triggered(&mut selector, 70);
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, 99).unwrap();
    selector.register_timer(Duration::from_micros(100), false, 99).unwrap();
    selector.register_signal(libc::SIGUSR1, 99).unwrap();
    put(&writer);
    let mut keys = [ReadyKey::EMPTY; 80];
    let before = kit::allocations();
    for _ in 0..20 {
        all.iter().for_each(|event| event.trigger().unwrap());
        raise(libc::SIGUSR1);
        while selector.select_into(NOW, &mut keys).unwrap() > 2 {}
    }
    assert_eq!(kit::allocations(), before);
}

// A26
fn selector_in_a_selector() {
    let mut inner = Selector::new().unwrap();
    let mut outer = Selector::new().unwrap();
    outer.register_handle(&inner, Events::READ, ()).unwrap();
    let expected = [(inner.as_raw_fd(), Events::READ)];
    let (reader, writer) = pipe();
    let event = SelectEvent::new().unwrap();
    inner.register_handle(&reader, Events::READ, ()).unwrap();
    inner.register_event(&event, ()).unwrap();
    let signal = inner.register_signal(libc::SIGUSR1, ()).unwrap();
    assert_silent(&mut outer);

    put(&writer);
    assert_eq!(ready(&mut outer), expected);
    assert_eq!(ready(&mut inner), [(reader.as_raw_fd(), Events::READ)]);
    assert_eq!(ready(&mut outer), expected, "the pipe was not read");
    assert_eq!(drain(&reader), 1);
    assert_silent(&mut outer);

    event.trigger().unwrap();
    assert_eq!(ready(&mut outer), expected);
    assert_eq!(ready(&mut inner), [(event.as_raw_fd(), Events::USER)]);
    raise(libc::SIGUSR1);
    assert_eq!(ready(&mut outer), expected);
    assert_eq!(ready(&mut inner), [(signal, Events::SIGNAL)]);
    let timer = inner.register_timer(Duration::ZERO, true, ()).unwrap();
    assert_eq!(ready(&mut outer), expected);
    assert_eq!(ready(&mut inner), [(timer, keys::EXPIRED)]);
    // A finished timer is readable no more.
    assert_silent(&mut outer);
}

// A26
fn selectors_in_circles() {
    let mut outer = Selector::new().unwrap();
    let code = |selector: &mut Selector<()>, other: &Selector<()>| {
        let result = selector.register_handle(other, Events::READ, ());
        result.err().and_then(|error| error.raw_os_error())
    };
    let own = outer.as_fd().try_clone_to_owned().unwrap();
    assert!(outer.register_handle(&own, Events::READ, ()).is_err());
    let mut chain: Vec<Selector<()>> = (0..8).map(|_| Selector::new().unwrap()).collect();
    // Each watches the one before, as deep as the kernel lets them.
    let mut codes = Vec::new();
    for index in 1..chain.len() {
        let (inner, outer) = chain.split_at_mut(index);
        codes.push(code(&mut outer[0], inner.last().unwrap()));
    }
    assert!(codes[0].is_none() && codes.contains(&Some(libc::ELOOP)), "{codes:?}");
    let (first, rest) = chain.split_first_mut().unwrap();
    assert_eq!(code(first, &rest[0]), Some(libc::ELOOP), "a circle");
    assert!(outer.is_empty() && first.is_empty());
}

// A09: the kernel does not wake who waits for a descriptor that is closed.
fn closed_by_another_thread() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let number = reader.as_raw_fd();
    selector.register_handle(&reader, Events::READ, "data").unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(millis(30));
            drop(reader);
        });
        assert_silent(&mut selector);
    });
    drop(writer);
    assert_eq!(selector.unregister(number).unwrap(), "data");
    let timer = selector.register_timer(Duration::ZERO, true, "timer").unwrap();
    assert_eq!(one_key(&mut selector).fd(), timer);
}
