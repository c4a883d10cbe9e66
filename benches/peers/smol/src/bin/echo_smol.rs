//! An echo server on smol: `LocalExecutor` of async-executor, and async-io.

use std::io::Result;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use async_executor::LocalExecutor;
use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

fn main() -> Result<()> {
    let executor = LocalExecutor::new();
    async_io::block_on(executor.run(async {
        let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0))?;
        println!("listening on {}", listener.get_ref().local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.get_ref().set_nodelay(true)?;
            executor.spawn(serve(stream)).detach();
        }
    }))
}

async fn serve(mut stream: Async<TcpStream>) -> Result<()> {
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}
