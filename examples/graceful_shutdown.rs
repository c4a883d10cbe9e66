//! An echo server that ends well: asked to, it takes no more clients, lets those it has finish, and
//! cuts off who takes too long.
//!
//! It is asked by SIGTERM (`kill`), SIGINT (Ctrl-C) or SIGHUP (its terminal is gone). Ctrl-C once
//! more, and it dies at once: `shutdown` gives the signals back when the first has come.
//!
//! Run it with `cargo run --release --example graceful_shutdown -- 127.0.0.1:7777 10` (the address
//! to listen at, port 0 or no argument for a free port, and the seconds that clients have to
//! finish). It ends with 0 if all of them did, else with 1.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use selio::JoinHandle;
use selio::net::{TcpListener, TcpStream};
use selio::signal::shutdown;
use selio::time::timeout;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let at = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let grace = Duration::from_secs(args.next().map_or(Ok(10), |seconds| seconds.parse())?);
    // From here on a signal does not kill, but waits to be looked at.
    let asked = shutdown();
    selio::block_on(async {
        let listener = TcpListener::bind(at).await?;
        println!("listening on {}", listener.local_addr()?);
        let mut clients = Vec::new();
        let serving = async { match serve(&listener, &mut clients).await {} };
        // What waits for signals takes its descriptors first, before clients take them all.
        let info = selio::race(asked, serving).await?;
        // Newcomers are refused from now on, and can go to another server at once.
        drop(listener);
        clients.retain(|client| !client.is_finished());
        println!("signal {} from process {}", info.signo(), info.pid());
        println!("{} clients have {grace:?} to finish", clients.len());
        match timeout(grace, finish(&mut clients)).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(_) => {
                clients.retain(|client| !client.is_finished());
                println!("{} clients are cut off", clients.len());
                // The end of `block_on` drops their tasks, and with them their streams.
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// Takes clients until it is dropped, each served by a task of its own.
async fn serve(
    listener: &TcpListener,
    clients: &mut Vec<JoinHandle<io::Result<()>>>,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Now and then, so that it costs next to nothing for each.
                if clients.len() == clients.capacity() {
                    clients.retain(|client| !client.is_finished());
                }
                clients.push(selio::spawn(echo(stream)));
            }
            Err(error) => eprintln!("cannot accept for now: {error}"),
        }
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// Waits for all clients. How a connection ended concerns its client alone.
async fn finish(clients: &mut [JoinHandle<io::Result<()>>]) {
    for client in clients {
        _ = client.await;
    }
}
