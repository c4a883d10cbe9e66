//! A tour of selio: an echo server with a hundred clients, timers, a timeout, a wake-up from
//! another thread, a child process and a signal, all in one thread.
//!
//! Each step checks what it shows and prints a line with what it measured; the program ends with an
//! error if one of them fails. It needs nothing but this repository and takes a few seconds.
//!
//! Run it with `cargo run --release --example tour`.

use std::error::Error;
use std::hash::{DefaultHasher, Hasher};
use std::pin::pin;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use selio::net::{TcpListener, TcpStream};
use selio::selector::{Events, Selector};
use selio::time::{Timer, timeout};

type Outcome<T = String> = Result<T, Box<dyn Error>>;

const CLIENTS: u64 = 100;
const MESSAGES: u64 = 1_000;
const SIZE: usize = 64;

fn main() -> Outcome<()> {
    println!("A tour of selio: everything below happens in one thread.\n");
    selio::block_on(async {
        step("echo", echo().await)?;
        step("timers", timers().await)?;
        step("timeout", a_timeout().await)?;
        step("other threads", wake_from_thread().await)
    })?;
    step("the kernel", child_and_signal())?;
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    check(threads == 1, "no thread is left")?;
    println!("\nAll of it is true, and this process has {threads} thread.");
    Ok(())
}

fn step(name: &str, outcome: Outcome) -> Outcome<()> {
    match outcome {
        Ok(line) => {
            println!("{name:>14}  {line}");
            Ok(())
        }
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}

fn check(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}").into()) }
}

/// A server and its clients share the thread: each connection has a task at both ends.
async fn echo() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = selio::spawn(async move {
        let mut incoming = listener.incoming();
        while let Some(stream) = incoming.next().await {
            selio::spawn(answer(stream?));
        }
        Ok::<_, std::io::Error>(())
    });
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            selio::spawn(async move { client(TcpStream::connect(address).await?, seed).await })
        })
        .collect();
    for client in clients {
        check(client.await??, "each client heard what it had said")?;
    }
    server.abort();
    let took = start.elapsed();
    let total = CLIENTS * MESSAGES;
    let rate = total as f64 / took.as_secs_f64();
    Ok(format!(
        "{CLIENTS} clients said {MESSAGES} things each and heard them back: {total} answers in {took:.2?}, {rate:.0} a second"
    ))
}

async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// Says if the digest of all that was heard is that of all that was said.
async fn client(stream: TcpStream, seed: u64) -> std::io::Result<bool> {
    stream.set_nodelay(true)?;
    let (mut said, mut heard) = (DefaultHasher::new(), DefaultHasher::new());
    let mut message = [0; SIZE];
    for number in 0..MESSAGES {
        for (i, byte) in message.iter_mut().enumerate() {
            *byte = (seed * 31 + number * 7 + i as u64) as u8;
        }
        said.write(&message);
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await?;
        heard.write(&message);
    }
    Ok(said.finish() == heard.finish())
}

async fn timers() -> Outcome {
    let period = Duration::from_millis(10);
    let start = Instant::now();
    let mut ticks = Timer::interval_at(start + period, period);
    let mut latest = Duration::ZERO;
    for count in 1..=20 {
        let due = ticks.next().await.ok_or("an interval never ends")?;
        check(due == start + period * count, "ticks stay a period apart")?;
        let late = Instant::now().checked_duration_since(due).ok_or("a tick was early")?;
        latest = latest.max(late);
    }
    Ok(format!(
        "20 ticks of {period:?}, none early, the latest {latest:.0?} late, without a system call of their own"
    ))
}

async fn a_timeout() -> Outcome {
    let limit = Duration::from_millis(25);
    let start = Instant::now();
    check(timeout(limit, std::future::pending::<()>()).await.is_err(), "nothing came")?;
    let took = start.elapsed();
    check(took >= limit, "it waited as long as it should")?;
    check(timeout(limit, async { "in time" }).await == Ok("in time"), "what is ready wins")?;
    Ok(format!("gave up on what never comes after {took:.1?} ({limit:?} were asked for)"))
}

/// A thread computes; the loop sleeps until the thread wakes it.
async fn wake_from_thread() -> Outcome {
    #[derive(Default)]
    struct Desk {
        result: Option<(u64, Instant)>,
        waiting: Option<Waker>,
    }
    let desk = Arc::new(Mutex::new(Desk::default()));
    let theirs = Arc::clone(&desk);
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let sum = (1..=1_000_000).sum();
        let mut desk = theirs.lock().expect("nobody panics at the desk");
        desk.result = Some((sum, Instant::now()));
        let waiting = desk.waiting.take();
        drop(desk);
        waiting.into_iter().for_each(Waker::wake);
    });
    let answer = std::future::poll_fn(|cx| {
        let mut desk = desk.lock().expect("nobody panics at the desk");
        desk.waiting = Some(cx.waker().clone());
        desk.result.map_or(Poll::Pending, Poll::Ready)
    });
    let (sum, sent) = timeout(Duration::from_secs(5), pin!(answer)).await?;
    let took = sent.elapsed();
    thread.join().map_err(|_| "the thread panicked")?;
    check(sum == 500_000_500_000, "the thread can add")?;
    Ok(format!("a thread's answer woke the sleeping loop in {took:.0?}"))
}

/// The selector by itself: a child that sends us a signal and exits.
fn child_and_signal() -> Outcome {
    let mut selector = Selector::new()?;
    selector.register_signal(libc::SIGUSR1, "signal")?;
    let start = Instant::now();
    let mut child = Command::new("sh").args(["-c", "kill -USR1 $PPID; exit 7"]).spawn()?;
    let pid = child.id();
    selector.register_process(pid, "child")?;
    let (mut signalled, mut exited) = (false, false);
    while !(signalled && exited) {
        let keys = selector.select(Some(Duration::from_secs(5)))?;
        check(!keys.is_empty(), "something happens within five seconds")?;
        for key in keys {
            if let Some(info) = key.signal_info() {
                check(info.pid() == pid, "the signal says who sent it")?;
                signalled = true;
            }
            exited |= key.events().contains(Events::PROCESS);
        }
    }
    let took = start.elapsed();
    let status = child.wait()?;
    check(status.code() == Some(7), "the exit code is the child's")?;
    Ok(format!(
        "child {pid} sent SIGUSR1 and exited with 7; the selector told both, {took:.1?} after its start"
    ))
}
