//! Keeps commands running: starts each again when it has ended, forwards what they print, line by
//! line with their names before it, and ends them all when it is asked to.
//!
//! SIGHUP has it read its list again: commands that went are ended, new ones started, and those
//! that are as they were are left alone. SIGTERM or SIGINT (Ctrl-C) has it end them all: by SIGTERM,
//! and by SIGKILL those that are still there after some seconds. A command shares its fate with
//! its process group, so that a shell leaves nothing behind.
//!
//! It may be process 1 of a container, for it reaps the orphans that such a process is given. As
//! long as nothing happens it sleeps, without a timer. What it prints has to be read: it waits for
//! a reader who is slow, and does without one who is gone.
//!
//! Run it with `cargo run --release --example supervisor -- examples/supervisor.list 5`: the list,
//! and how many seconds commands have to end (5 unless it is told).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::mem::take;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use selio::process::{Command, Pipe, reap_orphans};
use selio::signal::{SIGHUP, SIGINT, SIGTERM, Signals};
use selio::time::{sleep, timeout};
use selio::{JoinHandle, join, race};

/// The pause before a command is started again doubles, until a run was longer than the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A longer line is forwarded in pieces of this many bytes.
const LONGEST_LINE: usize = 64 * 1024;
/// How long to wait for the end of a pipe whose command has ended, if somebody else holds it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Commands by their names.
type List = BTreeMap<String, String>;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    say(error);
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: supervisor LIST [SECONDS]")?;
    let grace = Duration::from_secs(args.next().map_or(Ok(5), |seconds| seconds.parse())?);
    // Before anything is started: from here on no signal kills us and leaves commands behind.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let list = read_list(&path)?;
    selio::block_on(async {
        // Who is not process 1, and no subreaper (prctl(2)), is given no orphans.
        selio::spawn(async {
            let Err(error) = reap_orphans(|_pid| false).await;
            say(format_args!("orphans are not reaped: {error}"));
        });
        let mut services = Services { grace, ..Services::default() };
        services.change_to(list);
        let asked = services.reload_until_asked(&path, &mut signals).await;
        services.end().await;
        Ok(asked?)
    })
}

/// Reads lines of the form `name: command`. Empty ones and those that begin with `#` say nothing.
fn read_list(path: &str) -> Result<List, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut list = List::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what| Err(format!("{path}, line {number}: {what}: {line}"));
        let parts = line.split_once(':').map(|(name, command)| (name.trim(), command.trim()));
        let is_word = |name: &str| name.split_whitespace().count() == 1;
        let fit = parts.filter(|(name, command)| is_word(name) && !command.is_empty());
        let Some((name, command)) = fit else {
            return wrong("this is no name (one word), colon and command");
        };
        if list.insert(name.to_owned(), command.to_owned()).is_some() {
            return wrong("the name is there already");
        }
    }
    Ok(list)
}

#[derive(Default)]
struct Services {
    grace: Duration,
    running: BTreeMap<String, (Rc<Service>, JoinHandle<()>)>,
    /// Those that were told to stop, and may not have yet.
    leaving: BTreeMap<String, JoinHandle<()>>,
}

impl Services {
    /// Returns when a signal asks for the end.
    async fn reload_until_asked(&mut self, path: &str, signals: &mut Signals) -> io::Result<()> {
        while let Some(signal) = signals.next().await.transpose()? {
            if signal.signo() != SIGHUP {
                say(format_args!("signal {} from process {}", signal.signo(), signal.pid()));
                break;
            }
            match read_list(path) {
                Ok(list) => self.change_to(list),
                Err(error) => say(format_args!("everything stays as it is: {error}")),
            }
        }
        Ok(())
    }

    /// Stops what is not in the list, or not like this, and starts what is not running.
    fn change_to(&mut self, list: List) {
        self.leaving.retain(|_, task| !task.is_finished());
        for (name, (service, task)) in take(&mut self.running) {
            if list.get(&name) == Some(&service.command) {
                self.running.insert(name, (service, task));
            } else {
                service.stop.ask();
                self.leaving.insert(name, task);
            }
        }
        for (name, command) in list {
            if !self.running.contains_key(&name) {
                let former = self.leaving.remove(&name);
                let (grace, stop) = (self.grace, Stop::default());
                let service = Rc::new(Service { name: name.clone(), command, grace, stop });
                self.running.insert(name, (service.clone(), selio::spawn(service.keep(former))));
            }
        }
    }

    /// Ends everything, all at the same time, and returns when it has ended.
    async fn end(&mut self) {
        self.change_to(List::new());
        for task in take(&mut self.leaving).into_values() {
            _ = task.await;
        }
    }
}

struct Service {
    name: String,
    command: String,
    grace: Duration,
    stop: Stop,
}

impl Service {
    /// Runs the command again and again until it is told to stop. It begins when a former one of
    /// the same name has ended.
    async fn keep(self: Rc<Self>, former: Option<JoinHandle<()>>) {
        if let Some(former) = former {
            _ = former.await;
        }
        let mut pause = Duration::ZERO;
        while self.stop.or(sleep(pause)).await.is_some() {
            let start = Instant::now();
            match self.run().await {
                Ok(status) => say(format_args!("{}: {status}", self.name)),
                Err(error) => say(format_args!("{}: it cannot be run: {error}", self.name)),
            }
            let last = if start.elapsed() > LONGEST_PAUSE { Duration::ZERO } else { pause };
            pause = (last * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Starts the command and waits until it has ended, or ends it when it is told to stop.
    async fn run(&self) -> io::Result<ExitStatus> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &self.command]).kill_group(true).kill_on_drop(true);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn()?;
        say(format_args!("{}: process {}", self.name, child.id()));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let out = selio::spawn(forward(self.name.clone(), out.expect("piped"), io::stdout()));
        let err = selio::spawn(forward(self.name.clone(), err.expect("piped"), io::stderr()));
        let status = match self.stop.or(child.status()).await {
            Some(status) => status?,
            None => child.terminate(self.grace).await?,
        };
        // What comes later is forwarded all the same, by tasks that nobody waits for.
        _ = timeout(LAST_WORDS, join(out, err)).await;
        Ok(status)
    }
}

/// Forwards what comes from a pipe, line by line, until everybody has closed it.
async fn forward(name: String, pipe: Pipe, mut to: impl Write) {
    // One more, for the newline. What is kept from one read to the next has none.
    let mut buffer = vec![0; LONGEST_LINE + 1];
    let mut kept = 0;
    loop {
        let got = match pipe.read(&mut buffer[kept..]).await {
            Ok(got) => got,
            Err(error) => return say(format_args!("{name}: it cannot be heard: {error}")),
        };
        let end = kept + got;
        let complete = match buffer[kept..end].iter().rposition(|&byte| byte == b'\n') {
            Some(at) => kept + at + 1,
            None if got == 0 => end,
            None if end > LONGEST_LINE => LONGEST_LINE,
            None => 0,
        };
        for line in buffer[..complete].split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            // If nobody reads it any more, the command goes on all the same.
            _ = to.write_all(&[name.as_bytes(), b" | ", line, b"\n"].concat());
        }
        if got == 0 {
            return;
        }
        buffer.copy_within(complete..end, 0);
        kept = end - complete;
    }
}

/// Says something of our own. Where `eprintln` would panic, nobody is there to be told.
fn say(what: impl Display) {
    _ = io::stderr().write_all(format!("supervisor: {what}\n").as_bytes());
}

/// By which one task tells another to stop, once and for all.
#[derive(Default)]
struct Stop {
    asked: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Stop {
    fn ask(&self) {
        self.asked.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Gives what the future gives, or `None` if the stop comes first.
    async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let stopped = poll_fn(|cx| {
            self.waiting.set(Some(cx.waker().clone()));
            if self.asked.get() { Poll::Ready(None) } else { Poll::Pending }
        });
        race(stopped, async { Some(future.await) }).await
    }
}
