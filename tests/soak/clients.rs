//! The clients of one phase: some behave, and each of the others misbehaves in its way. What is said
//! back is looked at byte by byte.

use crate::accounts::Counts;
use crate::kit::sockets::reset;
use crate::kit::timers::Random;
use crate::{kit, number};
use selio::net::TcpStream;
use selio::time::sleep;
use selio::{JoinHandle, block_on, join, race, spawn, yield_now};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub(crate) const ADDRESS: &str = "SELIO_SOAK_ADDRESS";
pub(crate) const SERVER: &str = "SELIO_SOAK_SERVER";
pub(crate) const SEED: &str = "SELIO_SOAK_SEED";
pub(crate) const SECONDS: &str = "SELIO_SOAK_PHASE";
pub(crate) const FIRST_VALUE: &str = "SELIO_SOAK_FIRST_VALUE";

/// How many there are at once in a crowd for each second, if so many descriptors may be open.
const CROWD: u64 = 1000;

/// What all clients share.
#[derive(Debug)]
struct World {
    counts: Counts,
    server: SocketAddr,
    until: Instant,
}

pub(crate) fn run() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let secs = number(SECONDS).unwrap();
    let world = Rc::new(World {
        counts: Counts::default(),
        server: std::env::var(ADDRESS).unwrap().parse().unwrap(),
        until: Instant::now() + Duration::from_secs(secs),
    });
    block_on(everybody(&world, (CROWD * secs).min(limit.saturating_sub(300))))
        .expect("no client sees an error");
    println!("{}", world.counts.report());
}

async fn everybody(world: &Rc<World>, size: u64) -> io::Result<()> {
    let mut clients: Vec<JoinHandle<io::Result<()>>> = Vec::new();
    let seed = number(SEED).unwrap() * 1000;
    clients.push(spawn(rain(Rc::clone(world))));
    clients.push(spawn(crowd(Rc::clone(world), size)));
    for number in seed..seed + 10 {
        clients.push(spawn(honest(Rc::clone(world), number)));
        clients.push(spawn(honest(Rc::clone(world), number + 100)));
        clients.push(spawn(slow(Rc::clone(world), number + 200)));
        clients.push(spawn(half_closing(Rc::clone(world), number + 300)));
        clients.push(spawn(resetting(Rc::clone(world), number + 400)));
        clients.push(spawn(flooding(Rc::clone(world), number + 500)));
    }
    for client in clients {
        client.await.expect("no client panics")?;
    }
    Ok(())
}

impl World {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.server).await?;
        self.counts.add("connected", 1);
        Ok(stream)
    }
}

/// The bytes that a client says, from some place on: each client's are others.
fn fill(client: u64, from: u64, bytes: &mut [u8]) {
    for (at, byte) in (from..).zip(bytes) {
        *byte = (at.wrapping_mul(31) ^ (at >> 8) ^ client.wrapping_mul(7)) as u8;
    }
}

/// Asserts that these are the client's own bytes, from some place on.
#[track_caller]
fn verify(world: &World, client: u64, from: u64, bytes: &[u8]) {
    let mut expected = vec![0; bytes.len()];
    fill(client, from, &mut expected);
    assert!(bytes == expected, "client {client} hears other bytes than its own, after {from}");
    world.counts.add("verified", bytes.len() as u64);
}

/// Says, and hears it.
async fn exchange(
    world: &World,
    stream: &TcpStream,
    client: u64,
    from: u64,
    length: usize,
) -> io::Result<()> {
    let mut bytes = vec![0; length];
    fill(client, from, &mut bytes);
    stream.write_all(&bytes).await?;
    bytes.fill(0);
    stream.read_exact(&mut bytes).await?;
    verify(world, client, from, &bytes);
    Ok(())
}

/// Says all it has to say, and waits for the end.
async fn leave(stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0]).await?, 0, "more comes than was said");
    Ok(())
}

async fn honest(world: Rc<World>, client: u64) -> io::Result<()> {
    let mut random = Random::new(client);
    while world.goes_on() {
        let stream = world.connect().await?;
        let mut said = 0;
        for _ in 0..100 {
            let length = 1 + random.index(8000);
            exchange(&world, &stream, client, said, length).await?;
            said += length as u64;
        }
        leave(stream).await?;
    }
    Ok(())
}

/// A byte now and then.
async fn slow(world: Rc<World>, client: u64) -> io::Result<()> {
    let stream = world.connect().await?;
    let mut said = 0;
    while world.goes_on() {
        exchange(&world, &stream, client, said, 1).await?;
        said += 1;
        sleep(Duration::from_millis(10)).await;
    }
    leave(stream).await
}

/// Hears to the end, and returns how much.
async fn hear_all(world: &World, stream: &TcpStream, client: u64) -> io::Result<u64> {
    let (mut heard, mut bytes) = (0, [0; 5000]);
    loop {
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Ok(heard);
        }
        verify(world, client, heard, &bytes[..n]);
        heard += n as u64;
    }
}

/// Ends its own direction long before it has heard all.
async fn half_closing(world: Rc<World>, client: u64) -> io::Result<()> {
    const LENGTH: usize = 300_000;
    while world.goes_on() {
        let stream = world.connect().await?;
        let mut bytes = vec![0; LENGTH];
        fill(client, 0, &mut bytes);
        let says = async {
            stream.write_all(&bytes).await?;
            stream.shutdown(Shutdown::Write)
        };
        let (said, heard) = join(says, hear_all(&world, &stream, client)).await;
        said?;
        assert_eq!(heard?, LENGTH as u64, "what was half closed is cut off");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Goes with a reset, in the middle of everything.
async fn resetting(world: Rc<World>, client: u64) -> io::Result<()> {
    let mut random = Random::new(client);
    while world.goes_on() {
        let stream = world.connect().await?;
        let mut bytes = vec![0; 20_000];
        fill(client, 0, &mut bytes);
        _ = stream.write(&bytes[..1 + random.index(20_000)]).await?;
        sleep(Duration::from_micros(random.below(3000))).await;
        reset(stream.into_inner()?);
        world.counts.add("resets", 1);
    }
    Ok(())
}

/// Says as much as it can and hears nothing for a while.
async fn flooding(world: Rc<World>, client: u64) -> io::Result<()> {
    while world.goes_on() {
        let stream = world.connect().await?;
        let (mut said, mut bytes) = (0, [0; 16 * 1024]);
        loop {
            fill(client, said, &mut bytes);
            let full = async {
                sleep(Duration::from_millis(50)).await;
                Ok(0)
            };
            match race(stream.write(&bytes), full).await? {
                0 => break,
                n => said += n as u64,
            }
            yield_now().await;
        }
        stream.shutdown(Shutdown::Write)?;
        assert_eq!(hear_all(&world, &stream, client).await?, said, "a flood is cut off");
    }
    Ok(())
}

/// Thousands that are connected at once, say a word and hear it.
async fn crowd(world: Rc<World>, size: u64) -> io::Result<()> {
    const LANES: u64 = 100;
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        let world = Rc::clone(&world);
        lanes.push(spawn(async move {
            let mut streams = Vec::new();
            for client in (lane..size).step_by(LANES as usize) {
                streams.push((client, world.connect().await?));
            }
            io::Result::Ok(streams)
        }));
    }
    let mut streams = Vec::new();
    for lane in lanes {
        streams.extend(lane.await.unwrap()?);
    }
    world.counts.add("crowd", streams.len() as u64);
    let words = streams.into_iter().map(|(client, stream)| {
        let world = Rc::clone(&world);
        spawn(async move {
            exchange(&world, &stream, client, 0, 64).await?;
            stream.shutdown(Shutdown::Write)?;
            assert_eq!(stream.read(&mut [0]).await?, 0, "more comes than was said");
            // So many would else stay in the kernel's memory for a minute.
            reset(stream.into_inner()?);
            io::Result::Ok(())
        })
    });
    for word in words.collect::<Vec<_>>() {
        word.await.unwrap()?;
    }
    Ok(())
}

/// Signals to the server: hang-ups, and values that are queued.
async fn rain(world: Rc<World>) -> io::Result<()> {
    let server = number(SERVER).unwrap() as i32;
    let first = number(FIRST_VALUE).unwrap() as i32;
    let mut sent = 0;
    while world.goes_on() {
        kit::kill(server, libc::SIGHUP)?;
        kit::sigqueue(server, libc::SIGRTMIN() + 1, first + sent)?;
        sent += 1;
        world.counts.add("hangups", 1);
        world.counts.add("values", 1);
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
