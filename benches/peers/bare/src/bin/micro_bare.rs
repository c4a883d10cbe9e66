//! Small things done by hand.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::deadlines::{Burst, far};
use common::os::{self, EPOLLET, EPOLLIN, Epoll, NO_EVENT, SignalFd, TimerFd};
use common::rows::{self, since};
use common::tasks::{Parked, PingPong, yield_now};
use peer_bare::executor::Executor;
use peer_bare::wheel::Wheel;

fn main() {
    rows::main(&[
        ("block_on", block_on),
        ("spawn", spawn),
        ("yield", yields),
        ("ping_pong", ping_pong),
        ("wake_busy", wake_busy),
        ("wake_answer", wake_answer),
        ("wake_answer_spin", wake_answer),
        ("timer", timer),
        ("burst", burst),
        ("burst_exact", burst_exact),
        ("sleep", sleep),
        ("sleep_timerfd", sleep_timerfd),
        ("signal", signal),
        ("process", process),
        ("connect", connect),
    ]);
}

fn block_on(n: u64, _: u64) -> Vec<f64> {
    let start = Instant::now();
    for i in 0..n {
        let future = pin!(async { black_box(i) });
        let Poll::Ready(output) = future.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a future without an await is ready");
        };
        assert_eq!(output, i);
    }
    since(start, n)
}

fn spawn(n: u64, batch: u64) -> Vec<f64> {
    let mut executor = Executor::default();
    let done = Rc::new(Cell::new(0));
    let start = Instant::now();
    for _ in 0..n / batch {
        for _ in 0..batch {
            let done = Rc::clone(&done);
            executor.spawn(async move { done.set(done.get() + 1) });
        }
        executor.run();
    }
    assert_eq!(done.get(), n / batch * batch);
    since(start, n)
}

fn yields(n: u64, tasks: u64) -> Vec<f64> {
    let mut executor = Executor::default();
    for _ in 0..tasks {
        executor.spawn(async move {
            for _ in 0..n / tasks {
                yield_now().await;
            }
        });
    }
    let start = Instant::now();
    executor.run();
    since(start, n)
}

fn ping_pong(n: u64, _: u64) -> Vec<f64> {
    let mut executor = Executor::default();
    let game = Arc::new(PingPong::default());
    executor.spawn(Arc::clone(&game).play(0, n / 2));
    executor.spawn(game.play(1, n / 2));
    let start = Instant::now();
    executor.run();
    since(start, n)
}

/// What another thread sets and this one looks at, again and again.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Release);
        }
    }
}

fn wake_busy(n: u64, _: u64) -> Vec<f64> {
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let parked = Arc::new(Parked::default());
    let mut task = pin!(Arc::clone(&parked).answer(n));
    let waker = Waker::from(flag);
    assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    rows::per(parked.wake_while_busy(n), n)
}

fn wake_answer(n: u64, _: u64) -> Vec<f64> {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let parked = Arc::new(Parked::default());
    let thread = parked.ask(n);
    let mut task = pin!(parked.answer(n));
    let waker = Waker::from(Arc::clone(&flag));
    loop {
        if !flag.0.load(Ordering::Acquire) {
            std::hint::spin_loop();
            continue;
        }
        flag.0.store(false, Ordering::SeqCst);
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            break;
        }
    }
    rows::per(thread.join().expect("a thread that asks does not panic"), n)
}

fn timer(n: u64, others: u64) -> Vec<f64> {
    let base = Instant::now();
    let mut wheel = Wheel::new();
    for i in 0..others {
        wheel.insert(base + far(i));
    }
    let start = Instant::now();
    for i in 0..n {
        let timer = wheel.insert(base + far(i));
        wheel.remove(black_box(timer));
    }
    since(start, n)
}

/// In ticks of a millisecond.
fn burst(n: u64, _: u64) -> Vec<f64> {
    let epoll = Epoll::new().expect("a descriptor is free");
    let burst = Burst::new(n);
    let mut wheel = Wheel::new();
    for i in 0..n {
        // In a wheel that nothing is taken from, the numbers are those of the deadlines.
        wheel.insert(burst.deadline(i));
    }
    while !wheel.is_empty() {
        let next = wheel.fire(|number| burst.gone_off(burst.deadline(number.into())));
        if !wheel.is_empty() {
            let timeout = next.as_nanos().div_ceil(1_000_000) as i32;
            epoll.wait(&mut [NO_EVENT; 64], Some(timeout)).expect("no signal comes");
        }
    }
    burst.results()
}

/// Each at its time, as far as the kernel wakes in time.
fn burst_exact(n: u64, _: u64) -> Vec<f64> {
    let epoll = Epoll::new().expect("a descriptor is free");
    let burst = Burst::new(n);
    let mut heap: BinaryHeap<Reverse<Instant>> =
        (0..n).map(|i| Reverse(burst.deadline(i))).collect();
    while let Some(&Reverse(deadline)) = heap.peek() {
        let now = Instant::now();
        if now < deadline {
            epoll.wait_exactly(&mut [NO_EVENT; 64], deadline - now).expect("no signal comes");
        } else {
            heap.pop();
            burst.gone_off(deadline);
        }
    }
    burst.results()
}

fn sleep(n: u64, nanos: u64) -> Vec<f64> {
    let epoll = Epoll::new().expect("a descriptor is free");
    late(n, nanos, |duration| {
        epoll.wait_exactly(&mut [NO_EVENT; 64], duration).expect("no signal comes");
    })
}

fn sleep_timerfd(n: u64, nanos: u64) -> Vec<f64> {
    let epoll = Epoll::new().expect("a descriptor is free");
    let timer = TimerFd::new().expect("a descriptor is free");
    epoll.add(&timer, EPOLLIN | EPOLLET, 0).expect("a timer can be watched");
    late(n, nanos, |duration| {
        timer.set(duration).expect("the duration is proper");
        epoll.wait(&mut [NO_EVENT; 64], None).expect("no signal comes");
    })
}

fn late(n: u64, nanos: u64, mut sleep: impl FnMut(Duration)) -> Vec<f64> {
    let duration = Duration::from_nanos(nanos);
    let mut late = Vec::new();
    for _ in 0..n {
        let deadline = Instant::now() + duration;
        sleep(duration);
        late.push(Instant::now().saturating_duration_since(deadline));
    }
    rows::median(late)
}

fn signal(n: u64, _: u64) -> Vec<f64> {
    let epoll = Epoll::new().expect("a descriptor is free");
    let signals = SignalFd::new(os::SIGUSR1).expect("a descriptor is free");
    epoll.add(&signals, EPOLLIN | EPOLLET, 0).expect("a signalfd can be watched");
    let start = Instant::now();
    for _ in 0..n {
        os::raise(os::SIGUSR1);
        epoll.wait(&mut [NO_EVENT; 64], None).expect("no other signal comes");
        assert_eq!(signals.read().expect("the signal is there"), os::SIGUSR1 as u32);
    }
    since(start, n)
}

fn process(n: u64, at_once: u64) -> Vec<f64> {
    let epoll = Epoll::new().expect("a descriptor is free");
    let start = Instant::now();
    for _ in 0..n / at_once {
        let mut children = Vec::new();
        for i in 0..at_once {
            let child = Command::new("/bin/true").spawn().expect("there is a /bin/true");
            let pidfd = os::pidfd(child.id()).expect("the kernel has pidfds");
            epoll.add(&pidfd, EPOLLIN | EPOLLET, i).expect("a pidfd can be watched");
            children.push(Some((child, pidfd)));
        }
        let mut left = at_once;
        while left > 0 {
            let mut events = [NO_EVENT; 64];
            let count = epoll.wait(&mut events, None).expect("no signal comes");
            for event in &events[..count] {
                // A child that has been waited for makes an event too, which nobody wants.
                let Some((mut child, _)) = children[event.u64 as usize].take() else { continue };
                assert!(child.wait().expect("the child is ours").success());
                left -= 1;
            }
        }
    }
    since(start, n)
}

fn connect(n: u64, _: u64) -> Vec<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    let Ok(SocketAddr::V4(address)) = listener.local_addr() else { panic!("it is bound to IPv4") };
    let epoll = Epoll::new().expect("a descriptor is free");
    epoll.add(&listener, EPOLLIN | EPOLLET, 0).expect("a listener can be watched");
    let start = Instant::now();
    for _ in 0..n {
        one_connection(&epoll, &listener, address);
    }
    since(start, n)
}

/// Both ends in one loop. On the loopback the client is connected when the call returns, so that it
/// need not be watched.
fn one_connection(epoll: &Epoll, listener: &TcpListener, address: SocketAddrV4) {
    let client = os::begin_connect(address).expect("the listener is there");
    assert!(os::is_writable(&client), "the loopback is fast");
    epoll.wait(&mut [NO_EVENT; 64], None).expect("no signal comes");
    drop(os::accept(listener).expect("a client has come"));
}
