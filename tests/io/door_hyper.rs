//! The traits of hyper's `rt`, as hyper uses them; it speaks HTTP over them in the package of the
//! ecosystem's examples.

use crate::kit;
use hyper::rt::{Executor, Read, ReadBuf, Sleep, Timer, Write};
use selio::net::{TcpListener, TcpStream, UnixStream};
use selio::{Async, block_on, join};
use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

const BYTES: usize = 10_000_000;

async fn read(from: &mut (impl Read + Unpin), buffer: &mut ReadBuf<'_>) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *from).poll_read(cx, buffer.unfilled())).await
}

async fn write_all(to: &mut (impl Write + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let put = poll_fn(|cx| Pin::new(&mut *to).poll_write(cx, bytes)).await?;
        bytes = &bytes[put..];
    }
    poll_fn(|cx| Pin::new(&mut *to).poll_flush(cx)).await
}

async fn shut_down(to: &mut (impl Write + Unpin)) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *to).poll_shutdown(cx)).await
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

async fn send(to: &mut (impl Write + Unpin)) {
    let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
    write_all(to, &bytes).await.unwrap();
    shut_down(to).await.unwrap();
}

async fn hear(from: &mut (impl Read + Unpin)) {
    let (mut memory, mut at) = (vec![MaybeUninit::uninit(); 100_003], 0);
    loop {
        let mut buffer = ReadBuf::uninit(&mut memory);
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

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

#[test]
fn every_byte_goes_through_tcp_and_the_end_after_it() {
    let _guard = kit::watchdog(30);
    block_on(async {
        let (mut near, mut far) = tcp_pair().await;
        join(send(&mut near), hear(&mut far)).await;
        // And the other way, over what is half closed.
        join(send(&mut far), hear(&mut near)).await;
    });
}

#[test]
fn every_byte_goes_through_what_is_no_bare_socket() {
    let _guard = kit::watchdog(30);
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut near, mut far) = (Async::new(near).unwrap(), Async::new(far).unwrap());
    block_on(join(send(&mut near), hear(&mut far)));

    let (reader, writer) = kit::pipe();
    let mut reader = Async::new(File::from(reader)).unwrap();
    let mut writer = Async::new(File::from(writer)).unwrap();
    block_on(join(
        async move {
            send(&mut writer).await;
            // The end of a pipe is told by closing it.
            drop(writer);
        },
        hear(&mut reader),
    ));
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

async fn adds_to_what_is_filled(near: &mut (impl Write + Unpin), far: &mut (impl Read + Unpin)) {
    let mut memory = [MaybeUninit::uninit(); 6];
    let mut buffer = ReadBuf::uninit(&mut memory);
    for part in [b"abc", b"def"] {
        write_all(near, part).await.unwrap();
        read(far, &mut buffer).await.unwrap();
    }
    assert_eq!(buffer.filled(), b"abcdef");
    // Full: nothing to wait for, and nothing is taken.
    read(far, &mut buffer).await.unwrap();
    write_all(near, b"more").await.unwrap();
    read(far, &mut buffer).await.unwrap();
    assert_eq!(buffer.filled(), b"abcdef");
    let mut memory = [0; 8];
    let mut buffer = ReadBuf::new(&mut memory);
    read(far, &mut buffer).await.unwrap();
    assert_eq!(buffer.filled(), b"more");
}

#[test]
fn a_read_adds_to_what_is_filled_already() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let (mut near, mut far) = tcp_pair().await;
        adds_to_what_is_filled(&mut near, &mut far).await;
        let (mut near, mut far) = UnixStream::pair().unwrap();
        adds_to_what_is_filled(&mut near, &mut far).await;
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut far = Async::new(far).unwrap();
        near.set_nonblocking(true).unwrap();
        adds_to_what_is_filled(&mut Async::new(near).unwrap(), &mut far).await;
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
        assert!(Write::is_write_vectored(&near));
        let slices = [IoSlice::new(b"a"), IoSlice::new(b"b")];
        let put = poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &slices)).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::BrokenPipe);
        drop(far);
        shut_down(&mut near).await.unwrap();
    });
}

#[test]
fn a_sleep_is_set_anew_in_both_directions() {
    let _guard = kit::watchdog(10);
    let start = Instant::now();
    let timer = selio::hyper::Timer;
    block_on(async {
        let mut sleep = timer.sleep(Duration::from_secs(60));
        assert!(kit::poll_once(&mut sleep).is_pending());
        timer.reset(&mut sleep, start + Duration::from_millis(20));
        sleep.as_mut().await;
        assert!(start.elapsed() >= Duration::from_millis(20));

        // Gone off, and set once more.
        timer.reset(&mut sleep, start + Duration::from_millis(40));
        sleep.as_mut().await;
        assert!(start.elapsed() >= Duration::from_millis(40));
        timer.sleep_until(start).await;
    });
}

/// A sleep that knows nothing of selio.
struct Foreign;

impl Future for Foreign {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Pending
    }
}

impl Sleep for Foreign {}

#[test]
fn a_sleep_of_another_timer_is_replaced() {
    let _guard = kit::watchdog(10);
    let mut sleep: Pin<Box<dyn Sleep>> = Box::pin(Foreign);
    selio::hyper::Timer.reset(&mut sleep, Instant::now());
    block_on(sleep);
}

#[test]
fn the_executor_takes_what_is_not_send() {
    let _guard = kit::watchdog(10);
    let done = Rc::new(Cell::new(false));
    let theirs = Rc::clone(&done);
    block_on(async {
        selio::hyper::Executor.execute(async move { theirs.set(true) });
        assert!(!done.get(), "it is polled when its turn comes");
        selio::yield_now().await;
    });
    assert!(done.get());
}
