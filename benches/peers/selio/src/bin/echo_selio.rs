//! An echo server on selio. With `SELIO_SPIN_US` in its environment it spins as many microseconds before it
//! sleeps.

use std::io::Result;
use std::net::Ipv4Addr;
use std::time::Duration;

use selio::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    let spin = std::env::var("SELIO_SPIN_US").ok();
    let _spin = spin.map(|time| {
        let micros = time.parse().expect("SELIO_SPIN_US is a number");
        selio::spin(Duration::from_micros(micros))
    });
    selio::block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            selio::spawn(serve(stream));
        }
    })
}

async fn serve(stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}
