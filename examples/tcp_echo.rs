//! An echo server: says back to each client what it hears, until it is stopped.
//!
//! It shows a listener, a task for each connection, and a server that no client can harm: not by
//! resetting, not by never reading, not by using up the descriptors.
//!
//! Run it with `cargo run --release --example tcp_echo -- 127.0.0.1:7777` (port 0 or no argument
//! takes a free port; the address is printed), and talk to it with `nc 127.0.0.1 7777`.

use std::io;

use selio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let at = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    raise_descriptor_limit();
    selio::block_on(async {
        let listener = TcpListener::bind(at).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            match listener.accept().await {
                // The task runs on by itself. What ends a connection concerns nobody else.
                Ok((stream, _)) => {
                    selio::spawn(echo(stream));
                }
                // Most likely out of descriptors: `accept` has paused, and the connection waits in
                // the queue.
                Err(error) => eprintln!("cannot accept for now: {error}"),
            }
        }
    })
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// Each connection takes a descriptor, and the soft limit is often 1024. It may be raised up to the
/// hard limit by anyone.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < 10_000 => {
            eprintln!("only {limit} files may be open: raise the hard limit to serve more clients")
        }
        Ok(_) => {}
        Err(error) => eprintln!("the limit of open files stays as it is: {error}"),
    }
}
