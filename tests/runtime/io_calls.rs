//! The system calls around sockets, and a kernel that refuses them.

use crate::kit;
use crate::kit::sockets;
use kit::{CountingWaker, Trace, case, poll_once, poll_with};
use selio::net::{SeqpacketListener, TcpListener, TcpStream, UnixListener};
use selio::time::{sleep, timeout};
use selio::{block_on, join, race, yield_now};
use sockets::{deaf_listener, drain, fill, pair, register};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const LOCALHOST: &str = "127.0.0.1:0";

pub(crate) fn cases() -> Vec<kit::Case> {
    [refusal_cases(), traced_cases()].concat()
}

fn refusal_cases() -> Vec<kit::Case> {
    vec![
        case("a_connect_given_up", a_connect_given_up),
        case("accept_without_descriptors", accept_without_descriptors),
        case("accept_that_fails_in_passing", accept_that_fails_in_passing),
        case("accept_that_runs_out_once", accept_that_runs_out_once),
        case("accept_that_is_refused_again_and_again", accept_that_is_refused_again_and_again)
            .secs(60),
        case("accept_for_which_epoll_has_no_room", accept_for_which_epoll_has_no_room),
        case("epoll_that_takes_no_more", epoll_that_takes_no_more),
        case("_accepts_one", part_accepts_one),
        case("_accepts_after_an_error", part_accepts_after_an_error),
    ]
}

fn traced_cases() -> Vec<kit::Case> {
    vec![
        case("registered_after_connect", registered_after_connect),
        case("idle_waits", idle_waits),
        case("one_epoll_ctl_for_both_directions", one_epoll_ctl_for_both_directions),
        case("each_number_is_closed_once", each_number_is_closed_once),
        case("accepts_no_more_than_there_are", accepts_no_more_than_there_are),
        case("_accepts", part_accepts),
        case("no_call_for_nothing_after_connect", no_call_for_nothing_after_connect),
        case("_connects", part_connects),
        case("_connects_and_reads", part_connects_and_reads),
        case("_idles", part_idles),
        case("_reads_and_writes", part_reads_and_writes),
        case("_opens_and_closes", part_opens_and_closes),
    ]
}

// F01
fn a_connect_given_up() {
    let (listener, queued) = deaf_listener();
    let to = listener.local_addr().unwrap();
    let before = kit::open_fds();
    for _ in 0..20 {
        assert!(poll_once(TcpStream::connect(to)).is_pending());
        assert!(block_on(timeout(Duration::from_millis(1), TcpStream::connect(to))).is_err());
        let refused = block_on(TcpStream::connect(kit::refused_addr()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(kit::open_fds(), before);
    drop(queued);
}

// F07
fn accept_without_descriptors() {
    let (to, listener) = {
        let listener = block_on(TcpListener::bind(LOCALHOST)).unwrap();
        (listener.local_addr().unwrap(), listener)
    };
    let clients: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(to).unwrap()).collect();
    block_on(sleep(Duration::from_millis(1)));
    let used = kit::open_fds().len() as u64;
    let before = kit::set_nofile_limit(used - 1);
    let mut incoming = listener.incoming();
    block_on(async {
        let start = Instant::now();
        let mut errors = 0;
        let refused = async {
            while let Some(accepted) = incoming.next().await {
                let error = accepted.expect_err("there is no descriptor left");
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                errors += 1;
            }
        };
        race(refused, sleep(Duration::from_millis(300))).await;
        kit::assert_at_least(start.elapsed(), Duration::from_millis(300));
        assert!((1..=10).contains(&errors), "{errors} errors in 300 ms");
    });
    kit::set_nofile_limit(before);
    let accepted = block_on(async {
        let mut accepted = Vec::new();
        while accepted.len() < clients.len() {
            // The pause of the last error may be running still.
            match incoming.next().await.expect("it never ends") {
                Ok(stream) => accepted.push(stream),
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
            }
        }
        accepted
    });
    assert_eq!(accepted.len(), 5);
}

/// Accepts for a while, and returns how often it was told an error. It must be this one.
fn refusals<T>(errno: i32, mut accept: impl AsyncFnMut() -> std::io::Result<T>) -> usize {
    block_on(async {
        let mut errors = 0;
        let refused = async {
            loop {
                let error = accept().await.err().expect("it is refused");
                assert_eq!(error.raw_os_error(), Some(errno), "{error}");
                errors += 1;
            }
        };
        race(refused, sleep(Duration::from_millis(300))).await;
        errors
    })
}

/// A loop that tells the error and goes on would spin.
fn accept_that_is_refused_again_and_again() {
    let address = |kind: &str| SocketAddr::from_abstract_name(kit::unique_name(kind)).unwrap();
    let tcp = block_on(TcpListener::bind(LOCALHOST)).unwrap();
    let unix = UnixListener::bind_addr(&address("unix")).unwrap();
    let packets = SeqpacketListener::bind_addr(&address("seqpacket")).unwrap();
    // What runs out, what a firewall says (accept(2)), and an epoll that takes no more.
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EPERM] {
        kit::refuse(&[(libc::SYS_accept4, errno)]);
        let errors = [
            refusals(errno, async || tcp.accept().await),
            refusals(errno, async || unix.accept().await),
            refusals(errno, async || packets.accept().await),
        ];
        assert!(errors.iter().all(|errors| (1..=10).contains(errors)), "{errno}: {errors:?}");
    }
}

fn accept_for_which_epoll_has_no_room() {
    let tcp = block_on(TcpListener::bind(LOCALHOST)).unwrap();
    block_on(sleep(Duration::from_millis(1)));
    kit::refuse_when(libc::SYS_epoll_ctl, 1, libc::EPOLL_CTL_ADD as u32, libc::ENOSPC);
    let errors = refusals(libc::ENOSPC, async || tcp.accept().await);
    assert!((1..=10).contains(&errors), "{errors}");
}

/// Runs a part whose first `accept4` fails.
fn with_first_accept(part: &str, error: &str) {
    let inject = format!("inject=accept4:error={error}:when=1");
    let Some((ended, trace)) = kit::rerun(part).strace_with(&["-e", &inject]) else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    assert!(trace.calls("accept4")[0].contains("(INJECTED)"), "it was refused");
}

// F06
fn accept_that_fails_in_passing() {
    for error in ["ECONNABORTED", "EPROTO", "ENETDOWN", "EINTR"] {
        with_first_accept("_accepts_one", error);
    }
}

fn part_accepts_one() {
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, peer) = listener.accept().await.expect("such errors are not told");
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

// F07
fn accept_that_runs_out_once() {
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        with_first_accept("_accepts_after_an_error", error);
    }
}

fn part_accepts_after_an_error() {
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().await.expect_err("it is told");
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

// A27
fn epoll_that_takes_no_more() {
    let (near, mut far) = pair();
    register(&near);
    kit::refuse_when(libc::SYS_epoll_ctl, 1, libc::EPOLL_CTL_ADD as u32, libc::ENOSPC);
    let (other, mut other_far) = pair();
    let (count, waker) = CountingWaker::new();
    for _ in 0..3 {
        let mut waits = Box::pin(other.readable());
        match poll_with(&mut waits, &waker) {
            std::task::Poll::Ready(Err(error)) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            }
            poll => panic!("no error but {poll:?}"),
        }
    }
    assert_eq!(count.wakers(), 1, "no waker was kept");
    assert_eq!(count.wakes(), 0, "who is told the error need not be woken");
    // What was there before works on, and so does what need not wait.
    far.write_all(b"x").unwrap();
    other_far.write_all(b"x").unwrap();
    block_on(async {
        near.readable().await.unwrap();
        assert_eq!(other.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

fn traced(part: &str) -> Trace {
    let Some((ended, trace)) = kit::rerun(part).strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    trace.between("from here", "to here")
}

// A15
fn registered_after_connect() {
    let trace = traced("_connects");
    let position = |what: &str| trace.lines.iter().position(|line| line.contains(what));
    let connects = position("connect(").expect("it connects");
    let registers = position("EPOLL_CTL_ADD").expect("it has to wait");
    assert!(connects < registers);
    assert_eq!(trace.count("epoll_ctl"), 2, "added once, and deleted when it was given up");
}

fn part_connects() {
    let (listener, _queued) = deaf_listener();
    let to = listener.local_addr().unwrap();
    kit::mark("from here");
    assert!(block_on(timeout(Duration::from_millis(20), TcpStream::connect(to))).is_err());
    kit::mark("to here");
}

/// The question whether the connection has been made tells as well that there is no error, and
/// nothing to read yet.
fn no_call_for_nothing_after_connect() {
    let trace = traced("_connects_and_reads");
    assert_eq!(trace.count("getsockopt"), 0, "nobody has spoken of an error");
    let reads = trace.calls("recvfrom");
    assert!(reads.len() == 1 && reads[0].trim_end().ends_with("= 1"), "{reads:?}");
    assert_eq!(trace.count("epoll_ctl"), 1, "it waits for what is to be read");
}

fn part_connects_and_reads() {
    let listener = std::net::TcpListener::bind(LOCALHOST).unwrap();
    let to = listener.local_addr().unwrap();
    block_on(async {
        kit::mark("from here");
        let stream = TcpStream::connect(to).await.unwrap();
        assert!(poll_once(stream.read(&mut [0])).is_pending());
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 1);
        kit::mark("to here");
    });
}

/// To find no connection costs `accept4` more than anything else that is done for one.
fn accepts_no_more_than_there_are() {
    let trace = traced("_accepts");
    let (accepted, failed): (Vec<_>, Vec<_>) =
        trace.calls("accept4").into_iter().partition(|line| !line.contains("EAGAIN"));
    assert_eq!(accepted.len(), 2 * (10 + 5));
    assert_eq!(failed.len(), 2, "the first of each listener, which is not registered yet");
}

fn part_accepts() {
    let name = SocketAddr::from_abstract_name(kit::unique_name("accepts")).unwrap();
    kit::mark("from here");
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let to = listener.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect(to).unwrap();
        accept_all(&connect, async || _ = listener.accept().await.unwrap()).await;
        let listener = UnixListener::bind_addr(&name).unwrap();
        let connect = || std::os::unix::net::UnixStream::connect_addr(&name).unwrap();
        accept_all(&connect, async || _ = listener.accept().await.unwrap()).await;
    });
    kit::mark("to here");
}

/// Ten that come one by one, while somebody waits for them, and five that have come before.
async fn accept_all<S>(connect: impl Fn() -> S, accept: impl AsyncFn()) {
    for _ in 0..10 {
        let connect = async {
            yield_now().await;
            connect()
        };
        join(accept(), connect).await;
    }
    let clients: Vec<S> = (0..5).map(|_| connect()).collect();
    for _ in &clients {
        accept().await;
    }
}

const WAITS: usize = 100;

// A37
fn idle_waits() {
    let trace = traced("_idles");
    let waits = trace.count("epoll_pwait2") + trace.count("epoll_wait");
    assert!(waits <= 2 * WAITS + 2, "{waits} waits");
    for call in ["epoll_ctl", "timerfd_settime", "timerfd_create"] {
        assert_eq!(trace.count(call), 0, "{call}");
    }
    // One each to wake the other thread's blocking read, and none to wake ourselves.
    let wakes = trace.calls("write").into_iter().filter(|line| line.contains("\\1\\0\\0\\0"));
    assert_eq!(wakes.count(), 0, "an eventfd was written");
}

fn part_idles() {
    // Not of the Unix kind, which reports room for a write whenever the peer reads.
    let (near, far) = kit::tcp_pair();
    let near = TcpStream::try_from(near).unwrap();
    assert!(poll_once(near.readable()).is_pending());
    // A peer that takes its time, so that we wait for each byte.
    let answers = thread::spawn(move || {
        let mut byte = [0];
        while (&far).read(&mut byte).unwrap() > 0 {
            thread::sleep(Duration::from_millis(1));
            (&far).write_all(&byte).unwrap();
        }
    });
    block_on(async {
        kit::mark("from here");
        for _ in 0..WAITS {
            near.write_all(b"x").await.unwrap();
            near.read_exact(&mut [0]).await.unwrap();
        }
        for _ in 0..WAITS {
            sleep(Duration::from_micros(500)).await;
        }
        kit::mark("to here");
    });
    drop(near);
    answers.join().unwrap();
}

// A17
fn one_epoll_ctl_for_both_directions() {
    assert_eq!(traced("_reads_and_writes").count("epoll_ctl"), 1);
}

fn part_reads_and_writes() {
    let (near, mut far) = pair();
    block_on(sleep(Duration::ZERO));
    fill(near.get_ref());
    kit::mark("from here");
    for _ in 0..10 {
        let waits = || join(near.readable(), near.write_all(b"z"));
        let late = Duration::from_millis(2);
        assert!(block_on(timeout(late, waits())).is_err());
        drain(&far);
        far.write_all(b"x").unwrap();
        let (readable, written) = block_on(waits());
        readable.unwrap();
        written.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(block_on(near.read(&mut buffer)).unwrap(), 1);
        fill(near.get_ref());
    }
    kit::mark("to here");
}

// F21
fn each_number_is_closed_once() {
    let trace = traced("_opens_and_closes");
    for call in ["close", "epoll_ctl"] {
        for line in trace.calls(call) {
            assert!(line.trim_end().ends_with("= 0"), "{line}");
        }
    }
    let opened = trace.count("socketpair") * 2 + trace.count("socket") + trace.count("accept4");
    assert_eq!(trace.count("close"), opened);
    assert!(opened >= 40);
}

fn part_opens_and_closes() {
    // What a thread does only once is done here.
    register(&pair().0);
    kit::mark("from here");
    for round in 0..10 {
        let (near, far) = pair();
        register(&near);
        match round % 3 {
            0 => drop(near),
            1 => drop(near.into_inner().unwrap()),
            _ => drop(OwnedFd::from(near)),
        }
        drop(far);
        block_on(async {
            let listener = TcpListener::bind(LOCALHOST).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            assert!(poll_once(server.read(&mut [0; 8])).is_pending());
            drop(client);
            drop(std::net::TcpStream::try_from(server).unwrap());
        });
    }
    kit::mark("to here");
}
