//! Sockets when nothing happens, and numbers that change hands.
#![allow(unsafe_code, reason = "numbers are taken from under their owners")]

use crate::kit;
use crate::kit::sockets;
use kit::{CountingWaker, assert_quiet, case, poll_once, poll_with};
use selio::net::{TcpListener, TcpStream};
use selio::time::{sleep, timeout};
use selio::{Async, block_on, join, race, spawn};
use sockets::{fill, pair, register, send_urgent};
use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

const LOCALHOST: &str = "127.0.0.1:0";

pub(crate) fn cases() -> Vec<kit::Case> {
    [quiet_cases(), number_cases()].concat()
}

/// Nothing happens, and nothing is done.
fn quiet_cases() -> Vec<kit::Case> {
    vec![
        case("a_hang_up_that_nobody_awaits", a_hang_up_that_nobody_awaits),
        case("an_end_behind_a_blocked_writer", an_end_behind_a_blocked_writer),
        case("a_byte_that_another_took", a_byte_that_another_took),
        case("three_tasks_that_wait", three_tasks_that_wait),
        case("an_urgent_byte_does_not_spin", an_urgent_byte_does_not_spin),
        case("a_wake_from_afar_is_over_soon", a_wake_from_afar_is_over_soon),
        case("who_waits_alone_troubles_no_other_thread", who_waits_alone_troubles_no_other_thread),
    ]
}

/// The epoll sets of this process that watch a number.
fn watchers(number: RawFd) -> Vec<RawFd> {
    let sets = kit::open_fds().into_iter().filter(|(_, name)| name.contains("eventpoll"));
    let watches = |info: String| {
        let watched = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
        watched.flat_map(|line| line.split_whitespace().next()).any(|it| it == number.to_string())
    };
    sets.map(|(set, _)| set).filter(|&set| watches(kit::fdinfo(set))).collect()
}

// A40: nobody waits where it was waited for before, though something else is done there.
fn who_waits_alone_troubles_no_other_thread() {
    let (near, _far) = pair();
    let number = near.get_ref().as_raw_fd();
    block_on(async {
        register(&near);
        let before = watchers(number);
        let waits = || {
            block_on(async {
                let mut waits = Box::pin(near.readable());
                assert!(poll_with(&mut waits, &kit::noop_waker()).is_pending());
                watchers(number)
            })
        };
        let after = thread::scope(|scope| scope.spawn(waits).join().unwrap());
        assert_eq!((before.len(), after.len()), (1, 1));
        assert_ne!(before, after);
    });
}

/// Numbers that are closed, taken over, passed on or left to a child.
fn number_cases() -> Vec<kit::Case> {
    vec![
        case("a_number_with_a_new_owner", a_number_with_a_new_owner),
        case("a_number_that_comes_back", a_number_that_comes_back),
        case("a_number_closed_early", a_number_closed_early),
        case("a_number_closed_by_another_thread", a_number_closed_by_another_thread),
        case("a_number_taken_over", a_number_taken_over),
        case("nothing_is_inherited", nothing_is_inherited),
        case("a_forked_child_drops_it_all", a_forked_child_drops_it_all),
        case("credentials_cut_a_read", credentials_cut_a_read),
        case("standard_input", standard_input),
    ]
}

async fn a_while() {
    sleep(Duration::from_millis(300)).await;
}

// A12
fn a_hang_up_that_nobody_awaits() {
    let (near, far) = pair();
    let (reader, writer) = kit::pipe();
    let reader = Async::new(File::from(reader)).unwrap();
    register(&near);
    assert!(poll_once(reader.readable()).is_pending());
    drop((far, writer));
    assert_quiet(|| block_on(a_while()));
    assert!(poll_once(near.readable()).is_ready());
    assert!(poll_once(reader.readable()).is_ready());
}

// A12, A13
fn an_end_behind_a_blocked_writer() {
    let (near, far) = pair();
    fill(near.get_ref());
    assert_quiet(|| {
        block_on(async {
            let shuts_down = async {
                far.shutdown(Shutdown::Write).unwrap();
                a_while().await;
            };
            let writes = async { near.write_all(b"x").await.unwrap() };
            race(writes, shuts_down).await;
        });
    });
    assert!(poll_once(near.writable()).is_pending());
    assert!(poll_once(near.readable()).is_ready());
}

// A33
fn a_byte_that_another_took() {
    let (reader, writer) = kit::pipe();
    let dup = Async::new(File::from(kit::dup(&reader))).unwrap();
    let reader = Async::new(File::from(reader)).unwrap();
    let mut writer = File::from(writer);
    assert_quiet(|| {
        block_on(async {
            let (mut one, mut two) = ([0; 8], [0; 8]);
            let mut first = Box::pin(reader.read(&mut one));
            let mut second = Box::pin(dup.read(&mut two));
            let writes = async {
                sleep(Duration::from_millis(10)).await;
                writer.write_all(b"1").unwrap();
                a_while().await;
            };
            let mut read = 0;
            let reads = async {
                let either = async { (&mut first).await.map(|_| true) };
                let or = async { (&mut second).await.map(|_| false) };
                let first_won = race(either, or).await.unwrap();
                read += 1;
                // Whoever has lost keeps waiting, without a spin.
                if first_won { (&mut second).await } else { (&mut first).await }
            };
            let waits = async {
                writes.await;
                Ok(usize::MAX)
            };
            assert_eq!(race(reads, waits).await.unwrap(), usize::MAX);
            assert_eq!(read, 1);
        });
    });
    // The next byte reaches one of them again.
    let writes = async {
        sleep(Duration::from_millis(10)).await;
        writer.write_all(b"2").unwrap();
    };
    let mut buffer = [0; 8];
    block_on(join(dup.read(&mut buffer), writes)).0.unwrap();
    assert_eq!(buffer[0], b'2');
}

// F14
fn three_tasks_that_wait() {
    let socket = UdpSocket::bind(LOCALHOST).unwrap();
    let sender = UdpSocket::bind(LOCALHOST).unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    let socket = Rc::new(Async::new(socket).unwrap());
    block_on(async {
        for _ in 0..3 {
            let socket = Rc::clone(&socket);
            drop(spawn(async move {
                loop {
                    socket.read_with(|it| it.recv(&mut [0; 8])).await.unwrap();
                }
            }));
        }
        for _ in 0..30 {
            sender.send(b"x").unwrap();
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert_quiet(|| {
        block_on(async {
            for _ in 0..3 {
                let socket = Rc::clone(&socket);
                drop(spawn(async move { socket.read_with(|it| it.recv(&mut [0; 8])).await }));
            }
            a_while().await;
        });
    });
}

// A36
fn an_urgent_byte_does_not_spin() {
    let (near, far) = kit::tcp_pair();
    let near = TcpStream::try_from(near).unwrap();
    assert!(poll_once(near.readable()).is_pending());
    send_urgent(&far, b'!');
    assert_quiet(|| {
        let wait = Duration::from_millis(300);
        assert!(block_on(timeout(wait, near.readable())).is_err());
    });
}

// A38
fn a_wake_from_afar_is_over_soon() {
    let (near, _far) = pair();
    register(&near);
    let (woken, wake) = std::sync::mpsc::channel();
    let waker = std::cell::Cell::new(Some(woken));
    let far_away = thread::spawn(move || {
        let waker: std::task::Waker = wake.recv().unwrap();
        thread::sleep(Duration::from_millis(30));
        waker.wake();
    });
    let start = Instant::now();
    assert_quiet(|| {
        block_on(async {
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                if let Some(woken) = waker.take() {
                    woken.send(cx.waker().clone()).unwrap();
                }
                if polls < 2 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
            })
            .await;
            a_while().await;
        });
    });
    kit::assert_at_least(start.elapsed(), Duration::from_millis(330));
    far_away.join().unwrap();
}

// A02, A07
fn a_number_with_a_new_owner() {
    for _ in 0..100 {
        let (near, mut far) = pair();
        register(&near);
        let number = near.as_raw_fd();
        far.write_all(b"x").unwrap();
        // Closed with its event in flight.
        drop(near);
        let (next, _next_far) = pair();
        assert_eq!(next.as_raw_fd(), number, "the number is used again");
        let (count, waker) = CountingWaker::new();
        let mut waits = Box::pin(next.readable());
        assert!(poll_with(&mut waits, &waker).is_pending());
        block_on(sleep(Duration::ZERO));
        assert_eq!(count.wakes(), 0);
        assert!(poll_with(&mut waits, &waker).is_pending());
    }
}

/// A number that belongs to nobody in particular: dropping it closes nothing.
struct Bare(RawFd);

impl AsFd for Bare {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is not -1. Where a test has closed it, nothing but system calls will see it.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

fn bare(stream: UnixStream) -> Async<Bare> {
    use std::os::fd::IntoRawFd;
    Async::new(Bare(stream.into_raw_fd())).unwrap()
}

// A39
fn a_number_that_comes_back() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let dup = kit::dup(&near);
    let near = bare(near);
    let number = near.get_ref().0;
    assert!(poll_once(near.readable()).is_pending());
    kit::raw_close(number);
    kit::dup2(&dup, number);
    drop(near);
    let again = Async::new(Bare(number)).unwrap();
    let writes = async {
        sleep(Duration::from_millis(20)).await;
        far.write_all(b"x").unwrap();
    };
    block_on(join(again.readable(), writes)).0.unwrap();
}

// A07
fn a_number_closed_early() {
    let closed_early = || {
        let (near, far) = UnixStream::pair().unwrap();
        let near = bare(near);
        assert!(poll_once(near.readable()).is_pending());
        kit::raw_close(near.get_ref().0);
        drop((near, far));
    };
    (0..100).for_each(|_| closed_early());
    let before = kit::allocated_bytes();
    (0..10_000).for_each(|_| closed_early());
    let after = kit::allocated_bytes();
    assert!(after <= before + 1_000, "{before} bytes have become {after}");
    assert_quiet(|| block_on(a_while()));
}

// A09
fn a_number_closed_by_another_thread() {
    let (near, _far) = UnixStream::pair().unwrap();
    let near = bare(near);
    let number = near.get_ref().0;
    let wait = Duration::from_millis(300);
    let (count, waker) = CountingWaker::new();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(near.poll_readable(&mut context).is_pending());
    let closes = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        kit::raw_close(number);
    });
    assert_quiet(|| {
        // The kernel wakes nobody; we must not mind, either.
        let _ = block_on(timeout(wait, near.readable()));
    });
    closes.join().unwrap();
    drop(near);
    assert_eq!(count.wakers(), 1, "the waker went with the object");
}

// A08
fn a_number_taken_over() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let (other, _other_far) = UnixStream::pair().unwrap();
    let near = bare(near);
    assert!(poll_once(near.readable()).is_pending());
    kit::dup2(&other, near.get_ref().0);
    assert!(far.write_all(b"x").is_err(), "nobody is left to read");
    assert_quiet(|| {
        let wait = Duration::from_millis(300);
        assert!(block_on(timeout(wait, near.readable())).is_err());
    });
    let number = near.get_ref().0;
    drop(near);
    kit::raw_close(number);
    let (next, mut next_far) = pair();
    register(&next);
    next_far.write_all(b"x").unwrap();
    block_on(next.readable()).unwrap();
}

// A28
fn nothing_is_inherited() {
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let mut buffers = [[0; 8]; 2];
        let (one, two) = buffers.split_at_mut(1);
        let reads = join(client.read(&mut one[0]), server.read(&mut two[0]));
        let waits = join(reads, listener.accept());
        assert!(timeout(Duration::from_millis(10), waits).await.is_err());
        let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("/proc/"), "{listed}");
        assert!(!listed.contains("socket:") && !listed.contains("anon_inode"), "{listed}");
    });
}

// A29
fn a_forked_child_drops_it_all() {
    let (near, mut far) = pair();
    let listener = block_on(TcpListener::bind(LOCALHOST)).unwrap();
    register(&near);
    assert!(poll_once(listener.accept()).is_pending());
    let to = listener.local_addr().unwrap();
    let (near, listener) = (Some(near), Some(listener));
    let mut kept = (near, listener);
    let child = kit::in_child(|| {
        drop((kept.0.take(), kept.1.take()));
        // What the child makes itself works.
        let (near, mut far) = pair();
        let writes = async {
            sleep(Duration::from_millis(10)).await;
            far.write_all(b"x").unwrap();
        };
        block_on(join(near.readable(), writes)).0.unwrap();
    });
    assert!(kit::wait_status(child).success());
    let (near, listener) = (kept.0.unwrap(), kept.1.unwrap());
    let events = async {
        sleep(Duration::from_millis(20)).await;
        far.write_all(b"x").unwrap();
        std::net::TcpStream::connect(to).unwrap()
    };
    let waits = join(near.readable(), listener.accept());
    let ((readable, accepted), _client) = block_on(join(waits, events));
    readable.unwrap();
    accepted.unwrap();
}

// A34
fn credentials_cut_a_read() {
    let (near, far) = pair();
    let (fd, on, size) = (near.as_raw_fd(), 1_i32, size_of::<i32>() as u32);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
    // SAFETY: the value is the four bytes of `on`, which lives through the call.
    let set = unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), size) };
    assert_eq!(set, 0);
    register(&near);
    let child = kit::in_child(|| (&far).write_all(b"A").unwrap());
    assert!(kit::wait_status(child).success());
    (&far).write_all(b"BBB").unwrap();
    block_on(async {
        let mut buffer = [0; 64];
        assert_eq!(near.read(&mut buffer).await.unwrap(), 1, "two writers");
        assert_eq!(near.read(&mut buffer).await.unwrap(), 3);
    });
}

// A05
fn standard_input() {
    let mut buffer = [0; 16];
    // The runner's cases have </dev/null.
    let stdin = Async::new(std::io::stdin()).unwrap();
    block_on(async {
        stdin.readable().await.unwrap();
        assert_eq!(stdin.read(&mut buffer).await.unwrap(), 0);
    });
    drop(stdin);
    kit::dup2(File::open("/proc/self/cmdline").unwrap(), 0);
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    kit::dup2(&file, 0);
    let stdin = Async::new(std::io::stdin()).unwrap();
    block_on(async {
        stdin.readable().await.unwrap();
        stdin.read_exact(&mut buffer).await.unwrap();
    });
    assert_eq!(&buffer[..4], b"\x7fELF");
}
