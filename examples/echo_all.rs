//! Echo servers of several kinds in one loop: TCP, UDP, and Unix streams.
//!
//! It shows that a stream is a stream, whatever it is made of: `echo` serves TCP and Unix alike. It
//! shows datagrams, and a path that is replaced if a server that has died left it behind, and taken
//! away in the end (SIGTERM, SIGINT or SIGHUP).
//!
//! Run it with `cargo run --release --example echo_all -- tcp:127.0.0.1:7777 udp:127.0.0.1:7777
//! unix:/tmp/echo` (as many as you like; port 0 takes a free port; the addresses are printed), and
//! talk to it with `nc 127.0.0.1 7777`, `nc -u 127.0.0.1 7777` and `nc -U /tmp/echo`.

use std::error::Error;
use std::io::{self, Read, Write};
use std::time::Duration;

use selio::io::Async;
use selio::net::{PathListener, TcpListener, UdpSocket};
use selio::signal::shutdown;
use selio::time::sleep;

/// How long receiving datagrams rests after an error, which may come at every call.
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> Result<(), Box<dyn Error>> {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    if addresses.is_empty() {
        eprintln!("usage: echo_all (tcp:HOST:PORT | udp:HOST:PORT | unix:PATH)…");
        std::process::exit(2);
    }
    // From here on a signal does not kill, but waits to be looked at: the paths are taken away.
    let asked = shutdown();
    selio::block_on(async {
        for address in &addresses {
            open(address).await.map_err(|error| format!("{address}: {error}"))?;
        }
        asked.await?;
        // The end of `block_on` drops the servers' tasks, and with them what they listen at.
        Ok(())
    })
}

/// Begins to serve an address, and prints it.
async fn open(address: &str) -> io::Result<()> {
    match address.split_once(':') {
        Some(("tcp", at)) => {
            let listener = TcpListener::bind(at).await?;
            println!("listening on tcp:{}", listener.local_addr()?);
            selio::spawn(serve(async move || {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }));
        }
        Some(("udp", at)) => {
            let socket = UdpSocket::bind(at).await?;
            println!("listening on udp:{}", socket.local_addr()?);
            selio::spawn(answer(socket));
        }
        Some(("unix", path)) => {
            let listener = PathListener::bind(path).await?;
            println!("listening on unix:{path}");
            selio::spawn(serve(async move || Ok(listener.accept().await?.0)));
        }
        _ => return Err(io::Error::other("an address begins with tcp:, udp: or unix:")),
    }
    Ok(())
}

/// Takes clients, each served by a task of its own.
async fn serve<T>(accept: impl AsyncFn() -> io::Result<Async<T>>)
where
    T: 'static,
    for<'a> &'a T: Read + Write,
{
    loop {
        match accept().await {
            // What ends a connection concerns nobody else.
            Ok(stream) => {
                selio::spawn(echo(stream));
            }
            // Most likely out of descriptors: `accept` has paused.
            Err(error) => eprintln!("cannot accept for now: {error}"),
        }
    }
}

/// Says back what it hears, until the client has said all.
async fn echo<T>(stream: Async<T>) -> io::Result<()>
where
    for<'a> &'a T: Read + Write,
{
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// Sends each datagram back to where it came from.
async fn answer(socket: UdpSocket) {
    // No datagram is longer than that.
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                eprintln!("cannot receive for now: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        // One that cannot be answered is lost, as datagrams may be.
        if let Err(error) = socket.send_to(&buffer[..length], from).await {
            eprintln!("a datagram is lost: {error}");
        }
    }
}
