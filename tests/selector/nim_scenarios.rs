//! The seven scenarios of the test suite of Nim's `std/selectors`, which this selector grew out of.

use crate::kit;
use crate::kit::keys;
use keys::{EXITED, EXPIRED, NOW, SOON, pipe, raise, summary};
use selio::selector::{Events, SelectEvent, Selector};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("socket_becomes_ready_to_write_and_to_read", socket_becomes_ready_to_write_and_to_read),
        ("event_is_reported_once_per_trigger", event_is_reported_once_per_trigger),
        ("event_wakes_one_of_eight_threads", event_wakes_one_of_eight_threads),
        ("timer_repeats_or_fires_once", timer_repeats_or_fires_once),
        ("process_exit_of_the_watched_child_alone", process_exit_of_the_watched_child_alone),
        ("three_signals_at_once", three_signals_at_once),
        ("pipe_whose_reader_closed", pipe_whose_reader_closed),
    ])
}

fn socket_becomes_ready_to_write_and_to_read() {
    let mut selector = Selector::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    selector.register_handle(&listener, Events::READ, "listener").unwrap();
    assert_eq!(summary(&selector.select(NOW).unwrap()), []);

    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let keys = selector.select(SOON).unwrap();
    assert_eq!(summary(&keys), [(listener.as_raw_fd(), Events::READ)]);
    assert_eq!(selector.get(&keys[0]), Some(&"listener"));
    let (mut server, _) = listener.accept().unwrap();

    selector.register_handle(&client, Events::WRITE, "client").unwrap();
    let keys = selector.select(SOON).unwrap();
    assert_eq!(summary(&keys), [(client.as_raw_fd(), Events::WRITE)]);
    client.write_all(b"question").unwrap();

    selector.update_handle(client.as_raw_fd(), Events::READ).unwrap();
    assert_eq!(summary(&selector.select(NOW).unwrap()), []);
    let mut question = [0; 8];
    server.read_exact(&mut question).unwrap();
    server.write_all(b"answer").unwrap();
    let keys = selector.select(SOON).unwrap();
    assert_eq!(summary(&keys), [(client.as_raw_fd(), Events::READ)]);
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");

    assert_eq!(selector.unregister(client.as_raw_fd()).unwrap(), "client");
    assert_eq!(selector.unregister(listener.as_raw_fd()).unwrap(), "listener");
    assert!(selector.is_empty());
}

fn event_is_reported_once_per_trigger() {
    let mut selector = Selector::new().unwrap();
    let event = SelectEvent::new().unwrap();
    selector.register_event(&event, 1).unwrap();
    assert_eq!(selector.select(NOW).unwrap().len(), 0);
    for _ in 0..2 {
        event.trigger().unwrap();
        let keys = selector.select(NOW).unwrap();
        assert_eq!(summary(&keys), [(event.as_raw_fd(), Events::USER)]);
    }
    assert_eq!(selector.select(NOW).unwrap().len(), 0);
    assert_eq!(selector.unregister_event(&event).unwrap(), 1);
    assert!(selector.is_empty());
}

fn event_wakes_one_of_eight_threads() {
    let event = SelectEvent::new().unwrap();
    let ready = Barrier::new(9);
    let seen: usize = thread::scope(|scope| {
        let watch = || {
            let mut selector = Selector::new().unwrap();
            selector.register_event(&event, ()).unwrap();
            ready.wait();
            selector.select(Some(Duration::from_millis(500))).unwrap().len()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(watch)).collect();
        ready.wait();
        event.trigger().unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(seen, 1);
}

fn timer_repeats_or_fires_once() {
    let mut selector = Selector::new().unwrap();
    let timer = selector.register_timer(Duration::from_millis(20), false, 0).unwrap();
    for _ in 0..3 {
        assert_eq!(summary(&selector.select(SOON).unwrap()), [(timer, Events::TIMER)]);
    }
    selector.unregister(timer).unwrap();

    let timer = selector.register_timer(Duration::from_millis(20), true, 0).unwrap();
    assert_eq!(summary(&selector.select(SOON).unwrap()), [(timer, EXPIRED)]);
    assert_eq!(selector.select(Some(Duration::from_millis(50))).unwrap().len(), 0);
    assert!(selector.is_empty());
    assert!(selector.contains(timer));
    selector.unregister(timer).unwrap();
    assert!(!selector.contains(timer));
}

fn process_exit_of_the_watched_child_alone() {
    let mut selector = Selector::new().unwrap();
    let mut other = Command::new("true").spawn().unwrap();
    let mut watched = Command::new("sleep").arg("0.3").spawn().unwrap();
    let fd = selector.register_process(watched.id(), "watched").unwrap();
    let keys = selector.select(SOON).unwrap();
    assert_eq!(summary(&keys), [(fd, EXITED)]);
    assert_eq!(selector.get(&keys[0]), Some(&"watched"));
    assert!(watched.try_wait().unwrap().is_some(), "the key came before the exit");
    assert!(other.wait().unwrap().success());
    assert_eq!(selector.select(Some(Duration::from_millis(50))).unwrap().len(), 0);
    selector.unregister(fd).unwrap();
    assert!(selector.is_empty());
}

fn three_signals_at_once() {
    let mut selector = Selector::new().unwrap();
    let before = kit::signal_mask();
    let signals = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM];
    let fds = signals.map(|signo| selector.register_signal(signo, signo).unwrap());
    assert_eq!(selector.select(NOW).unwrap().len(), 0);
    for signo in signals {
        raise(signo);
    }
    let keys = selector.select(SOON).unwrap();
    assert_eq!(keys.len(), 3);
    for key in keys {
        let info = key.signal_info().unwrap();
        assert_eq!(key.events(), Events::SIGNAL);
        assert_eq!(Some(&info.signo()), selector.get(&key));
        assert_eq!(info.pid(), std::process::id());
    }
    assert_eq!(selector.select(NOW).unwrap().len(), 0);
    for fd in fds {
        selector.unregister(fd).unwrap();
    }
    assert!(selector.is_empty());
    assert_eq!(kit::signal_mask(), before);
}

fn pipe_whose_reader_closed() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    selector.register_handle(&writer, Events::WRITE, ()).unwrap();
    assert_eq!(summary(&selector.select(SOON).unwrap()), [(writer.as_raw_fd(), Events::WRITE)]);
    drop(reader);
    let keys = selector.select(SOON).unwrap();
    assert_eq!(summary(&keys), [(writer.as_raw_fd(), Events::WRITE | Events::ERROR)]);
    assert!(selector.take_error(&keys[0]).unwrap().is_none(), "a pipe has no pending error");
    selector.unregister(writer.as_raw_fd()).unwrap();
    assert!(selector.is_empty());
}
