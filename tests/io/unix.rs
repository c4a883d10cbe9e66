//! Unix sockets: addresses, full queues, credentials, and peers that are gone.
#![allow(unsafe_code, reason = "std does not offer these states")]

use crate::kit;
use selio::net::{UnixDatagram, UnixListener, UnixStream};
use selio::time::{sleep, timeout};
use selio::{block_on, spawn};
use std::io::{ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

// F19
#[test]
fn datagram_sockets_have_paths_abstract_names_or_none() {
    let _guard = kit::watchdog(10);
    let place = kit::Directory::new();
    let path = SocketAddr::from_pathname(place.join("socket")).unwrap();
    let name = SocketAddr::from_abstract_name(kit::unique_name("a\0datagram")).unwrap();
    for address in [path, name] {
        block_on(async {
            let server = UnixDatagram::bind_addr(&address).unwrap();
            assert_eq!(server.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            let taken = UnixDatagram::bind_addr(&address).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            let client = UnixDatagram::unbound().unwrap();
            client.send_to_addr(b"one", &address).await.unwrap();
            client.connect_addr(&address).unwrap();
            client.send(b"three").await.unwrap();
            let peer = client.peer_addr().unwrap();
            assert_eq!(peer.as_pathname(), address.as_pathname());
            assert_eq!(peer.as_abstract_name(), address.as_abstract_name());
            let mut buffer = [0; 16];
            for length in [3, 5] {
                let (got, from) = server.recv_from(&mut buffer).await.unwrap();
                assert!(got == length && from.is_unnamed());
            }
            server.shutdown(Shutdown::Read).unwrap();
            let error = client.send(b"nobody").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert!(client.take_error().unwrap().is_none());
        });
    }
}

// F19
#[test]
fn streams_have_paths_abstract_names_or_none() {
    let _guard = kit::watchdog(10);
    let place = kit::Directory::new();
    let path = SocketAddr::from_pathname(place.join("socket")).unwrap();
    let name = kit::unique_name("a\0stream");
    let longest = format!("{name:x<107}");
    for address in [
        path,
        SocketAddr::from_abstract_name(&name).unwrap(),
        SocketAddr::from_abstract_name(longest).unwrap(),
    ] {
        block_on(async {
            let listener = UnixListener::bind_addr(&address).unwrap();
            let client = UnixStream::connect_addr(&address).await.unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            assert!(peer.is_unnamed());
            let theirs = client.peer_addr().unwrap();
            assert_eq!(theirs.as_pathname(), address.as_pathname());
            assert_eq!(theirs.as_abstract_name(), address.as_abstract_name());
            assert_eq!(
                listener.local_addr().unwrap().as_abstract_name(),
                address.as_abstract_name()
            );
            client.write_all(b"hello").await.unwrap();
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer).await.unwrap();
            let peer = stream.peer_credentials().unwrap();
            assert_eq!(peer.pid, Some(std::process::id()));
        });
    }
}

// F19
#[test]
fn addresses_that_cannot_be_are_errors() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let long = "x".repeat(108);
        for path in [long.as_str(), "with\0zero"] {
            let error = UnixStream::connect(path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(UnixListener::bind(path).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let place = kit::Directory::new();
        let nobody = UnixStream::connect(place.join("socket")).await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
        drop(UnixListener::bind(place.join("socket")).unwrap());
        let gone = UnixStream::connect(place.join("socket")).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
        let taken = UnixListener::bind(place.join("socket")).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let unnamed = UnixStream::pair().unwrap().0.local_addr().unwrap();
        let error = UnixStream::connect_addr(&unnamed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

// F02
#[test]
fn a_full_queue_is_waited_for() {
    let _guard = kit::watchdog(20);
    let place = kit::Directory::new();
    block_on(async {
        let listener = UnixListener::bind(place.join("socket")).unwrap();
        // SAFETY: the call takes two numbers, and the descriptor is open.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let mut waiting = Vec::new();
        for number in 0..4_u8 {
            let path = place.join("socket");
            waiting.push(spawn(async move {
                let stream = UnixStream::connect(&path).await.unwrap();
                stream.write_all(&[number]).await.unwrap();
                stream
            }));
        }
        sleep(Duration::from_millis(100)).await;
        let connected = waiting.iter().filter(|client| client.is_finished()).count();
        assert!(connected < 4, "the queue has room for one or two");
        let mut heard = Vec::new();
        for _ in 0..4 {
            let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            let mut number = [0];
            stream.read_exact(&mut number).await.unwrap();
            heard.push(number[0]);
        }
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2, 3], "each that was connected is a true connection");
    });
}

// F12
#[test]
fn a_receiver_that_is_full_is_waited_for() {
    let _guard = kit::watchdog(20);
    let place = kit::Directory::new();
    block_on(async {
        let receiver = UnixDatagram::bind(place.join("socket")).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let mut sent = 0_u32;
        // Until it is full.
        while let Ok(done) = timeout(
            Duration::from_millis(20),
            sender.send_to(&sent.to_le_bytes(), place.join("socket")),
        )
        .await
        {
            done.unwrap();
            sent += 1;
        }
        let cpu = kit::thread_cpu_time();
        let last = spawn({
            let path = place.join("socket");
            async move { sender.send_to(&sent.to_le_bytes(), &path).await }
        });
        sleep(Duration::from_millis(300)).await;
        assert!(!last.is_finished());
        assert!(kit::thread_cpu_time() - cpu < Duration::from_millis(100), "it spins");
        let mut buffer = [0; 4];
        for number in 0..=sent {
            let got = timeout(PATIENCE, receiver.recv(&mut buffer)).await.unwrap().unwrap();
            assert_eq!((got, u32::from_le_bytes(buffer)), (4, number), "each once, in order");
        }
        timeout(PATIENCE, last).await.unwrap().unwrap().unwrap();
    });
}

// F12
#[test]
fn a_connected_sender_is_told_of_room() {
    let _guard = kit::watchdog(20);
    block_on(async {
        let (near, far) = UnixDatagram::pair().unwrap();
        let mut sent = 0;
        while timeout(Duration::from_millis(20), near.send(b"x")).await.is_ok() {
            sent += 1;
        }
        let last = spawn(async move { near.send(b"x").await });
        sleep(Duration::from_millis(20)).await;
        for _ in 0..=sent {
            assert_eq!(timeout(PATIENCE, far.recv(&mut [0; 4])).await.unwrap().unwrap(), 1);
        }
        timeout(PATIENCE, last).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn an_end_is_heard_and_a_peer_that_is_gone_is_an_error() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = UnixStream::pair().unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        far.write_all(b"the other way").await.unwrap();
        drop(far);
        let slices = [IoSlice::new(b"a"), IoSlice::new(b"b")];
        let error = near.write_vectored(&slices).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}
