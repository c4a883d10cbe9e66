//! The selector's plain values: auto traits, sets of events, what they print, and numbers that mean
//! nothing.

use crate::kit;
use crate::kit::keys;
use keys::NOW;
use selio::selector::{Events, Poller, RawEvents, ReadyKey, SelectEvent, Selector, SignalInfo};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("auto_traits", auto_traits),
        ("every_flag_is_its_own_and_prints_its_name", every_flag_is_its_own_and_prints_its_name),
        ("sets_are_combined_and_compared", sets_are_combined_and_compared),
        ("any_number_is_a_fair_question", any_number_is_a_fair_question),
        ("empty_key_means_nothing", empty_key_means_nothing),
        ("everything_prints_something", everything_prints_something),
    ])
}

fn auto_traits() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    fn is_unpin<T: Unpin>() {}
    is_send::<Selector<std::cell::Cell<u8>>>();
    is_sync::<Selector<u8>>();
    is_unpin::<Selector<u8>>();
    is_send::<Poller>();
    is_sync::<Poller>();
    is_send::<RawEvents>();
    is_sync::<RawEvents>();
    is_send::<SelectEvent>();
    is_sync::<SelectEvent>();
    is_send::<ReadyKey>();
    is_sync::<ReadyKey>();
    is_send::<SignalInfo>();
    is_sync::<SignalInfo>();
}

/// All flags that have a name, with it.
const FLAGS: [(Events, &str); 13] = [
    (Events::READ, "READ"),
    (Events::WRITE, "WRITE"),
    (Events::TIMER, "TIMER"),
    (Events::SIGNAL, "SIGNAL"),
    (Events::PROCESS, "PROCESS"),
    (Events::USER, "USER"),
    (Events::ERROR, "ERROR"),
    (Events::ONESHOT, "ONESHOT"),
    (Events::FINISHED, "FINISHED"),
    (Events::HANGUP, "HANGUP"),
    (Events::PRIORITY, "PRIORITY"),
    (Events::EDGE, "EDGE"),
    (Events::EXCLUSIVE, "EXCLUSIVE"),
];

fn every_flag_is_its_own_and_prints_its_name() {
    let mut all = Events::NONE;
    for (flag, name) in FLAGS {
        assert!(!flag.is_empty() && !all.intersects(flag), "{name}");
        assert_eq!(format!("{flag:?}"), name);
        all |= flag;
    }
    let names = FLAGS.map(|(_, name)| name).join(" | ");
    assert_eq!(format!("{all:?}"), names);
    assert_eq!(format!("{:?}", Events::NONE), "NONE");
    assert_eq!(Events::default(), Events::NONE);
}

fn sets_are_combined_and_compared() {
    let both = Events::READ | Events::WRITE;
    assert!(both.contains(Events::READ) && both.contains(both));
    assert!(!Events::READ.contains(both));
    assert!(both.contains(Events::NONE) && !both.intersects(Events::NONE));
    assert!(both.intersects(Events::WRITE | Events::ERROR));
    assert!(!both.intersects(Events::ERROR));
    assert!(!Events::NONE.intersects(both));
    assert_eq!(both - Events::READ, Events::WRITE);
    assert_eq!(both - Events::ERROR, both);
    assert_eq!(both & (Events::READ | Events::ERROR), Events::READ);
    assert_eq!(Events::READ.union(Events::WRITE), both);
    assert_eq!(both | Events::WRITE, both);
    assert!(Events::NONE.is_empty() && !both.is_empty());
}

// A32
fn any_number_is_a_fair_question() {
    let mut selector = Selector::<u64>::new().unwrap();
    for fd in [-1, i32::MIN, 0, 5, 1023, 1024, 1_000_000, i32::MAX] {
        assert!(!selector.contains(fd));
        assert!(selector.data(fd).is_none());
        assert!(selector.data_mut(fd).is_none());
        assert_eq!(selector.set_data(fd, 7), Err(7));
        assert_eq!(selector.unregister(fd).unwrap_err().kind(), ErrorKind::NotFound);
        let error = selector.update_handle(fd, Events::READ).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert!(selector.select_into(NOW, &mut []).is_err());
    assert!(selector.is_empty());
}

fn empty_key_means_nothing() {
    let mut selector = Selector::new().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    selector.register_handle(&socket, Events::READ, ()).unwrap();
    for key in [ReadyKey::EMPTY, ReadyKey::default()] {
        assert_eq!((key.fd(), key.events()), (-1, Events::NONE));
        assert_eq!((key.expirations(), key.count()), (0, 0));
        assert!(key.signal_info().is_none());
        assert!(selector.get(&key).is_none());
        assert!(selector.get_mut(&key).is_none());
        let error = selector.take_error(&key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

fn everything_prints_something() {
    let mut selector = Selector::new().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    selector.register_handle(&socket, Events::WRITE, ()).unwrap();
    let keys = selector.select(None).unwrap();
    let (own, fd) = (selector.as_raw_fd(), socket.as_raw_fd());
    assert_eq!(format!("{selector:?}"), format!("Selector {{ fd: {own}, len: 1, .. }}"));
    assert_eq!(format!("{:?}", keys[0]), format!("ReadyKey {{ fd: {fd}, events: WRITE, .. }}"));
    assert!(format!("{:?}", selector.poller()).starts_with("Poller"));
    assert!(format!("{:?}", RawEvents::new()).starts_with("RawEvents"));
    assert!(format!("{:?}", SelectEvent::new().unwrap()).starts_with("SelectEvent"));
    assert_eq!(selector.as_fd().as_raw_fd(), selector.poller().as_fd().as_raw_fd());
}
