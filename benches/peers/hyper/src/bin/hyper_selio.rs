//! hyper's server on selio.

use std::io;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use selio::net::TcpListener;

fn main() -> io::Result<()> {
    selio::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        let mut http = http1::Builder::new();
        http.timer(selio::hyper::Timer).header_read_timeout(Duration::from_secs(30));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = http.serve_connection(stream, service_fn(peer_hyper::hello));
            selio::spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("{error}");
                }
            });
        }
    })
}
