//! The process under test: one loop with everything in it.

use crate::accounts::Counts;
use crate::kit::timers::Random;
use crate::{children, kit};
use selio::net::{TcpListener, TcpStream};
use selio::signal::Signals;
use selio::time::sleep;
use selio::{Timer, block_on, spawn};
use std::cell::Cell;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// What all tasks of the server share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) counts: Counts,
    paused: Cell<bool>,
}

impl World {
    /// Lets a task begin something, unless all is to become quiet.
    pub(crate) async fn begin(&self) {
        while self.paused.get() {
            sleep(Duration::from_millis(2)).await;
        }
        self.counts.add("busy", 1);
    }

    /// What `begin` has let begin is over.
    pub(crate) fn done(&self) {
        self.counts.subtract("busy", 1);
    }

    fn is_quiet(&self) -> bool {
        self.counts.get("busy") == 0 && self.counts.get("connections") == 0
    }
}

const TIMERS: u64 = 1000;
const LANES: u64 = 4;

pub(crate) fn run() {
    _ = rlimit::increase_nofile_limit(u64::MAX);
    let world = Rc::new(World::default());
    block_on(serve(&world)).expect("the server works");
}

async fn serve(world: &Rc<World>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let signals = Signals::new([libc::SIGHUP, libc::SIGRTMIN() + 1])?;
    println!("{}", listener.local_addr()?);
    spawn(accept(Rc::clone(world), listener));
    spawn(listen(Rc::clone(world), signals));
    spawn(canary(Rc::clone(world)));
    spawn(out_of_descriptors(Rc::clone(world)));
    (0..TIMERS).for_each(|seed| _ = spawn(timer(Rc::clone(world), seed)));
    (0..LANES).for_each(|seed| _ = spawn(children::run(Rc::clone(world), seed)));
    obey(world).await
}

/// Answers each order with the accounts, when all has become quiet.
async fn obey(world: &World) -> io::Result<()> {
    let orders = selio::io::stdin()?;
    while orders.read(&mut [0]).await? != 0 {
        world.paused.set(true);
        let start = Instant::now();
        // A child that is killed when it is dropped has a descriptor until it is dead.
        let has_children = || !kit::children::children().is_empty() || !kit::zombies().is_empty();
        while (!world.is_quiet() || has_children()) && start.elapsed().as_secs() < 20 {
            sleep(Duration::from_millis(20)).await;
        }
        let counts = &world.counts;
        counts.set("zombies", kit::zombies().len() as u64);
        counts.set("descriptors", kit::open_fds().len() as u64);
        counts.set("threads", kit::threads() as u64);
        counts.set("heap", kit::allocated_bytes() as u64);
        println!("{}", counts.report());
        world.paused.set(false);
    }
    Ok(())
}

async fn accept(world: Rc<World>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                world.counts.add("accepted", 1);
                world.counts.add("connections", 1);
                world.counts.raise("most_connections", world.counts.get("connections"));
                spawn(connection(Rc::clone(&world), stream));
            }
            Err(_) => world.counts.add("accept_errors", 1),
        }
    }
}

async fn connection(world: Rc<World>, stream: TcpStream) {
    match echo(&world, &stream).await {
        Ok((got, said)) => world.counts.add("uneven", u64::from(got != said)),
        Err(_) => world.counts.add("broken", 1),
    }
    drop(stream);
    world.counts.subtract("connections", 1);
}

async fn echo(world: &World, stream: &TcpStream) -> io::Result<(u64, u64)> {
    let (mut got, mut said) = (0, 0);
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok((got, said));
        }
        got += n as u64;
        stream.write_all(&buffer[..n]).await?;
        said += n as u64;
        world.counts.add("sent", n as u64);
    }
}

/// A hang-up may merge with others; the values that are queued come each, and in their order.
async fn listen(world: Rc<World>, mut signals: Signals) {
    let counts = &world.counts;
    while let Some(Ok(info)) = signals.next().await {
        if info.signo() == libc::SIGHUP {
            counts.add("hangups", 1);
            continue;
        }
        let in_order = info.value() as u64 == counts.get("values");
        counts.add("out_of_order", u64::from(!in_order));
        counts.add("values", 1);
    }
}

/// A timer that goes off late tells of a loop that stands still. Its task has its turn after those that
/// were ready before, which are many when there are many connections.
async fn canary(world: Rc<World>) {
    loop {
        let begun =
            (waited_for_a_core(), world.counts.get("starting_us"), world.counts.get("connections"));
        let due = Instant::now() + Duration::from_millis(5);
        let woken = when_woken(Timer::at(due)).await;
        let turn = Moment::now();
        // To start a child is one call, which ends when the child has a core and has begun.
        let started = Duration::from_micros(world.counts.get("starting_us") - begun.1);
        let connections = begun.2.max(world.counts.get("connections"));
        let before = Duration::from_micros(20 * connections);
        world.counts.add("ticks", 1);
        let note = |late_ones, latest, moment: Moment, bound| {
            // Without a descriptor it cannot be told.
            let Some((then, now)) = begun.0.zip(moment.waited) else { return };
            let late = moment.at.saturating_duration_since(due);
            let late = late.saturating_sub(now.saturating_sub(then) + started);
            world.counts.add("told", 1);
            world
                .counts
                .add(late_ones, u64::from(late > bound * kit::patience(1).as_secs() as u32));
            world.counts.raise(latest, late.as_micros() as u64);
        };
        note("late_ticks", "latest_us", woken, SOON);
        note("late_turns", "latest_turn_us", turn, SOON + before);
    }
}

/// How late a timer may go off on a free core.
const SOON: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    /// See [`waited_for_a_core`].
    waited: Option<Duration>,
}

impl Moment {
    fn now() -> Self {
        Moment { at: Instant::now(), waited: waited_for_a_core() }
    }
}

/// When a timer's task was woken, which is before its turn comes.
async fn when_woken(timer: Timer) -> Moment {
    struct Note {
        woken: OnceLock<Moment>,
        task: Waker,
    }

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            _ = self.woken.set(Moment::now());
            self.task.wake_by_ref();
        }
    }

    let mut timer = pin!(timer);
    let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let note = Arc::new(Note { woken: OnceLock::new(), task });
    let waker = Waker::from(Arc::clone(&note));
    poll_fn(|_| timer.as_mut().poll(&mut Context::from_waker(&waker))).await;
    *note.woken.get_or_init(Moment::now)
}

/// How long this thread could have run and had no core to run on; `None` if that cannot be told,
/// for want of a descriptor, say.
fn waited_for_a_core() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(told.split_whitespace().nth(1)?.parse().ok()?))
}

/// Now and then the process may open three files more, and then none.
async fn out_of_descriptors(world: Rc<World>) {
    loop {
        sleep(Duration::from_millis(700)).await;
        world.begin().await;
        let file = File::open("/dev/null").expect("a descriptor is free");
        // It has the lowest number that is free.
        let before = kit::set_nofile_limit(file.as_raw_fd() as u64 + 3);
        drop(file);
        sleep(Duration::from_millis(100)).await;
        kit::set_nofile_limit(before);
        world.counts.add("shortages", 1);
        world.done();
    }
}

/// Never early.
async fn timer(world: Rc<World>, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        world.begin().await;
        let (start, asked) = (Instant::now(), Duration::from_micros(random.below(100_000)));
        sleep(asked).await;
        world.counts.add("early", u64::from(start.elapsed() < asked));
        world.counts.add("timers", 1);
        world.done();
    }
}
