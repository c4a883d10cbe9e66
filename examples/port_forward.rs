//! Forwards each connection to another address: what `socat TCP-LISTEN:…,fork TCP:…` does, in one
//! thread and without reading a byte.
//!
//! It shows `io::copy`, which leaves the bytes to the kernel (splice(2)); a half close that is
//! passed on, so that one side may end while the other goes on answering; and a server that ends
//! well: at SIGTERM, SIGINT (Ctrl-C) or SIGHUP it takes no more connections, lets those it has
//! finish, and cuts off who takes too long.
//!
//! Run it with `cargo run --release --example port_forward -- 127.0.0.1:7777 example.org:80 10`:
//! the address to listen at (port 0 takes a free port), the target, which is looked up for each
//! connection, and the seconds that connections have to finish in the end (10 if not told).

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use selio::JoinHandle;
use selio::io::copy;
use selio::net::{TcpListener, TcpStream};
use selio::signal::shutdown;
use selio::time::timeout;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(at), Some(target)) = (args.next(), args.next()) else {
        eprintln!("usage: port_forward LISTEN TARGET [SECONDS]");
        return Ok(ExitCode::from(2));
    };
    let grace = Duration::from_secs(args.next().map_or(Ok(10), |seconds| seconds.parse())?);
    // Two descriptors for each connection, and four while it is made and waits for a slow reader.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
    let asked = shutdown();
    selio::block_on(async {
        let listener = TcpListener::bind(at).await?;
        println!("listening on {}", listener.local_addr()?);
        let mut connections = Vec::new();
        let serving = async { match serve(&listener, target.into(), &mut connections).await {} };
        // Before the first connection, which may take the last descriptor.
        let info = selio::race(asked, serving).await?;
        drop(listener);
        connections.retain(|connection| !connection.is_finished());
        eprintln!("signal {}: {} connections to finish", info.signo(), connections.len());
        match timeout(grace, finish(&mut connections)).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // The end of `block_on` drops their tasks, and with them their streams.
            Err(_) => Ok(ExitCode::FAILURE),
        }
    })
}

/// Takes connections until it is dropped, each served by a task of its own.
async fn serve(
    listener: &TcpListener,
    target: Rc<str>,
    connections: &mut Vec<JoinHandle<()>>,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                // Now and then, so that it costs next to nothing for each.
                if connections.len() == connections.capacity() {
                    connections.retain(|connection| !connection.is_finished());
                }
                connections.push(selio::spawn(serve_one(client, peer, Rc::clone(&target))));
            }
            // Most likely out of descriptors: `accept` has paused, and the connection waits in the
            // queue.
            Err(error) => eprintln!("cannot accept for now: {error}"),
        }
    }
}

/// Waits for all connections. How each of them ended has been told.
async fn finish(connections: &mut [JoinHandle<()>]) {
    for connection in connections {
        _ = connection.await;
    }
}

async fn serve_one(client: TcpStream, peer: SocketAddr, target: Rc<str>) {
    if let Err(error) = forward(&client, &target).await {
        eprintln!("{peer}: {error}");
    }
}

async fn forward(client: &TcpStream, target: &str) -> io::Result<()> {
    let cannot = |error: io::Error| io::Error::new(error.kind(), format!("{target}: {error}"));
    let target = TcpStream::connect(target).await.map_err(cannot)?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (there, back) = selio::join(one_way(client, &target), one_way(&target, client)).await;
    there.and(back)
}

/// Copies one direction, and passes its end on.
async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let copied = copy(from, to).await;
    // After an error nothing more can come of the other direction: it finds both streams ended.
    let how = if copied.is_ok() { Shutdown::Write } else { Shutdown::Both };
    for stream in [Some(to), copied.is_err().then_some(from)].into_iter().flatten() {
        // A stream that is gone already has nothing to be told.
        _ = stream.shutdown(how);
    }
    copied.map(drop)
}
