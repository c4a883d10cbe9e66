//! Single operations, done N times: `micro ROW N`.
//!
//! Two runs with different N, under an instruction counter, tell what one operation costs without
//! what surrounds it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use selio::event::Event;
use selio::net::UnixStream;
use selio::{Timer, spawn, yield_now};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [row, count] = &arguments[..] else { panic!("usage: micro ROW N") };
    let count: usize = count.parse().expect("N is a number");
    match row.as_str() {
        "spawn" => selio::block_on(async {
            for i in 0..count {
                assert_eq!(spawn(async move { i }).await.unwrap(), i);
            }
        }),
        "spawn_many" => selio::block_on(async {
            for task in (0..count).map(|i| spawn(async move { i })).collect::<Vec<_>>() {
                task.await.unwrap();
            }
        }),
        "yield" => selio::block_on(async { spawn(yields(count)).await.unwrap() }),
        "yield_many" => selio::block_on(async {
            for task in (0..1_000).map(|_| spawn(yields(count / 1_000))).collect::<Vec<_>>() {
                task.await.unwrap();
            }
        }),
        "ping_pong" => selio::block_on(ping_pong(count)),
        "event" => selio::block_on(async {
            let mut event = Event::new().unwrap();
            let trigger = event.trigger();
            for _ in 0..count {
                trigger.trigger().unwrap();
                event.next().await.unwrap().unwrap();
            }
        }),
        "timer" => selio::block_on(timers(count)),
        "reset" => selio::block_on(async {
            let mut timer = Timer::never();
            for _ in 0..count {
                timer.set_after(Duration::from_secs(3600));
                poll_once(&mut timer).await;
            }
        }),
        "unix" => selio::block_on(unix(count)),
        "timeout" => selio::block_on(async {
            for _ in 0..count {
                _ = selio::time::timeout(Duration::from_secs(3600), yield_now()).await;
            }
        }),
        "block_on" => {
            for i in 0..count {
                assert_eq!(selio::block_on(async { std::hint::black_box(i) }), i);
            }
        }
        row => panic!("there is no row `{row}`"),
    }
}

async fn yields(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Two tasks that wake each other in turn.
async fn ping_pong(count: usize) {
    #[derive(Default)]
    struct Table {
        turn: Cell<usize>,
        waiting: RefCell<Option<Waker>>,
    }
    let table = Rc::new(Table::default());
    let players: Vec<_> = (0..2)
        .map(|player| {
            let table = Rc::clone(&table);
            spawn(poll_fn(move |cx| {
                let turn = table.turn.get();
                if turn % 2 == player {
                    table.turn.set(turn + 1);
                    if let Some(waker) = table.waiting.take() {
                        waker.wake();
                    }
                }
                if turn >= count {
                    return Poll::Ready(());
                }
                table.waiting.replace(Some(cx.waker().clone()));
                Poll::Pending
            }))
        })
        .collect();
    for player in players {
        player.await.unwrap();
    }
}

/// Two tasks that send a byte to and fro, each waiting for the other's.
async fn unix(count: usize) {
    let (near, far) = UnixStream::pair().unwrap();
    let echo = spawn(async move {
        let mut buffer = [0];
        while far.read(&mut buffer).await.unwrap() > 0 {
            far.write_all(&buffer).await.unwrap();
        }
    });
    let mut buffer = [0];
    for _ in 0..count {
        near.write_all(b"x").await.unwrap();
        near.read_exact(&mut buffer).await.unwrap();
    }
    drop(near);
    echo.await.unwrap();
}

/// Makes, polls once and drops a timer, among 100,000 others. All deadlines are offsets from one
/// instant, so that the order in the queue, and with it the count, is the same in every run.
async fn timers(count: usize) {
    let base = Instant::now() + Duration::from_secs(3600);
    let at = |i: u64| Timer::at(base + Duration::from_nanos(i * 7919 % 1_000_003));
    let mut others: Vec<Timer> = (0..100_000).map(at).collect();
    for timer in &mut others {
        poll_once(timer).await;
    }
    for i in 0..count as u64 {
        let mut timer = at(i);
        poll_once(&mut timer).await;
    }
}

async fn poll_once(timer: &mut Timer) {
    std::future::poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut *timer).poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
}
