//! `nc` in a few lines: what comes in goes to a TCP server, and what the server says goes out.
//!
//! It shows standard input and output in the loop, without a thread, and a connection whose two
//! directions end each in its own time.
//!
//! Run it with `cargo run --release --example netcat -- 127.0.0.1 7777`.

use std::error::Error;
use std::io;
use std::net;

use selio::io::{ReadHalf, WriteHalf, stdin, stdout};
use selio::net::TcpStream;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port] = &arguments[..] else {
        eprintln!("usage: netcat HOST PORT");
        std::process::exit(2);
    };
    let port: u16 = port.parse().map_err(|_| io::Error::other("PORT is a number up to 65535"))?;
    selio::block_on(async {
        let (server, writer) = TcpStream::connect((host.as_str(), port)).await?.into_split();
        let sending = selio::spawn(send(writer));
        receive(server).await?;
        // More input may come, but nobody hears it any more.
        if sending.is_finished() {
            sending.await??;
        }
        Ok(())
    })
}

/// Sends the input. At its end the writer is dropped, so that the server hears the end, too; it may
/// have more to say.
async fn send(server: WriteHalf<net::TcpStream>) -> io::Result<()> {
    let input = stdin()?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match input.read(&mut buffer).await? {
            0 => return Ok(()),
            count => server.write_all(&buffer[..count]).await?,
        }
    }
}

async fn receive(server: ReadHalf<net::TcpStream>) -> io::Result<()> {
    let output = stdout()?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match server.read(&mut buffer).await? {
            0 => return Ok(()),
            count => output.write_all(&buffer[..count]).await?,
        }
    }
}
