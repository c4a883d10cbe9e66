//! An axum application on selio. axum asks of its handlers that their futures are `Send`, though all
//! of them run in one thread here: selio's timers, streams and children are, also while they wait.
//!
//! Run it with `cargo run --release --bin axum_hello -- 127.0.0.1:8080` (no address, or port 0,
//! takes a free port; the address is printed), and ask it with `curl`:
//!
//! - `/`: says hello, and how often it did
//! - `/sleep/100`: answers after so many milliseconds
//! - `/connect/22`: tells whether a port of this machine takes connections, and in what time
//! - `/load`: tells what the command `uptime` prints
//!
//! It needs the feature `hyper` of selio. axum is taken without its features, so that nothing of
//! tokio's runtime comes with it; hyper-util fits its `Router` to hyper.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::service::TowerToHyperService;
use selio::net::{TcpListener, TcpStream};
use selio::process::Command;
use selio::time::{sleep, timeout};

fn main() -> Result<(), Box<dyn Error>> {
    let at: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:0").parse()?;
    let application = Router::new()
        .route("/", get(hello))
        .route("/sleep/{milliseconds}", get(sleep_for))
        .route("/connect/{port}", get(connect))
        .route("/load", get(load))
        .with_state(Arc::new(AtomicU64::new(0)));
    selio::block_on(async {
        let listener = TcpListener::bind(at).await?;
        println!("listening on {}", listener.local_addr()?);
        let mut http = http1::Builder::new();
        http.timer(selio::hyper::Timer);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    _ = stream.set_nodelay(true);
                    let service = TowerToHyperService::new(application.clone());
                    // What ends a connection concerns nobody else.
                    selio::spawn(http.serve_connection(stream, service));
                }
                // Most likely out of descriptors: `accept` has paused.
                Err(error) => eprintln!("cannot accept for now: {error}"),
            }
        }
    })
}

async fn hello(State(count): State<Arc<AtomicU64>>) -> String {
    format!("Hello number {}\n", count.fetch_add(1, Ordering::Relaxed) + 1)
}

async fn sleep_for(Path(milliseconds): Path<u32>) -> String {
    let start = Instant::now();
    sleep(Duration::from_millis(milliseconds.into())).await;
    format!("slept for {:?}\n", start.elapsed())
}

async fn connect(Path(port): Path<u16>) -> (StatusCode, String) {
    let start = Instant::now();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let tried = match timeout(Duration::from_secs(5), stream).await {
        Ok(tried) => tried,
        Err(elapsed) => Err(elapsed.into()),
    };
    match tried {
        Ok(stream) => {
            // The stream lives across an await, as does the timer of the time-out above.
            _ = stream.writable().await;
            (StatusCode::OK, format!("connected in {:?}\n", start.elapsed()))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")),
    }
}

async fn load() -> Result<Vec<u8>, (StatusCode, String)> {
    match Command::new("uptime").output().await {
        Ok(output) => Ok(output.stdout),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
    }
}
