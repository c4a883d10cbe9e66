//! Small things on monoio. Wakers may not leave its thread (without its feature `sync`), and it has no
//! signals and no processes.

use std::future::Future;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::deadlines::{Burst, TURN, far};
use common::rows::{self, CHUNK, Pauses, since};
use common::tasks::{PingPong, poll_once, yield_now};
#[cfg(feature = "uring")]
use monoio::IoUringDriver as Driver;
#[cfg(not(feature = "uring"))]
use monoio::LegacyDriver as Driver;
use monoio::RuntimeBuilder;
use monoio::net::{TcpListener, TcpStream};
use monoio::time::{Sleep, sleep_until};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = RuntimeBuilder::<Driver>::new().enable_timer().build();
    runtime.expect("descriptors are free").block_on(future)
}

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", |n, batch| run(spawn(n, batch))),
        ("yield", |n, tasks| run(yields(n, tasks))),
        ("ping_pong", |n, _| run(ping_pong(n))),
        ("timer", |n, others| run(timer(n, others))),
        ("burst", |n, _| run(burst(n))),
        ("sleep", |n, nanos| run(sleep(n, nanos))),
        ("connect", |n, _| run(connect(n))),
        ("pause_tasks", |n, _| run(pause_tasks(n))),
        ("pause_timers", |n, _| run(pause_timers(n))),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let mut runtime = RuntimeBuilder::<Driver>::new().build().expect("descriptors are free");
    let start = Instant::now();
    for i in 0..n {
        assert_eq!(runtime.block_on(async { black_box(i) }), i);
    }
    since(start, n)
}

async fn spawn(n: u64, batch: u64) -> Vec<f64> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(batch as usize);
    for _ in 0..n / batch {
        tasks.extend((0..batch).map(|i| monoio::spawn(async move { i })));
        for (i, task) in (0..).zip(tasks.drain(..)) {
            assert_eq!(task.await, i);
        }
    }
    since(start, n)
}

async fn yields(n: u64, tasks: u64) -> Vec<f64> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            monoio::spawn(async move {
                for _ in 0..n / tasks {
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    since(start, n)
}

async fn ping_pong(n: u64) -> Vec<f64> {
    let game = Arc::new(PingPong::default());
    let start = Instant::now();
    let first = monoio::spawn(Arc::clone(&game).play(0, n / 2));
    let second = monoio::spawn(game.play(1, n / 2));
    first.await;
    second.await;
    since(start, n)
}

fn at(deadline: Instant) -> Sleep {
    sleep_until(deadline.into())
}

async fn timer(n: u64, others: u64) -> Vec<f64> {
    let mut among: Vec<_> = (0..others).map(|i| Box::pin(monoio::time::sleep(far(i)))).collect();
    for timer in &mut among {
        poll_once(timer.as_mut()).await;
    }
    monoio::time::sleep(TURN).await;
    let start = Instant::now();
    for i in 0..n {
        poll_once(pin!(monoio::time::sleep(far(i)))).await;
    }
    since(start, n)
}

async fn burst(n: u64) -> Vec<f64> {
    let burst = Rc::new(Burst::new(n));
    let tasks: Vec<_> = (0..n)
        .map(|i| {
            let burst = Rc::clone(&burst);
            monoio::spawn(async move {
                let deadline = burst.deadline(i);
                at(deadline).await;
                burst.gone_off(deadline);
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    burst.results()
}

async fn sleep(n: u64, nanos: u64) -> Vec<f64> {
    let mut late = Vec::new();
    for _ in 0..n {
        let deadline = Instant::now() + Duration::from_nanos(nanos);
        at(deadline).await;
        late.push(deadline.elapsed());
    }
    rows::median(late)
}

async fn connect(n: u64) -> Vec<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let start = Instant::now();
    for _ in 0..n {
        let (accepted, connected) =
            monoio::join!(listener.accept(), TcpStream::connect_addr(address));
        accepted.expect("a client has come");
        connected.expect("the listener is there");
    }
    since(start, n)
}

async fn pause_tasks(n: u64) -> Vec<f64> {
    let mut pauses = Pauses::new();
    for _ in 0..n / CHUNK {
        for _ in 0..CHUNK {
            monoio::spawn(std::future::pending::<()>());
        }
        yield_now().await;
        pauses.look();
    }
    pauses.longest()
}

async fn pause_timers(n: u64) -> Vec<f64> {
    let mut timers = Vec::with_capacity(n as usize);
    let mut pauses = Pauses::new();
    for chunk in 0..n / CHUNK {
        for i in 0..CHUNK {
            let mut timer = Box::pin(monoio::time::sleep(far(chunk * CHUNK + i)));
            poll_once(timer.as_mut()).await;
            timers.push(timer);
        }
        yield_now().await;
        pauses.look();
    }
    pauses.longest()
}
