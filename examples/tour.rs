//! A tour of selio: an echo server with a hundred clients, timers, a timeout, wake-ups from other
//! threads, signals, children, and the selector by itself, all in one thread.
//!
//! Each step checks what it shows and prints a line with what it measured; the program ends with an
//! error if one of them fails. It needs nothing but this repository and takes a few seconds.
//!
//! Run it with `cargo run --release --example tour`. An argument tells how many things each client
//! says (1000).

use std::error::Error;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selio::event::Event;
use selio::net::{TcpListener, TcpStream};
use selio::process::Command;
use selio::selector::{Events, Selector};
use selio::signal::{SIGTERM, SIGUSR1, Signals};
use selio::time::{Timer, timeout};

type Outcome<T = String> = Result<T, Box<dyn Error>>;

const CLIENTS: u64 = 100;
const SIZE: usize = 64;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(5);

const SIGKILL: i32 = 9;

fn main() -> Outcome<()> {
    let messages = std::env::args().nth(1).map_or(Ok(1_000), |messages| messages.parse())?;
    println!("A tour of selio: everything below happens in one thread.\n");
    selio::block_on(async {
        step("echo", echo(messages).await)?;
        step("timers", timers().await)?;
        step("timeout", a_timeout().await)?;
        step("other threads", other_threads().await)?;
        step("signals", signals().await)?;
        step("children", children().await)
    })?;
    step("the selector", selector())?;
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
async fn echo(messages: u64) -> Outcome {
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
            selio::spawn(
                async move { client(TcpStream::connect(address).await?, seed, messages).await },
            )
        })
        .collect();
    for client in clients {
        check(client.await??, "each client heard what it had said")?;
    }
    server.abort();
    let took = start.elapsed();
    let total = CLIENTS * messages;
    let rate = total as f64 / took.as_secs_f64();
    Ok(format!(
        "{CLIENTS} clients said {messages} things each and heard them back: {total} answers in {took:.2?}, {rate:.0} a second"
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
async fn client(stream: TcpStream, seed: u64, messages: u64) -> std::io::Result<bool> {
    stream.set_nodelay(true)?;
    let (mut said, mut heard) = (DefaultHasher::new(), DefaultHasher::new());
    let mut message = [0; SIZE];
    for number in 0..messages {
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

/// Threads wake the sleeping loop by an event, and have it run what they send.
async fn other_threads() -> Outcome {
    let (event, here, handle) = (Event::new()?, thread::current().id(), selio::handle());
    let trigger = event.trigger();
    let worker = thread::Builder::new().spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let sent = Instant::now();
        trigger.trigger().map(|()| sent)
    })?;
    timeout(PATIENCE, event.wait()).await??;
    let woken = Instant::now();
    let sent = worker.join().map_err(|_| "the thread panicked")??;
    let order =
        thread::Builder::new().spawn(move || handle.spawn(|| async { thread::current().id() }))?;
    let order = order.join().map_err(|_| "the thread panicked")?;
    check(timeout(PATIENCE, order).await?? == here, "what a thread sends runs here")?;
    let took = woken.saturating_duration_since(sent);
    Ok(format!("a thread's trigger woke the sleeping loop in {took:.0?}; another's task ran here"))
}

/// Children that run at the same time: one that speaks, some that end well, one that will not end.
async fn children() -> Outcome {
    let start = Instant::now();
    let answer = Command::new("tr")
        .args(["a-z", "A-Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stubborn = Command::new("sh");
    let mut stubborn = stubborn
        .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
        .stdout(Stdio::piped())
        .kill_group(true)
        .spawn()?;
    let mut sleepers = Vec::new();
    for code in 0..20 {
        let script = format!("sleep 0.1; exit {code}");
        sleepers.push(selio::spawn(Command::new("sh").args(["-c", &script]).status()));
    }
    let answer = timeout(PATIENCE, answer.output_with_input(b"hello")).await??;
    check(answer.stdout == b"HELLO", "a child answers what it is asked")?;
    for (code, sleeper) in (0..).zip(sleepers) {
        let status = timeout(PATIENCE, sleeper).await???;
        check(status.code() == Some(code), "each exit code is its child's")?;
    }
    let together = start.elapsed();
    // It ignores SIGTERM once it has said so.
    let ready = stubborn.stdout.as_ref().ok_or("it was piped")?;
    timeout(PATIENCE, ready.readable()).await??;
    let ended = timeout(PATIENCE, stubborn.terminate(Duration::from_millis(20))).await??;
    check(ended.signal() == Some(SIGKILL), "who ignores SIGTERM is killed")?;
    let rss = stubborn.usage().ok_or("it has ended")?.max_rss() / 1024;
    Ok(format!(
        "20 children slept 100 ms each, {together:.0?} in all; one of {rss} KiB ignored SIGTERM and was killed"
    ))
}

/// A signal tells who has sent it, and is given back in the end.
async fn signals() -> Outcome {
    let before = mask()?;
    let mut signals = Signals::new([SIGUSR1, SIGTERM])?;
    let mut child = Command::new("sh").args(["-c", "kill -USR1 $PPID; exit 7"]).spawn()?;
    let info = timeout(PATIENCE, signals.next()).await?.ok_or("a stream without end")??;
    check(info.signo() == SIGUSR1, "it is the signal that was sent")?;
    check(info.pid() == child.id(), "it says who has sent it")?;
    check(timeout(PATIENCE, child.status()).await??.code() == Some(7), "the child ends with 7")?;
    check(mask()? == before, "no signal is blocked for it")?;
    Ok(format!(
        "child {} sent SIGUSR1, with its name on it, and nothing was blocked for that",
        info.pid()
    ))
}

/// The signals that this thread blocks, as the kernel tells it.
fn mask() -> Outcome {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let mask = status.lines().find(|line| line.starts_with("SigBlk:"));
    Ok(mask.ok_or("no mask in /proc")?.to_owned())
}

/// The selector by itself, in a loop of one's own: a child that sends us a signal and exits.
fn selector() -> Outcome {
    let mut selector = Selector::new()?;
    selector.register_signal(SIGUSR1, "signal")?;
    let start = Instant::now();
    let mut child = process::Command::new("sh").args(["-c", "kill -USR1 $PPID; exit 7"]).spawn()?;
    let pid = child.id();
    selector.register_process(pid, "child")?;
    let (mut signalled, mut exited) = (false, false);
    while !(signalled && exited) {
        let keys = selector.select(Some(PATIENCE))?;
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
