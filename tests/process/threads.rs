//! Children that go from thread to thread. Every case runs with pidfds, and where a kernel, a
//! sandbox or a lack of descriptors refuses them.

use crate::kit;
use crate::kit::children;
use children::{assert_code, millis, sh, soon, start, start_waiting};
use selio::block_on;
use selio::process::{Child, exited};
use selio::time::{sleep, timeout};
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("status_moves_to_another_thread", status_moves_to_another_thread),
        ("status_moves_while_its_first_loop_runs", status_moves_while_its_first_loop_runs),
        ("exited_moves_to_another_thread", exited_moves_to_another_thread),
        ("child_is_used_where_it_was_not_started", child_is_used_where_it_was_not_started),
        ("every_thread_waits_for_one", every_thread_waits_for_one),
        ("first_of_two_threads_gives_up", first_of_two_threads_gives_up),
        ("started_and_awaited_everywhere", started_and_awaited_everywhere),
        ("signals_that_only_one_thread_blocks", signals_that_only_one_thread_blocks),
        ("signals_that_every_thread_blocks", signals_that_every_thread_blocks),
    ])
}

type Status = Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send>>;

/// A child with its status, and what lets it end.
fn waiting(code: i32) -> (Child, Status, Option<selio::process::Pipe>) {
    let mut child = start_waiting(code);
    let stdin = child.stdin.take();
    let status = Box::pin(child.status());
    (child, status, stdin)
}

#[track_caller]
fn poll_here(status: &mut Status) {
    let early = block_on(timeout(millis(10), status.as_mut()));
    assert!(early.is_err(), "it lives");
}

// E24
fn status_moves_to_another_thread() {
    let (_child, mut status, stdin) = waiting(3);
    // Polled on a thread that ends, where no loop ends, here and there.
    let first = thread::spawn(move || {
        poll_here(&mut status);
        status
    });
    let mut status = first.join().unwrap();
    poll_here(&mut status);
    let second = thread::spawn(move || {
        poll_here(&mut status);
        drop(stdin);
        soon(status)
    });
    assert_code(second.join().unwrap().unwrap(), 3);
}

// E24
fn status_moves_while_its_first_loop_runs() {
    let (_child, mut status, stdin) = waiting(4);
    let (send, receive) = mpsc::channel::<Status>();
    let (done, is_done) = mpsc::channel();
    let there = thread::spawn(move || {
        let mut status = receive.recv().unwrap();
        poll_here(&mut status);
        done.send(()).unwrap();
        soon(status)
    });
    soon(async {
        assert!(timeout(millis(10), status.as_mut()).await.is_err());
        send.send(status).unwrap();
        while is_done.try_recv().is_err() {
            sleep(millis(1)).await;
        }
        drop(stdin);
        // This loop does not wait for the child any more, and is not needed.
        assert_code(there.join().unwrap().unwrap(), 4);
    });
}

fn exited_moves_to_another_thread() {
    let mut child = start_waiting(0);
    let mut wait = Box::pin(exited(child.id()));
    let first = thread::spawn(move || {
        assert!(block_on(timeout(millis(10), wait.as_mut())).is_err());
        wait
    });
    let wait = first.join().unwrap();
    children::let_go(&mut child);
    soon(wait).unwrap();
    assert!(soon(child.status()).unwrap().success());
}

fn child_is_used_where_it_was_not_started() {
    let mut child = sh("read x; echo $x; read x; exit 5")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    soon(stdin.write_all(b"word\n")).unwrap();
    let there = thread::spawn(move || {
        let out = child.stdout.take().unwrap();
        assert_eq!(soon(children::line(&out)), "word");
        assert!(child.try_status().unwrap().is_none());
        child.signal(libc::SIGCONT).unwrap();
        drop(stdin);
        (soon(child.status()), child)
    });
    let (status, mut child) = there.join().unwrap();
    assert_code(status.unwrap(), 5);
    assert_code(soon(child.status()).unwrap(), 5);
    assert!(child.usage().is_some());
    // One that is ended by another thread than the one that waits.
    let (child, status, _stdin) = waiting(0);
    let there = thread::spawn(move || soon(status));
    thread::sleep(millis(20));
    child.kill().unwrap();
    assert_eq!(there.join().unwrap().unwrap().signal(), Some(libc::SIGKILL));
}

fn every_thread_waits_for_one() {
    let mut child = start_waiting(6);
    let stdin = child.stdin.take();
    let (polled, all_polled) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (mut status, polled): (Status, _) = (Box::pin(child.status()), polled.clone());
            thread::spawn(move || {
                soon(async {
                    assert!(timeout(millis(5), status.as_mut()).await.is_err());
                    polled.send(()).unwrap();
                    status.await
                })
            })
        })
        .collect();
    (0..4).for_each(|_| all_polled.recv().unwrap());
    thread::sleep(millis(10));
    drop(stdin);
    for thread in threads {
        assert_code(thread.join().unwrap().unwrap(), 6);
    }
    assert_code(soon(child.status()).unwrap(), 6);
}

// E24: the loop that watches the child ends, and another one goes on.
fn first_of_two_threads_gives_up() {
    let (mut child, mut first, stdin) = waiting(7);
    let mut second: Status = Box::pin(child.status());
    let (polled, is_polled) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let there = thread::spawn(move || {
        block_on(async {
            assert!(timeout(millis(5), first.as_mut()).await.is_err());
            polled.send(()).unwrap();
            // The future is there until the loop ends.
            while stopped.try_recv().is_err() {
                sleep(millis(1)).await;
            }
        });
        first
    });
    is_polled.recv().unwrap();
    soon(async {
        assert!(timeout(millis(5), second.as_mut()).await.is_err());
        stop.send(()).unwrap();
        let first = there.join().unwrap();
        assert!(timeout(millis(5), second.as_mut()).await.is_err());
        drop(stdin);
        assert_code(second.await.unwrap(), 7);
        assert_code(first.await.unwrap(), 7);
    });
}

fn started_and_awaited_everywhere() {
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            thread::spawn(move || {
                let code = |round| thread * 10 + round;
                for round in 0..10 {
                    let mut one = start(&format!("exit {}", code(round)));
                    let status = one.status();
                    drop(start("exit 99"));
                    assert_code(soon(status).unwrap(), code(round));
                }
                soon(async { drop(start("exit 98")) });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(children::children().len() < 30, "a handful");
}

/// Children are heard of, whoever blocks SIGCHLD.
#[track_caller]
fn assert_heard() {
    let mask = kit::signal_mask();
    for code in 0..3 {
        let (_child, mut status, stdin) = waiting(code);
        poll_here(&mut status);
        drop(stdin);
        assert_code(soon(status).unwrap(), code);
    }
    assert_eq!(kit::signal_mask(), mask);
}

fn signals_that_only_one_thread_blocks() {
    let (stop, stopped) = mpsc::channel::<()>();
    let other = thread::spawn(move || stopped.recv());
    kit::eventually("the other thread runs", || {
        kit::thread_masks().len() == 2 && kit::thread_masks().values().all(Vec::is_empty)
    });
    kit::block_signal(libc::SIGCHLD);
    assert_heard();
    // The other way round.
    kit::unblock_signal(libc::SIGCHLD);
    let there = thread::spawn(|| {
        kit::block_signal(libc::SIGCHLD);
        assert_heard();
    });
    there.join().unwrap();
    drop(stop);
    assert!(other.join().unwrap().is_err());
}

fn signals_that_every_thread_blocks() {
    kit::block_signal(libc::SIGCHLD);
    assert_heard();
    thread::spawn(assert_heard).join().unwrap();
}
