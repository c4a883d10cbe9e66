//! Fetches a URL, or posts to one, with hyper's HTTP/1.1: the body goes to standard output, piece by
//! piece as it comes, and the status to standard error.
//!
//! Run it with `cargo run --bin http_client -- http://127.0.0.1:8080/` to get, and with a second
//! argument to post it: `http_client http://127.0.0.1:8080/upload 'some text'`, or `-` for what
//! comes by standard input. It ends with 0 if the status is one of success, else with 1. Only
//! `http` is spoken, and no redirect is followed. It needs the feature `hyper` of selio, and
//! `client` and `http1` of hyper.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use selio::net::TcpStream;
use selio::time::timeout;

/// How long a server has to take the connection, and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let uri: Uri = args.next().ok_or("usage: http_client URL [TEXT | -]")?.parse()?;
    let post = args.next().map(text).transpose()?;
    let status = selio::block_on(fetch(&uri, post))?;
    eprintln!("{status}");
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is to be posted.
fn text(argument: String) -> io::Result<Bytes> {
    if argument != "-" {
        return Ok(argument.into());
    }
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    Ok(text.into())
}

async fn fetch(uri: &Uri, post: Option<Bytes>) -> Result<StatusCode, Box<dyn Error>> {
    if uri.scheme_str() != Some("http") {
        return Err("the URL has to begin with http://".into());
    }
    let authority = uri.authority().ok_or("the URL names no host")?;
    // A literal IPv6 address stands in brackets, which are not its own.
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(80);
    let stream = timeout(PATIENCE, TcpStream::connect((host, port))).await??;
    stream.set_nodelay(true)?;
    let (mut requests, connection) = http1::handshake(stream).await?;
    // It does the reading and writing for as long as somebody asks or listens.
    let connection = selio::spawn(connection);

    let method = if post.is_some() { Method::POST } else { Method::GET };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, "selio-http-client")
        .body(Full::new(post.unwrap_or_default()))?;
    let mut response = timeout(PATIENCE, requests.send_request(request)).await??;
    while let Some(frame) = response.frame().await {
        if let Ok(piece) = frame?.into_data() {
            io::stdout().write_all(&piece)?;
        }
    }
    io::stdout().flush()?;
    drop(requests);
    connection.await??;
    Ok(response.status())
}
