//! An echo server behind TLS, with rustls over the traits of futures-io.
//!
//! Run it with `cargo run --release --bin tls_echo -- CERTIFICATE.pem KEY.pem 127.0.0.1:7443` (no
//! address, or port 0, takes a free port; the address is printed). For a try, make the two files by
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
//!     -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
//! ```
//!
//! and talk to it with `openssl s_client -quiet -CAfile cert.pem -connect localhost:7443`. It needs
//! the feature `futures-io` of selio.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use selio::net::{TcpListener, TcpStream};
use selio::time::timeout;

/// How long a client has to introduce itself.
const HANDSHAKE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(certificate), Some(key)) = (args.next(), args.next()) else {
        return Err("usage: tls_echo CERTIFICATE.pem KEY.pem [ADDRESS]".into());
    };
    let acceptor = TlsAcceptor::from(Arc::new(config(&certificate, &key)?));
    let at: SocketAddr = args.next().as_deref().unwrap_or("127.0.0.1:0").parse()?;
    selio::block_on(async {
        let listener = TcpListener::bind(at).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let acceptor = acceptor.clone();
                    selio::spawn(async move {
                        // What ends a connection concerns nobody else.
                        if let Err(error) = serve(&acceptor, stream).await {
                            eprintln!("{peer}: {error}");
                        }
                    });
                }
                // Most likely out of descriptors: `accept` has paused.
                Err(error) => eprintln!("cannot accept for now: {error}"),
            }
        }
    })
}

fn config(certificate: &str, key: &str) -> Result<ServerConfig, Box<dyn Error>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(config)
}

async fn serve(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            // Says goodbye, so that the client knows that nothing was cut off.
            0 => return stream.close().await,
            got => {
                stream.write_all(&buffer[..got]).await?;
                // What is written is encrypted, and may wait to be sent.
                stream.flush().await?;
            }
        }
    }
}
