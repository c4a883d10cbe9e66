//! Small things on calloop: tasks on its executor, the rest by callbacks where that is how it is meant.
//! It has no processes and no connecting.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calloop::futures::{Scheduler, executor};
use calloop::signals::{Signal, Signals};
use calloop::timer::{TimeoutAction, TimeoutFuture, Timer};
use calloop::{EventLoop, LoopHandle};
use common::deadlines::{Burst, TURN, far};
use common::os;
use common::rows::{self, since};
use common::tasks::{Parked, PingPong, yield_now};
use futures::channel::oneshot;

type Loop = EventLoop<'static, ()>;

/// What a task needs of the loop it runs on.
#[derive(Clone)]
struct Tasks {
    handle: LoopHandle<'static, ()>,
    scheduler: Scheduler<()>,
}

impl Tasks {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.scheduler.schedule(future).expect("the executor is there");
    }

    /// With a handle, which calloop itself has not.
    fn spawn_and_tell(&self, future: impl Future<Output = ()> + 'static) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        self.spawn(async move {
            future.await;
            let _ = done.send(());
        });
        told
    }
}

/// Runs a row as a task, until it is done.
fn run<F: Future<Output = Vec<f64>> + 'static>(row: impl FnOnce(Tasks) -> F) -> Vec<f64> {
    let mut event_loop = Loop::try_new().expect("descriptors are free");
    let (executor, scheduler) = executor().expect("descriptors are free");
    let handle = event_loop.handle();
    handle.insert_source(executor, |(), (), ()| ()).expect("it is the first of its kind");
    let output = Rc::new(Cell::new(Vec::new()));
    let future = row(Tasks { handle, scheduler: scheduler.clone() });
    let (signal, result) = (event_loop.get_signal(), Rc::clone(&output));
    scheduler
        .schedule(async move {
            result.set(future.await);
            signal.stop();
        })
        .expect("the executor is there");
    event_loop.run(None, &mut (), |()| ()).expect("the loop runs");
    output.take()
}

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", spawn),
        ("yield", |n, count| run(|tasks| yields(tasks, n, count))),
        ("ping_pong", |n, _| run(|tasks| ping_pong(tasks, n))),
        ("wake_busy", |n, _| run(|tasks| wake_busy(tasks, n))),
        ("wake_answer", |n, _| run(|tasks| wake_answer(tasks, n))),
        ("timer", |n, others| run(|tasks| timer(tasks, n, others))),
        ("burst", |n, _| burst(n)),
        ("sleep", |n, nanos| run(|tasks| sleep(tasks, n, nanos))),
        ("signal", signal),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let mut event_loop = Loop::try_new().expect("descriptors are free");
    let start = Instant::now();
    for i in 0..n {
        let output = event_loop.block_on(async { black_box(i) }, &mut (), |()| ());
        assert_eq!(output.expect("the loop runs"), Some(i));
    }
    since(start, n)
}

/// What has been spawned, and what is to come.
struct Spawning {
    scheduler: Scheduler<u64>,
    batch: u64,
    running: u64,
    batches: u64,
}

impl Spawning {
    fn spawn_batch(&mut self) {
        for i in 0..self.batch {
            self.scheduler.schedule(async move { i }).expect("the executor is there");
        }
        self.running = self.batch;
        self.batches -= 1;
    }
}

/// The executor hands each task's output to a callback, which starts the next batch when all have come.
fn spawn(n: u64, batch: u64) -> Vec<f64> {
    let mut event_loop = EventLoop::try_new().expect("descriptors are free");
    let (executor, scheduler) = executor().expect("descriptors are free");
    let signal = event_loop.get_signal();
    event_loop
        .handle()
        .insert_source(executor, move |output, (), spawning: &mut Spawning| {
            black_box(output);
            spawning.running -= 1;
            match (spawning.running, spawning.batches) {
                (0, 0) => signal.stop(),
                (0, _) => spawning.spawn_batch(),
                _ => (),
            }
        })
        .expect("it is the first of its kind");
    let mut spawning = Spawning { scheduler, batch, running: 0, batches: n / batch };
    if spawning.batches == 0 {
        return vec![0.0];
    }
    let start = Instant::now();
    spawning.spawn_batch();
    event_loop.run(None, &mut spawning, |_| ()).expect("the loop runs");
    since(start, n)
}

async fn yields(tasks: Tasks, n: u64, count: u64) -> Vec<f64> {
    let start = Instant::now();
    let running: Vec<_> = (0..count)
        .map(|_| {
            tasks.spawn_and_tell(async move {
                for _ in 0..n / count {
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in running {
        task.await.expect("the task has ended well");
    }
    since(start, n)
}

async fn ping_pong(tasks: Tasks, n: u64) -> Vec<f64> {
    let game = Arc::new(PingPong::default());
    let start = Instant::now();
    tasks.spawn(Arc::clone(&game).play(0, n / 2));
    tasks.spawn_and_tell(game.play(1, n / 2)).await.expect("the task has ended well");
    since(start, n)
}

async fn wake_busy(tasks: Tasks, n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let task = tasks.spawn_and_tell(Arc::clone(&parked).answer(n));
    yield_now().await;
    let took = parked.wake_while_busy(n);
    task.await.expect("the task has ended well");
    rows::per(took, n)
}

async fn wake_answer(tasks: Tasks, n: u64) -> Vec<f64> {
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    tasks.spawn_and_tell(parked.answer(n)).await.expect("the task has ended well");
    rows::per(thread.join().expect("a thread that asks does not panic"), n)
}

/// Its futures leave their timers behind when they are dropped; sources can be removed.
async fn timer(tasks: Tasks, n: u64, others: u64) -> Vec<f64> {
    let insert = |i| {
        let timer = Timer::from_duration(far(i));
        tasks
            .handle
            .insert_source(timer, |_, (), ()| TimeoutAction::Drop)
            .expect("a timer may be late")
    };
    for i in 0..others {
        insert(i);
    }
    TimeoutFuture::from_duration(&tasks.handle, TURN).await;
    let start = Instant::now();
    for i in 0..n {
        tasks.handle.remove(insert(i));
    }
    since(start, n)
}

fn burst(n: u64) -> Vec<f64> {
    let mut event_loop = EventLoop::try_new().expect("descriptors are free");
    let burst = Rc::new(Burst::new(n));
    for i in 0..n {
        let (burst, deadline) = (Rc::clone(&burst), burst.deadline(i));
        event_loop
            .handle()
            .insert_source(Timer::from_deadline(deadline), move |_, (), left: &mut u64| {
                burst.gone_off(deadline);
                *left -= 1;
                TimeoutAction::Drop
            })
            .expect("a timer may be late");
    }
    let mut left = n;
    while left > 0 {
        event_loop.dispatch(None, &mut left).expect("the loop runs");
    }
    burst.results()
}

async fn sleep(tasks: Tasks, n: u64, nanos: u64) -> Vec<f64> {
    let mut late = Vec::new();
    for _ in 0..n {
        let deadline = Instant::now() + Duration::from_nanos(nanos);
        TimeoutFuture::from_deadline(&tasks.handle, deadline).await;
        late.push(deadline.elapsed());
    }
    rows::median(late)
}

fn signal(n: u64, _: u64) -> Vec<f64> {
    let mut event_loop = EventLoop::try_new().expect("descriptors are free");
    let signals = Signals::new(&[Signal::SIGUSR1]).expect("it may be blocked");
    event_loop
        .handle()
        .insert_source(signals, |_, (), seen: &mut u64| *seen += 1)
        .expect("it is the first of its kind");
    let start = Instant::now();
    let mut seen = 0;
    for i in 1..=n {
        os::raise(os::SIGUSR1);
        while seen < i {
            event_loop.dispatch(None, &mut seen).expect("the loop runs");
        }
    }
    since(start, n)
}
