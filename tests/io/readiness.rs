//! Whether `Async` wakes whom it must, whatever was done to the descriptor, and by whom.

use crate::kit;
use crate::kit::sockets;
use kit::{CountingWaker, poll_once, poll_with, watchdog};
use selio::time::{sleep, timeout};
use selio::{Async, block_on, join, race, spawn};
use sockets::{drain, fill, pair};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Lets the reactor see whatever has happened.
fn turn() {
    block_on(sleep(Duration::from_millis(1)));
}

/// Long enough for a wrong wake to show.
async fn a_while() {
    sleep(Duration::from_millis(30)).await;
}

/// Brings an `Async` to believe something about its readiness.
type Belief = fn(&Async<UnixStream>, &UnixStream);

/// The ways in which an `Async` may have come to believe something about its readiness.
const BELIEFS: [(&str, Belief); 5] = [
    ("fresh", |_, _| {}),
    ("blocked", |near, _| {
        assert!(poll_once(near.read(&mut [0; 8])).is_pending());
    }),
    ("short", |near, mut far| {
        far.write_all(b"x").unwrap();
        block_on(near.read(&mut [0; 8])).unwrap();
    }),
    ("full", |near, mut far| {
        far.write_all(b"12345678").unwrap();
        block_on(near.read(&mut [0; 8])).unwrap();
    }),
    ("edge", believe_in_an_edge),
];

/// An edge was reported, and what it told of is gone.
fn believe_in_an_edge(near: &Async<UnixStream>, mut far: &UnixStream) {
    assert!(poll_once(near.read(&mut [0; 8])).is_pending());
    far.write_all(b"x").unwrap();
    turn();
    drain(near.get_ref());
}

// F17
#[test]
fn readable_is_truthful_when_there_is_nothing() {
    let _guard = watchdog(10);
    for (belief, bring_about) in BELIEFS {
        let (near, mut far) = pair();
        bring_about(&near, &far);
        assert!(poll_once(near.readable()).is_pending(), "{belief}");
        let poll = poll_once(poll_fn(|cx| near.poll_readable(cx)));
        assert!(poll.is_pending(), "{belief}, by poll");
        let writes = async {
            a_while().await;
            far.write_all(b"y").unwrap();
        };
        block_on(join(near.readable(), writes)).0.unwrap();
        assert_eq!(drain(near.get_ref()), 1, "{belief}");
        assert!(poll_once(near.readable()).is_pending(), "{belief}, after");
    }
}

// F17
#[test]
fn readable_is_truthful_when_there_is_something() {
    let _guard = watchdog(10);
    for (belief, bring_about) in BELIEFS {
        let (near, mut far) = pair();
        bring_about(&near, &far);
        far.write_all(b"left here").unwrap();
        assert!(poll_once(near.readable()).is_ready(), "{belief}");
        let poll = poll_once(poll_fn(|cx| near.poll_readable(cx)));
        assert!(poll.is_ready(), "{belief}, by poll");
        let mut buffer = [0; 4];
        block_on(near.read_exact(&mut buffer)).unwrap();
        assert!(poll_once(near.readable()).is_ready(), "{belief}, the rest");
        drain(near.get_ref());
        assert!(poll_once(near.readable()).is_pending(), "{belief}, after");
    }
}

// F17
#[test]
fn writable_is_truthful() {
    let _guard = watchdog(10);
    let (near, far) = pair();
    assert!(poll_once(near.writable()).is_ready(), "an empty buffer");
    fill(near.get_ref());
    assert!(poll_once(near.writable()).is_pending(), "a full buffer");
    let poll = poll_once(poll_fn(|cx| near.poll_writable(cx)));
    assert!(poll.is_pending(), "a full buffer, by poll");
    drain(&far);
    assert!(poll_once(near.writable()).is_ready(), "there is room again");
    fill(near.get_ref());
    let drains = async {
        a_while().await;
        drain(&far);
    };
    block_on(join(near.writable(), drains)).0.unwrap();
    assert!(near.get_ref().write(b"x").is_ok());
}

// F17
#[test]
fn a_duplicate_that_drains_hangs_nobody() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let dup = UnixStream::from(kit::dup(&near));
    for round in 0..5 {
        assert!(poll_once(near.read(&mut [0; 8])).is_pending());
        far.write_all(b"taken").unwrap();
        turn();
        assert_eq!(drain(&dup), 5);
        assert!(poll_once(near.readable()).is_pending(), "round {round}");
        let writes = async {
            a_while().await;
            far.write_all(b"kept").unwrap();
        };
        let mut buffer = [0; 8];
        let (read, ()) = block_on(join(near.read(&mut buffer), writes));
        assert_eq!(&buffer[..read.unwrap()], b"kept", "round {round}");
    }
}

// F14
#[test]
fn three_tasks_share_one_direction() {
    let _guard = watchdog(10);
    const DATAGRAMS: usize = 300;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    let socket = Rc::new(Async::new(socket).unwrap());
    let received = block_on(async {
        let receive = |socket: Rc<Async<UdpSocket>>| async move {
            let mut received = Vec::new();
            loop {
                let mut buffer = [0; 8];
                socket.read_with(|it| it.recv(&mut buffer)).await.unwrap();
                match usize::from_ne_bytes(buffer) {
                    usize::MAX => return received,
                    number => received.push(number),
                }
            }
        };
        let tasks: Vec<_> = (0..3).map(|_| spawn(receive(Rc::clone(&socket)))).collect();
        for number in 0..DATAGRAMS {
            sender.send(&number.to_ne_bytes()).unwrap();
            if number % 7 == 0 {
                // So that they wait at times, all three of them.
                sleep(Duration::from_millis(1)).await;
            }
        }
        for _ in &tasks {
            sender.send(&usize::MAX.to_ne_bytes()).unwrap();
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    let mut received = received;
    received.sort_unstable();
    assert_eq!(received, (0..DATAGRAMS).collect::<Vec<_>>());
}

// F15
#[test]
fn dropping_the_writer_leaves_the_reader_waiting() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    fill(near.get_ref());
    block_on(async {
        let mut reads = Box::pin(near.readable());
        {
            let writes = near.write_all(b"x");
            let both = join(&mut reads, writes);
            assert!(timeout(Duration::from_millis(20), both).await.is_err());
        }
        far.write_all(b"y").unwrap();
        reads.await.unwrap();
    });
}

// F15
#[test]
fn dropping_the_reader_leaves_the_writer_waiting() {
    let _guard = watchdog(10);
    let (near, far) = pair();
    fill(near.get_ref());
    block_on(async {
        let mut writes = Box::pin(near.writable());
        {
            let mut buffer = [0; 8];
            let both = join(&mut writes, near.read(&mut buffer));
            assert!(timeout(Duration::from_millis(20), both).await.is_err());
        }
        drain(&far);
        writes.await.unwrap();
    });
}

// F16
#[test]
fn a_dropped_waiter_takes_its_waker_along() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (first, first_waker) = CountingWaker::new();
    let (second, second_waker) = CountingWaker::new();
    let mut one = Box::pin(near.readable());
    let mut two = Box::pin(near.readable());
    assert!(poll_with(&mut one, &first_waker).is_pending());
    assert!(poll_with(&mut two, &second_waker).is_pending());
    assert_eq!((first.wakers(), second.wakers()), (2, 2));
    drop(one);
    assert_eq!((first.wakers(), second.wakers()), (1, 2));
    far.write_all(b"x").unwrap();
    turn();
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert!(poll_with(&mut two, &second_waker).is_ready());
}

// F16
#[test]
fn the_only_waiter_dropped_leaves_nothing() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (count, waker) = CountingWaker::new();
    for _ in 0..100 {
        let mut waits = Box::pin(near.readable());
        assert!(poll_with(&mut waits, &waker).is_pending());
        let mut buffer = [0; 4];
        let mut reads = Box::pin(near.read(&mut buffer));
        assert!(poll_with(&mut reads, &waker).is_pending());
    }
    assert_eq!(count.wakers(), 1, "waiters pile up");
    far.write_all(b"x").unwrap();
    turn();
    assert_eq!(count.wakes(), 0);
}

// B15, G12
#[test]
fn polling_again_keeps_one_waker() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (count, waker) = CountingWaker::new();
    let mut waits = Box::pin(near.readable());
    for _ in 0..1000 {
        assert!(poll_with(&mut waits, &waker).is_pending());
        // Another clone each time, as a task that moves between executors has it.
        let again = waker.clone();
        assert!(poll_with(&mut waits, &again).is_pending());
        let poll = near.poll_readable(&mut Context::from_waker(&again));
        assert!(poll.is_pending());
    }
    assert!(count.wakers() <= 3, "{} wakers", count.wakers());
    assert_eq!(count.wakes(), 0, "nobody is woken by waiting");
    far.write_all(b"x").unwrap();
    turn();
    assert!(count.wakes() >= 1);
    assert!(poll_with(&mut waits, &waker).is_ready());
}

// B15
#[test]
fn polling_again_with_the_same_waker_clones_it_once() {
    let _guard = watchdog(10);
    for alone in [true, false] {
        let (near, _far) = pair();
        let clones = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&clones);
        let count = move || _ = counts.fetch_add(1, Ordering::SeqCst);
        let waker = kit::hostile().on_clone(count).waker();
        block_on(async {
            let mut first = Box::pin(near.readable());
            assert!(alone || poll_with(&mut first, &kit::noop_waker()).is_pending());
            let mut waits = Box::pin(near.readable());
            for _ in 0..3 {
                assert!(poll_with(&mut waits, &waker).is_pending());
            }
        });
        assert_eq!(clones.load(Ordering::SeqCst), 1, "alone: {alone}");
    }
}

// B15
#[test]
fn one_of_several_polled_again_keeps_one_waker() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (former, former_waker) = CountingWaker::new();
    let (last, last_waker) = CountingWaker::new();
    block_on(async {
        let mut first = Box::pin(near.readable());
        let mut second = Box::pin(near.readable());
        assert!(poll_with(&mut first, &kit::noop_waker()).is_pending());
        assert!(poll_with(&mut second, &former_waker).is_pending());
        assert_eq!(former.wakers(), 2, "it waits behind the first");
        drop(first);
        assert!(poll_with(&mut second, &last_waker).is_pending());
        assert_eq!((former.wakers(), last.wakers()), (1, 2));
        far.write_all(b"x").unwrap();
        a_while().await;
        assert_eq!((former.wakes(), last.wakes()), (0, 1));
        assert!(poll_with(&mut second, &last_waker).is_ready());
    });
}

// B15
#[test]
fn replacing_a_waiter_wakes_nobody() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (first, first_waker) = CountingWaker::new();
    let (second, second_waker) = CountingWaker::new();
    let poll = |waker| near.poll_readable(&mut Context::from_waker(waker));
    for _ in 0..10 {
        assert!(poll(&first_waker).is_pending());
        assert!(poll(&second_waker).is_pending());
    }
    assert_eq!((first.wakes(), second.wakes()), (0, 0));
    assert_eq!((first.wakers(), second.wakers()), (1, 2), "the last is kept");
    far.write_all(b"x").unwrap();
    turn();
    assert_eq!((first.wakes(), second.wakes()), (0, 1), "the last is woken");
}

// B16, J04
#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (first, first_waker) = CountingWaker::new();
    let (second, second_waker) = CountingWaker::new();
    let mut buffer = [0; 8];
    let mut reads = Box::pin(near.read(&mut buffer));
    assert!(poll_with(&mut reads, &first_waker).is_pending());
    assert!(poll_with(&mut reads, &second_waker).is_pending());
    assert_eq!(first.wakers(), 1, "the former is not kept");
    far.write_all(b"x").unwrap();
    turn();
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert!(poll_with(&mut reads, &second_waker).is_ready());
}

/// Reads one byte; the first time this would block, does something before it says so.
fn disturbed(near: &Async<UnixStream>, disturb: impl FnOnce()) -> io::Result<usize> {
    let mut disturb = Some(disturb);
    block_on(near.read_with(|mut stream| {
        let tried = stream.read(&mut [0]);
        if let (Err(error), Some(disturb)) = (&tried, disturb.take()) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            disturb();
        }
        tried
    }))
}

// B17
#[test]
fn what_comes_between_the_try_and_the_wait_is_seen() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    for _ in 0..3 {
        // The first time it is registered afterwards, then it is already.
        let read = disturbed(&near, || far.write_all(b"x").unwrap());
        assert_eq!(read.unwrap(), 1);
    }
}

// A35
#[test]
fn an_edge_reported_during_a_try_is_kept() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    for _ in 0..3 {
        believe_in_an_edge(&near, &far);
        let read = disturbed(&near, || {
            far.write_all(b"x").unwrap();
            turn();
        });
        assert_eq!(read.unwrap(), 1);
    }
}

// A35
#[test]
fn many_edges_during_a_try_do_not_cancel_out() {
    let _guard = watchdog(60);
    let (near, mut far) = pair();
    // Counters of 8 and of 16 bits come round to where they were, and the last edge has told of the
    // byte.
    for edges in [255, 256, 257, 65_536] {
        believe_in_an_edge(&near, &far);
        let (count, waker) = CountingWaker::new();
        let read = disturbed(&near, || {
            for seen in 0..edges {
                drain(near.get_ref());
                let waits = near.poll_readable(&mut Context::from_waker(&waker));
                assert!(waits.is_pending());
                far.write_all(b"x").unwrap();
                // Each edge comes in a turn of its own.
                block_on(sleep(Duration::ZERO));
                assert_eq!(count.wakes(), seen + 1);
            }
        });
        assert_eq!(read.unwrap(), 1, "after {edges} edges");
    }
}

// A17
#[test]
fn each_direction_wakes_at_its_own_event() {
    let _guard = watchdog(10);
    for write_first in [true, false] {
        let (near, mut far) = pair();
        fill(near.get_ref());
        let (reads, reads_waker) = CountingWaker::new();
        let (writes, writes_waker) = CountingWaker::new();
        let mut reading = Box::pin(near.readable());
        let mut writing = Box::pin(near.write_all(b"z"));
        assert!(poll_with(&mut reading, &reads_waker).is_pending());
        assert!(poll_with(&mut writing, &writes_waker).is_pending());
        for step in 0..2 {
            if write_first == (step == 0) {
                drain(&far);
                turn();
                assert_eq!(writes.wakes(), 1, "room, and the writer waits on");
                assert!(poll_with(&mut writing, &writes_waker).is_ready());
            } else {
                far.write_all(b"x").unwrap();
                turn();
                assert!(reads.wakes() >= 1, "data, and the reader waits on");
                assert!(poll_with(&mut reading, &reads_waker).is_ready());
            }
        }
    }
}

// H16
#[test]
fn a_forgotten_waiter_harms_nobody() {
    let _guard = watchdog(10);
    let (near, mut far) = pair();
    let (count, waker) = CountingWaker::new();
    for _ in 0..3 {
        let mut waits = Box::pin(near.readable());
        assert!(poll_with(&mut waits, &waker).is_pending());
        std::mem::forget(waits);
    }
    let writes = async {
        a_while().await;
        far.write_all(b"x").unwrap();
    };
    block_on(join(near.readable(), writes)).0.unwrap();
    assert!(count.wakes() <= 3);
    drop(near);
    assert_eq!(count.wakers(), 1, "the object takes the forgotten along");
}

// A09
#[test]
fn a_waker_that_was_left_goes_with_its_object() {
    let _guard = watchdog(10);
    let (near, _far) = pair();
    let (count, waker) = CountingWaker::new();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_readable(&mut cx).is_pending());
    fill(near.get_ref());
    assert!(near.poll_writable(&mut cx).is_pending());
    assert_eq!(count.wakers(), 3);
    drop(near);
    assert_eq!((count.wakers(), count.wakes()), (1, 0));
}

// F22
#[test]
fn a_read_given_up_after_each_poll_loses_nothing() {
    let _guard = watchdog(10);
    let (near, far) = pair();
    let sent: Vec<u8> = (0..20_000_u32).map(|i| i as u8).collect();
    let mut received = Vec::new();
    block_on(async {
        let sends = async {
            for (number, piece) in sent.chunks(100).enumerate() {
                (&far).write_all(piece).unwrap();
                if number % 10 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let mut sends = Box::pin(sends);
        let mut sending = true;
        while sending || received.len() < sent.len() {
            let mut buffer = [0; 64];
            if let Poll::Ready(read) = poll_once(near.read(&mut buffer)) {
                received.extend_from_slice(&buffer[..read.unwrap()]);
            } else if sending {
                let sent = async {
                    sends.as_mut().await;
                    false
                };
                let come = async {
                    near.readable().await.unwrap();
                    true
                };
                sending = race(sent, come).await;
            } else {
                near.readable().await.unwrap();
            }
        }
    });
    assert!(received == sent);
}
