//! Small things on compio, whose driver is io_uring.

use std::future::Future;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::deadlines::{Burst, TURN, far};
use common::os;
use common::rows::{self, since};
use common::tasks::{Parked, PingPong, poll_once, yield_now};
use compio::net::{TcpListener, TcpStream};
use compio::process::Command;
use compio::runtime::Runtime;
use compio::time::sleep_until;

fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().expect("the kernel has io_uring").block_on(future)
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
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let runtime = Runtime::new().expect("the kernel has io_uring");
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
        tasks.extend((0..batch).map(|i| compio::runtime::spawn(async move { i })));
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
            compio::runtime::spawn(async move {
                for _ in 0..n / tasks {
                    yield_now().await;
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
    let first = compio::runtime::spawn(Arc::clone(&game).play(0, n / 2));
    let second = compio::runtime::spawn(game.play(1, n / 2));
    first.await.unwrap();
    second.await.unwrap();
    since(start, n)
}

async fn wake_busy(n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let task = compio::runtime::spawn(Arc::clone(&parked).answer(n));
    yield_now().await;
    let took = parked.wake_while_busy(n);
    task.await.unwrap();
    rows::per(took, n)
}

async fn wake_answer(n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    compio::runtime::spawn(parked.answer(n)).await.unwrap();
    rows::per(thread.join().expect("a thread that asks does not panic"), n)
}

async fn timer(n: u64, others: u64) -> Vec<f64> {
    let mut among: Vec<_> = (0..others).map(|i| Box::pin(compio::time::sleep(far(i)))).collect();
    for timer in &mut among {
        poll_once(timer.as_mut()).await;
    }
    compio::time::sleep(TURN).await;
    let start = Instant::now();
    for i in 0..n {
        poll_once(pin!(compio::time::sleep(far(i)))).await;
    }
    since(start, n)
}

async fn burst(n: u64) -> Vec<f64> {
    let burst = Rc::new(Burst::new(n));
    let tasks: Vec<_> = (0..n)
        .map(|i| {
            let burst = Rc::clone(&burst);
            compio::runtime::spawn(async move {
                let deadline = burst.deadline(i);
                sleep_until(deadline).await;
                burst.gone_off(deadline);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    burst.results()
}

async fn sleep(n: u64, nanos: u64) -> Vec<f64> {
    let mut late = Vec::new();
    for _ in 0..n {
        let deadline = Instant::now() + Duration::from_nanos(nanos);
        sleep_until(deadline).await;
        late.push(deadline.elapsed());
    }
    rows::median(late)
}

/// It has no stream of signals: a future for each is made before the signal comes.
async fn signal(n: u64) -> Vec<f64> {
    let start = Instant::now();
    for _ in 0..n {
        let mut heard = pin!(compio::signal::unix::signal(os::SIGUSR1));
        poll_once(heard.as_mut()).await;
        os::raise(os::SIGUSR1);
        heard.await.expect("it can be read");
    }
    since(start, n)
}

async fn process(n: u64, at_once: u64) -> Vec<f64> {
    let start = Instant::now();
    for _ in 0..n / at_once {
        let children: Vec<_> = (0..at_once)
            .map(|_| Command::new("/bin/true").spawn().expect("there is a /bin/true"))
            .collect();
        for child in children {
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
        let (accepted, connected) =
            futures::future::join(listener.accept(), TcpStream::connect(address)).await;
        accepted.expect("a client has come");
        connected.expect("the listener is there");
    }
    since(start, n)
}
