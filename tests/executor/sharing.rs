//! One object and several threads, each with a `block_on` of its own.

use crate::kit;
use kit::{CountingWaker, poll_once, poll_with, watchdog};
use selio::time::{sleep, timeout};
use selio::{Async, Timer, block_on, race, spawn, yield_now};
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::Waker;
use std::thread;
use std::time::Duration;

type Shared = Arc<Async<UnixStream>>;

fn pair() -> (Shared, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Arc::new(Async::new(near).unwrap()), far)
}

/// Time for another thread to fall asleep.
fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// How the `block_on` ends with which a shared object is registered.
#[derive(Clone, Copy, Debug)]
enum End {
    Returns,
    Panics,
    ThreadExits,
}

/// Waits for the shared object until the other one says that it is enough, and ends.
fn home(shared: &Shared, enough: &Async<UnixStream>, end: End, done: &Receiver<()>) {
    let waits = async {
        race(async { shared.readable().await.unwrap() }, async {
            enough.readable().await.unwrap();
        })
        .await;
        assert!(!matches!(end, End::Panics), "the home ends by a panic");
    };
    let ended = catch_unwind(AssertUnwindSafe(|| block_on(waits)));
    assert_eq!(ended.is_err(), matches!(end, End::Panics));
    if !matches!(end, End::ThreadExits) {
        // The thread lives on, and waits for nothing of selio's.
        let _ = done.recv();
    }
}

fn home_gone(end: End, guests: usize) {
    let _guard = watchdog(20);
    let (shared, mut far) = pair();
    let (enough, mut says_enough) = pair();
    let (finish, done): (Sender<()>, _) = mpsc::channel();
    thread::scope(|scope| {
        let at_home = scope.spawn(|| {
            let done = done;
            home(&shared, &enough, end, &done);
        });
        pause();
        let guests: Vec<_> =
            (0..guests).map(|_| scope.spawn(|| block_on(shared.read_exact(&mut [0])))).collect();
        pause();
        says_enough.write_all(b"x").unwrap();
        if matches!(end, End::ThreadExits) {
            at_home.join().unwrap();
        } else {
            pause();
        }
        far.write_all(&vec![b'x'; guests.len()]).unwrap();
        for guest in guests {
            guest.join().unwrap().unwrap();
        }
        drop(finish);
    });
}

// A40
#[test]
fn a_guest_outlives_a_home_that_returns() {
    home_gone(End::Returns, 1);
}

// A40
#[test]
fn a_guest_outlives_a_home_that_panics() {
    home_gone(End::Panics, 1);
}

// A40
#[test]
fn a_guest_outlives_a_home_whose_thread_exits() {
    home_gone(End::ThreadExits, 1);
}

// A40
#[test]
fn three_guests_outlive_their_home() {
    for end in [End::Returns, End::Panics, End::ThreadExits] {
        home_gone(end, 3);
    }
}

// A40
#[test]
fn a_guest_who_comes_when_the_home_has_ended() {
    let _guard = watchdog(10);
    for thread_exits in [false, true] {
        let (shared, mut far) = pair();
        let mut waits = Box::pin(shared.readable());
        thread::scope(|scope| {
            let mut leaves_a_waker = || {
                let (count, waker) = CountingWaker::new();
                assert!(poll_with(&mut waits, &waker).is_pending());
                block_on(yield_now());
                count
            };
            let home = match thread_exits {
                true => scope.spawn(leaves_a_waker).join().unwrap(),
                false => leaves_a_waker(),
            };
            let (comes, has_come) = mpsc::channel();
            let theirs = &shared;
            let guest = scope.spawn(move || {
                block_on(async {
                    let mut waits = pin!(theirs.readable());
                    assert!(poll_with(&mut waits, Waker::noop()).is_pending());
                    comes.send(()).unwrap();
                    waits.await
                })
            });
            has_come.recv().unwrap();
            // It sleeps by then, unless the machine is busy, and is woken by its own reactor.
            pause();
            far.write_all(b"x").unwrap();
            guest.join().unwrap().unwrap();
            assert_eq!(home.wakes(), 1, "the first waiter is woken, too");
        });
    }
}

// A40
#[test]
fn homes_that_come_and_go_lose_no_wake() {
    let _guard = watchdog(30);
    const MESSAGES: usize = 500;
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let shared = Async::new(receiver).unwrap();
    let received = AtomicUsize::new(0);
    thread::scope(|scope| {
        // Two whose `block_on` ends after each message or each millisecond, and one that stays.
        for stays in [false, false, true] {
            let (shared, received) = (&shared, &received);
            scope.spawn(move || {
                let receive = async || {
                    let mut buffer = [0; 8];
                    let wait = Duration::from_millis(if stays { 1_000 } else { 1 });
                    let receive = shared.read_with(|it| it.recv(&mut buffer));
                    if let Ok(done) = timeout(wait, receive).await {
                        done.unwrap();
                        received.fetch_add(1, Ordering::SeqCst);
                    }
                };
                while received.load(Ordering::SeqCst) < MESSAGES {
                    if stays {
                        block_on(async { receive().await });
                    } else {
                        block_on(receive());
                    }
                }
            });
        }
        for number in 0..MESSAGES {
            sender.send(&number.to_ne_bytes()).unwrap();
            // One at a time, so that a wake that is lost is a message that stays: 20 s are a hang.
            let start = std::time::Instant::now();
            while received.load(Ordering::SeqCst) <= number {
                assert!(start.elapsed() < Duration::from_secs(20), "message {number}");
                thread::yield_now();
            }
        }
    });
}

// A35
#[test]
fn two_threads_that_read_lose_no_byte_and_no_wake() {
    let _guard = watchdog(30);
    const BYTES: usize = 5_000;
    let (shared, far) = pair();
    let read = AtomicUsize::new(0);
    let reads = |quits: bool| {
        block_on(async {
            let mut buffer = [0; 3];
            loop {
                if quits {
                    // Leaves its place in the line at times.
                    drop(poll_once(shared.readable()));
                }
                match shared.read(&mut buffer).await.unwrap() {
                    0 => return,
                    count => read.fetch_add(count, Ordering::SeqCst),
                };
            }
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| reads(true));
        scope.spawn(|| reads(false));
        let mut far = far;
        let mut sent = 0;
        while sent < BYTES {
            let burst = 1 + sent % 5;
            far.write_all(&[7; 5][..burst]).unwrap();
            sent += burst;
            // Nobody writes on before all is read: what is lost is never made good by a later edge.
            while read.load(Ordering::SeqCst) < sent {
                thread::yield_now();
            }
        }
        drop(far);
    });
}

// A35
#[test]
fn a_reader_and_a_writer_on_two_threads() {
    let _guard = watchdog(30);
    const BYTES: usize = 8 << 20;
    let (shared, far) = pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut received = 0;
            block_on(async {
                let mut buffer = vec![0; 10_000];
                while received < BYTES {
                    received += shared.read(&mut buffer).await.unwrap();
                }
            });
        });
        scope.spawn(|| block_on(shared.write_all(&vec![1; BYTES])).unwrap());
        // The peer says back what it hears.
        let mut buffer = vec![0; 7_000];
        let mut echoed = 0;
        while echoed < BYTES {
            let count = (&far).read(&mut buffer).unwrap();
            (&far).write_all(&buffer[..count]).unwrap();
            echoed += count;
        }
    });
}

// A40
#[test]
fn one_object_moves_between_two_turning_threads() {
    let _guard = watchdog(30);
    const MOVES: usize = 10_000;
    let (shared, far) = pair();
    let batons = [pair(), pair()];
    let plays = |own: usize| {
        let ((baton, _), (_, other)) = (&batons[own], &batons[1 - own]);
        block_on(async {
            // This thread turns also while the object is with the other one.
            let ticks = spawn(async {
                loop {
                    sleep(Duration::from_micros(50)).await;
                }
            });
            for number in (own..MOVES).step_by(2) {
                if number > 0 {
                    baton.read_exact(&mut [0]).await.unwrap();
                }
                let mut buffer = [0; 8];
                let mut reads = Box::pin(shared.read(&mut buffer));
                // Nobody else waits, so that it joins this thread's reactor now.
                race(async { drop(reads.as_mut().await) }, yield_now()).await;
                (&far).write_all(b"x").unwrap();
                assert_eq!(reads.await.unwrap(), 1, "move {number}");
                let mut other = other;
                other.write_all(b"x").unwrap();
            }
            ticks.abort();
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| plays(0));
        scope.spawn(|| plays(1));
    });
}

// A40
#[test]
fn an_object_served_here_and_there() {
    let _guard = watchdog(10);
    let (shared, mut far) = pair();
    assert!(poll_once(shared.read(&mut [0; 8])).is_pending());
    for round in 0..3 {
        let mut serve = || -> io::Result<usize> {
            let mut buffer = [0; 8];
            let mut reads = Box::pin(shared.read(&mut buffer));
            block_on(async {
                race(async { drop(reads.as_mut().await) }, yield_now()).await;
                far.write_all(b"x").unwrap();
                reads.await
            })
        };
        assert_eq!(serve().unwrap(), 1, "round {round}, here");
        let there = thread::scope(|scope| scope.spawn(&mut serve).join().unwrap());
        assert_eq!(there.unwrap(), 1, "round {round}, there");
    }
}

// A40
#[test]
fn an_object_may_end_on_a_thread_that_never_waits() {
    let _guard = watchdog(10);
    for _ in 0..50 {
        let (shared, mut far) = pair();
        assert!(poll_once(shared.read(&mut [0; 8])).is_pending());
        far.write_all(b"x").unwrap();
        thread::spawn(move || drop(shared)).join().unwrap();
        block_on(yield_now());
    }
}

// A40
#[test]
fn a_waiter_taken_along_by_a_move_is_sent_home() {
    let _guard = watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let shared = Arc::new(Async::new(near).unwrap());
    let (counting, waker) = CountingWaker::new();
    // Polled once, like a child of a future that polls its children when they are woken only.
    let mine = Arc::clone(&shared);
    let mut child = Box::pin(async move { mine.readable().await });
    block_on(async { assert!(poll_with(&mut child, &waker).is_pending()) });
    // The object moves to a thread that waits for it, and the waiter with it. Then nothing waits.
    let theirs = Arc::clone(&shared);
    let elsewhere = thread::spawn(move || {
        block_on(async {
            assert!(timeout(Duration::from_millis(5), theirs.readable()).await.is_err())
        });
    });
    elsewhere.join().unwrap();
    far.write_all(b"x").unwrap();
    block_on(sleep(Duration::from_millis(5)));
    assert_eq!(counting.wakes(), 1);
    assert!(poll_with(&mut child, &waker).is_ready());
}

// A40
#[test]
fn a_home_that_sends_guests_away_keeps_its_timers() {
    let _guard = watchdog(10);
    let (shared, _far) = pair();
    let mut waits = Box::pin(shared.readable());
    let (count, waker) = CountingWaker::new();
    let mut timer = Timer::after(Duration::from_millis(20));
    block_on(async {
        assert!(poll_with(&mut waits, Waker::noop()).is_pending());
        // Woken only, like what somebody else's future has inside, and not polled in between.
        assert!(poll_with(&mut timer, &waker).is_pending());
        thread::scope(|scope| {
            let guest = || block_on(async { assert!(poll_once(shared.readable()).is_pending()) });
            scope.spawn(guest).join().unwrap();
        });
    });
    block_on(sleep(Duration::from_millis(40)));
    assert_eq!(count.wakes(), 1);
}
