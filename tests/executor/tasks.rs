//! Tasks and their handles: how often they are polled, when and where they are dropped, what is
//! told to whom.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, counted, on_thread, own_waker, settle};
use selio::time::{sleep, timeout};
use selio::{block_on, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// What is done with a waker.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Wake,
    WakeByRef,
    CloneAndWake,
    Drop,
}

/// What the task is at when it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    Queued,
    Running,
    Done,
    Aborting,
    Aborted,
}

/// What the poll ends with in which it is done or which it brings.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Ready,
    Pending,
    Panic,
}

impl Op {
    fn act(self, waker: Waker) {
        match self {
            Op::Wake => waker.wake(),
            Op::WakeByRef => waker.wake_by_ref(),
            Op::CloneAndWake => {
                let clone = waker.clone();
                clone.wake();
            }
            Op::Drop => drop(waker),
        }
    }

    fn wakes(self) -> bool {
        self != Op::Drop
    }
}

impl State {
    /// The poll in which the outcome comes, counted from zero; no poll comes to the aborted.
    fn deciding_poll(self) -> usize {
        match self {
            State::Running | State::Done => 0,
            State::Idle | State::Queued => 1,
            State::Aborting | State::Aborted => usize::MAX,
        }
    }

    fn polls(self, op: Op, outcome: Outcome) -> usize {
        match self {
            State::Idle => 1 + usize::from(op.wakes()),
            State::Queued => 2,
            State::Running => 1 + usize::from(op.wakes() && outcome == Outcome::Pending),
            State::Done | State::Aborting | State::Aborted => 1,
        }
    }
}

/// Spawns a task that follows the script and does the deed; counts the polls.
fn follow(op: Op, state: State, outcome: Outcome, drops: &kit::DropLog) -> usize {
    let polls = Rc::new(Cell::new(0));
    let kept = Rc::new(RefCell::new(None));
    let (counter, keep) = (Rc::clone(&polls), Rc::clone(&kept));
    let check = drops.check();
    block_on(async move {
        let task = spawn(poll_fn(move |cx| {
            let _owned = &check;
            let poll = counter.replace(counter.get() + 1);
            *keep.borrow_mut() = Some(cx.waker().clone());
            if state == State::Running && poll == 0 {
                op.act(cx.waker().clone());
            }
            match outcome {
                Outcome::Ready if poll == state.deciding_poll() => Poll::Ready(()),
                Outcome::Panic if poll == state.deciding_poll() => panic!("as the script says"),
                _ => Poll::Pending,
            }
        }));
        settle().await;
        match state {
            State::Queued => kept.borrow().as_ref().unwrap().wake_by_ref(),
            State::Aborting => task.abort(),
            State::Aborted => {
                task.abort();
                settle().await;
            }
            State::Idle | State::Running | State::Done => {}
        }
        let waker = kept.take().expect("it was polled");
        if state != State::Running {
            op.act(waker);
        }
        settle().await;
    });
    polls.get()
}

// G01
#[test]
fn every_wake_in_every_state_brings_the_polls_it_should() {
    let _guard = kit::watchdog(10);
    for op in [Op::Wake, Op::WakeByRef, Op::CloneAndWake, Op::Drop] {
        for state in [
            State::Idle,
            State::Queued,
            State::Running,
            State::Done,
            State::Aborting,
            State::Aborted,
        ] {
            for outcome in [Outcome::Ready, Outcome::Pending, Outcome::Panic] {
                if (state, outcome) == (State::Done, Outcome::Pending) {
                    continue;
                }
                let drops = kit::DropLog::new();
                let polls = follow(op, state, outcome, &drops);
                let wanted = state.polls(op, outcome);
                assert_eq!(polls, wanted, "{op:?} while {state:?}, then {outcome:?}");
                drops.assert_all_dropped();
            }
        }
    }
}

// G02
#[test]
fn a_wake_from_a_thread_during_the_poll_brings_one_more() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    let mut first = true;
    block_on(counted(
        &polls,
        poll_fn(move |cx| {
            if !std::mem::take(&mut first) {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            // Joined, so that the wake is over before the poll is.
            on_thread(move || {
                waker.wake_by_ref();
                waker.wake();
            });
            Poll::Pending
        }),
    ));
    assert_eq!(polls.get(), 2);
}

// G02
#[test]
fn a_task_woken_from_a_thread_during_its_poll_is_polled_once_more() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    block_on(async {
        let mut first = true;
        let task = poll_fn(move |cx| {
            if std::mem::take(&mut first) {
                let waker = cx.waker().clone();
                on_thread(move || (0..3).for_each(|_| waker.wake_by_ref()));
            }
            Poll::<()>::Pending
        });
        drop(spawn(counted(&polls, task)));
        sleep(Duration::from_millis(5)).await;
    });
    assert_eq!(polls.get(), 2);
}

// G02, G13
#[test]
fn a_wake_in_the_poll_and_one_after_it_are_one_poll() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    let kept = Rc::new(Cell::new(None));
    let keep = Rc::clone(&kept);
    block_on(async {
        let mut first = true;
        drop(spawn(counted(
            &polls,
            poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    cx.waker().wake_by_ref();
                    keep.set(Some(cx.waker().clone()));
                }
                Poll::<()>::Pending
            }),
        )));
        // Runs between the two polls, when the task is in the queue again.
        drop(spawn(async move {
            let waker = kept.take().unwrap();
            waker.wake_by_ref();
            on_thread(move || waker.wake());
        }));
        sleep(Duration::from_millis(2)).await;
    });
    assert_eq!(polls.get(), 2);
}

// G10
#[test]
fn a_wake_after_the_end_does_nothing() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    block_on(async {
        let finished = spawn(counted(&polls, own_waker())).await.unwrap();
        let (keep, kept) = mpsc::channel();
        let aborted = spawn(counted(&polls, async move {
            keep.send(own_waker().await).unwrap();
            pending::<()>().await;
        }));
        yield_now().await;
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_aborted());
        let wakers = [finished, kept.recv().unwrap()];
        for waker in wakers.clone() {
            waker.wake_by_ref();
            on_thread(move || waker.wake());
        }
        sleep(Duration::from_millis(2)).await;
        wakers.into_iter().for_each(Waker::wake);
        settle().await;
    });
    assert_eq!(polls.get(), 2, "one for each task");
}

// G10, H22
#[test]
fn a_wake_after_the_owners_end_reaches_nobody() {
    let _guard = kit::watchdog(10);
    let old: Vec<Waker> = (0..20)
        .map(|_| on_thread(|| block_on(async { spawn(own_waker()).await.unwrap() })))
        .collect();
    // Threads come and go, and their ids and addresses with them; the new ones have tasks in the
    // same slots.
    for waker in old {
        on_thread(move || {
            let polls = Rc::new(Cell::new(0));
            block_on(async {
                drop(spawn(counted(&polls, pending::<()>())));
                settle().await;
                let other = waker.clone();
                waker.wake();
                on_thread(move || other.wake());
                settle().await;
            });
            assert_eq!(polls.get(), 1);
        });
    }
}

// G11
#[test]
fn an_old_waker_and_an_old_handle_leave_the_slots_next_task_alone() {
    let _guard = kit::watchdog(10);
    block_on(async {
        for _ in 0..20 {
            let mut old = spawn(own_waker());
            let waker = (&mut old).await.unwrap();
            let polls = Rc::new(Cell::new(0));
            let gate = Gate::new();
            let new = spawn(counted(&polls, gate.pass()));
            waker.wake_by_ref();
            old.abort();
            settle().await;
            waker.wake();
            old.abort();
            settle().await;
            assert_eq!(polls.get(), 1);
            gate.open();
            new.await.unwrap();
        }
    });
}

// G20, B16
#[test]
fn the_last_poller_of_a_handle_is_woken() {
    let _guard = kit::watchdog(10);
    for abort in [false, true] {
        let gate = Gate::new();
        let (first, first_waker) = kit::CountingWaker::new();
        let (last, last_waker) = kit::CountingWaker::new();
        block_on(async {
            let mut task = spawn(gate.pass());
            settle().await;
            assert!(kit::poll_with(&mut task, &first_waker).is_pending());
            assert!(kit::poll_with(&mut task, &last_waker).is_pending());
            assert_eq!(first.wakers(), 1, "the replaced waker is let go");
            if abort {
                task.abort()
            } else {
                gate.open()
            }
            settle().await;
            assert_eq!((first.wakes(), last.wakes()), (0, 1));
            let result = kit::poll_with(&mut task, &last_waker);
            assert_eq!(result.map(|it| it.is_err()), Poll::Ready(abort));
        });
        assert_eq!((first.wakers(), last.wakers()), (1, 1));
    }
}

// B17: the task ends on its own thread while another one, which awaits it, leaves its waker.
#[test]
fn a_result_that_comes_while_the_waker_is_left_is_told() {
    let _guard = kit::watchdog(20);
    for round in 0..100 {
        let gate = Gate::new();
        let ended = Arc::new(AtomicBool::new(false));
        let (passes, notes) = (gate.pass(), Arc::clone(&ended));
        block_on(async {
            let mut task = spawn(async move {
                passes.await;
                notes.store(true, Ordering::SeqCst);
                7
            });
            settle().await;
            let woken = Arc::new(AtomicBool::new(false));
            let wakes = Arc::clone(&woken);
            let lets_it_end = move || {
                gate.open();
                kit::eventually("the task ends", || ended.load(Ordering::SeqCst));
                // Its result is there by now, or is just being handed over.
                thread::sleep(Duration::from_micros(round % 4 * 50));
            };
            let elsewhere = thread::spawn(move || {
                let waker = kit::hostile()
                    .on_clone(lets_it_end)
                    .on_wake(move || wakes.store(true, Ordering::SeqCst))
                    .waker();
                let mut polled = kit::poll_with(&mut task, &waker);
                if polled.is_pending() {
                    kit::eventually("a wake", || woken.load(Ordering::SeqCst));
                    polled = kit::poll_with(&mut task, &waker);
                }
                assert!(matches!(polled, Poll::Ready(Ok(7))));
            });
            while !elsewhere.is_finished() {
                sleep(Duration::from_micros(100)).await;
            }
            elsewhere.join().unwrap();
        });
    }
}

// B15
#[test]
fn a_tasks_wakers_know_each_other() {
    let _guard = kit::watchdog(10);
    let same = || async {
        let first = own_waker().await;
        let clone = first.clone();
        yield_now().await;
        let again = own_waker().await;
        again.will_wake(&first) && again.will_wake(&clone) && clone.will_wake(&first)
    };
    assert!(block_on(same()));
    assert!(block_on(async { spawn(same()).await.unwrap() }));
    block_on(async {
        let (root, task) = (own_waker().await, spawn(own_waker()).await.unwrap());
        assert!(!root.will_wake(&task), "two tasks are not one");
    });
}

// B15
#[test]
fn polling_a_handle_again_wakes_nobody() {
    let _guard = kit::watchdog(10);
    let (first, second) = (kit::CountingWaker::new(), kit::CountingWaker::new());
    block_on(async {
        let mut task = spawn(pending::<()>());
        for _ in 0..10 {
            assert!(kit::poll_with(&mut task, &first.1).is_pending());
            assert!(kit::poll_with(&mut task, &second.1).is_pending());
        }
        settle().await;
        assert_eq!((first.0.wakes(), second.0.wakes()), (0, 0));
    });
}

// J01
#[test]
fn a_result_waits_while_nobody_awaits_the_handle() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let mut task = spawn(async {
            sleep(Duration::from_millis(3)).await;
            7
        });
        let mut dropped = 0;
        let result = loop {
            match timeout(Duration::from_micros(200), &mut task).await {
                Ok(result) => break result,
                Err(_) => dropped += 1,
            }
        };
        assert_eq!(result.unwrap(), 7);
        assert!(dropped > 0, "no await was dropped");
    });
}

// J04
#[test]
fn a_handle_goes_from_task_to_task() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let gate = Gate::new();
        let mut task = spawn(gate.pass());
        for _ in 0..5 {
            let (hand_on, handed_on) = mpsc::channel();
            let pass_on = spawn(async move {
                let polled = poll_fn(|cx| Poll::Ready(pin!(&mut task).poll(cx))).await;
                assert!(polled.is_pending());
                hand_on.send(task).unwrap();
            });
            pass_on.await.unwrap();
            task = handed_on.recv().unwrap();
        }
        let last = spawn(task);
        settle().await;
        gate.open();
        last.await.unwrap().unwrap();
    });
}

// J04
#[test]
fn a_handle_is_awaited_on_another_thread() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let theirs = gate.clone();
    block_on(async {
        // The future stays here; only its output crosses over.
        let not_send = Rc::new(7);
        let task = spawn(async move {
            theirs.pass().await;
            *not_send
        });
        let thread = thread::spawn(move || block_on(task).unwrap());
        sleep(Duration::from_millis(5)).await;
        gate.open();
        settle().await;
        assert_eq!(thread.join().unwrap(), 7);
    });
}

// J01
#[test]
fn a_handle_dropped_while_it_is_awaited_wakes_nobody() {
    let _guard = kit::watchdog(10);
    let (awaiting, waker) = kit::CountingWaker::new();
    block_on(async {
        let gate = Gate::new();
        let mut task = spawn(gate.pass());
        assert!(kit::poll_with(&mut task, &waker).is_pending());
        let before = awaiting.wakers();
        drop(task);
        assert_eq!(awaiting.wakers(), before - 1, "its waker went with it");
        gate.open();
        settle().await;
    });
    assert_eq!(awaiting.wakes(), 0);
}

#[test]
fn a_handle_whose_task_has_finished_is_ready_however_many_were_joined_before() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let finished: Vec<_> = (0..1_000).map(|n| spawn(async move { n })).collect();
        yield_now().await;
        for (n, mut task) in finished.into_iter().enumerate() {
            assert!(task.is_finished());
            let polled = kit::poll_once(&mut task);
            assert!(matches!(polled, Poll::Ready(Ok(output)) if output == n), "{n}");
        }
    });
}

#[test]
fn an_abort_during_a_poll_counts_although_the_handle_goes_at_once() {
    let _guard = kit::watchdog(10);
    let handle = Rc::new(Cell::new(None));
    let own = Rc::clone(&handle);
    let alive = Rc::new(());
    let witness = Rc::clone(&alive);
    block_on(async {
        let task = spawn(async move {
            let _witness = witness;
            poll_fn(|_| {
                let own: Option<selio::JoinHandle<()>> = own.take();
                own.into_iter().for_each(|handle| handle.abort());
                Poll::<()>::Pending
            })
            .await;
        });
        handle.set(Some(task));
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(Rc::strong_count(&alive), 1, "the task was aborted, and lives on");
    });
}
