//! An echo server on selio. Built with the feature `spin` and with `SELIO_SPIN_US` in its environment, it
//! spins as many microseconds before it sleeps.

use std::io::Result;
use std::net::Ipv4Addr;

use selio::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    #[cfg(feature = "spin")]
    let _spin = spin();
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

#[cfg(feature = "spin")]
fn spin() -> Option<selio::Spin> {
    let time = std::env::var("SELIO_SPIN_US").ok()?;
    let micros = time.parse().expect("SELIO_SPIN_US is a number");
    Some(selio::spin(std::time::Duration::from_micros(micros)))
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
