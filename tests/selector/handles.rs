//! Handles: what is asked of epoll for them, and what they report when the peer hangs up, fails or
//! sends out of band.
#![allow(unsafe_code, reason = "connecting without blocking, and urgent data")]

use crate::kit;
use crate::kit::keys;
use keys::{
    NOW, assert_nothing, assert_silent, drain, is_watched, one_key, pipe, put, ready, watched,
};
use selio::selector::{Events, Selector};
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

const BOTH: Events = Events::READ.union(Events::WRITE);

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("each_set_has_its_mask", each_set_has_its_mask),
        ("suspended_handles_are_not_watched", suspended_handles_are_not_watched),
        ("suspended_handles_hear_of_no_hangup", suspended_handles_hear_of_no_hangup),
        ("half_closed_peer_with_write_interest", half_closed_peer_with_write_interest),
        ("half_closed_peer_with_read_interest", half_closed_peer_with_read_interest),
        ("writer_of_a_pipe_closes", writer_of_a_pipe_closes),
        ("reader_of_a_pipe_closes", reader_of_a_pipe_closes),
        ("peer_of_a_socket_closes", peer_of_a_socket_closes),
        ("reset_is_told_once", reset_is_told_once),
        ("refused_connect_is_left_to_its_owner", refused_connect_is_left_to_its_owner),
        ("refused_connect_is_taken_by_key", refused_connect_is_taken_by_key),
        ("urgent_data", urgent_data),
        ("level_is_reported_as_long_as_it_lasts", level_is_reported_as_long_as_it_lasts),
        ("oneshot_is_armed_by_update", oneshot_is_armed_by_update),
        ("edge_is_reported_once_per_change", edge_is_reported_once_per_change),
        ("edge_and_a_short_read", edge_and_a_short_read),
        ("directions_change", directions_change),
        ("only_handles_are_updated", only_handles_are_updated),
        ("exclusive", exclusive),
        ("exclusive_wakes_somebody", exclusive_wakes_somebody),
    ])
}

// What each set asks of the kernel: a peer's half-close comes with read interest alone (A13).
fn each_set_has_its_mask() {
    let mut selector = Selector::new().unwrap();
    let (mine, _peer) = UnixStream::pair().unwrap();
    let fd = mine.as_raw_fd();
    let read = libc::EPOLLIN | libc::EPOLLRDHUP;
    let once = Events::WRITE | Events::ONESHOT;
    let all = BOTH | Events::PRIORITY | Events::EDGE | Events::ONESHOT;
    let expected = [
        (Events::READ, read),
        (Events::WRITE, libc::EPOLLOUT),
        (BOTH, read | libc::EPOLLOUT),
        (Events::PRIORITY, libc::EPOLLPRI),
        (Events::READ | Events::EDGE, read | libc::EPOLLET),
        (once, libc::EPOLLOUT | libc::EPOLLONESHOT),
        (all, read | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLET | libc::EPOLLONESHOT),
        (BOTH | Events::EXCLUSIVE, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLEXCLUSIVE),
    ];
    for (events, mask) in expected {
        selector.register_handle(&mine, events, ()).unwrap();
        assert_eq!(watched(&selector), [(fd, mask as u32)], "{events:?}");
        selector.unregister(fd).unwrap();
        assert_eq!(watched(&selector), []);
        // The way over a suspended handle leads to the same.
        selector.register_handle(&mine, Events::NONE, ()).unwrap();
        selector.update_handle(fd, events).unwrap();
        assert_eq!(watched(&selector), [(fd, mask as u32)], "{events:?}");
        selector.unregister(fd).unwrap();
    }
}

// A12
fn suspended_handles_are_not_watched() {
    let mut selector = Selector::new().unwrap();
    let (mine, _peer) = UnixStream::pair().unwrap();
    let fd = mine.as_raw_fd();
    for nothing in [Events::NONE, Events::EDGE, Events::ONESHOT] {
        selector.register_handle(&mine, nothing, ()).unwrap();
        assert_eq!((watched(&selector), selector.len()), (vec![], 1));
        selector.update_handle(fd, nothing).unwrap();
        selector.update_handle(fd, Events::WRITE).unwrap();
        assert_eq!(ready(&mut selector), [(fd, Events::WRITE)]);
        selector.update_handle(fd, nothing).unwrap();
        assert_eq!((watched(&selector), selector.len()), (vec![], 1));
        assert!(selector.contains(fd));
        selector.unregister(fd).unwrap();
    }
}

// A12
fn suspended_handles_hear_of_no_hangup() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let (mine, peer) = UnixStream::pair().unwrap();
    selector.register_handle(&reader, Events::NONE, ()).unwrap();
    selector.register_handle(&mine, BOTH, ()).unwrap();
    assert_eq!(ready(&mut selector).len(), 1);
    selector.update_handle(mine.as_raw_fd(), Events::NONE).unwrap();
    drop((writer, peer));
    assert_silent(&mut selector);
    assert_eq!(selector.len(), 2);
}

/// A pair of sockets the first of which has a full send buffer.
fn full_pair() -> (UnixStream, UnixStream) {
    let (mine, peer) = UnixStream::pair().unwrap();
    mine.set_nonblocking(true).unwrap();
    while (&mine).write(&[0; 4096]).is_ok() {}
    (mine, peer)
}

// A13
fn half_closed_peer_with_write_interest() {
    let mut selector = Selector::new().unwrap();
    let (mine, mut peer) = full_pair();
    selector.register_handle(&mine, Events::WRITE, ()).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_silent(&mut selector);
    peer.set_nonblocking(true).unwrap();
    while peer.read(&mut [0; 4096]).is_ok() {}
    assert_eq!(ready(&mut selector), [(mine.as_raw_fd(), Events::WRITE)]);
}

fn half_closed_peer_with_read_interest() {
    let mut selector = Selector::new().unwrap();
    let (mine, peer) = full_pair();
    selector.register_handle(&mine, BOTH, ()).unwrap();
    assert_silent(&mut selector);
    peer.shutdown(Shutdown::Write).unwrap();
    let key = one_key(&mut selector);
    assert_eq!(key.events(), Events::READ | Events::HANGUP);
    assert!(selector.take_error(&key).unwrap().is_none());
}

// A16
fn writer_of_a_pipe_closes() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, BOTH, ()).unwrap();
    drop(writer);
    let key = one_key(&mut selector);
    assert_eq!(key.events(), BOTH | Events::HANGUP);
    assert!(selector.take_error(&key).unwrap().is_none());
    // Only the directions that were asked for come along.
    for (asked, told) in [(Events::READ, Events::READ), (Events::PRIORITY, Events::NONE)] {
        selector.update_handle(reader.as_raw_fd(), asked).unwrap();
        assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), told | Events::HANGUP)]);
    }
}

// A16
fn reader_of_a_pipe_closes() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    while (&writer).write(&[0; 4096]).is_ok() {}
    selector.register_handle(&writer, Events::WRITE, ()).unwrap();
    assert_nothing(&mut selector);
    drop(reader);
    let key = one_key(&mut selector);
    assert_eq!(key.events(), Events::WRITE | Events::ERROR);
    assert!(selector.take_error(&key).unwrap().is_none(), "a pipe has no error to ask for");
}

// A16
fn peer_of_a_socket_closes() {
    let mut selector = Selector::new().unwrap();
    let (mine, peer) = kit::tcp_pair();
    selector.register_handle(&mine, Events::READ, ()).unwrap();
    drop(peer);
    let key = one_key(&mut selector);
    assert_eq!(key.events(), Events::READ | Events::HANGUP);
    assert!(selector.take_error(&key).unwrap().is_none());
    assert_eq!((&mine).read(&mut [0]).unwrap(), 0);
}

/// A socket whose peer has closed it with bytes unread, which resets the connection.
fn reset_by_peer() -> TcpStream {
    let (mine, peer) = kit::tcp_pair();
    (&mine).write_all(b"unread").unwrap();
    assert_eq!(peer.peek(&mut [0]).unwrap(), 1);
    drop(peer);
    mine
}

// A16
fn reset_is_told_once() {
    let mut selector = Selector::new().unwrap();
    let mine = reset_by_peer();
    selector.register_handle(&mine, Events::READ, ()).unwrap();
    let key = one_key(&mut selector);
    assert_eq!(key.events(), Events::READ | Events::ERROR | Events::HANGUP);
    let error = selector.take_error(&key).unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(selector.take_error(&key).unwrap().is_none());

    selector.unregister(key.fd()).unwrap();

    // Who does not ask leaves it to the next read.
    let mine = reset_by_peer();
    selector.register_handle(&mine, Events::READ, ()).unwrap();
    assert!(one_key(&mut selector).events().contains(Events::ERROR));
    let error = (&mine).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Begins to connect to a port where nobody listens.
fn connect_in_vain() -> TcpStream {
    let SocketAddr::V4(address) = kit::refused_addr() else {
        panic!("the address is one of IPv4");
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, 0) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    // SAFETY: `sockaddr_in` is plain integers, for which zero is a value.
    let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    let length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: `name` is a `sockaddr_in` of this length that lives through the call.
    let returned = unsafe { libc::connect(fd, (&raw const name).cast(), length) };
    let error = std::io::Error::last_os_error();
    assert_eq!((returned, error.raw_os_error()), (-1, Some(libc::EINPROGRESS)));
    stream
}

// A16
fn refused_connect_is_left_to_its_owner() {
    let mut selector = Selector::new().unwrap();
    let stream = connect_in_vain();
    selector.register_handle(&stream, Events::WRITE, ()).unwrap();
    let key = one_key(&mut selector);
    assert_eq!(key.events(), Events::WRITE | Events::ERROR | Events::HANGUP);
    let error = stream.take_error().unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

// A16
fn refused_connect_is_taken_by_key() {
    let mut selector = Selector::new().unwrap();
    let stream = connect_in_vain();
    selector.register_handle(&stream, Events::WRITE, ()).unwrap();
    let key = one_key(&mut selector);
    let error = selector.take_error(&key).unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(stream.take_error().unwrap().is_none());
}

fn send_urgently(stream: &TcpStream) {
    // SAFETY: the pointer and the length are those of one byte.
    let sent = unsafe { libc::send(stream.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1, "{}", std::io::Error::last_os_error());
}

// A36
fn urgent_data() {
    let mut selector = Selector::new().unwrap();
    let (mine, mut peer) = kit::tcp_pair();
    let fd = mine.as_raw_fd();
    selector.register_handle(&mine, Events::READ, ()).unwrap();
    send_urgently(&peer);
    assert_silent(&mut selector);
    selector.update_handle(fd, Events::PRIORITY).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::PRIORITY)]);
    peer.write_all(b"usual").unwrap();
    assert_eq!(mine.peek(&mut [0]).unwrap(), 1);
    assert_eq!(ready(&mut selector), [(fd, Events::PRIORITY)]);
    selector.update_handle(fd, Events::PRIORITY | Events::READ).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::PRIORITY | Events::READ)]);
    selector.update_handle(fd, Events::READ).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::READ)]);
}

fn level_is_reported_as_long_as_it_lasts() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&reader, Events::READ, ()).unwrap();
    assert_nothing(&mut selector);
    put(&writer);
    for _ in 0..3 {
        assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), Events::READ)]);
    }
    assert_eq!(drain(&reader), 1);
    assert_silent(&mut selector);
}

fn oneshot_is_armed_by_update() {
    let mut selector = Selector::new().unwrap();
    let (mine, peer) = UnixStream::pair().unwrap();
    let once = Events::WRITE | Events::ONESHOT;
    selector.register_handle(&mine, once, ()).unwrap();
    for _ in 0..2 {
        assert_eq!(ready(&mut selector), [(mine.as_raw_fd(), once)]);
        assert_silent(&mut selector);
        // It is no one-shot kind: it has not finished.
        assert_eq!((selector.len(), selector.is_empty()), (1, false));
        selector.update_handle(mine.as_raw_fd(), once).unwrap();
    }
    drop(peer);
    assert_eq!(ready(&mut selector), [(mine.as_raw_fd(), once | Events::HANGUP)]);
    assert_silent(&mut selector);
}

fn edge_is_reported_once_per_change() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    let fd = reader.as_raw_fd();
    selector.register_handle(&reader, Events::READ | Events::EDGE, ()).unwrap();
    for _ in 0..2 {
        put(&writer);
        assert_eq!(ready(&mut selector), [(fd, Events::READ)]);
        assert_silent(&mut selector);
    }
    // An update tells of what is ready once more, even if the set is the same.
    selector.update_handle(fd, Events::READ | Events::EDGE).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::READ)]);
    assert_nothing(&mut selector);
}

// A34: what a short read leaves is no edge, but an update tells of it.
fn edge_and_a_short_read() {
    let mut selector = Selector::new().unwrap();
    let (mine, mut peer) = UnixStream::pair().unwrap();
    let fd = mine.as_raw_fd();
    let edge = Events::READ | Events::EDGE;
    selector.register_handle(&mine, edge, ()).unwrap();
    peer.write_all(b"eight...").unwrap();
    for _ in 0..2 {
        assert_eq!(ready(&mut selector), [(fd, Events::READ)]);
        assert_eq!((&mine).read(&mut [0; 4]).unwrap(), 4);
        assert_silent(&mut selector);
        selector.update_handle(fd, edge).unwrap();
    }
    assert_silent(&mut selector);
}

fn directions_change() {
    let mut selector = Selector::new().unwrap();
    let (mine, mut peer) = UnixStream::pair().unwrap();
    let fd = mine.as_raw_fd();
    selector.register_handle(&mine, Events::READ, ()).unwrap();
    assert_nothing(&mut selector);
    selector.update_handle(fd, BOTH).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::WRITE)]);
    peer.write_all(b"x").unwrap();
    assert_eq!(ready(&mut selector), [(fd, BOTH)]);
    selector.update_handle(fd, Events::READ).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::READ)]);
    selector.update_handle(fd, Events::NONE).unwrap();
    assert!(!is_watched(&selector, fd));
    assert_nothing(&mut selector);
}

fn only_handles_are_updated() {
    let mut selector = Selector::new().unwrap();
    let event = selio::selector::SelectEvent::new().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    selector.register_event(&event, ()).unwrap();
    let numbers = [
        event.as_raw_fd(),
        selector.register_timer(std::time::Duration::from_secs(9), true, ()).unwrap(),
        selector.register_signal(libc::SIGUSR1, ()).unwrap(),
        selector.register_process(child.id(), ()).unwrap(),
    ];
    let before = watched(&selector);
    for number in numbers {
        for events in [Events::NONE, Events::READ] {
            let error = selector.update_handle(number, events).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
    assert_eq!((watched(&selector), selector.len()), (before, 4));
    child.wait().unwrap();
}

fn exclusive() {
    let mut selector = Selector::new().unwrap();
    let (mine, _peer) = UnixStream::pair().unwrap();
    let fd = mine.as_raw_fd();
    for wrong in [Events::ONESHOT, Events::PRIORITY] {
        let events = BOTH | Events::EXCLUSIVE | wrong;
        let error = selector.register_handle(&mine, events, ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    selector.register_handle(&mine, BOTH | Events::EXCLUSIVE, ()).unwrap();
    assert_eq!(ready(&mut selector), [(fd, Events::WRITE)]);
    let error = selector.update_handle(fd, Events::READ).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("EXCLUSIVE"), "{error}: it says what to do");
    assert_eq!(ready(&mut selector), [(fd, Events::WRITE)]);
    selector.update_handle(fd, Events::NONE).unwrap();
    selector.update_handle(fd, Events::READ | Events::EXCLUSIVE).unwrap();
    assert_eq!(selector.select(NOW).unwrap().len(), 0);
}

fn exclusive_wakes_somebody() {
    let (reader, writer) = pipe();
    let woken = AtomicUsize::new(0);
    let watch = || {
        let mut selector = Selector::new().unwrap();
        selector.register_handle(&reader, Events::READ | Events::EXCLUSIVE, ()).unwrap();
        loop {
            assert_eq!(ready(&mut selector), [(reader.as_raw_fd(), Events::READ)]);
            // Waking more than one is allowed; the byte is for one alone.
            if (&reader).read(&mut [0]).is_ok() {
                woken.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|_| _ = scope.spawn(watch));
        for count in 1..=4 {
            put(&writer);
            kit::eventually("somebody wakes", || woken.load(Ordering::SeqCst) == count);
        }
    });
}
