//! The traits of tokio's `io`, as generic code uses them; no runtime of tokio is there.

use crate::kit;
use selio::net::UnixStream;
use selio::{block_on, join};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::thread;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const BYTES: usize = 10_000_000;

async fn read(from: &mut (impl AsyncRead + Unpin), buffer: &mut ReadBuf<'_>) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *from).poll_read(cx, buffer)).await
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let put = poll_fn(|cx| Pin::new(&mut *to).poll_write(cx, bytes)).await?;
        bytes = &bytes[put..];
    }
    poll_fn(|cx| Pin::new(&mut *to).poll_flush(cx)).await
}

async fn shut_down(to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *to).poll_shutdown(cx)).await
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

async fn send(to: &mut (impl AsyncWrite + Unpin)) {
    let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
    write_all(to, &bytes).await.unwrap();
    shut_down(to).await.unwrap();
}

async fn hear(from: &mut (impl AsyncRead + Unpin)) {
    let (mut memory, mut at) = (vec![0; 10_007], 0);
    loop {
        let mut buffer = ReadBuf::new(&mut memory);
        read(from, &mut buffer).await.unwrap();
        let got = buffer.filled();
        if got.is_empty() {
            assert_eq!(at, BYTES);
            return;
        }
        assert!(got.iter().zip(at..).all(|(&byte, at)| byte == pattern(at)));
        at += got.len();
    }
}

#[test]
fn every_byte_goes_through_and_the_end_after_it() {
    let _guard = kit::watchdog(30);
    let (mut near, mut far) = UnixStream::pair().unwrap();
    block_on(join(send(&mut near), hear(&mut far)));
}

#[test]
fn a_stream_goes_on_in_another_thread() {
    let _guard = kit::watchdog(30);
    let (mut near, mut far) = UnixStream::pair().unwrap();
    block_on(async {
        write_all(&mut near, b"here").await.unwrap();
        read(&mut far, &mut ReadBuf::new(&mut [0; 8])).await.unwrap();
    });
    let there = thread::spawn(move || block_on(hear(&mut far)));
    block_on(send(&mut near));
    there.join().unwrap();
}

#[test]
fn a_read_adds_to_what_is_filled_already() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let mut memory = [0; 6];
        let mut buffer = ReadBuf::new(&mut memory);
        for part in [b"abc", b"def"] {
            write_all(&mut near, part).await.unwrap();
            read(&mut far, &mut buffer).await.unwrap();
        }
        assert_eq!(buffer.filled(), b"abcdef");
        // Full: nothing to wait for.
        read(&mut far, &mut buffer).await.unwrap();
        assert_eq!(buffer.filled(), b"abcdef");
    });
}

// J07
#[test]
fn shutting_down_is_done_once_and_asked_as_often_as_one_likes() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        for _ in 0..3 {
            shut_down(&mut near).await.unwrap();
        }
        let mut memory = [0; 8];
        let mut buffer = ReadBuf::new(&mut memory);
        read(&mut far, &mut buffer).await.unwrap();
        assert!(buffer.filled().is_empty(), "the end");
        assert!(AsyncWrite::is_write_vectored(&near));
        let slices = [IoSlice::new(b"a"), IoSlice::new(b"b")];
        let put = poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &slices)).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::BrokenPipe);
        shut_down(&mut near).await.unwrap();
    });
}

#[test]
fn a_duplex_goes_through_it_as_well() {
    let _guard = kit::watchdog(30);
    for capacity in [1000, 65_536] {
        let (mut near, mut far) = selio::io::duplex(capacity);
        block_on(join(send(&mut near), hear(&mut far)));
        let error = block_on(write_all(&mut near, b"more")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
