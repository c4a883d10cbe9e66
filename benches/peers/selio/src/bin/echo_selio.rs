//! An echo server on selio.

use std::io::Result;
use std::net::Ipv4Addr;

use selio::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
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
