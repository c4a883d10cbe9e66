//! Streams in memory: every byte, each end, and wakers of all kinds.

use crate::kit;
use kit::{
    CountingWaker, closure_waker, noop_waker, panics_on_clone, panics_on_drop, panics_on_wake,
    poll_once, poll_with, watchdog,
};
use selio::io::{Duplex, duplex};
use selio::{block_on, join, spawn};
use std::future::Future;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

/// What a try gives that need not wait.
#[track_caller]
fn now<T>(future: impl Future<Output = T>) -> T {
    match poll_once(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it has to wait"),
    }
}

#[track_caller]
fn assert_waits<T>(future: impl Future<Output = T>) {
    assert!(poll_once(future).is_pending());
}

#[test]
fn one_byte_at_a_time() {
    let _guard = watchdog(10);
    let (near, far) = duplex(1);
    let mut buffer = [0; 8];
    for (at, byte) in b"abc".iter().enumerate() {
        assert_waits(far.read(&mut buffer));
        assert_eq!(now(near.write(&b"abc"[at..])).unwrap(), 1);
        assert_waits(near.write(b"more"));
        assert_eq!(now(far.read(&mut buffer)).unwrap(), 1);
        assert_eq!(buffer[0], *byte);
    }
    assert_waits(near.read(&mut buffer));
    assert_eq!(now(far.write(b"xy")).unwrap(), 1, "the other direction has room of its own");
}

#[test]
fn short_reads_and_writes_are_as_told() {
    let _guard = watchdog(10);
    let (near, far) = duplex(5);
    assert_eq!(now(near.write(b"abc")).unwrap(), 3);
    assert_eq!(now(near.write(b"defgh")).unwrap(), 2);
    let mut buffer = [0; 4];
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 4);
    assert_eq!(&buffer, b"abcd");
    // Around the end of whatever holds them.
    assert_eq!(now(near.write(b"fghijk")).unwrap(), 4);
    let mut buffer = [0; 8];
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 5);
    assert_eq!(&buffer[..5], b"efghi");
    assert_eq!(now(near.write(b"")).unwrap(), 0);
    assert_eq!(now(far.read(&mut [])).unwrap(), 0, "an empty buffer does not wait");
    now(near.flush()).unwrap();
}

#[test]
fn every_byte_at_every_capacity() {
    let _guard = watchdog(30);
    let bytes: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    for capacity in [1, 2, 3, 7, 1000, 19_999, 20_000, 1 << 20, usize::MAX] {
        let (near, far) = duplex(capacity);
        let mut heard = vec![0; bytes.len()];
        let writes = async {
            near.write_all(&bytes).await.unwrap();
            near.shutdown();
        };
        let ((), read) = block_on(join(writes, far.read_exact(&mut heard)));
        read.unwrap();
        assert!(heard == bytes);
        assert_eq!(now(far.read(&mut heard)).unwrap(), 0);
    }
}

#[test]
#[should_panic(expected = "room for at least one byte")]
fn no_capacity() {
    let _guard = watchdog(10);
    drop(duplex(0));
}

#[test]
fn a_drop_ends_both_directions() {
    let _guard = watchdog(10);
    let (near, far) = duplex(8);
    now(near.write_all(b"rest")).unwrap();
    now(far.write_all(b"unread")).unwrap();
    drop(near);
    let mut buffer = [0; 8];
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 4);
    assert_eq!(&buffer[..4], b"rest");
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 0);
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 0);
    assert_eq!(now(far.read_exact(&mut buffer)).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(now(far.write(b"x")).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(now(far.write_all(b"x")).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(now(far.write(b"")).unwrap(), 0);
}

#[test]
fn shutdown_ends_one_direction() {
    let _guard = watchdog(10);
    let (near, far) = duplex(8);
    now(near.write_all(b"rest")).unwrap();
    near.shutdown();
    near.shutdown();
    assert_eq!(now(near.write(b"x")).unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut buffer = [0; 8];
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 4);
    assert_eq!(now(far.read(&mut buffer)).unwrap(), 0);
    now(far.write_all(b"answer")).unwrap();
    assert_eq!(now(near.read(&mut buffer)).unwrap(), 6);
}

/// What becomes of a reader and a writer that wait on one end, when something is done.
fn waiters_see(act: impl FnOnce(&Duplex, Duplex)) -> (Option<usize>, Option<ErrorKind>) {
    let (near, far) = duplex(1);
    now(near.write(b"x")).unwrap();
    let (count, waker) = CountingWaker::new();
    let mut buffer = [0; 8];
    let (mut reads, mut writes) = (Box::pin(near.read(&mut buffer)), Box::pin(near.write(b"y")));
    assert!(poll_with(&mut reads, &waker).is_pending());
    assert!(poll_with(&mut writes, &waker).is_pending());
    assert_eq!(count.wakes(), 0);
    act(&near, far);
    assert!(count.wakes() > 0, "somebody is woken");
    let read = match poll_with(&mut reads, &waker) {
        Poll::Ready(read) => Some(read.unwrap()),
        Poll::Pending => None,
    };
    let written = match poll_with(&mut writes, &waker) {
        Poll::Ready(written) => Some(written.unwrap_err().kind()),
        Poll::Pending => None,
    };
    drop((reads, writes));
    assert_eq!(count.wakers(), 1, "no waker is kept");
    (read, written)
}

#[test]
fn who_waits_is_told_of_an_end() {
    let _guard = watchdog(10);
    let broken = Some(ErrorKind::BrokenPipe);
    assert_eq!(waiters_see(|_, far| drop(far)), (Some(0), broken));
    let kept = Mutex::new(None);
    let keep = |far| *kept.lock().unwrap() = Some(far);
    assert_eq!(
        waiters_see(|near, far| {
            near.shutdown();
            keep(far);
        }),
        (None, broken)
    );
    assert_eq!(
        waiters_see(|_, far| {
            far.shutdown();
            keep(far);
        }),
        (Some(0), None)
    );
}

#[test]
fn dropped_while_it_waits() {
    let _guard = watchdog(10);
    let (near, far) = duplex(1);
    let (count, waker) = CountingWaker::new();
    let (mut one, mut other) = ([0; 1], [0; 1]);
    let mut first = Box::pin(far.read(&mut one));
    let mut second = Box::pin(far.read(&mut other));
    assert!(poll_with(&mut first, &waker).is_pending());
    assert!(poll_with(&mut second, &noop_waker()).is_pending());
    assert!(poll_with(&mut second, &waker).is_pending(), "with another waker");
    assert_eq!(count.wakers(), 3);
    drop(first);
    assert_eq!(count.wakers(), 2);
    now(near.write(b"x")).unwrap();
    assert_eq!(count.wakes(), 1);
    assert_eq!(poll_with(&mut second, &waker).map(Result::unwrap), Poll::Ready(1));
    drop(second);
    assert_eq!((other, count.wakers()), (*b"x", 1));
}

#[test]
fn several_tasks_share_one_end() {
    let _guard = watchdog(10);
    const EACH: usize = 500;
    block_on(async {
        let (near, far) = duplex(3);
        let (near, far) = (Arc::new(near), Arc::new(far));
        let writers = (1..=3_u8).map(|byte| {
            let near = Arc::clone(&near);
            spawn(async move { near.write_all(&[byte; EACH]).await.unwrap() })
        });
        let writers: Vec<_> = writers.collect();
        let readers = (0..4).map(|_| {
            let far = Arc::clone(&far);
            spawn(async move {
                let (mut heard, mut buffer) = (Vec::new(), [0; 2]);
                loop {
                    match far.read(&mut buffer).await.unwrap() {
                        0 => return heard,
                        got => heard.extend_from_slice(&buffer[..got]),
                    }
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        for writer in writers {
            writer.await.unwrap();
        }
        near.shutdown();
        let mut all = Vec::new();
        for reader in readers {
            all.extend(reader.await.unwrap());
        }
        for byte in 1..=3 {
            assert_eq!(all.iter().filter(|&&it| it == byte).count(), EACH);
        }
    });
}

#[test]
fn between_threads() {
    let _guard = watchdog(20);
    fn is_send_and_sync<T: Send + Sync>(value: T) -> T {
        value
    }
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (near, far) = is_send_and_sync(duplex(10));
    let echo = is_send(async move {
        let mut buffer = [0; 7];
        loop {
            match far.read(&mut buffer).await.unwrap() {
                0 => return,
                got => far.write_all(&buffer[..got]).await.unwrap(),
            }
        }
    });
    let there = thread::spawn(move || block_on(echo));
    let bytes: Vec<u8> = (0..50_000_u32).map(|at| (at % 251) as u8).collect();
    let mut heard = vec![0; bytes.len()];
    let (written, read) = block_on(join(near.write_all(&bytes), near.read_exact(&mut heard)));
    written.unwrap();
    read.unwrap();
    assert!(heard == bytes);
    drop(near);
    there.join().unwrap();
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_waiting() {
    let _guard = watchdog(10);
    let (near, far) = duplex(8);
    let (count, waker) = CountingWaker::new();
    let mut buffers = [[0; 1]; 3];
    let mut reads: Vec<_> = buffers.iter_mut().map(|it| Box::pin(far.read(it))).collect();
    assert!(poll_with(&mut reads[0], &waker).is_pending());
    assert!(poll_with(&mut reads[1], &panics_on_wake()).is_pending());
    assert!(poll_with(&mut reads[2], &waker).is_pending());
    catch_unwind(AssertUnwindSafe(|| now(near.write(b"abc")))).unwrap_err();
    assert_eq!(count.wakes(), 2);
    for read in &mut reads {
        assert_eq!(poll_with(read, &waker).map(Result::unwrap), Poll::Ready(1));
    }
    drop(reads);
    assert_eq!(buffers, [*b"a", *b"b", *b"c"]);
    // At a drop as well.
    let mut buffers = [[0; 1]; 2];
    let mut reads: Vec<_> = buffers.iter_mut().map(|it| Box::pin(far.read(it))).collect();
    assert!(poll_with(&mut reads[0], &panics_on_wake()).is_pending());
    assert!(poll_with(&mut reads[1], &waker).is_pending());
    catch_unwind(AssertUnwindSafe(|| drop(near))).unwrap_err();
    for read in &mut reads {
        assert_eq!(poll_with(read, &waker).map(Result::unwrap), Poll::Ready(0));
    }
}

#[test]
fn a_waker_that_panics_when_cloned_or_dropped() {
    let _guard = watchdog(10);
    let (near, far) = duplex(8);
    let mut buffer = [0; 8];
    let mut reads = Box::pin(far.read(&mut buffer));
    let cloned = panics_on_clone();
    catch_unwind(AssertUnwindSafe(|| poll_with(&mut reads, &cloned).is_ready())).unwrap_err();
    std::mem::forget(cloned);
    let dropped = panics_on_drop();
    assert!(poll_with(&mut reads, &dropped).is_pending());
    let (count, waker) = CountingWaker::new();
    // In its place comes another, which is left although the former panics.
    catch_unwind(AssertUnwindSafe(|| poll_with(&mut reads, &waker).is_ready())).unwrap_err();
    std::mem::forget(dropped);
    now(near.write(b"x")).unwrap();
    assert_eq!(count.wakes(), 1);
    assert_eq!(poll_with(&mut reads, &waker).map(Result::unwrap), Poll::Ready(1));
}

#[test]
fn a_waker_may_come_back_in() {
    let _guard = watchdog(10);
    let (near, far) = duplex(8);
    let far = Arc::new(far);
    let heard = Arc::new(AtomicUsize::new(0));
    let (reads, counts) = (Arc::clone(&far), Arc::clone(&heard));
    let waker = closure_waker(move || {
        let got = now(reads.read(&mut [0; 8])).unwrap();
        counts.fetch_add(got, Ordering::SeqCst);
    });
    let mut buffer = [0; 8];
    let mut waits: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(far.read(&mut buffer));
    assert!(poll_with(&mut waits, &waker).is_pending());
    now(near.write(b"hello")).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 5);
    assert!(poll_with(&mut waits, &waker).is_pending(), "the waker has read it");
    drop(near);
    assert_eq!(poll_with(&mut waits, &waker).map(Result::unwrap), Poll::Ready(0));
}

#[test]
fn a_task_that_never_waits_lets_others_run() {
    let _guard = watchdog(10);
    block_on(async {
        let (near, far) = duplex(8);
        let stop = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = std::rc::Rc::clone(&stop);
        let busy = spawn(async move {
            while !seen.get() {
                near.write_all(b"x").await.unwrap();
                far.read_exact(&mut [0]).await.unwrap();
            }
        });
        spawn(async move { stop.set(true) });
        busy.await.unwrap();
    });
}
