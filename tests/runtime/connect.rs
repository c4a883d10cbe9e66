//! Connecting to one of several addresses.

use crate::kit;
use crate::kit::sockets;
use selio::block_on;
use selio::net::{SocketOptions, TcpStream};
use selio::time::timeout;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("the_first_that_answers_is_taken", the_first_that_answers),
        ("who_does_not_answer_is_not_waited_for", no_answer),
        ("all_errors_are_told", all_errors),
        ("a_dropped_attempt_leaves_nothing", dropped),
        ("a_refused_option_leaves_nothing", refused_option),
        ("a_name_is_looked_up_in_another_thread", a_name),
        ("an_address_takes_no_thread", an_address),
    ])
}

fn the_first_that_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let addresses = [kit::refused_addr(), kit::refused_addr(), to, kit::refused_addr()];
    let before = kit::open_fds().len();
    let stream = block_on(TcpStream::connect(&addresses[..])).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), to);
    // The reactor's two, and the stream.
    assert!(kit::open_fds().len() <= before + 3, "{:?}", kit::open_fds());
}

fn no_answer() {
    let (deaf, _queued) = sockets::deaf_listener();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let addresses = [deaf.local_addr().unwrap(), to];
    let start = Instant::now();
    let connecting = timeout(Duration::from_secs(8), TcpStream::connect(&addresses[..]));
    let stream = block_on(connecting).unwrap().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), to);
    assert!(start.elapsed() >= Duration::from_millis(250), "the first had its time");
}

fn all_errors() {
    let addresses = [kit::refused_addr(), kit::refused_addr(), kit::refused_addr()];
    let error = block_on(TcpStream::connect(&addresses[..])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let text = error.to_string();
    assert!(addresses.iter().all(|address| text.contains(&address.to_string())), "{text}");
    // One alone is told as the kernel tells it.
    let error = block_on(TcpStream::connect(kit::refused_addr())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
}

fn dropped() {
    let (deaf, _queued) = sockets::deaf_listener();
    let addresses = [deaf.local_addr().unwrap(); 2];
    let before = kit::open_fds();
    let connecting = timeout(Duration::from_millis(400), TcpStream::connect(&addresses[..]));
    assert!(block_on(connecting).is_err());
    assert_eq!(kit::open_fds(), before);
}

fn a_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = block_on(TcpStream::connect(("localhost", port))).unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
    assert_eq!(kit::threads(), 2);
    let error = block_on(TcpStream::connect("no port")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn an_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = listener.local_addr().unwrap().to_string();
    let port = listener.local_addr().unwrap().port();
    block_on(async {
        TcpStream::connect(&text).await.unwrap();
        TcpStream::connect(text).await.unwrap();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        TcpStream::connect(("127.0.0.1".to_owned(), port)).await.unwrap();
    });
    assert_eq!(kit::threads(), 1);
}

fn refused_option() {
    let options = SocketOptions::new().keepalive_probes(0);
    block_on(async {
        let before = kit::open_fds();
        options.listen("127.0.0.1:0").await.unwrap_err();
        options.connect("127.0.0.1:9").await.unwrap_err();
        options.bind_udp("127.0.0.1:0").await.unwrap_err();
        assert_eq!(kit::open_fds(), before);
    });
}
