//! The half that waits and the half that takes, one selector shared between threads.

use crate::kit;
use crate::kit::keys;
use keys::{EXPIRED, NOW, SOON, assert_nothing, drain, millis, pipe, put, summary};
use selio::selector::{Events, RawEvents, ReadyKey, SelectEvent, Selector};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("leftovers_stay_in_order", leftovers_stay_in_order),
        ("leftovers_need_no_wait", leftovers_need_no_wait),
        ("another_selectors_events", another_selectors_events),
        ("another_selectors_keys", another_selectors_keys),
        ("number_is_reused_within_a_batch", number_is_reused_within_a_batch),
        ("unregistered_between_wait_and_take", unregistered_between_wait_and_take),
        ("interest_changes_after_the_wait", interest_changes_after_the_wait),
        ("finished_between_two_waits", finished_between_two_waits),
        ("poller_sees_what_is_registered_later", poller_sees_what_is_registered_later),
        ("unregistered_by_another_thread", unregistered_by_another_thread),
        ("two_pollers_and_a_thread_that_registers", two_pollers_and_a_thread_that_registers),
        ("poller_outlives_its_selector", poller_outlives_its_selector),
        ("a_sleeper_follows_to_a_new_set", a_sleeper_follows_to_a_new_set),
    ])
}

/// Waits with the poller and takes everything.
fn wait_and_take<T>(selector: &mut Selector<T>) -> Vec<(RawFd, Events)> {
    let mut events = RawEvents::new();
    let mut keys = [ReadyKey::EMPTY; 64];
    selector.poller().wait(SOON, &mut events).unwrap();
    let count = selector.take(&mut events, &mut keys);
    summary(&keys[..count])
}

fn leftovers_stay_in_order() {
    let mut selector = Selector::new().unwrap();
    let all: Vec<_> = (0..5).map(|_| SelectEvent::new().unwrap()).collect();
    for (index, event) in all.iter().enumerate() {
        selector.register_event(event, index).unwrap();
        event.trigger().unwrap();
    }
    let (poller, mut events) = (selector.poller(), RawEvents::new());
    let mut keys = [ReadyKey::EMPTY; 2];
    let mut seen = Vec::new();
    for (left, expected) in [(5, 2), (3, 2), (1, 1)] {
        // From the second time on it returns at once, with what is left.
        poller.wait(SOON, &mut events).unwrap();
        assert_eq!((events.len(), events.is_empty()), (left, false));
        assert_eq!(selector.take(&mut events, &mut keys), expected);
        seen.extend(keys[..expected].iter().map(|key| *selector.get(key).unwrap()));
    }
    assert!(events.is_empty());
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(selector.take(&mut events, &mut keys), 0);
}

fn leftovers_need_no_wait() {
    let mut selector = Selector::new().unwrap();
    let pipes = [pipe(), pipe()];
    for (reader, writer) in &pipes {
        selector.register_handle(reader, Events::READ, ()).unwrap();
        put(writer);
    }
    let (poller, mut events) = (selector.poller(), RawEvents::with_capacity(8));
    poller.wait(NOW, &mut events).unwrap();
    assert_eq!(selector.take(&mut events, &mut []), 0);
    assert_eq!(events.len(), 2);
    // The kernel has nothing any more, so whoever asked it would wait for ever.
    pipes.iter().for_each(|(reader, _)| assert_eq!(drain(reader), 1));
    poller.wait(None, &mut events).unwrap();
    assert_eq!(selector.take(&mut events, &mut [ReadyKey::EMPTY; 1]), 1);
    poller.wait(None, &mut events).unwrap();
    assert_eq!(selector.take(&mut events, &mut [ReadyKey::EMPTY; 9]), 1);
    poller.wait(NOW, &mut events).unwrap();
    assert!(events.is_empty());
}

fn another_selectors_events() {
    let mut one = Selector::new().unwrap();
    let mut other = Selector::<()>::new().unwrap();
    let timer = one.register_timer(Duration::ZERO, true, ()).unwrap();
    let mut events = RawEvents::new();
    one.poller().wait(SOON, &mut events).unwrap();
    let mut keys = [ReadyKey::EMPTY; 1];
    let mut take = || other.take(&mut events, &mut keys);
    let panic = catch_unwind(AssertUnwindSafe(&mut take)).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("another selector's events"));
    // Nothing was lost by it, and an empty buffer is nobody's.
    assert_eq!(one.take(&mut events, &mut keys), 1);
    assert_eq!(keys[0].fd(), timer);
    assert_eq!(other.take(&mut events, &mut keys), 0);
    other.poller().wait(NOW, &mut events).unwrap();
    assert_eq!(other.take(&mut events, &mut keys), 0);
}

fn another_selectors_keys() {
    let (reader, writer) = pipe();
    put(&writer);
    let mut all: Vec<_> = (0..4).map(|_| Selector::new().unwrap()).collect();
    for (index, selector) in all.iter_mut().enumerate() {
        selector.register_handle(&reader, Events::READ, index).unwrap();
    }
    let keys: Vec<_> = all.iter_mut().map(|it| it.select(SOON).unwrap()[0]).collect();
    for (index, selector) in all.iter_mut().enumerate() {
        for (owner, key) in keys.iter().enumerate() {
            let expected = (owner == index).then_some(index);
            assert_eq!(selector.get(key).copied(), expected);
            assert_eq!(selector.take_error(key).is_ok(), owner == index);
        }
    }
}

// A02
fn number_is_reused_within_a_batch() {
    let mut selector = Selector::new().unwrap();
    let (a, a_peer) = pipe();
    let (b, b_peer) = pipe();
    for (fd, name) in [(&a, "a"), (&b, "b")] {
        selector.register_handle(fd, Events::READ, name).unwrap();
    }
    put(&a_peer);
    put(&b_peer);
    let mut events = RawEvents::new();
    let mut keys = [ReadyKey::EMPTY; 1];
    selector.poller().wait(SOON, &mut events).unwrap();
    assert_eq!(selector.take(&mut events, &mut keys), 1);
    let number = b.as_raw_fd();
    selector.unregister(number).unwrap();
    drop(b);
    let (c, _c_peer) = pipe();
    assert_eq!(c.as_raw_fd(), number);
    selector.register_handle(&c, Events::READ, "c").unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(selector.take(&mut events, &mut keys), 0);
    assert_eq!(selector.get(&keys[0]), Some(&"a"));
    selector.unregister(a.as_raw_fd()).unwrap();
    assert_eq!(selector.get(&keys[0]), None);
}

// A03
fn unregistered_between_wait_and_take() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let event = SelectEvent::new().unwrap();
    let mut events = RawEvents::new();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    selector.register_event(&event, ()).unwrap();
    let timer = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    put(&writer);
    event.trigger().unwrap();
    kit::eventually("all three are ready", || {
        events = RawEvents::new();
        selector.poller().wait(SOON, &mut events).unwrap();
        events.len() == 3
    });
    selector.unregister(timer).unwrap();
    selector.unregister(reader.as_raw_fd()).unwrap();
    selector.unregister_event(&event).unwrap();
    // The same objects, registered anew, are not the ones that were waited for.
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    selector.register_event(&event, ()).unwrap();
    assert_eq!(selector.take(&mut events, &mut [ReadyKey::EMPTY; 4]), 0);
    assert_eq!(wait_and_take(&mut selector).len(), 2);
}

// A03
fn interest_changes_after_the_wait() {
    let mut selector = Selector::new().unwrap();
    let (mine, peer) = UnixStream::pair().unwrap();
    drop(peer);
    let fd = mine.as_raw_fd();
    let both = Events::READ | Events::WRITE;
    for (now, expected) in [
        (Events::NONE, None),
        (Events::READ, Some(Events::READ | Events::HANGUP)),
        (Events::WRITE, Some(Events::WRITE | Events::HANGUP)),
    ] {
        // There is room for one event, whoever asks for none.
        let mut events = RawEvents::with_capacity(0);
        let mut keys = [ReadyKey::EMPTY; 4];
        selector.register_handle(&mine, both, ()).unwrap();
        selector.poller().wait(SOON, &mut events).unwrap();
        selector.update_handle(fd, now).unwrap();
        assert_eq!(events.len(), 1);
        let count = selector.take(&mut events, &mut keys);
        let seen: Vec<_> = keys[..count].iter().map(ReadyKey::events).collect();
        assert_eq!(seen, Vec::from_iter(expected));
        selector.unregister(fd).unwrap();
    }
}

// A03
fn finished_between_two_waits() {
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    let (mut first, mut second) = (RawEvents::new(), RawEvents::new());
    selector.poller().wait(SOON, &mut first).unwrap();
    selector.poller().wait(SOON, &mut second).unwrap();
    let mut keys = [ReadyKey::EMPTY; 2];
    assert_eq!(selector.take(&mut first, &mut keys), 1);
    assert_eq!(summary(&keys[..1]), [(timer, EXPIRED)]);
    assert_eq!(selector.take(&mut second, &mut keys), 0);
    assert_eq!((selector.len(), selector.contains(timer)), (0, true));
    selector.unregister(timer).unwrap();
    assert_eq!((selector.len(), selector.is_empty()), (0, true));
}

fn poller_sees_what_is_registered_later() {
    let mut selector = Selector::new().unwrap();
    let poller = selector.poller();
    let waiting = thread::spawn(move || {
        let mut events = RawEvents::new();
        poller.wait(SOON, &mut events).unwrap();
        events
    });
    thread::sleep(millis(50));
    let timer = selector.register_timer(Duration::ZERO, true, ()).unwrap();
    let mut keys = [ReadyKey::default(); 3];
    assert_eq!(selector.take(&mut waiting.join().unwrap(), &mut keys), 1);
    assert_eq!(keys[0].fd(), timer);
}

// A09
fn unregistered_by_another_thread() {
    let selector = Mutex::new(Selector::new().unwrap());
    let (reader, writer) = pipe();
    selector.lock().unwrap().register_handle(&reader, Events::READ, ()).unwrap();
    let poller = selector.lock().unwrap().poller();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(millis(30));
            selector.lock().unwrap().unregister(reader.as_raw_fd()).unwrap();
            put(&writer);
        });
        let mut events = RawEvents::new();
        let wait = || poller.wait(Some(millis(150)), &mut events).unwrap();
        let ((), elapsed) = kit::took(wait);
        kit::assert_at_least(elapsed, millis(150));
        assert!(events.is_empty());
    });
}

/// Waits without holding the lock, and counts the bytes that arrive, until told to stop.
fn serve(selector: &Mutex<Selector<Arc<File>>>, stop: &AtomicBool) -> usize {
    let poller = selector.lock().unwrap().poller();
    let mut events = RawEvents::with_capacity(4);
    let mut keys = [ReadyKey::EMPTY; 3];
    let mut bytes = 0;
    while !stop.load(Ordering::SeqCst) {
        poller.wait(Some(millis(5)), &mut events).unwrap();
        let mut selector = selector.lock().unwrap();
        let count = selector.take(&mut events, &mut keys);
        for key in &keys[..count] {
            // Another thread may have had a key of the same pipe, and unregistered it.
            if let Some(reader) = selector.get(key) {
                bytes += drain(reader);
                drop(selector.unregister(key.fd()).unwrap());
            }
        }
    }
    bytes
}

// A02: numbers come and go under the eyes of two threads that wait.
fn two_pollers_and_a_thread_that_registers() {
    const PIPES: usize = 2_000;
    let selector = Mutex::new(Selector::new().unwrap());
    let stop = AtomicBool::new(false);
    let bytes: usize = thread::scope(|scope| {
        let serve = || serve(&selector, &stop);
        let threads = [scope.spawn(serve), scope.spawn(serve)];
        for _ in 0..PIPES {
            let (reader, writer) = pipe();
            let reader = Arc::new(reader);
            let data = Arc::clone(&reader);
            selector.lock().unwrap().register_handle(&*reader, Events::READ, data).unwrap();
            put(&writer);
            // No more at a time than a process may have open.
            kit::eventually("most are served", || selector.lock().unwrap().len() < 200);
        }
        kit::eventually("all are served", || selector.lock().unwrap().is_empty());
        stop.store(true, Ordering::SeqCst);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(bytes, PIPES);
}

fn poller_outlives_its_selector() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    selector.register_timer(Duration::ZERO, false, ()).unwrap_err();
    let poller = selector.poller();
    assert_nothing(&mut selector);
    drop(selector);
    let mut events = RawEvents::new();
    poller.wait(NOW, &mut events).unwrap();
    assert!(events.is_empty());
    put(&writer);
    poller.wait(SOON, &mut events).unwrap();
    assert_eq!(events.len(), 1);
    // A later selector does not take them for its own.
    let mut other = Selector::<()>::new().unwrap();
    let mut take = || other.take(&mut events, &mut [ReadyKey::EMPTY]);
    assert!(catch_unwind(AssertUnwindSafe(&mut take)).is_err());
}

/// The selector moves to a new epoll set while another thread waits in the old one.
fn a_sleeper_follows_to_a_new_set() {
    let mut selector = Selector::new().unwrap();
    let (closed, mut far) = UnixStream::pair().unwrap();
    let mut duplicate = closed.try_clone().unwrap();
    let number = closed.as_raw_fd();
    selector.register_handle(&closed, Events::READ, "closed").unwrap();
    drop(closed);
    selector.unregister(number).unwrap();
    // A stray event is at hand, and what made it is over.
    let (poller, mut stray) = (selector.poller(), RawEvents::new());
    far.write_all(b"x").unwrap();
    poller.wait(SOON, &mut stray).unwrap();
    duplicate.read_exact(&mut [0]).unwrap();
    let shared = Mutex::new(selector);
    let awake = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = RawEvents::new();
            let mut keys = [ReadyKey::EMPTY; 8];
            while {
                poller.wait(None, &mut events).unwrap();
                shared.lock().unwrap().take(&mut events, &mut keys) == 0
            } {}
            awake.store(true, Ordering::SeqCst);
        });
        // Time for it to fall asleep; where that is too short, it has nothing to follow.
        thread::sleep(Duration::from_millis(50));
        assert_eq!(shared.lock().unwrap().take(&mut stray, &mut [ReadyKey::EMPTY; 8]), 0);
        shared.lock().unwrap().register_timer(millis(1), true, "late").unwrap();
        kit::eventually("the sleeper has seen the timer", || awake.load(Ordering::SeqCst));
    });
    assert_nothing(&mut shared.into_inner().unwrap());
}
