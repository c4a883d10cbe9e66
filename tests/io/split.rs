//! Halves: two owners, one object.

use crate::kit;
use selio::net::{TcpListener, TcpStream, UnixStream};
use selio::time::{sleep, timeout};
use selio::{block_on, spawn};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

// F15
#[test]
fn two_tasks_use_one_stream() {
    let _guard = kit::watchdog(10);
    let sent: Vec<u8> = (0..2_000_000_u32).map(|i| ((i * 7) >> 2) as u8).collect();
    block_on(async {
        let (near, far) = pair().await;
        let ((near_reader, near_writer), (far_reader, far_writer)) =
            (near.into_split(), far.into_split());
        let echo = spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                match far_reader.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => far_writer.write_all(&buffer[..count]).await.unwrap(),
                }
            }
        });
        let bytes = sent.clone();
        let writing = spawn(async move { near_writer.write_all(&bytes).await.unwrap() });
        let mut heard = vec![0; sent.len()];
        near_reader.read_exact(&mut heard).await.unwrap();
        assert!(heard == sent);
        writing.await.unwrap();
        // The writing half is gone, so the echo has come to its end, and we to ours.
        echo.await.unwrap();
        assert_eq!(near_reader.read(&mut heard).await.unwrap(), 0);
    });
}

#[test]
fn two_threads_use_one_stream() {
    let _guard = kit::watchdog(10);
    let (near, far) = UnixStream::pair().unwrap();
    let (reader, writer) = near.into_split();
    let reading = thread::spawn(move || {
        block_on(async {
            let mut heard = [0; 5];
            timeout(LONG, reader.read_exact(&mut heard)).await.unwrap().unwrap();
            heard
        })
    });
    let writing = thread::spawn(move || {
        block_on(async {
            sleep(Duration::from_millis(10)).await;
            writer.write_all(b"there").await.unwrap();
        });
    });
    block_on(async {
        let mut heard = [0; 8];
        assert_eq!(timeout(LONG, far.read(&mut heard)).await.unwrap().unwrap(), 5);
        assert_eq!(timeout(LONG, far.read(&mut heard)).await.unwrap().unwrap(), 0, "the end");
        far.write_all(b"hello").await.unwrap();
    });
    writing.join().unwrap();
    assert_eq!(&reading.join().unwrap(), b"hello");
}

#[test]
fn dropping_the_reader_leaves_the_writer() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = pair().await;
        let (reader, writer) = near.into_split();
        drop(reader);
        writer.writable().await.unwrap();
        let words = [IoSlice::new(b"still "), IoSlice::new(b"here")];
        assert_eq!(writer.write_vectored(&words).await.unwrap(), 10);
        writer.flush().await.unwrap();
        let mut heard = [0; 10];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"still here");
    });
}

#[test]
fn a_forgotten_writer_tells_nothing() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = pair().await;
        let (reader, writer) = near.into_split();
        writer.forget();
        let mut byte = [0];
        let nothing = timeout(Duration::from_millis(50), far.read(&mut byte)).await;
        assert!(nothing.is_err(), "{nothing:?}");
        far.write_all(b"x").await.unwrap();
        reader.readable().await.unwrap();
        let got = reader.read_vectored(&mut [IoSliceMut::new(&mut byte)]).await.unwrap();
        assert_eq!((got, byte), (1, *b"x"));
        drop(reader);
        assert_eq!(far.read(&mut byte).await.unwrap(), 0, "both halves are gone");
    });
}

#[test]
fn halves_of_one_stream_are_one_again() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = pair().await;
        let own = near.local_addr().unwrap();
        let (reader, writer) = near.into_split();
        // It has waited meanwhile, and goes on where it is registered.
        assert!(timeout(Duration::from_millis(5), reader.read(&mut [0])).await.is_err());
        let near = reader.reunite(writer).unwrap();
        assert_eq!(near.local_addr().unwrap(), own);
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read(&mut [0; 2]).await.unwrap(), 1);
        near.write_all(b"y").await.unwrap();
        assert_eq!(far.read(&mut [0; 2]).await.unwrap(), 1);
    });
}

#[test]
fn halves_of_two_streams_stay_halves() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let ((one, one_peer), (other, other_peer)) = (pair().await, pair().await);
        let ((one_reader, one_writer), (other_reader, other_writer)) =
            (one.into_split(), other.into_split());
        let error = one_reader.reunite(other_writer).unwrap_err();
        assert_eq!(error.to_string(), "the halves are of two objects");
        let (one_reader, other_writer) = (error.0, error.1);
        other_writer.write_all(b"a").await.unwrap();
        assert_eq!(other_peer.read(&mut [0; 2]).await.unwrap(), 1);
        let (one, other) = (one_reader.reunite(one_writer), other_reader.reunite(other_writer));
        let (one, _other) = (one.unwrap(), other.unwrap());
        one.write_all(b"b").await.unwrap();
        assert_eq!(one_peer.read(&mut [0; 2]).await.unwrap(), 1);
    });
}

#[test]
fn a_peer_that_is_gone_is_an_error_of_the_writer() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, writer) = near.into_split();
        drop(far);
        let error = writer.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
        // Nothing to be told, and nobody to tell it.
        drop(writer);
    });
}

#[test]
fn what_is_no_socket_is_split_as_well() {
    let _guard = kit::watchdog(10);
    let (reader, writer) = kit::pipe();
    let writer = selio::Async::new(std::fs::File::from(writer)).unwrap();
    let (_unused, writer) = writer.into_split();
    block_on(writer.write_all(b"x")).unwrap();
    drop((writer, _unused));
    let reader = selio::Async::new(std::fs::File::from(reader)).unwrap();
    let mut heard = [0; 2];
    assert_eq!(block_on(reader.read(&mut heard)).unwrap(), 1);
    assert_eq!(block_on(reader.read(&mut heard)).unwrap(), 0);
}
