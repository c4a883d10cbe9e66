//! The traits of futures-io, as generic code uses them.

use crate::kit;
use futures_io::{AsyncRead, AsyncWrite};
use selio::net::{TcpListener, TcpStream, UnixStream};
use selio::time::timeout;
use selio::{Async, block_on, join};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::pin::Pin;
use std::thread;
use std::time::Duration;

const BYTES: usize = 10_000_000;

async fn read(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *from).poll_read(cx, buffer)).await
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let put = poll_fn(|cx| Pin::new(&mut *to).poll_write(cx, bytes)).await?;
        bytes = &bytes[put..];
    }
    poll_fn(|cx| Pin::new(&mut *to).poll_flush(cx)).await
}

async fn close(to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *to).poll_close(cx)).await
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

async fn send(to: &mut (impl AsyncWrite + Unpin)) {
    let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
    write_all(to, &bytes).await.unwrap();
    close(to).await.unwrap();
}

async fn hear(from: &mut (impl AsyncRead + Unpin)) {
    let (mut buffer, mut at) = (vec![0; 10_007], 0);
    loop {
        let got = read(from, &mut buffer).await.unwrap();
        if got == 0 {
            assert_eq!(at, BYTES);
            return;
        }
        assert!(buffer[..got].iter().zip(at..).all(|(&byte, at)| byte == pattern(at)));
        at += got;
    }
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

#[test]
fn every_byte_goes_through_and_the_end_after_it() {
    let _guard = kit::watchdog(30);
    block_on(async {
        let (mut near, mut far) = tcp_pair().await;
        join(send(&mut near), hear(&mut far)).await;
        // By references, and the other way.
        let (near, far) = UnixStream::pair().unwrap();
        join(send(&mut &far), hear(&mut &near)).await;
    });
}

#[test]
fn a_stream_goes_on_in_another_thread() {
    let _guard = kit::watchdog(30);
    let (mut near, mut far) = block_on(tcp_pair());
    block_on(async {
        write_all(&mut near, b"here").await.unwrap();
        assert_eq!(read(&mut far, &mut [0; 8]).await.unwrap(), 4);
        // Registered here, it moves.
        let waiting = timeout(Duration::from_millis(10), read(&mut far, &mut [0; 8])).await;
        assert!(waiting.is_err());
    });
    let there = thread::spawn(move || block_on(async { hear(&mut far).await }));
    block_on(send(&mut near));
    there.join().unwrap();
}

// J07
#[test]
fn closing_is_done_once_and_asked_as_often_as_one_likes() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (mut near, mut far) = tcp_pair().await;
        for _ in 0..3 {
            close(&mut near).await.unwrap();
        }
        assert_eq!(read(&mut far, &mut [0; 8]).await.unwrap(), 0);
        let error = write_all(&mut near, b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        // The other direction is open.
        write_all(&mut far, b"back").await.unwrap();
        assert_eq!(read(&mut near, &mut [0; 8]).await.unwrap(), 4);
        drop(near);
        // After an error, too.
        while write_all(&mut far, &[0; 4096]).await.is_ok() {}
        close(&mut far).await.unwrap();
        close(&mut far).await.unwrap();
    });
}

#[test]
fn what_is_no_socket_is_flushed() {
    let _guard = kit::watchdog(10);
    let (reader, writer) = kit::pipe();
    let (mut reader, mut writer) = (File::from(reader), Async::new(File::from(writer)).unwrap());
    block_on(async {
        write_all(&mut writer, b"through a pipe").await.unwrap();
        close(&mut writer).await.unwrap();
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through a pipe");
}

#[test]
fn several_buffers_are_one_call() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let slices = [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b"cde")];
        let put = poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &slices)).await;
        assert_eq!(put.unwrap(), 5);
        let (mut head, mut rest) = ([0; 1], [0; 8]);
        let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut rest)];
        let got = poll_fn(|cx| Pin::new(&mut far).poll_read_vectored(cx, &mut buffers)).await;
        assert_eq!(got.unwrap(), 5);
        assert_eq!((&head, &rest[..4]), (b"a", &b"bcde"[..]));
        // Nothing to do takes no waiting.
        assert_eq!(read(&mut far, &mut []).await.unwrap(), 0);
        let none = poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &[])).await;
        assert_eq!(none.unwrap(), 0);
    });
}

#[test]
fn a_duplex_goes_through_it_as_well() {
    let _guard = kit::watchdog(30);
    let (mut near, mut far) = selio::io::duplex(1000);
    block_on(join(send(&mut near), hear(&mut far)));
    let error = block_on(write_all(&mut near, b"more")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    // By references, and the other way.
    block_on(join(send(&mut &far), hear(&mut &near)));
}
