//! User events: triggers are counted, merged and never lost, whoever waits.

use crate::kit;
use futures_core::stream::{FusedStream, Stream};
use kit::{CountingWaker, poll_once, poll_with, watchdog};
use selio::event::{Event, Trigger};
use selio::time::{sleep, timeout};
use selio::{block_on, spawn, yield_now};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const A_MOMENT: Duration = Duration::from_millis(5);

fn event() -> (Event, Trigger) {
    let event = Event::new().unwrap();
    let trigger = event.trigger();
    (event, trigger)
}

// B08
#[test]
fn triggers_are_merged_with_their_count() {
    let _guard = watchdog(10);
    let (event, trigger) = event();
    block_on(async {
        for _ in 0..1000 {
            trigger.trigger().unwrap();
        }
        assert_eq!(event.wait().await.unwrap(), 1000);
        assert!(timeout(A_MOMENT, event.wait()).await.is_err(), "they are told once");
    });
}

#[test]
fn a_trigger_wakes_a_loop_that_sleeps() {
    let _guard = watchdog(10);
    let (mut event, trigger) = event();
    let other = thread::spawn(move || {
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(1));
            trigger.trigger().unwrap();
        }
    });
    let mut count = 0;
    block_on(async {
        while count < 10 {
            count += event.next().await.unwrap().unwrap();
        }
    });
    assert_eq!(count, 10);
    other.join().unwrap();
}

// J01
#[test]
fn a_count_outlives_the_wait_that_was_dropped() {
    let _guard = watchdog(10);
    let (mut event, trigger) = event();
    block_on(async {
        assert!(timeout(A_MOMENT, event.wait()).await.is_err());
        let mut wait = Box::pin(event.wait());
        assert!(kit::poll_with(&mut wait, &kit::noop_waker()).is_pending());
        trigger.trigger().unwrap();
        // The turn that sees the event comes before the wait is dropped.
        sleep(A_MOMENT).await;
        drop(wait);
        assert_eq!(event.next().await.unwrap().unwrap(), 1);
    });
}

// B16, J04
#[test]
fn the_last_who_polls_the_stream_is_woken() {
    let _guard = watchdog(10);
    let (event, trigger) = event();
    let (first, first_waker) = CountingWaker::new();
    let (last, last_waker) = CountingWaker::new();
    block_on(async {
        let mut event = event;
        {
            let mut next = pin!(event.next());
            assert!(poll_with(&mut next, &first_waker).is_pending());
            assert!(poll_with(&mut next, &last_waker).is_pending());
        }
        trigger.trigger().unwrap();
        sleep(A_MOMENT).await;
        assert_eq!((first.wakes(), last.wakes()), (0, 1));
        assert!(poll_once(event.next()).is_ready());
    });
}

// J04
#[test]
fn a_stream_goes_from_task_to_task() {
    let _guard = watchdog(10);
    let (mut event, trigger) = event();
    block_on(async {
        for _ in 0..5 {
            // One task leaves its waker and ends, the next one is told.
            event = spawn(async move {
                assert!(poll_once(event.next()).is_pending());
                event
            })
            .await
            .unwrap();
            let waits = spawn(async move { (event.next().await.unwrap().unwrap(), event) });
            sleep(A_MOMENT).await;
            assert!(!waits.is_finished());
            trigger.trigger().unwrap();
            let count;
            (count, event) = waits.await.unwrap();
            assert_eq!(count, 1);
        }
    });
}

// J05
#[test]
fn a_stream_of_triggers_promises_no_number() {
    let _guard = watchdog(10);
    let (mut event, trigger) = event();
    for _ in 0..2 {
        assert_eq!(Stream::size_hint(&event), (0, None));
        trigger.trigger().unwrap();
        assert_eq!(Stream::size_hint(&event), (0, None));
        assert_eq!(block_on(event.next()).unwrap().unwrap(), 1);
        assert!(!FusedStream::is_terminated(&event));
    }
}

// B17: it is triggered while the waker is being cloned, after the look that found nothing, and the
// loop has seen that when the waker is left.
#[test]
fn a_trigger_while_the_waker_is_left_is_told() {
    let _guard = watchdog(10);
    for registered in [false, true] {
        let (mut event, trigger) = event();
        if registered {
            assert!(block_on(timeout(A_MOMENT, event.wait())).is_err());
        }
        let woken = Arc::new(AtomicBool::new(false));
        let notes = Arc::clone(&woken);
        let waker = kit::hostile()
            .on_clone(move || {
                trigger.trigger().unwrap();
                block_on(sleep(A_MOMENT));
            })
            .on_wake(move || notes.store(true, Ordering::SeqCst))
            .waker();
        block_on(async {
            let mut next = pin!(event.next());
            while poll_with(&mut next, &waker).is_pending() {
                // A wake that is lost is a hang.
                while !woken.swap(false, Ordering::SeqCst) {
                    sleep(A_MOMENT).await;
                }
            }
        });
    }
}

#[test]
fn each_trigger_reaches_one_of_those_who_wait() {
    let _guard = watchdog(10);
    let (event, trigger) = event();
    block_on(async {
        let event = Rc::new(event);
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let event = Rc::clone(&event);
                spawn(async move { event.wait().await.unwrap() })
            })
            .collect();
        yield_now().await;
        for ended in 1..=5 {
            trigger.trigger().unwrap();
            sleep(A_MOMENT).await;
            assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), ended);
        }
    });
}

// J03
#[test]
fn an_event_without_triggers_is_not_at_its_end() {
    let _guard = watchdog(10);
    let (mut event, trigger) = event();
    drop(trigger);
    block_on(async {
        assert!(timeout(A_MOMENT, event.next()).await.is_err());
        event.trigger().trigger().unwrap();
        assert_eq!(event.next().await.unwrap().unwrap(), 1);
    });
}

// B11
#[test]
fn a_trigger_outlives_its_event() {
    let _guard = watchdog(10);
    let (event, trigger) = event();
    let other = thread::spawn(move || (0..10_000).for_each(|_| trigger.trigger().unwrap()));
    block_on(async { event.wait().await.unwrap() });
    drop(event);
    other.join().unwrap();
}

// J02
#[test]
fn an_event_that_nobody_awaits_wakes_nobody() {
    let _guard = watchdog(10);
    let (event, trigger) = event();
    block_on(async {
        // It joins the reactor, and then nobody polls it.
        assert!(timeout(A_MOMENT, event.wait()).await.is_err());
        for _ in 0..100_000 {
            trigger.trigger().unwrap();
        }
        sleep(A_MOMENT).await;
        assert_eq!(event.wait().await.unwrap(), 100_000);
    });
}

// H03
#[test]
fn events_and_triggers_may_change_threads() {
    fn sendable<T: Send + Sync + Unpin + 'static>(_: &T) {}
    let (event, trigger) = event();
    sendable(&event);
    sendable(&trigger);
    let theirs = trigger.clone();
    let waited = thread::spawn(move || block_on(async { event.wait().await.unwrap() }));
    theirs.trigger().unwrap();
    assert_eq!(waited.join().unwrap(), 1);
}

// B08, J01: what was taken to the kernel for one who has gone, and what was counted since.
#[test]
fn what_is_counted_in_two_places_is_one_item() {
    let _guard = watchdog(10);
    let (mut event, trigger) = event();
    block_on(async {
        for _ in 0..3 {
            let mut wait = Box::pin(event.wait());
            assert!(poll_with(&mut wait, &kit::noop_waker()).is_pending());
            trigger.trigger().unwrap();
            drop(wait);
            trigger.trigger().unwrap();
            assert_eq!(event.wait().await.unwrap(), 2);
            assert!(timeout(A_MOMENT, event.next()).await.is_err());
            trigger.trigger().unwrap();
            trigger.trigger().unwrap();
            assert_eq!(event.next().await.unwrap().unwrap(), 2);
            assert!(timeout(A_MOMENT, event.wait()).await.is_err());
        }
    });
}

// B02, B03, B04: each trigger comes at another moment around the look of the one who waits, and
// after it none before it was told.
#[test]
fn no_trigger_is_lost_between_a_look_and_a_wait() {
    const ROUNDS: u64 = 50_000;
    let _guard = watchdog(60);
    let (event, trigger) = event();
    let told = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&told);
    let other = thread::spawn(move || {
        for round in 0..ROUNDS {
            while seen.load(Ordering::SeqCst) < round {
                std::hint::spin_loop();
            }
            for step in 0..round % 50 {
                std::hint::black_box(step);
            }
            trigger.trigger().unwrap();
        }
    });
    block_on(async {
        for round in 1..=ROUNDS {
            assert_eq!(event.wait().await.unwrap(), 1);
            told.store(round, Ordering::SeqCst);
        }
    });
    other.join().unwrap();
}

#[test]
fn triggers_of_several_threads_add_up() {
    const EACH: u64 = 50_000;
    let _guard = watchdog(60);
    let (event, trigger) = event();
    let threads: Vec<_> = (1..=2)
        .map(|thread| {
            let trigger = trigger.clone();
            thread::spawn(move || {
                for round in 0..EACH {
                    trigger.trigger().unwrap();
                    (0..round * thread % 400).for_each(|_| std::hint::spin_loop());
                }
            })
        })
        .collect();
    let told = block_on(async {
        let (event, told) = (Rc::new(event), Rc::new(Cell::new(0)));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (event, told) = (Rc::clone(&event), Rc::clone(&told));
                spawn(async move {
                    while told.get() < 2 * EACH {
                        let count = event.wait().await.unwrap();
                        told.set(told.get() + count);
                    }
                })
            })
            .collect();
        // One of the two may be left waiting.
        while !tasks.iter().any(|task| task.is_finished()) {
            sleep(A_MOMENT).await;
        }
        told.get()
    });
    assert_eq!(told, 2 * EACH);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
