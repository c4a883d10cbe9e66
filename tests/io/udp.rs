//! UDP: what is special to datagrams, and to peers that are not there.

use crate::kit;
use selio::net::UdpSocket;
use selio::time::{sleep, timeout};
use selio::{block_on, spawn};
use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

#[test]
fn datagrams_keep_their_bounds_and_senders() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = (socket().await, socket().await);
        let to = far.local_addr().unwrap();
        for length in [0, 1, 1_000, 60_000] {
            assert_eq!(near.send_to(&vec![7; length], to).await.unwrap(), length);
        }
        let mut buffer = vec![0; 65_536];
        for length in [0, 1, 1_000, 60_000] {
            let got = timeout(PATIENCE, far.recv_from(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(got, (length, near.local_addr().unwrap()));
        }
    });
}

#[test]
fn a_datagram_that_is_too_long_is_an_error_and_the_socket_goes_on() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = (socket().await, socket().await);
        let to = far.local_addr().unwrap();
        near.send_to(&[0; 70_000], to).await.unwrap_err();
        near.send_to(b"short", to).await.unwrap();
        assert_eq!(far.recv(&mut [0; 2]).await.unwrap(), 2, "cut, and the rest is lost");
        assert!(timeout(Duration::from_millis(50), far.recv(&mut [0; 2])).await.is_err());
    });
}

/// A socket that hears itself alone, and its address: others are refused as if there were none, and
/// nobody else gets the number meanwhile.
async fn deaf() -> (UdpSocket, SocketAddr) {
    let deaf = socket().await;
    let address = deaf.local_addr().unwrap();
    deaf.connect(address).await.unwrap();
    (deaf, address)
}

// F11
#[test]
fn a_peer_that_is_not_there_is_told_once() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let near = Rc::new(socket().await);
        let (_deaf, gone) = deaf().await;
        near.connect(gone).await.unwrap();
        let theirs = Rc::clone(&near);
        let reader = spawn(async move { theirs.recv(&mut [0; 8]).await });
        sleep(Duration::from_millis(10)).await;
        near.send(b"is anybody there?").await.unwrap();
        let error = timeout(PATIENCE, reader).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(near.take_error().unwrap().is_none());
        // One that never receives is told when it sends again.
        near.send(b"still not?").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let error = near.send(b"hello?").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let cpu = kit::thread_cpu_time();
        let waiting = timeout(Duration::from_millis(300), near.recv(&mut [0; 8])).await;
        assert!(waiting.is_err());
        assert!(kit::thread_cpu_time() - cpu < Duration::from_millis(100), "it spins");
    });
}

#[test]
fn connected_sockets_hear_their_peer_only() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far, stranger) = (socket().await, socket().await, socket().await);
        near.connect(far.local_addr().unwrap()).await.unwrap();
        assert_eq!(near.peer_addr().unwrap(), far.local_addr().unwrap());
        let to = near.local_addr().unwrap();
        stranger.send_to(b"stranger", to).await.unwrap();
        far.send_to(b"peer", to).await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(near.peek(&mut buffer).await.unwrap(), 4);
        assert_eq!(near.recv(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"peer");
        assert_eq!(stranger.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

#[test]
fn a_cancelled_receive_takes_nothing() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = (socket().await, socket().await);
        let mut buffer = [0; 8];
        assert!(timeout(Duration::from_millis(10), far.recv_from(&mut buffer)).await.is_err());
        near.send_to(b"late", far.local_addr().unwrap()).await.unwrap();
        assert_eq!(timeout(PATIENCE, far.recv(&mut buffer)).await.unwrap().unwrap(), 4);
    });
}

// F11: who waits for room is woken by the error, and not again and again.
#[test]
fn an_error_that_nobody_takes_lets_a_writer_rest() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let near = Rc::new(socket().await);
        let (_deaf, gone) = deaf().await;
        near.connect(gone).await.unwrap();
        let tries = Rc::new(Cell::new(0));
        let (theirs, counts) = (Rc::clone(&near), Rc::clone(&tries));
        let writer = spawn(async move {
            let no_room = |_: &std::net::UdpSocket| {
                counts.set(counts.get() + 1);
                Err::<(), _>(ErrorKind::WouldBlock.into())
            };
            theirs.write_with(no_room).await
        });
        sleep(Duration::from_millis(10)).await;
        // Past the adapter, which has been told that there is no room.
        near.get_ref().send(b"is anybody there?").unwrap();
        let cpu = kit::thread_cpu_time();
        sleep(Duration::from_millis(300)).await;
        assert!(kit::thread_cpu_time() - cpu < Duration::from_millis(100), "it spins");
        assert!(!writer.is_finished());
        assert!((2..20).contains(&tries.get()), "{} tries", tries.get());
        let error = near.get_ref().send(b"hello?").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        writer.abort();
    });
}

// A34
#[test]
fn a_short_datagram_hides_none_behind_it() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = (socket().await, socket().await);
        let to = far.local_addr().unwrap();
        let mut buffer = [0; 64];
        assert!(timeout(Duration::from_millis(5), far.recv(&mut buffer)).await.is_err());
        for length in [1, 64, 3] {
            near.send_to(&vec![7; length], to).await.unwrap();
        }
        // One edge tells of all three.
        sleep(Duration::from_millis(10)).await;
        for length in [1, 64, 3] {
            assert_eq!(timeout(PATIENCE, far.recv(&mut buffer)).await.unwrap().unwrap(), length);
        }
    });
}
