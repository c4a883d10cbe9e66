//! Looks up many host names, so many at once, while a ticker shows that the loop runs on.
//!
//! The C library's look-up blocks, for as long as name servers take. selio has it done by threads
//! that come for it and go again; the loop, in which everything else happens, never waits. How many
//! are under way at once is bound by as many tasks that take one name after the other.
//!
//! Run it with `cargo run --release --example dns_lookup_storm -- 1000 32` (how many look-ups, and
//! how many at once; names to look up may follow, else it takes those of /etc/hosts). It ends with 0
//! if every name was found, else with 1. A name that has IPv6 addresses only counts as not found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use selio::net::UdpSocket;
use selio::time::{MissedTicks, interval};

/// How often the ticker looks whether the loop is on time.
const TICK: Duration = Duration::from_millis(1);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let count = args.next().map_or(Ok(1000), |count| count.parse())?;
    let at_once = args.next().map_or(Ok(32), |at_once| at_once.parse())?;
    let mut names: Vec<String> = args.collect();
    if names.is_empty() {
        names = known_names();
    }
    let storm = Rc::new(Storm { names, count, ..Storm::default() });
    let start = Instant::now();
    let late = Rc::new(Cell::new(Late::default()));
    selio::block_on(async {
        let ticker = selio::spawn(tick(Rc::clone(&late)));
        let workers: Vec<_> =
            (0..at_once).map(|_| selio::spawn(Rc::clone(&storm).work())).collect();
        for worker in workers {
            worker.await??;
        }
        ticker.abort();
        Ok::<_, Box<dyn Error>>(())
    })?;
    storm.print(start.elapsed());
    let late = late.take();
    println!(
        "{} ticks, {:?} late on average, {:?} at the worst",
        late.ticks,
        late.mean(),
        late.worst
    );
    Ok(if storm.failed.take() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of this machine's own table, and what every machine knows.
fn known_names() -> Vec<String> {
    let table = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = table.lines().filter_map(|line| line.split('#').next());
    // An address, and the names it has. Those of IPv6 have a colon.
    let lines = lines.filter(|line| !line.contains(':'));
    let names = lines.flat_map(|line| line.split_whitespace().skip(1).map(String::from));
    let mut names: Vec<_> = names.chain(["localhost".to_owned(), "LocalHost".to_owned()]).collect();
    names.sort();
    names.dedup();
    names
}

/// What is to be done, and what has been.
#[derive(Default)]
struct Storm {
    names: Vec<String>,
    count: usize,
    begun: Cell<usize>,
    failed: Cell<usize>,
    under_way: Cell<usize>,
    most_under_way: Cell<usize>,
    /// How often each address was found for each name, or an error told.
    answers: RefCell<BTreeMap<(String, String), usize>>,
}

impl Storm {
    /// Takes one name after the other, until there are none. The only error is that there can be no
    /// socket.
    async fn work(self: Rc<Self>) -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        while self.begun.get() < self.count && !self.names.is_empty() {
            let name = &self.names[self.begun.get() % self.names.len()];
            self.begun.set(self.begun.get() + 1);
            self.under_way.set(self.under_way.get() + 1);
            self.most_under_way.set(self.most_under_way.get().max(self.under_way.get()));
            let answer = look_up(&socket, name).await;
            self.under_way.set(self.under_way.get() - 1);
            if answer.is_err() {
                self.failed.set(self.failed.get() + 1);
            }
            let answer = answer.unwrap_or_else(|error| error.to_string());
            *self.answers.borrow_mut().entry((name.clone(), answer)).or_default() += 1;
        }
        Ok(())
    }

    fn print(&self, time: Duration) {
        for ((name, answer), count) in &*self.answers.borrow() {
            println!("{count:>6}  {name}: {answer}");
        }
        let (begun, failed) = (self.begun.get(), self.failed.get());
        println!("{} of {begun} found in {time:.2?}", begun - failed);
        println!("at most {} at once", self.most_under_way.get());
    }
}

/// The first address of a name that can be sent to. Connecting a UDP socket looks a name up, and
/// sends nothing.
async fn look_up(socket: &UdpSocket, name: &str) -> io::Result<String> {
    socket.connect((name, 9)).await?;
    Ok(socket.peer_addr()?.ip().to_string())
}

/// How late the ticks were.
#[derive(Default, Clone, Copy)]
struct Late {
    ticks: u32,
    sum: Duration,
    worst: Duration,
}

impl Late {
    fn mean(&self) -> Duration {
        self.sum.checked_div(self.ticks).unwrap_or_default()
    }
}

async fn tick(late: Rc<Cell<Late>>) {
    let mut ticks = interval(TICK).missed_ticks(MissedTicks::Skip);
    while let Some(due) = ticks.next().await {
        let (this, before) = (due.elapsed(), late.get());
        late.set(Late {
            ticks: before.ticks + 1,
            sum: before.sum + this,
            worst: before.worst.max(this),
        });
    }
}
