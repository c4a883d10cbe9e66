//! What tasks cost: spawning, waking, and running them.
//!
//! `cargo bench --manifest-path benches/peers/selio/Cargo.toml --bench tasks`

use std::future::{Future, pending};
use std::hint::black_box;
use std::sync::Arc;

use common::tasks::PingPong;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

/// Measures N of something that is done in one `block_on`.
fn many<F: Future>(bencher: Bencher<'_, '_>, n: u64, make: impl Fn() -> F + Sync) {
    bencher.counter(ItemsCount::new(n)).bench(|| selio::block_on(make()));
}

#[divan::bench]
fn block_on() -> u32 {
    selio::block_on(async { black_box(7) })
}

#[divan::bench(args = [1, 1_000, 100_000])]
fn spawn_then_join(bencher: Bencher<'_, '_>, n: u64) {
    many(bencher, n, || async move {
        let tasks: Vec<_> = (0..n).map(|i| selio::spawn(async move { i })).collect();
        for task in tasks {
            black_box(task.await.unwrap());
        }
    });
}

#[divan::bench]
fn spawn_join_one_after_the_other(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        for i in 0..1_000 {
            black_box(selio::spawn(async move { i }).await.unwrap());
        }
    });
}

#[divan::bench]
fn spawn_then_abort(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        let tasks: Vec<_> = (0..1_000).map(|_| selio::spawn(pending::<()>())).collect();
        selio::yield_now().await;
        for task in tasks {
            task.abort();
            assert!(task.await.is_err());
        }
    });
}

#[divan::bench]
fn spawn_then_leave(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        for _ in 0..1_000 {
            selio::spawn(pending::<()>());
        }
        selio::yield_now().await;
    });
}

#[divan::bench(args = [1, 1_000])]
fn yield_in_turn(bencher: Bencher<'_, '_>, tasks: u64) {
    let each = 10_000 / tasks;
    many(bencher, tasks * each, || async move {
        let yielding = move || async move {
            for _ in 0..each {
                selio::yield_now().await;
            }
        };
        let tasks: Vec<_> = (0..tasks).map(|_| selio::spawn(yielding())).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[divan::bench]
fn wake_each_other(bencher: Bencher<'_, '_>) {
    many(bencher, 10_000, || async {
        let game = Arc::new(PingPong::default());
        let first = selio::spawn(Arc::clone(&game).play(0, 5_000));
        selio::spawn(game.play(1, 5_000)).await.unwrap();
        first.await.unwrap();
    });
}

#[divan::bench]
fn join_two(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        for i in 0..1_000 {
            black_box(selio::join(async { i }, async { i + 1 }).await);
        }
    });
}

#[divan::bench]
fn unblock(bencher: Bencher<'_, '_>) {
    many(bencher, 100, || async {
        for i in 0..100 {
            black_box(selio::unblock(move || i).await);
        }
    });
}
