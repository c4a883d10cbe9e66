//! Small things on selio.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::deadlines::{Burst, TURN, far};
use common::os;
use common::rows::{self, CHUNK, Pauses, since};
use common::tasks::{Parked, PingPong, poll_once};
use selio::Timer;
use selio::net::{TcpListener, TcpStream};
use selio::process::Command;
use selio::signal::Signals;
use selio::time::TimerSlack;

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", |n, batch| selio::block_on(spawn(n, batch))),
        ("yield", |n, tasks| selio::block_on(yields(n, tasks))),
        ("ping_pong", |n, _| selio::block_on(ping_pong(n))),
        ("wake_busy", |n, _| selio::block_on(wake_busy(n))),
        ("wake_answer", |n, _| selio::block_on(wake_answer(n))),
        ("wake_answer_spin", |n, micros| {
            let _spin = selio::spin(Duration::from_micros(micros));
            selio::block_on(wake_answer(n))
        }),
        ("timer", |n, others| selio::block_on(timer(n, others))),
        ("burst", |n, _| selio::block_on(burst(n))),
        ("sleep", |n, nanos| selio::block_on(sleep(n, nanos))),
        ("signal", |n, _| selio::block_on(signal(n))),
        ("process", |n, at_once| selio::block_on(process(n, at_once))),
        ("connect", |n, _| selio::block_on(connect(n))),
        ("pause_tasks", |n, _| selio::block_on(pause_tasks(n))),
        ("pause_timers", |n, _| selio::block_on(pause_timers(n))),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let start = Instant::now();
    for i in 0..n {
        assert_eq!(selio::block_on(async { black_box(i) }), i);
    }
    since(start, n)
}

async fn spawn(n: u64, batch: u64) -> Vec<f64> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(batch as usize);
    for _ in 0..n / batch {
        tasks.extend((0..batch).map(|i| selio::spawn(async move { i })));
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
            selio::spawn(async move {
                for _ in 0..n / tasks {
                    selio::yield_now().await;
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
    let first = selio::spawn(Arc::clone(&game).play(0, n / 2));
    let second = selio::spawn(game.play(1, n / 2));
    first.await.unwrap();
    second.await.unwrap();
    since(start, n)
}

async fn wake_busy(n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let task = selio::spawn(Arc::clone(&parked).answer(n));
    selio::yield_now().await;
    let took = parked.wake_while_busy(n);
    task.await.unwrap();
    rows::per(took, n)
}

async fn wake_answer(n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    selio::spawn(parked.answer(n)).await.unwrap();
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

async fn burst(n: u64) -> Vec<f64> {
    let burst = Rc::new(Burst::new(n));
    let tasks: Vec<_> = (0..n)
        .map(|i| {
            let burst = Rc::clone(&burst);
            selio::spawn(async move {
                let deadline = burst.deadline(i);
                Timer::at(deadline).await;
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
    let exact = std::env::var_os("TIMER_SLACK_NS");
    let _exact = exact.map(|_| TimerSlack::exact().expect("the slack is the thread's own"));
    let mut late = Vec::new();
    for _ in 0..n {
        let deadline = Instant::now() + Duration::from_nanos(nanos);
        Timer::at(deadline).await;
        late.push(deadline.elapsed());
    }
    rows::median(late)
}

async fn signal(n: u64) -> Vec<f64> {
    let mut signals = Signals::new([os::SIGUSR1]).expect("it may be handled");
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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let start = Instant::now();
    for _ in 0..n {
        let (accepted, connected) =
            selio::join(listener.accept(), TcpStream::connect(address)).await;
        accepted.expect("a client has come");
        connected.expect("the listener is there");
    }
    since(start, n)
}

async fn pause_tasks(n: u64) -> Vec<f64> {
    let mut pauses = Pauses::new();
    for _ in 0..n / CHUNK {
        for _ in 0..CHUNK {
            selio::spawn(std::future::pending::<()>());
        }
        selio::yield_now().await;
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
        selio::yield_now().await;
        pauses.look();
    }
    pauses.longest()
}
