//! TLS over the traits of futures-io: `tls_echo` as a program, and streams that move.

mod common;

use common::{Directory, Program, pattern, run};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector, client};
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use rcgen::{CertifiedKey, KeyPair};
use selio::net::{TcpListener, TcpStream};
use selio::{block_on, join};
use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;

fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Someone who trusts this certificate and no other.
fn connector(trusted: &CertifiedKey<KeyPair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn acceptor(own: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

async fn start(own: &CertifiedKey<KeyPair>) -> Program {
    let directory = Directory::new();
    let certificate = directory.write("cert.pem", own.cert.pem());
    let key = directory.write("key.pem", own.signing_key.serialize_pem());
    Program::start(env!("CARGO_BIN_EXE_tls_echo"), &[&certificate, &key]).await
}

async fn connect(server: &Program, own: &CertifiedKey<KeyPair>) -> client::TlsStream<TcpStream> {
    connector(own).connect(localhost(), server.connect().await).await.unwrap()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), message: &[u8]) {
    stream.write_all(message).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, message);
}

#[test]
fn every_byte_comes_back_and_the_end_is_told() {
    run(async {
        let own = certificate();
        let server = start(&own).await;
        let (mut near, mut other) = (connect(&server, &own).await, connect(&server, &own).await);
        ask(&mut near, b"hello").await;
        ask(&mut other, b"hello from another").await;

        let bytes = pattern(5_000_000);
        let (mut reader, mut writer) = near.split();
        let mut heard = Vec::new();
        let send = async {
            writer.write_all(&bytes).await.unwrap();
            // Half of the connection is closed, and the other half carries what is left.
            writer.close().await.unwrap();
        };
        join(send, async { reader.read_to_end(&mut heard).await.unwrap() }).await;
        assert!(heard == bytes);
        ask(&mut other, b"still there?").await;
    });
}

#[test]
fn who_speaks_no_tls_harms_nobody() {
    run(async {
        let (own, strange) = (certificate(), certificate());
        let server = start(&own).await;
        let silent = server.connect().await;
        let garbled = server.connect().await;
        garbled.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        _ = common::read_to_end(&garbled).await;
        let distrustful = connector(&strange).connect(localhost(), server.connect().await).await;
        assert_eq!(distrustful.unwrap_err().kind(), ErrorKind::InvalidData);
        // Cut off in the middle of the conversation.
        let mut rude = connect(&server, &own).await;
        ask(&mut rude, b"hello").await;
        drop(rude);
        ask(&mut connect(&server, &own).await, b"still there?").await;
        drop(silent);
    });
}

#[test]
fn a_conversation_goes_on_when_its_streams_move_to_other_threads() {
    run(async {
        let own = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let (connector, acceptor) = (connector(&own), acceptor(&own));
        let (near, far) = join(connector.connect(localhost(), near), acceptor.accept(far)).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        // Both ends have waited here.
        join(near.write_all(b"here"), async {
            let mut heard = [0; 4];
            far.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"here");
        })
        .await
        .0
        .unwrap();

        // One end goes to a loop of another thread, and says back what it hears; the other goes
        // from loop to loop.
        let server = thread::spawn(move || {
            block_on(async {
                let mut buffer = vec![0; 4096];
                loop {
                    match far.read(&mut buffer).await.unwrap() {
                        0 => return far.close().await.unwrap(),
                        got => far.write_all(&buffer[..got]).await.unwrap(),
                    }
                    far.flush().await.unwrap();
                }
            })
        });
        ask(&mut near, b"from the first thread").await;
        for number in 0..3 {
            let moved = thread::spawn(move || {
                block_on(async {
                    let bytes = pattern(100_000 + number);
                    let (mut reader, mut writer) = near.split();
                    let mut heard = vec![0; bytes.len()];
                    join(
                        async {
                            writer.write_all(&bytes).await.unwrap();
                            writer.flush().await.unwrap();
                        },
                        async { reader.read_exact(&mut heard).await.unwrap() },
                    )
                    .await;
                    assert!(heard == bytes);
                    reader.reunite(writer).unwrap()
                })
            });
            near = selio::unblock(move || moved.join().unwrap()).await;
        }
        ask(&mut near, b"and back in the first").await;
        near.close().await.unwrap();
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
        selio::unblock(move || server.join().unwrap()).await;
    });
}
