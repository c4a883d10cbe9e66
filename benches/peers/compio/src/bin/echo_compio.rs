//! An echo server on compio, whose driver is io_uring.

use std::io::Result;
use std::net::Ipv4Addr;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;

fn main() -> Result<()> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            compio::runtime::spawn(serve(stream)).detach();
        }
    })
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(8192);
    loop {
        let BufResult(result, read) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        let BufResult(result, written) = stream.write_all(read).await;
        result?;
        buffer = written;
        buffer.clear();
    }
}
