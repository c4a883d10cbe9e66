//! A server with a loop on each core, which share one port and hand connections to one another.
//!
//! Each loop has a listener of its own at the same address (`SO_REUSEPORT`, socket(7)), and the
//! kernel deals newcomers out among them by chance. A loop that takes one gives it to the loop that
//! has the fewest. What was accepted on one thread is served on another, and may go to a third in
//! mid-conversation: selio's streams are `Send`, and join the loop where they are next waited for.
//! Beside these orders, the loops share nothing that could slow them down.
//!
//! Run it with `cargo run --release --example thread_per_core -- 127.0.0.1:7777 4` (port 0 or no
//! address takes a free port; the number of loops is that of the cores unless it is told), and talk
//! to it with `nc 127.0.0.1 7777`. It says back each line with the number of the loop that serves
//! it; the line `move` moves the connection to the next loop. SIGTERM or Ctrl-C ends it, and it tells
//! what each loop has done.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use selio::Handle;
use selio::net::{SocketOptions, TcpListener, TcpStream};
use selio::signal::shutdown;

/// A longer line ends the connection.
const LONGEST_LINE: usize = 4096;

/// One of the loops, as the others see it.
struct Core {
    handle: Handle,
    /// How many connections it has.
    clients: AtomicUsize,
    lines: AtomicUsize,
}

type Cores = Arc<[Core]>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let at = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let count = match args.next() {
        Some(count) => count.parse()?,
        None => thread::available_parallelism()?.get(),
    };
    // From here on a signal does not kill, but waits to be looked at; here, and not in the loops.
    let asked = shutdown();
    let cores: Cores = (0..count).map(start).collect::<Result<_, Box<dyn Error>>>()?;
    selio::block_on(async {
        let shared = SocketOptions::new().reuse_port(true).nodelay(true);
        let first = shared.listen(at).await?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..count {
            listeners.push(shared.listen(address).await?);
        }
        // A listener made here is waited for there.
        for (number, listener) in listeners.into_iter().enumerate() {
            let all = Arc::clone(&cores);
            cores[number].handle.spawn(move || serve(listener, all));
        }
        println!("listening on {address}");
        asked.await
    })?;
    for (number, core) in cores.iter().enumerate() {
        println!("loop {number}: {} lines", core.lines.load(Ordering::Relaxed));
    }
    Ok(())
}

/// Starts a thread with a loop that does what it is ordered to, for as long as the program runs.
fn start(number: usize) -> Result<Core, Box<dyn Error>> {
    let (send, receive) = mpsc::channel();
    thread::Builder::new().name(format!("loop-{number}")).spawn(move || {
        selio::block_on(async {
            send.send(selio::handle()).expect("somebody waits for it");
            std::future::pending::<()>().await;
        });
    })?;
    let (clients, lines) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Ok(Core { handle: receive.recv()?, clients, lines })
}

/// Takes connections, and gives each to the loop that has the fewest.
async fn serve(listener: TcpListener, cores: Cores) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let numbers = 0..cores.len();
                let load = |number: &usize| cores[*number].clients.load(Ordering::Relaxed);
                let core = numbers.min_by_key(load).expect("there is this one at least");
                Client { stream, read: Vec::new(), seat: Seat::take(core, &cores) }.go_on();
            }
            // Most likely out of descriptors: `accept` has paused.
            Err(error) => eprintln!("cannot accept for now: {error}"),
        }
    }
}

/// A connection, and all that goes with it from loop to loop.
struct Client {
    stream: TcpStream,
    /// What was read and not yet answered.
    read: Vec<u8>,
    seat: Seat,
}

impl Client {
    /// Goes on in the loop where its seat is.
    fn go_on(self) {
        let cores = Arc::clone(&self.seat.cores);
        // What ends a connection concerns nobody else. If the loop takes no orders any more, the
        // program ends.
        cores[self.seat.core].handle.spawn(move || async move { drop(self.talk().await) });
    }

    async fn talk(mut self) -> io::Result<()> {
        loop {
            while let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.trim_ascii() == b"move" {
                    let next = (self.seat.core + 1) % self.seat.cores.len();
                    self.seat = Seat::take(next, &self.seat.cores);
                    self.go_on();
                    return Ok(());
                }
                let core = &self.seat.cores[self.seat.core];
                core.lines.fetch_add(1, Ordering::Relaxed);
                let mut answer = format!("{}: ", self.seat.core).into_bytes();
                answer.extend(line);
                self.stream.write_all(&answer).await?;
            }
            let mut buffer = [0; LONGEST_LINE];
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(()),
                _ if self.read.len() > LONGEST_LINE => return Ok(()),
                got => self.read.extend_from_slice(&buffer[..got]),
            }
        }
    }
}

/// A place in one of the loops, counted as long as it is taken.
struct Seat {
    core: usize,
    cores: Cores,
}

impl Seat {
    fn take(core: usize, cores: &Cores) -> Self {
        cores[core].clients.fetch_add(1, Ordering::Relaxed);
        Seat { core, cores: Arc::clone(cores) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cores[self.core].clients.fetch_sub(1, Ordering::Relaxed);
    }
}
