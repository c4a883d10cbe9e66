//! Small things on tokio.

use std::future::Future;
use std::hint::black_box;
use std::io;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::deadlines::{Burst, TURN, far};
use common::os;
use common::rows::{self, CHUNK, Pauses, since};
use common::tasks::{Parked, PingPong, poll_once};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal as signals};
#[cfg(not(feature = "local"))]
use tokio::task::spawn as spawn_task;
#[cfg(feature = "local")]
use tokio::task::spawn_local as spawn_task;
use tokio::time::sleep_until;

#[cfg(feature = "local")]
fn runtime() -> io::Result<tokio::runtime::LocalRuntime> {
    let options = tokio::runtime::LocalOptions::default();
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(options)
}

#[cfg(not(feature = "local"))]
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime().expect("descriptors are free").block_on(future)
}

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", |n, batch| run(spawn(n, batch))),
        ("yield", |n, tasks| run(yields(n, tasks))),
        ("ping_pong", |n, _| run(ping_pong(n))),
        ("wake_busy", |n, _| run(wake_busy(n))),
        ("wake_answer", |n, _| run(wake_answer(n))),
        ("timer", |n, others| run(timer(n, others))),
        ("burst", |n, _| run(burst(n))),
        ("sleep", |n, nanos| run(sleep(n, nanos))),
        ("signal", |n, _| run(signal(n))),
        ("process", |n, at_once| run(process(n, at_once))),
        ("connect", |n, _| run(connect(n))),
        ("pause_tasks", |n, _| run(pause_tasks(n))),
        ("pause_timers", |n, _| run(pause_timers(n))),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let runtime = runtime().expect("descriptors are free");
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
        tasks.extend((0..batch).map(|i| spawn_task(async move { i })));
        for (i, task) in (0..).zip(tasks.drain(..)) {
            assert_eq!(task.await.unwrap(), i);
        }
    }
    since(start, n)
}

async fn yields(n: u64, tasks: u64) -> Vec<f64> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            spawn_task(async move {
                for _ in 0..n / tasks {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    since(start, n)
}

async fn ping_pong(n: u64) -> Vec<f64> {
    let game = Arc::new(PingPong::default());
    let start = Instant::now();
    let first = spawn_task(Arc::clone(&game).play(0, n / 2));
    let second = spawn_task(game.play(1, n / 2));
    first.await.unwrap();
    second.await.unwrap();
    since(start, n)
}

async fn wake_busy(n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let task = spawn_task(Arc::clone(&parked).answer(n));
    tokio::task::yield_now().await;
    let took = parked.wake_while_busy(n);
    task.await.unwrap();
    rows::per(took, n)
}

async fn wake_answer(n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    spawn_task(parked.answer(n)).await.unwrap();
    rows::per(thread.join().expect("a thread that asks does not panic"), n)
}

async fn timer(n: u64, others: u64) -> Vec<f64> {
    let mut among: Vec<_> = (0..others).map(|i| Box::pin(tokio::time::sleep(far(i)))).collect();
    for timer in &mut among {
        poll_once(timer.as_mut()).await;
    }
    tokio::time::sleep(TURN).await;
    let start = Instant::now();
    for i in 0..n {
        poll_once(pin!(tokio::time::sleep(far(i)))).await;
    }
    since(start, n)
}

async fn burst(n: u64) -> Vec<f64> {
    // Tasks of the `current_thread` runtime are `Send`, so that what they share is behind a lock.
    let burst = Arc::new(Mutex::new(Burst::new(n)));
    let deadlines: Vec<Instant> = (0..n).map(|i| burst.lock().unwrap().deadline(i)).collect();
    let tasks: Vec<_> = deadlines
        .into_iter()
        .map(|deadline| {
            let burst = Arc::clone(&burst);
            spawn_task(async move {
                sleep_until(deadline.into()).await;
                burst.lock().unwrap().gone_off(deadline);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    burst.lock().unwrap().results()
}

async fn sleep(n: u64, nanos: u64) -> Vec<f64> {
    let mut late = Vec::new();
    for _ in 0..n {
        let deadline = Instant::now() + Duration::from_nanos(nanos);
        sleep_until(deadline.into()).await;
        late.push(deadline.elapsed());
    }
    rows::median(late)
}

async fn signal(n: u64) -> Vec<f64> {
    let mut signals = signals(SignalKind::user_defined1()).expect("it may be handled");
    let start = Instant::now();
    for _ in 0..n {
        os::raise(os::SIGUSR1);
        signals.recv().await.expect("the stream has no end");
    }
    since(start, n)
}

async fn process(n: u64, at_once: u64) -> Vec<f64> {
    let start = Instant::now();
    for _ in 0..n / at_once {
        let children: Vec<_> = (0..at_once)
            .map(|_| Command::new("/bin/true").spawn().expect("there is a /bin/true"))
            .collect();
        for mut child in children {
            assert!(child.wait().await.expect("the child is ours").success());
        }
    }
    since(start, n)
}

async fn connect(n: u64) -> Vec<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let start = Instant::now();
    for _ in 0..n {
        let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
        accepted.expect("a client has come");
        connected.expect("the listener is there");
    }
    since(start, n)
}

async fn pause_tasks(n: u64) -> Vec<f64> {
    let mut pauses = Pauses::new();
    for _ in 0..n / CHUNK {
        for _ in 0..CHUNK {
            spawn_task(std::future::pending::<()>());
        }
        tokio::task::yield_now().await;
        pauses.look();
    }
    pauses.longest()
}

async fn pause_timers(n: u64) -> Vec<f64> {
    let mut timers = Vec::with_capacity(n as usize);
    let mut pauses = Pauses::new();
    for chunk in 0..n / CHUNK {
        for i in 0..CHUNK {
            let mut timer = Box::pin(tokio::time::sleep(far(chunk * CHUNK + i)));
            poll_once(timer.as_mut()).await;
            timers.push(timer);
        }
        tokio::task::yield_now().await;
        pauses.look();
    }
    pauses.longest()
}
