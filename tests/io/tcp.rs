//! TCP: connecting, accepting, ends and resets, and fairness among sockets.

use crate::kit;
use crate::kit::sockets;
use futures_core::stream::{FusedStream, Stream};
use kit::{poll_once, watchdog};
use selio::net::{Incoming, TcpListener, TcpStream};
use selio::time::{sleep, timeout};
use selio::{Async, block_on, join, spawn};
use sockets::{deaf_listener, reset};
use std::cell::Cell;
use std::future::Future;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A connected pair whose streams are made by `connect` and by `accept`.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let to = listener.local_addr().unwrap();
    let client = TcpStream::connect(to).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

/// A stream under test, and a blocking peer of std's.
fn with_peer() -> (TcpStream, std::net::TcpStream) {
    let (near, far) = kit::tcp_pair();
    (near.try_into().unwrap(), far)
}

async fn a_while() {
    sleep(Duration::from_millis(30)).await;
}

// F01
#[test]
fn a_refused_connect_says_so() {
    let _guard = watchdog(10);
    for _ in 0..20 {
        let connected = block_on(TcpStream::connect(kit::refused_addr()));
        assert_eq!(connected.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

// F01
#[test]
fn the_next_address_is_tried() {
    let _guard = watchdog(10);
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let good = listener.local_addr().unwrap();
        let addresses = [kit::refused_addr(), good];
        let client = TcpStream::connect(&addresses[..]).await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), good);
        let none: &[SocketAddr] = &[];
        let error = TcpStream::connect(none).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let bad = [kit::refused_addr(), kit::refused_addr()];
        let error = TcpStream::connect(&bad[..]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

// A15, F01
#[test]
fn a_connect_without_an_answer_stays_pending() {
    let _guard = watchdog(10);
    let (listener, queued) = deaf_listener();
    let to = listener.local_addr().unwrap();
    let wait = Duration::from_millis(200);
    assert!(block_on(timeout(wait, TcpStream::connect(to))).is_err());
    // Room in the queue, and a connection that is tried again: it succeeds in the end.
    let accepts = async {
        a_while().await;
        for _ in &queued {
            drop(listener.accept().unwrap());
        }
    };
    let (connected, ()) = block_on(join(TcpStream::connect(to), accepts));
    assert_eq!(connected.unwrap().peer_addr().unwrap(), to);
}

// F03
#[test]
fn a_reset_wakes_both_directions_and_is_told_once() {
    let _guard = watchdog(10);
    let (near, far) = with_peer();
    let near = Rc::new(near);
    block_on(async {
        let reads = Rc::clone(&near);
        let reads = spawn(async move { reads.read(&mut [0; 8]).await });
        let writes = Rc::clone(&near);
        let writes = spawn(async move { writes.write_all(&vec![0; 64 << 20]).await });
        a_while().await;
        assert!(!reads.is_finished() && !writes.is_finished());
        // What has not been read when it is closed makes it a reset.
        drop(far);
        let read = reads.await.unwrap();
        let written = writes.await.unwrap();
        let told = [read.err(), written.err()].into_iter().flatten();
        let kinds: Vec<_> = told.map(|error| error.kind()).collect();
        let resets = kinds.iter().filter(|&&it| it == ErrorKind::ConnectionReset);
        assert_eq!(resets.count(), 1, "{kinds:?}");
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
        let again = near.write(b"x").await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::BrokenPipe);
    });
}

// F05
#[test]
fn writes_to_a_peer_that_is_gone_are_broken_pipes() {
    let _guard = watchdog(10);
    let (near, far) = with_peer();
    drop(far);
    block_on(async {
        let error = loop {
            if let Err(error) = near.write_all(b"x").await {
                break error;
            }
            sleep(Duration::from_millis(1)).await;
        };
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(gone.contains(&error.kind()));
        let error = near.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

// F06
#[test]
fn a_connection_that_was_reset_is_accepted() {
    let _guard = watchdog(10);
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let to = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(to).unwrap();
        reset(client);
        let (stream, _) = listener.accept().await.unwrap();
        assert!(stream.peer_addr().is_err());
        assert!(stream.read(&mut [0; 8]).await.is_err());
        let client = TcpStream::connect(to).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        drop(stream);
    });
}

// F09
#[test]
fn vectored_writes_and_reads_lose_nothing() {
    let _guard = watchdog(10);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    block_on(async {
        let (client, server) = pair().await;
        let sends = async {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                // More slices than one call takes, the first of them empty; cut wherever the buffer
                // was full.
                let mut slices = vec![IoSlice::new(&[])];
                slices.extend(rest.chunks(97).take(1500).map(IoSlice::new));
                let count = client.write_vectored(&slices).await.unwrap();
                assert!(count > 0, "no false end");
                rest = &rest[count..];
            }
            client.shutdown(Shutdown::Write).unwrap();
        };
        let receives = async {
            let mut received = Vec::new();
            loop {
                let mut block = vec![0; 1500 * 31];
                let mut slices = vec![IoSliceMut::new(&mut [])];
                slices.extend(block.chunks_mut(31).map(IoSliceMut::new));
                match server.read_vectored(&mut slices).await.unwrap() {
                    0 => return received,
                    count => received.extend_from_slice(&block[..count]),
                }
            }
        };
        let ((), received) = join(sends, receives).await;
        assert!(received == bytes);
    });
}

// F09
#[test]
fn buffers_after_many_empty_ones_are_found() {
    let _guard = watchdog(10);
    block_on(async {
        let (client, server) = pair().await;
        let mut slices = vec![IoSlice::new(&[]); 1500];
        slices.push(IoSlice::new(b"found"));
        assert_eq!(client.write_vectored(&slices).await.unwrap(), 5);
        let mut bytes = [0; 5];
        let mut slices: Vec<_> = (0..1500).map(|_| IoSliceMut::new(&mut [])).collect();
        slices.push(IoSliceMut::new(&mut bytes));
        assert_eq!(server.read_vectored(&mut slices).await.unwrap(), 5);
        assert_eq!(&bytes, b"found");
        // The same by std's calls, for what is not a socket of ours.
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (near, far) = (Async::new(near).unwrap(), Async::new(far).unwrap());
        let mut slices = vec![IoSlice::new(&[]); 1500];
        slices.push(IoSlice::new(b"found"));
        assert_eq!(near.write_vectored(&slices).await.unwrap(), 5);
        assert_eq!(far.read(&mut bytes).await.unwrap(), 5);
    });
}

// F09
#[test]
fn empty_buffers_are_neither_ends_nor_waits() {
    let _guard = watchdog(10);
    block_on(async {
        let (client, server) = pair().await;
        assert_eq!(client.write_vectored(&[]).await.unwrap(), 0);
        assert_eq!(client.write_vectored(&[IoSlice::new(&[])]).await.unwrap(), 0);
        assert_eq!(client.write(&[]).await.unwrap(), 0);
        client.write_all(&[]).await.unwrap();
        server.read_exact(&mut []).await.unwrap();
        client.write_all(b"then this").await.unwrap();
        let mut buffer = [0; 9];
        server.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"then this");
    });
}

// F13
#[test]
fn peek_waits_and_leaves_the_data() {
    let _guard = watchdog(10);
    let (near, mut far) = with_peer();
    for round in 0..3 {
        let mut buffer = [0; 16];
        let writes = async {
            a_while().await;
            far.write_all(b"hello").unwrap();
        };
        let (peeked, ()) = block_on(join(near.peek(&mut buffer), writes));
        assert_eq!(&buffer[..peeked.unwrap()], b"hello", "round {round}");
        // The short peek tells nothing: the data is still there.
        assert!(poll_once(near.peek(&mut buffer)).is_ready());
        assert!(poll_once(near.readable()).is_ready());
        let Poll::Ready(read) = poll_once(near.read(&mut buffer)) else {
            panic!("the data is still there");
        };
        assert_eq!(&buffer[..read.unwrap()], b"hello");
        assert!(poll_once(near.peek(&mut buffer)).is_pending());
    }
    drop(far);
    assert_eq!(block_on(near.peek(&mut [0; 8])).unwrap(), 0, "the end");
}

// F20
#[test]
fn a_socket_connected_to_itself_works() {
    let _guard = watchdog(10);
    let stream = TcpStream::try_from(self_connected()).unwrap();
    assert_eq!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    block_on(async {
        let mut buffer = [0; 4];
        for _ in 0..3 {
            let (read, written) = join(stream.read_exact(&mut buffer), async {
                a_while().await;
                stream.write_all(b"self").await
            })
            .await;
            read.unwrap();
            written.unwrap();
            assert_eq!(&buffer, b"self");
        }
    });
}

/// A socket that is bound to a port and connected to it.
#[allow(unsafe_code, reason = "std connects no socket that is bound already")]
fn self_connected() -> std::net::TcpStream {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0);
    // SAFETY: the kernel has just made it, and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let mut size = size_of::<libc::sockaddr_in>() as u32;
    let raw = (&raw mut address).cast::<libc::sockaddr>();
    // SAFETY: `raw` points at an address of that size, which outlives the call.
    assert_eq!(unsafe { libc::bind(socket.as_raw_fd(), raw, size) }, 0);
    // SAFETY: `raw` points at room of that size, which outlives the call.
    let named = unsafe { libc::getsockname(socket.as_raw_fd(), raw, &raw mut size) };
    assert_eq!(named, 0);
    // SAFETY: `raw` points at an address of that size, which outlives the call.
    assert_eq!(unsafe { libc::connect(socket.as_raw_fd(), raw, size) }, 0);
    socket.into()
}

// F22
#[test]
fn an_accept_given_up_after_each_poll_loses_no_connection() {
    let _guard = watchdog(10);
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let to = listener.local_addr().unwrap();
        let mut accepted = 0;
        let clients: Vec<_> = (0..20)
            .map(|_| {
                if let Poll::Ready(connection) = poll_once(listener.accept()) {
                    connection.unwrap();
                    accepted += 1;
                }
                std::net::TcpStream::connect(to).unwrap()
            })
            .collect();
        while accepted < clients.len() {
            listener.readable().await.unwrap();
            while let Poll::Ready(connection) = poll_once(listener.accept()) {
                connection.unwrap();
                accepted += 1;
            }
        }
        assert!(poll_once(listener.accept()).is_pending());
    });
}

// J04
#[test]
fn incoming_goes_from_task_to_task() {
    let _guard = watchdog(10);
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let to = listener.local_addr().unwrap();
        // Leaked, so that tasks can hold what borrows from it.
        let mut incoming: Box<Incoming<'static>> =
            Box::new(Box::leak(Box::new(listener)).incoming());
        for _ in 0..3 {
            assert!(poll_once(incoming.next()).is_pending());
            let next = spawn(async move {
                let stream = incoming.next().await.expect("it never ends").unwrap();
                (stream, incoming)
            });
            a_while().await;
            let client = TcpStream::connect(to).await.unwrap();
            let (stream, back) = next.await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
            incoming = back;
        }
    });
}

// J05
#[test]
fn incoming_promises_no_number() {
    let _guard = watchdog(10);
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let mut incoming = listener.incoming();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        for waiting in [1, 0] {
            assert_eq!(Stream::size_hint(&incoming), (0, None), "{waiting} in the queue");
            assert!(!FusedStream::is_terminated(&incoming));
            assert_eq!(poll_once(incoming.next()).is_ready(), waiting == 1);
        }
        drop(client);
    });
}

/// Counts the polls of what it holds.
struct Counted<F>(F, Rc<Cell<usize>>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.set(self.1.get() + 1);
        Pin::new(&mut self.0).poll(cx)
    }
}

// G13
#[test]
fn one_poll_for_each_wake() {
    let _guard = watchdog(10);
    const MESSAGES: usize = 20;
    block_on(async {
        let (near, mut far) = with_peer();
        let polls = Rc::new(Cell::new(0));
        let reads = Box::pin(async move {
            for _ in 0..MESSAGES {
                near.read_exact(&mut [0; 5]).await.unwrap();
            }
        });
        let reads = spawn(Counted(reads, Rc::clone(&polls)));
        for _ in 0..MESSAGES {
            sleep(Duration::from_millis(2)).await;
            far.write_all(b"hello").unwrap();
        }
        reads.await.unwrap();
        // The first finds nothing; if we are slow, two messages come for one poll.
        assert!(polls.get() <= MESSAGES + 1, "{} polls", polls.get());
    });
}

/// What keeps a task busy with a socket that is always ready.
type Busy = fn(TcpStream) -> Pin<Box<dyn Future<Output = ()>>>;

fn busy_reading(stream: TcpStream) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move { while stream.peek(&mut [0; 8]).await.is_ok() {} })
}

fn busy_waiting(stream: TcpStream) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move { while stream.readable().await.is_ok() {} })
}

fn busy_failing(stream: TcpStream) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        loop {
            let fails = |_: &std::net::TcpStream| Err::<(), _>(ErrorKind::Other.into());
            assert!(stream.read_with(fails).await.is_err());
        }
    })
}

fn busy_writing(stream: TcpStream) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move { while stream.writable().await.is_ok() {} })
}

// G06
#[test]
fn a_socket_that_is_always_ready_starves_nobody() {
    let _guard = watchdog(10);
    let busy: [(&str, Busy); 4] = [
        ("reading", busy_reading),
        ("failing", busy_failing),
        ("readable", busy_waiting),
        ("writable", busy_writing),
    ];
    for (what, busy) in busy {
        println!("always {what}");
        let (near, mut far) = with_peer();
        far.write_all(b"always something to read").unwrap();
        block_on(async {
            drop(spawn(busy(near)));
            let (client, server) = pair().await;
            sleep(Duration::from_millis(10)).await;
            for _ in 0..10 {
                client.write_all(b"ping").await.unwrap();
                server.read_exact(&mut [0; 4]).await.unwrap();
            }
        });
    }
}

// G06
#[test]
fn a_flood_of_one_connection_starves_no_other() {
    let _guard = watchdog(10);
    let (near, far) = with_peer();
    block_on(async {
        drop(spawn(async move {
            let mut buffer = vec![0; 4096];
            while near.read(&mut buffer).await.unwrap() > 0 {}
        }));
        let flood = std::thread::spawn(move || {
            let mut far = far;
            while far.write_all(&[0; 65_536]).is_ok() {}
        });
        let (client, server) = pair().await;
        for _ in 0..50 {
            client.write_all(b"ping").await.unwrap();
            server.read_exact(&mut [0; 4]).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        assert!(!flood.is_finished());
    });
}

// F18
#[test]
fn what_comes_from_std_is_made_non_blocking() {
    let _guard = watchdog(10);
    let (near, far) = kit::tcp_pair();
    assert!(!kit::is_nonblocking(&near));
    let near = TcpStream::try_from(near).unwrap();
    assert!(kit::is_nonblocking(&near));
    let far = Async::new(far).unwrap();
    assert!(kit::is_nonblocking(&far));
    let listener = std::net::TcpListener::bind(LOCALHOST).unwrap();
    let listener = TcpListener::try_from(listener).unwrap();
    assert!(kit::is_nonblocking(&listener));
    block_on(async {
        let (client, server) = pair().await;
        assert!(kit::is_nonblocking(&client) && kit::is_nonblocking(&server));
    });
}

#[test]
fn an_end_is_told_as_often_as_one_asks() {
    let _guard = watchdog(10);
    let (near, mut far) = with_peer();
    far.write_all(b"last").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    block_on(async {
        let mut buffer = [0; 16];
        assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
        for _ in 0..3 {
            assert_eq!(near.read(&mut buffer).await.unwrap(), 0);
            near.readable().await.unwrap();
        }
        near.write_all(b"answer").await.unwrap();
        let error = near.read_exact(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
    drop(near);
    let mut answer = String::new();
    far.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}
