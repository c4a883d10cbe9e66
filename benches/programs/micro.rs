//! Single operations, done N times: `micro spawn|yield|timer|block_on N`.
//!
//! Two runs with different N, under an instruction counter, tell what one operation costs without
//! what surrounds it.

use std::future::Future;
use std::time::{Duration, Instant};

use selio::Timer;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [row, count] = &arguments[..] else { panic!("usage: micro ROW N") };
    let count: usize = count.parse().expect("N is a number");
    match row.as_str() {
        "spawn" => selio::block_on(async {
            for i in 0..count {
                assert_eq!(selio::spawn(async move { i }).await.unwrap(), i);
            }
        }),
        "yield" => selio::block_on(async {
            for _ in 0..count {
                selio::yield_now().await;
            }
        }),
        "timer" => selio::block_on(timers(count)),
        "block_on" => {
            for i in 0..count {
                assert_eq!(selio::block_on(async { std::hint::black_box(i) }), i);
            }
        }
        row => panic!("there is no row `{row}`"),
    }
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
