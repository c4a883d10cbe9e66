//! Small things on smol: `LocalExecutor` of async-executor, and async-io.

use std::hint::black_box;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use async_process::Command;
use async_signal::{Signal, Signals};
use common::deadlines::{Burst, TURN, far};
use common::os;
use common::rows::{self, CHUNK, Pauses, since};
use common::tasks::{Parked, PingPong, poll_once};
use futures_lite::StreamExt;
use futures_lite::future::{yield_now, zip};

type Executor = Rc<LocalExecutor<'static>>;

fn run<T>(row: impl AsyncFnOnce(Executor) -> T) -> T {
    let executor = Rc::new(LocalExecutor::new());
    async_io::block_on(executor.run(row(Rc::clone(&executor))))
}

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", |n, batch| run(async |executor| spawn(executor, n, batch).await)),
        ("yield", |n, tasks| run(async |executor| yields(executor, n, tasks).await)),
        ("ping_pong", |n, _| run(async |executor| ping_pong(executor, n).await)),
        ("wake_busy", |n, _| run(async |executor| wake_busy(executor, n).await)),
        ("wake_answer", |n, _| run(async |executor| wake_answer(executor, n).await)),
        ("timer", |n, others| run(async |_| timer(n, others).await)),
        ("burst", |n, _| run(async |executor| burst(executor, n).await)),
        ("sleep", |n, nanos| run(async |_| sleep(n, nanos).await)),
        ("signal", |n, _| run(async |_| signal(n).await)),
        ("process", |n, at_once| run(async |_| process(n, at_once).await)),
        ("connect", |n, _| run(async |_| connect(n).await)),
        ("pause_tasks", |n, _| run(async |executor| pause_tasks(executor, n).await)),
        ("pause_timers", |n, _| run(async |_| pause_timers(n).await)),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let start = Instant::now();
    for i in 0..n {
        assert_eq!(async_io::block_on(async { black_box(i) }), i);
    }
    since(start, n)
}

async fn spawn(executor: Executor, n: u64, batch: u64) -> Vec<f64> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(batch as usize);
    for _ in 0..n / batch {
        tasks.extend((0..batch).map(|i| executor.spawn(async move { i })));
        for (i, task) in (0..).zip(tasks.drain(..)) {
            assert_eq!(task.await, i);
        }
    }
    since(start, n)
}

async fn yields(executor: Executor, n: u64, tasks: u64) -> Vec<f64> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            executor.spawn(async move {
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

async fn ping_pong(executor: Executor, n: u64) -> Vec<f64> {
    let game = Arc::new(PingPong::default());
    let start = Instant::now();
    let first = executor.spawn(Arc::clone(&game).play(0, n / 2));
    let second = executor.spawn(game.play(1, n / 2));
    first.await;
    second.await;
    since(start, n)
}

async fn wake_busy(executor: Executor, n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let task = executor.spawn(Arc::clone(&parked).answer(n));
    yield_now().await;
    let took = parked.wake_while_busy(n);
    task.await;
    rows::per(took, n)
}

async fn wake_answer(executor: Executor, n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    executor.spawn(parked.answer(n)).await;
    rows::per(thread.join().expect("a thread that asks does not panic"), n)
}

async fn timer(n: u64, others: u64) -> Vec<f64> {
    let mut among: Vec<Timer> = (0..others).map(|i| Timer::after(far(i))).collect();
    for timer in &mut among {
        poll_once(pin!(timer)).await;
    }
    Timer::after(TURN).await;
    let start = Instant::now();
    for i in 0..n {
        poll_once(pin!(Timer::after(far(i)))).await;
    }
    since(start, n)
}

async fn burst(executor: Executor, n: u64) -> Vec<f64> {
    let burst = Rc::new(Burst::new(n));
    let tasks: Vec<_> = (0..n)
        .map(|i| {
            let burst = Rc::clone(&burst);
            executor.spawn(async move {
                let deadline = burst.deadline(i);
                Timer::at(deadline).await;
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
        Timer::at(deadline).await;
        late.push(deadline.elapsed());
    }
    rows::median(late)
}

async fn signal(n: u64) -> Vec<f64> {
    let mut signals = Signals::new([Signal::Usr1]).expect("it may be handled");
    let start = Instant::now();
    for _ in 0..n {
        os::raise(os::SIGUSR1);
        signals.next().await.expect("the stream has no end").expect("it can be read");
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
            assert!(child.status().await.expect("the child is ours").success());
        }
    }
    since(start, n)
}

async fn connect(n: u64) -> Vec<f64> {
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.get_ref().local_addr().expect("it is bound");
    let start = Instant::now();
    for _ in 0..n {
        let (accepted, connected) =
            zip(listener.accept(), Async::<TcpStream>::connect(address)).await;
        accepted.expect("a client has come");
        connected.expect("the listener is there");
    }
    since(start, n)
}

async fn pause_tasks(executor: Executor, n: u64) -> Vec<f64> {
    let mut pauses = Pauses::new();
    for _ in 0..n / CHUNK {
        for _ in 0..CHUNK {
            executor.spawn(std::future::pending::<()>()).detach();
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
            let mut timer = Timer::after(far(chunk * CHUNK + i));
            poll_once(pin!(&mut timer)).await;
            timers.push(timer);
        }
        yield_now().await;
        pauses.look();
    }
    pauses.longest()
}
