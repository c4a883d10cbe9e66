//! An echo server on tokio.

use std::io::Result;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
#[cfg(not(feature = "local"))]
use tokio::task::spawn;
#[cfg(feature = "local")]
use tokio::task::spawn_local as spawn;

fn main() -> Result<()> {
    let mut builder = Builder::new_current_thread();
    builder.enable_io();
    #[cfg(feature = "local")]
    let runtime = builder.build_local(tokio::runtime::LocalOptions::default())?;
    #[cfg(not(feature = "local"))]
    let runtime = builder.build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            spawn(serve(stream));
        }
    })
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}
