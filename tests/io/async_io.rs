//! What `Async` takes in and gives back, and reads that stop short of what is there.
#![allow(unsafe_code, reason = "passed descriptors and terminals have to be asked for by libc")]

use crate::kit;
use crate::kit::sockets;
use kit::{CountingWaker, poll_once, poll_with, watchdog};
use selio::net::{TcpListener, TcpStream};
use selio::time::{sleep, timeout};
use selio::{Async, block_on, join, spawn};
use sockets::{pair, send_urgent};
use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};
use std::marker::PhantomPinned;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

async fn a_while() {
    sleep(Duration::from_millis(30)).await;
}

// A05
#[test]
fn what_epoll_refuses_never_waits() {
    let _guard = watchdog(10);
    let mut file = kit::nameless_file();
    file.write_all(b"contents").unwrap();
    file.rewind().unwrap();
    let file = Async::new(file).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = Async::new(null.unwrap()).unwrap();
    let zero = Async::new(File::open("/dev/zero").unwrap()).unwrap();
    let directory = Async::new(File::open("/").unwrap()).unwrap();
    block_on(async {
        let mut buffer = [1; 16];
        for it in [&file, &null, &zero, &directory] {
            it.readable().await.unwrap();
            it.writable().await.unwrap();
        }
        assert_eq!(file.read(&mut buffer).await.unwrap(), 8);
        assert_eq!(&buffer[..8], b"contents");
        assert_eq!(file.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(null.read(&mut buffer).await.unwrap(), 0);
        null.write_all(b"into the void").await.unwrap();
        zero.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, [0; 16]);
        assert!(directory.read(&mut buffer).await.is_err());
    });
}

// A05
#[test]
fn waiting_for_a_file_is_an_error_that_leaves_no_trace() {
    let _guard = watchdog(10);
    let null = Async::new(File::open("/dev/null").unwrap()).unwrap();
    let would_block = |_: &File| Err::<(), _>(ErrorKind::WouldBlock.into());
    let (count, waker) = CountingWaker::new();
    for _ in 0..10 {
        // Nobody says so of a file but an operation that is wrong.
        let mut waits = Box::pin(null.read_with(would_block));
        match poll_with(&mut waits, &waker) {
            std::task::Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            }
            poll => panic!("no refusal but {poll:?}"),
        }
    }
    drop(null);
    assert_eq!(count.wakers(), 1);
}

// A30
#[test]
fn the_open_file_stays_non_blocking() {
    let _guard = watchdog(10);
    let (near, _far) = UnixStream::pair().unwrap();
    let dup = kit::dup(&near);
    assert!(!kit::is_nonblocking(&near));
    let near = Async::new(near).unwrap();
    assert!(kit::is_nonblocking(&near));
    assert!(kit::is_nonblocking(&dup), "the flag is the open file's");
    let near = near.into_inner().unwrap();
    assert!(kit::is_nonblocking(&near), "it is given back as it is");
}

// F18
#[cfg(debug_assertions)]
#[test]
fn a_blocking_descriptor_is_caught() {
    let _guard = watchdog(10);
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    drop(Async::new_nonblocking(far));
    let caught = std::panic::catch_unwind(|| Async::new_nonblocking(near)).unwrap_err();
    let message = caught.downcast_ref::<&str>().expect("a message");
    assert!(message.contains("Async::new"), "it says what to do");
}

#[test]
fn what_is_given_back_is_registered_nowhere() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let number = near.as_raw_fd();
    assert!(poll_once(near.read(&mut [0; 8])).is_pending());
    let near = near.into_inner().unwrap();
    // It can be taken in again, and waited for.
    let near = Async::<UnixStream>::try_from(OwnedFd::from(near)).unwrap();
    let writes = async {
        a_while().await;
        far.write_all(b"x").unwrap();
    };
    block_on(join(near.readable(), writes)).0.unwrap();
    let fd = OwnedFd::from(near);
    assert_eq!(fd.as_raw_fd(), number);
}

#[test]
fn all_bytes_in_order_through_small_buffers() {
    let _guard = watchdog(20);
    let (near, far) = pair();
    let far = Async::new(far).unwrap();
    let sent: Vec<u8> = (0..500_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    let expected = sent.clone();
    block_on(async move {
        let sends = spawn(async move {
            for (number, piece) in sent.chunks(4_999).enumerate() {
                if number % 2 == 0 {
                    far.write_all(piece).await.unwrap();
                } else {
                    let (head, tail) = piece.split_at(7);
                    let slices = [IoSlice::new(head), IoSlice::new(tail)];
                    let count = far.write_vectored(&slices).await.unwrap();
                    far.write_all(&piece[count..]).await.unwrap();
                }
            }
            far.flush().await.unwrap();
        });
        let mut received = Vec::new();
        loop {
            let (mut head, mut tail) = ([0; 13], [0; 700]);
            let mut slices = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
            let count = near.read_vectored(&mut slices).await.unwrap();
            received.extend([&head[..], &tail[..]].concat()[..count].iter());
            match near.read(&mut tail).await.unwrap() {
                0 => break,
                count => received.extend_from_slice(&tail[..count]),
            }
        }
        assert!(received == expected);
        sends.await.unwrap();
        let error = near.read_exact(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

// A10
#[test]
fn a_hang_up_alone_wakes_a_reader() {
    let _guard = watchdog(10);
    let (reader, writer) = kit::pipe();
    let reader = Async::new(File::from(reader)).unwrap();
    block_on(async {
        let hangs_up = async {
            a_while().await;
            drop(writer);
        };
        join(reader.readable(), hangs_up).await.0.unwrap();
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0, "again");
    });
}

// A11
#[test]
fn an_error_alone_wakes_both_directions() {
    let _guard = watchdog(10);
    let (reader, writer) = kit::pipe();
    let writer = Rc::new(Async::new(File::from(writer)).unwrap());
    block_on(async {
        let waiting = Rc::clone(&writer);
        let readable = spawn(async move { waiting.readable().await });
        let closes = async {
            a_while().await;
            drop(reader);
        };
        let (written, ()) = join(writer.write_all(&[0; 1 << 20]), closes).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        readable.await.unwrap().unwrap();
    });
}

/// Sends one byte, and a descriptor with it.
fn pass_descriptor(stream: &UnixStream, byte: u8, fd: BorrowedFd<'_>) {
    let mut slice = IoSlice::new(std::slice::from_ref(&byte));
    let mut control = [0_u64; 8];
    // SAFETY: msghdr is integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = (&raw mut slice).cast();
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the macro computes with numbers.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    // SAFETY: the macro reads the message, which says how long its control buffer is.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: the header lies at the beginning of the buffer, which is large enough, aligned and
    // zeroed.
    let header = unsafe { &mut *header };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: the macro computes with numbers.
    header.cmsg_len = unsafe { libc::CMSG_LEN(4) } as _;
    // SAFETY: the data follow the header in the same buffer.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: there is room for the four bytes, whatever their alignment.
    unsafe { data.cast::<i32>().write_unaligned(fd.as_raw_fd()) };
    // SAFETY: all that the message points to lives through the call.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, 0) };
    assert_eq!(sent, 1, "{}", io::Error::last_os_error());
}

// A34
#[test]
fn a_passed_descriptor_cuts_a_read_and_loses_nothing() {
    let _guard = watchdog(10);
    for registered in [false, true] {
        let (near, mut far) = pair();
        if registered {
            assert!(poll_once(near.read(&mut [0; 64])).is_pending());
        }
        pass_descriptor(&far, b'A', far.as_fd());
        far.write_all(b"BBBB").unwrap();
        block_on(async {
            let mut buffer = [0; 64];
            assert_eq!(near.read(&mut buffer).await.unwrap(), 1);
            assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
            assert_eq!(&buffer[..4], b"BBBB");
        });
    }
}

// A34
#[test]
fn a_terminal_gives_line_by_line() {
    let _guard = watchdog(10);
    let (mut outer, mut inner) = (-1, -1);
    let none = std::ptr::null_mut();
    let (settings, size) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the two numbers have room, and what is null is not asked for.
    let opened = unsafe { libc::openpty(&raw mut outer, &raw mut inner, none, settings, size) };
    if opened != 0 {
        println!("passed over: no terminals here");
        return;
    }
    // SAFETY: the number is new, and nobody else's.
    let mut outer = unsafe { File::from_raw_fd(outer) };
    // SAFETY: the number is new, and nobody else's.
    let inner = Async::new(unsafe { File::from_raw_fd(inner) }).unwrap();
    block_on(async {
        let mut buffer = [0; 64];
        for _ in 0..3 {
            assert!(poll_once(inner.read(&mut buffer)).is_pending());
            outer.write_all(b"one\nthree\n").unwrap();
            assert_eq!(inner.read(&mut buffer).await.unwrap(), 4);
            assert_eq!(inner.read(&mut buffer).await.unwrap(), 6);
        }
    });
}

// A34
#[test]
fn urgent_data_cuts_reads_and_loses_nothing() {
    let _guard = watchdog(20);
    const URGENT: u8 = 255;
    const BYTES: u32 = 20_000;
    let (near, far) = kit::tcp_pair();
    let near = TcpStream::try_from(near).unwrap();
    let sends = thread::spawn(move || {
        let bytes: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
        for (number, piece) in bytes.chunks(13).enumerate() {
            (&far).write_all(piece).unwrap();
            match number % 5 {
                0 | 1 => send_urgent(&far, URGENT),
                2 if number % 20 == 2 => thread::sleep(Duration::from_millis(1)),
                _ => {}
            }
        }
        far.shutdown(Shutdown::Write).unwrap();
        far
    });
    let received = block_on(async {
        let mut received = Vec::new();
        let mut buffer = [0; 64];
        loop {
            match near.read(&mut buffer).await.unwrap() {
                0 => return received,
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
    });
    // A second urgent byte makes the first one, if nobody has read it, an ordinary one.
    let ordinary = received.into_iter().filter(|&byte| byte != URGENT);
    assert!(ordinary.eq((0..BYTES).map(|i| (i % 251) as u8)));
    drop(sends.join().unwrap());
}

// A36
#[test]
fn an_urgent_byte_alone_is_nothing_to_read() {
    let _guard = watchdog(10);
    let (near, mut far) = kit::tcp_pair();
    let near = TcpStream::try_from(near).unwrap();
    block_on(async {
        let wait = Duration::from_millis(50);
        assert!(timeout(wait, near.readable()).await.is_err());
        send_urgent(&far, b'!');
        assert!(timeout(wait, near.readable()).await.is_err());
        assert!(timeout(wait, near.read(&mut [0; 8])).await.is_err());
        let writes = async {
            a_while().await;
            far.write_all(b"xyz").unwrap();
        };
        let mut buffer = [0; 8];
        let (read, ()) = join(near.read(&mut buffer), writes).await;
        assert_eq!(&buffer[..read.unwrap()], b"xyz");
    });
}

/// A stream that must not be moved once it is pinned.
struct Pinned(UnixStream, #[allow(dead_code, reason = "it is a mark")] PhantomPinned);

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for &Pinned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }
}

/// Two traits in one: for a type that is `Unpin`, nobody can say which `check` is meant.
trait NotUnpin<Which> {
    fn check() {}
}
impl<T> NotUnpin<()> for T {}
impl<T: Unpin> NotUnpin<u8> for T {}

// H18
#[test]
fn an_object_that_stays_where_it_is() {
    let _guard = watchdog(10);
    fn is_unpin<T: Unpin>() {}
    is_unpin::<Async<UnixStream>>();
    <Async<Pinned> as NotUnpin<_>>::check();
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Box::pin(Async::new(Pinned(near, PhantomPinned)).unwrap());
    let writes = async {
        a_while().await;
        far.write_all(b"x").unwrap();
    };
    let mut buffer = [0; 8];
    let (read, ()) = block_on(join(near.read(&mut buffer), writes));
    assert_eq!(read.unwrap(), 1);
}

/// A `T` that is another descriptor from one call to the next.
struct Switch {
    streams: [UnixStream; 2],
    at: AtomicUsize,
}

impl AsFd for Switch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.streams[self.at.load(Ordering::Relaxed)].as_fd()
    }
}

// H23
#[test]
fn the_number_of_the_registration_is_kept() {
    let _guard = watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let (other, _other_far) = UnixStream::pair().unwrap();
    let streams = [near, other];
    let switch = Async::new(Switch { streams, at: AtomicUsize::new(0) }).unwrap();
    switch.get_ref().at.store(1, Ordering::Relaxed);
    let writes = async {
        a_while().await;
        far.write_all(b"x").unwrap();
    };
    block_on(join(switch.readable(), writes)).0.unwrap();
    switch.get_ref().at.store(0, Ordering::Relaxed);
    assert!(poll_once(switch.readable()).is_ready());
    (&switch.get_ref().streams[0]).read_exact(&mut [0]).unwrap();
    assert!(poll_once(switch.readable()).is_pending());
    switch.get_ref().at.store(1, Ordering::Relaxed);
    drop(switch);
}

/// What `Async` would have to hand out for safe code to swap the descriptor.
trait NoMutableAccess {
    fn get_mut(&self) -> &'static str {
        "there is none"
    }
}
impl<T> NoMutableAccess for Async<T> {}

// H23
#[test]
fn nobody_gets_a_mutable_reference() {
    let (near, _far) = pair();
    // A method of `Async` itself would be taken before the trait's, and return something else.
    assert_eq!(near.get_mut(), "there is none");
}

// H03
#[test]
fn objects_and_their_futures_may_change_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync>(_: &T) {}
    let (near, _far) = pair();
    is_shared(&near);
    is_send(&near.readable());
    is_send(&near.writable());
    is_send(&near.read(&mut [0; 8]));
    is_send(&near.write_all(b"x"));
    is_send(&near.read_with(|_| Ok(())));
    let listener = TcpListener::bind("127.0.0.1:0");
    is_send(&listener);
    let listener = block_on(listener).unwrap();
    is_shared(&listener);
    is_send(&listener.accept());
    is_shared(&listener.incoming());
    is_send(&TcpStream::connect("127.0.0.1:1"));
    fn is_future<F: Future>(_: &F) {}
    is_future(&listener.accept());
}

// F09
#[test]
fn what_needs_nothing_waits_for_nothing() {
    let _guard = watchdog(10);
    let (near, _far) = pair();
    sockets::fill(near.get_ref());
    block_on(async {
        // Both directions have been found drained.
        let mut byte = [0];
        assert!(timeout(Duration::from_millis(1), near.read(&mut byte)).await.is_err());
        assert!(timeout(Duration::from_millis(1), near.write(b"x")).await.is_err());
        assert_eq!(near.read(&mut []).await.unwrap(), 0);
        assert_eq!(near.read_vectored(&mut [IoSliceMut::new(&mut [])]).await.unwrap(), 0);
        assert_eq!(near.write(b"").await.unwrap(), 0);
        assert_eq!(near.write_vectored(&[IoSlice::new(b"")]).await.unwrap(), 0);
        near.write_all(b"").await.unwrap();
        near.flush().await.unwrap();
    });
}

/// Takes one byte at a time, and never blocks.
#[derive(Debug)]
struct Trickle(File);

impl AsFd for Trickle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Write for &Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len().min(1))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// G06
#[test]
fn a_long_write_lets_others_run() {
    let _guard = watchdog(10);
    let null = File::options().write(true).open("/dev/null").unwrap();
    let near = Async::new(Trickle(null)).unwrap();
    block_on(async move {
        let others = Rc::new(AtomicUsize::new(0));
        let theirs = Rc::clone(&others);
        let other = spawn(async move {
            loop {
                theirs.fetch_add(1, Ordering::Relaxed);
                selio::yield_now().await;
            }
        });
        near.write_all(&[0; 10_000]).await.unwrap();
        assert!(others.load(Ordering::Relaxed) > 10, "the other task was kept waiting");
        other.abort();
    });
}
