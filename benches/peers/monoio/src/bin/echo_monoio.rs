//! An echo server on monoio.

use std::io::Result;
use std::net::Ipv4Addr;

#[cfg(feature = "uring")]
use monoio::IoUringDriver as Driver;
#[cfg(not(feature = "uring"))]
use monoio::LegacyDriver as Driver;
use monoio::RuntimeBuilder;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    RuntimeBuilder::<Driver>::new().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(serve(stream));
        }
    })
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(8192);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buffer) = stream.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}
