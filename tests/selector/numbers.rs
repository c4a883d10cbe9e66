//! Descriptors whose numbers are closed too early, reused, replaced, asked for twice or high.

use crate::kit;
use crate::kit::keys;
use keys::{
    EXITED, EXPIRED, NOW, SOON, assert_nothing, assert_silent, drain, is_watched, millis, one_key,
    pipe, put, ready, watched,
};
use selio::selector::{Events, ReadyKey, SelectEvent, Selector};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("registered_twice_or_not_at_all", registered_twice_or_not_at_all),
        ("duplicate_is_another_descriptor", duplicate_is_another_descriptor),
        ("what_epoll_refuses_leaves_no_trace", what_epoll_refuses_leaves_no_trace),
        ("any_data_will_do", any_data_will_do),
        ("data_is_found_changed_and_given_back", data_is_found_changed_and_given_back),
        ("living_duplicate_does_not_spin", living_duplicate_does_not_spin),
        ("living_duplicate_of_an_edge_handle", living_duplicate_of_an_edge_handle),
        ("rebuild_keeps_every_kind", rebuild_keeps_every_kind),
        ("rebuild_arms_no_oneshot_twice", rebuild_arms_no_oneshot_twice),
        ("rebuild_ends_in_silence", rebuild_ends_in_silence),
        ("rebuild_waits_for_a_descriptor", rebuild_waits_for_a_descriptor),
        ("rebuild_leaves_closed_ones_behind", rebuild_leaves_closed_ones_behind),
        ("rebuilt_selector_is_watched_anew", rebuilt_selector_is_watched_anew),
        ("same_file_comes_back", same_file_comes_back),
        ("same_file_comes_back_exclusive", same_file_comes_back_exclusive),
        ("stale_key_is_not_the_next_owners", stale_key_is_not_the_next_owners),
        ("others_of_the_batch_are_unregistered", others_of_the_batch_are_unregistered),
        ("closed_handles_leave_nothing_behind", closed_handles_leave_nothing_behind),
        ("replaced_by_dup2", replaced_by_dup2),
        ("high_numbers", high_numbers),
        ("own_descriptors_closed_by_the_user", own_descriptors_closed_by_the_user),
    ])
}

// A06
fn registered_twice_or_not_at_all() {
    let mut selector = Selector::new().unwrap();
    let (mine, peer) = UnixStream::pair().unwrap();
    selector.register_handle(&mine, Events::READ, 1).unwrap();
    let error = selector.register_handle(&mine, Events::WRITE, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(selector.data(mine.as_raw_fd()), Some(&1));
    let error = selector.update_handle(peer.as_raw_fd(), Events::READ).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = selector.unregister(peer.as_raw_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for events in [Events::TIMER, Events::READ | Events::HANGUP, Events::FINISHED] {
        let error = selector.register_handle(&peer, events, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = selector.update_handle(mine.as_raw_fd(), events).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(selector.len(), 1);
    assert_nothing(&mut selector);
}

// A06
fn duplicate_is_another_descriptor() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let duplicate = kit::dup(&reader);
    selector.register_handle(&reader, Events::READ, "one").unwrap();
    selector.register_handle(&duplicate, Events::READ, "other").unwrap();
    put(&writer);
    assert_eq!(selector.select(SOON).unwrap().len(), 2);
    assert_eq!(selector.unregister(reader.as_raw_fd()).unwrap(), "one");
    let key = one_key(&mut selector);
    assert_eq!(selector.get(&key), Some(&"other"));
}

// A04, A05
fn what_epoll_refuses_leaves_no_trace() {
    let mut selector = Selector::new().unwrap();
    let exe = std::env::current_exe().unwrap();
    for path in [exe.to_str().unwrap(), "/", "/dev/null", "/dev/zero"] {
        let file = File::open(path).unwrap();
        let error = selector.register_handle(&file, Events::READ, "file").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}");
        assert!(!selector.contains(file.as_raw_fd()) && selector.is_empty());

        // The number can be registered as soon as it has another owner.
        let number = file.as_raw_fd();
        drop(file);
        let (reader, _writer) = pipe();
        assert_eq!(reader.as_raw_fd(), number);
        selector.register_handle(&reader, Events::READ, "pipe").unwrap();
        assert_eq!(selector.unregister(number).unwrap(), "pipe");
    }
}

// A25
fn any_data_will_do() {
    let mut selector = Selector::<u64>::new().unwrap();
    let values = [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX];
    let events: Vec<_> = values.iter().map(|_| SelectEvent::new().unwrap()).collect();
    for (event, value) in events.iter().zip(values) {
        selector.register_event(event, value).unwrap();
        event.trigger().unwrap();
    }
    let keys = selector.select(SOON).unwrap();
    let mut seen: Vec<_> = keys.iter().map(|key| *selector.get(key).unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, values);
    assert_eq!(selector.len(), values.len());
    assert!(!selector.contains(selector.as_raw_fd()));
}

fn data_is_found_changed_and_given_back() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let fd = reader.as_raw_fd();
    assert!(selector.is_empty());
    selector.register_handle(&reader, Events::READ, String::from("a")).unwrap();
    assert!(selector.contains(fd) && !selector.is_empty());
    selector.data_mut(fd).unwrap().push('b');
    assert_eq!(selector.data(fd).unwrap(), "ab");
    assert_eq!(selector.set_data(fd, String::from("c")), Ok(String::from("ab")));
    put(&writer);
    let key = one_key(&mut selector);
    selector.get_mut(&key).unwrap().push('d');
    assert_eq!(selector.get(&key).unwrap(), "cd");
    assert_eq!(selector.unregister(fd).unwrap(), "cd");
    assert_eq!(selector.set_data(fd, String::from("e")), Err(String::from("e")));
    assert!(!selector.contains(fd) && selector.is_empty());
}

// A01
fn living_duplicate_does_not_spin() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, "old").unwrap();
    let number = reader.as_raw_fd();
    let duplicate = kit::dup(&reader);
    drop(reader);
    put(&writer);
    // Until it is unregistered the number is taken, and reported.
    let key = one_key(&mut selector);
    assert_eq!((key.fd(), selector.get(&key)), (number, Some(&"old")));
    assert_eq!(selector.unregister(number).unwrap(), "old");
    let (newcomer, other) = pipe();
    assert_eq!(newcomer.as_raw_fd(), number);
    selector.register_handle(&newcomer, Events::READ, "new").unwrap();
    assert_silent(&mut selector);
    put(&other);
    let key = one_key(&mut selector);
    assert_eq!(selector.get(&key), Some(&"new"));
    drop(duplicate);
}

// A01
fn living_duplicate_of_an_edge_handle() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ | Events::EDGE, "old").unwrap();
    let number = reader.as_raw_fd();
    let duplicate = File::from(kit::dup(&reader));
    drop(reader);
    assert_eq!(selector.unregister(number).unwrap(), "old");
    let (newcomer, _other) = pipe();
    selector.register_handle(&newcomer, Events::READ, "new").unwrap();
    for _ in 0..3 {
        put(&writer);
        assert_silent(&mut selector);
        assert_eq!(drain(&duplicate), 1);
    }
}

/// Leaves a descriptor in the epoll set that is ready, closed and unregistered, while its duplicate
/// lives; returns that, the writing end, and its number.
fn leave_an_orphan(selector: &mut Selector<&str>) -> (OwnedFd, File, RawFd) {
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, "orphan").unwrap();
    let duplicate = kit::dup(&reader);
    let number = reader.as_raw_fd();
    drop(reader);
    assert_eq!(selector.unregister(number).unwrap(), "orphan");
    put(&writer);
    (duplicate, writer, number)
}

// A01
fn rebuild_keeps_every_kind() {
    kit::children::need_pidfd();
    let mut selector = Selector::new().unwrap();
    let (fired, _peer) = UnixStream::pair().unwrap();
    let (suspended, suspended_peer) = UnixStream::pair().unwrap();
    let event = SelectEvent::new().unwrap();
    let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    selector.register_event(&event, "event").unwrap();
    selector.register_handle(&suspended, Events::NONE, "suspended").unwrap();
    selector.register_handle(&fired, Events::WRITE | Events::ONESHOT, "fired").unwrap();
    assert_eq!(selector.select(NOW).unwrap().len(), 1);
    let timer = selector.register_timer(millis(50), true, "timer").unwrap();
    let process = selector.register_process(child.id(), "child").unwrap();
    let signal = selector.register_signal(libc::SIGUSR1, "signal").unwrap();

    let (_duplicate, _writer, orphan) = leave_an_orphan(&mut selector);
    let before = selector.as_raw_fd();
    assert_eq!(ready(&mut selector), [(timer, EXPIRED)]);
    assert_eq!((selector.as_raw_fd(), selector.len()), (before, 5));
    let numbers: Vec<_> = watched(&selector).into_iter().map(|(fd, _)| fd).collect();
    let mut expected = [event.as_raw_fd(), process, signal];
    expected.sort_unstable();
    assert_eq!(numbers, expected, "{orphan} is an orphan, {timer} has fired");

    event.trigger().unwrap();
    assert_eq!(ready(&mut selector), [(event.as_raw_fd(), Events::USER)]);
    keys::raise(libc::SIGUSR1);
    assert_eq!(ready(&mut selector), [(signal, Events::SIGNAL)]);
    let once = Events::WRITE | Events::ONESHOT;
    selector.update_handle(fired.as_raw_fd(), once).unwrap();
    assert_eq!(ready(&mut selector), [(fired.as_raw_fd(), once)]);
    drop(suspended_peer);
    selector.update_handle(suspended.as_raw_fd(), Events::READ).unwrap();
    assert_eq!(one_key(&mut selector).fd(), suspended.as_raw_fd());
    selector.unregister(suspended.as_raw_fd()).unwrap();
    drop(child.stdin.take());
    assert_eq!(ready(&mut selector), [(process, EXITED)]);
    child.wait().unwrap();
}

// A01: the event of the one-shot comes after the orphan's, in one batch.
fn rebuild_arms_no_oneshot_twice() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let once = Events::READ | Events::ONESHOT;
    selector.register_handle(&reader, once, "once").unwrap();
    let _orphan = leave_an_orphan(&mut selector);
    put(&writer);
    assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), once)]);
    assert_silent(&mut selector);
    selector.update_handle(reader.as_raw_fd(), once).unwrap();
    assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), once)]);
    assert_silent(&mut selector);
}

// A01: the new set says once more what was in the batch with the orphan, and nothing comes of it.
fn rebuild_ends_in_silence() {
    let mut selector = Selector::new().unwrap();
    let pipes: Vec<_> = (0..3).map(|_| pipe()).collect();
    let _orphan = leave_an_orphan(&mut selector);
    for (reader, writer) in &pipes {
        put(writer);
        selector.register_handle(reader, Events::READ | Events::ONESHOT, "once").unwrap();
    }
    let before = watched(&selector).len();
    assert_eq!(selector.select(NOW).unwrap().len(), pipes.len());
    assert!(watched(&selector).len() < before, "the orphan is left behind");
    for _ in &pipes {
        assert_eq!(selector.select_into(NOW, &mut [ReadyKey::EMPTY]).unwrap(), 0);
    }
    // Who watches it is not told of it any more.
    let mut outer = Selector::new().unwrap();
    outer.register_handle(&selector, Events::READ, ()).unwrap();
    assert_nothing(&mut outer);
}

// A01, A27
fn rebuild_waits_for_a_descriptor() {
    let mut selector = Selector::new().unwrap();
    let orphan = leave_an_orphan(&mut selector);
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, "living").unwrap();
    put(&writer);
    let before = kit::set_nofile_limit(0);
    // Meanwhile the living are served.
    for _ in 0..3 {
        assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), Events::READ)]);
    }
    assert_eq!(drain(&reader), 1);
    kit::set_nofile_limit(before);
    assert_silent(&mut selector);
    drop(orphan);
}

// A01: what cannot join the new set holds up nobody.
fn rebuild_leaves_closed_ones_behind() {
    let mut selector = Selector::new().unwrap();
    let (living, writer) = pipe();
    selector.register_handle(&living, Events::READ, "living").unwrap();
    let (_duplicate, _writer, orphan) = leave_an_orphan(&mut selector);
    let (closed, _other) = pipe();
    let number = closed.as_raw_fd();
    selector.register_handle(&closed, Events::READ, "closed").unwrap();
    drop(closed);
    assert_silent(&mut selector);
    let numbers: Vec<_> = watched(&selector).into_iter().map(|(fd, _)| fd).collect();
    assert_eq!(numbers, [living.as_raw_fd()], "{orphan} is an orphan, and {number} is closed");
    put(&writer);
    assert_eq!(ready(&mut selector), [(living.as_raw_fd(), Events::READ)]);
    assert_eq!(selector.unregister(number).unwrap(), "closed");
}

// A01
fn rebuilt_selector_is_watched_anew() {
    let mut outer = Selector::new().unwrap();
    let mut inner = Selector::new().unwrap();
    let number = inner.as_raw_fd();
    outer.register_handle(&inner, Events::READ, "inner").unwrap();
    let _orphan = leave_an_orphan(&mut inner);
    assert_nothing(&mut inner);
    let event = SelectEvent::new().unwrap();
    inner.register_event(&event, "event").unwrap();
    event.trigger().unwrap();

    assert_eq!(outer.unregister(number).unwrap(), "inner");
    outer.register_handle(&inner, Events::READ, "again").unwrap();
    assert_eq!(ready(&mut outer), [(number, Events::READ)]);
    assert_eq!(ready(&mut inner), [(event.as_raw_fd(), Events::USER)]);
    assert_silent(&mut outer);
}

// A39
fn same_file_comes_back() {
    comes_back_as(Events::READ);
}

// A39
fn same_file_comes_back_exclusive() {
    comes_back_as(Events::READ | Events::EXCLUSIVE);
}

fn comes_back_as(events: Events) {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let number = reader.as_raw_fd();
    selector.register_handle(&reader, events, 1).unwrap();
    let duplicate = kit::dup(&reader);
    kit::raw_close(number);
    kit::dup2(&duplicate, number);
    let error = selector.register_handle(&reader, events, 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    kit::raw_close(number);
    assert_eq!(selector.unregister(number).unwrap(), 1);
    kit::dup2(&duplicate, number);
    selector.register_handle(&reader, events, 2).unwrap();
    put(&writer);
    let key = one_key(&mut selector);
    assert_eq!((key.events(), selector.get(&key)), (Events::READ, Some(&2)));
    assert_eq!(drain(&reader), 1);
    assert_silent(&mut selector);
}

// A02
fn stale_key_is_not_the_next_owners() {
    let mut selector = Selector::new().unwrap();
    let mut pipes = vec![pipe(), pipe()];
    for (reader, writer) in &pipes {
        selector.register_handle(reader, Events::READ, "first").unwrap();
        put(writer);
    }
    let keys = selector.select(SOON).unwrap();
    assert_eq!(keys.len(), 2);
    let handled = pipes.iter().position(|(reader, _)| reader.as_raw_fd() == keys[0].fd());
    let (reader, _writer) = pipes.remove(handled.unwrap());
    selector.unregister(reader.as_raw_fd()).unwrap();
    drop(reader);
    let (newcomer, _other) = pipe();
    assert_eq!(newcomer.as_raw_fd(), keys[0].fd());
    selector.register_handle(&newcomer, Events::READ, "newcomer").unwrap();

    // By number it is the newcomer's, by key nobody's.
    assert_eq!(selector.data(keys[0].fd()), Some(&"newcomer"));
    assert!(selector.get(&keys[0]).is_none() && selector.get_mut(&keys[0]).is_none());
    let error = selector.take_error(&keys[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(selector.get(&keys[1]), Some(&"first"));
    assert_eq!(ready(&mut selector), [(keys[1].fd(), Events::READ)]);
}

// A03
fn others_of_the_batch_are_unregistered() {
    let mut selector = Selector::new().unwrap();
    let pipes = [pipe(), pipe(), pipe()];
    for (index, (reader, writer)) in pipes.iter().enumerate() {
        selector.register_handle(reader, Events::READ, index).unwrap();
        put(writer);
    }
    let mut handled = 0;
    let keys = selector.select(SOON).unwrap();
    for key in &keys {
        if selector.get(key).is_some() {
            handled += 1;
            let others = keys.iter().filter(|other| other.fd() != key.fd());
            others.for_each(|other| _ = selector.unregister(other.fd()).unwrap());
        }
    }
    assert_eq!((keys.len(), handled, selector.len()), (3, 1, 1));
    assert_eq!(ready(&mut selector), [(keys[0].fd(), Events::READ)]);

    // One entry with both directions, whose read side unregisters.
    let (mine, peer) = UnixStream::pair().unwrap();
    selector.unregister(keys[0].fd()).unwrap();
    selector.register_handle(&mine, Events::READ | Events::WRITE, 9).unwrap();
    drop(peer);
    let key = one_key(&mut selector);
    assert!(key.events().contains(Events::READ | Events::WRITE | Events::HANGUP));
    selector.unregister(key.fd()).unwrap();
    assert!(selector.get(&key).is_none() && selector.take_error(&key).is_err());
    assert_nothing(&mut selector);
}

// A07
fn closed_handles_leave_nothing_behind() {
    let mut selector = Selector::new().unwrap();
    let mut round = || {
        let (reader, writer) = pipe();
        let number = reader.as_raw_fd();
        selector.register_handle(&reader, Events::READ, Box::new([7_u8; 64])).unwrap();
        drop((reader, writer));
        assert_eq!(selector.unregister(number).unwrap()[0], 7);
        assert!(selector.is_empty() && !selector.contains(number));
    };
    round();
    let before = (kit::allocated_bytes(), kit::open_fds());
    (0..20_000).for_each(|_| round());
    let after = kit::allocated_bytes();
    assert_eq!(kit::open_fds(), before.1);
    assert!(after <= before.0 + 4096, "{} bytes became {after}", before.0);
}

// A08
fn replaced_by_dup2() {
    let mut selector = Selector::new().unwrap();
    let (reader, _writer) = pipe();
    let (other, other_writer) = pipe();
    put(&other_writer);
    selector.register_handle(&reader, Events::READ, "data").unwrap();
    kit::dup2(&other, reader.as_raw_fd());
    for events in [Events::WRITE, Events::NONE] {
        assert!(selector.update_handle(reader.as_raw_fd(), events).is_err());
    }
    assert_silent(&mut selector);
    assert_eq!(selector.unregister(reader.as_raw_fd()).unwrap(), "data");
    selector.register_handle(&reader, Events::READ, "other").unwrap();
    assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), Events::READ)]);
}

// A32
fn high_numbers() {
    let (_, most) = rlimit::Resource::NOFILE.get().unwrap();
    if most < 2200 {
        kit::pass_over("this user may not have 2200 descriptors");
    }
    kit::set_nofile_limit(2200);
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let all: Vec<OwnedFd> = (0..2100).map(|_| kit::dup(&reader)).collect();
    // The table grows by and by, where it begins and where it has grown.
    let numbers = [100, 1023, 1024, 2047, 2048, 2099];
    let chosen: Vec<_> = all.iter().filter(|fd| numbers.contains(&fd.as_raw_fd())).collect();
    for fd in &chosen {
        let number = fd.as_raw_fd();
        assert!(!selector.contains(number) && selector.data(number).is_none());
        selector.register_handle(fd, Events::READ, number).unwrap();
        assert!(selector.contains(number) && !selector.contains(number + 1));
    }
    assert_eq!(selector.len(), chosen.len());
    put(&writer);
    let keys = selector.select(SOON).unwrap();
    assert_eq!(keys.len(), numbers.len());
    for key in keys {
        assert_eq!(selector.unregister(key.fd()).unwrap(), key.fd());
    }
    assert!(selector.is_empty());
}

// A01: the selector's own descriptors, closed or replaced through their numbers.
fn own_descriptors_closed_by_the_user() {
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(Duration::ZERO, true, "timer").unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, "event").unwrap();
    let duplicate = kit::dup(&event);
    let (reader, _writer) = pipe();
    kit::dup2(&reader, event.as_raw_fd());
    kit::dup2(&reader, timer);
    assert_silent(&mut selector);
    assert!(is_watched(&selector, event.as_raw_fd()));
    assert_eq!(selector.unregister(timer).unwrap(), "timer");
    assert_eq!(selector.unregister_event(&event).unwrap(), "event");
    // What the duplicate keeps in the set finds nobody.
    File::from(duplicate).write_all(&1_u64.to_ne_bytes()).unwrap();
    assert_silent(&mut selector);
    drop(event);
}
