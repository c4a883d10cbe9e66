//! A web server for a directory: files, a bit of JSON, and uploads that are hashed, all in one
//! thread, with hyper's HTTP/1.1.
//!
//! Connections are kept alive. Files are sent in pieces, so that a large one costs no more memory
//! than a small one; no path leads out of the directory, not by `..` and not by a link. `GET
//! /status` tells how it goes in JSON; `POST /upload` answers with the length and the SHA-256 of
//! what it was sent. Who does not send the head of a request in time, or has been silent for as
//! long between two requests, is hung up on. Asked to end (SIGTERM, or Ctrl-C), it takes no new
//! connections, answers the requests that are under way, and closes; who takes longer than ten
//! seconds is cut off.
//!
//! Run it with `cargo run --release --bin http_server -- DIRECTORY --port 8080` (no port, or 0, takes
//! a free one; the address is printed; `--header-timeout SECONDS` is 10 unless it is told), and ask
//! it with `curl http://127.0.0.1:8080/`. It needs the feature `hyper` of selio, and `http1` and
//! `server` of hyper.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::server::graceful::GracefulShutdown;
use selio::net::TcpListener;
use selio::signal::shutdown;
use selio::time::timeout;
use selio::{Unblock, unblock};
use sha2::{Digest, Sha256};

/// How much of a file is read at once.
const PIECE: u64 = 64 * 1024;
/// A longer upload is refused.
const LONGEST_UPLOAD: u64 = 1024 * 1024 * 1024;
/// How long requests may take to be answered once the server is asked to end.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    // From here on a signal does not kill, but waits to be looked at.
    let asked = shutdown();
    selio::block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        println!("listening on {}", listener.local_addr()?);
        let connections = GracefulShutdown::new();
        let site = Rc::new(Site::new(options.root)?);
        let serving = serve(&listener, &site, options.header_timeout, &connections);
        // What waits for signals takes its descriptors first, before connections take them all.
        let info = selio::race(asked, async { match serving.await {} }).await?;
        // Newcomers are refused from now on, and can go to another server at once.
        drop(listener);
        println!("signal {} from process {}", info.signo(), info.pid());
        match timeout(GRACE, connections.shutdown()).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(_) => {
                println!("somebody takes longer than {GRACE:?}");
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

struct Options {
    root: PathBuf,
    port: u16,
    header_timeout: Duration,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        const USAGE: &str = "usage: http_server DIRECTORY [--port PORT] [--header-timeout SECONDS]";
        let (mut root, mut port, mut header_timeout) = (None, 0, Duration::from_secs(10));
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--port" => port = args.next().ok_or(USAGE)?.parse()?,
                "--header-timeout" => {
                    let seconds: f64 = args.next().ok_or(USAGE)?.parse()?;
                    header_timeout = Duration::try_from_secs_f64(seconds)?;
                }
                _ if root.is_none() && !arg.starts_with('-') => root = Some(PathBuf::from(arg)),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Options { root: root.ok_or(USAGE)?, port, header_timeout })
    }
}

/// Takes connections until it is dropped, each served by a task of its own.
async fn serve(
    listener: &TcpListener,
    site: &Rc<Site>,
    header_timeout: Duration,
    connections: &GracefulShutdown,
) -> Infallible {
    let mut http = http1::Builder::new();
    http.timer(selio::hyper::Timer).header_read_timeout(header_timeout);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                _ = stream.set_nodelay(true);
                let site = Rc::clone(site);
                let service = service_fn(move |request| Rc::clone(&site).answer(request));
                let connection = connections.watch(http.serve_connection(stream, service));
                selio::spawn(async move {
                    // What ends a connection concerns nobody else.
                    if let Err(error) = connection.await {
                        eprintln!("{peer}: {error}");
                    }
                });
            }
            // Most likely out of descriptors: `accept` has paused, and the connection waits in the
            // queue.
            Err(error) => eprintln!("cannot accept for now: {error}"),
        }
    }
}

/// What is served, and what is known of it.
struct Site {
    root: PathBuf,
    since: Instant,
    requests: Cell<u64>,
}

impl Site {
    fn new(root: PathBuf) -> io::Result<Self> {
        Ok(Site { root: root.canonicalize()?, since: Instant::now(), requests: Cell::new(0) })
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> hyper::Result<Response<Reply>> {
        self.requests.set(self.requests.get() + 1);
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/upload" if request.method() == Method::POST => hash(request.into_body()).await,
            "/upload" => Ok(not_allowed("POST")),
            _ if !reads => Ok(not_allowed("GET, HEAD")),
            "/status" => Ok(json(self.status())),
            path => Ok(self.file(path).await),
        }
    }

    fn status(&self) -> String {
        let (requests, uptime) = (self.requests.get(), self.since.elapsed().as_secs_f64());
        format!("{{\"requests\": {requests}, \"uptime_seconds\": {uptime:.3}}}\n")
    }

    async fn file(&self, path: &str) -> Response<Reply> {
        let Some(relative) = relative(path) else { return plain(StatusCode::BAD_REQUEST) };
        let root = self.root.clone();
        // Whatever touches the disk may block.
        match unblock(move || open(&root, &relative)).await {
            Ok((file, length, kind)) => {
                let mut response = Response::new(Reply::File(FileReply::new(file, length)));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                response
            }
            Err(error) => plain(match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => StatusCode::NOT_FOUND,
                ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            }),
        }
    }
}

/// The path of a request as one within the directory; `None` if it is none.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.split('/') {
        let part = decode(part)?;
        match part.as_str() {
            "" | "." => {}
            ".." => return None,
            // Encoded, and meant to be taken for something else.
            _ if part.contains(['/', '\0']) => return None,
            _ => relative.push(part),
        }
    }
    Some(relative)
}

/// Undoes the percent encoding.
fn decode(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Opens a file, its length, and its content type. Runs in a thread that may block.
fn open(root: &Path, relative: &Path) -> io::Result<(File, u64, &'static str)> {
    let mut path = root.join(relative).canonicalize()?;
    if path.is_dir() {
        path = path.join("index.html").canonicalize()?;
    }
    // Links have been followed: here it shows whether they lead out. To open anything but a file,
    // such as a named pipe, may block for ever.
    if !path.starts_with(root) || !path.metadata()?.is_file() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    Ok((file, length, content_type(&path)))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("txt" | "md" | "rs" | "toml") => "text/plain; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("wasm") => "application/wasm",
        Some("pdf") => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Reads an upload piece by piece, and keeps none of them.
async fn hash(mut upload: Incoming) -> hyper::Result<Response<Reply>> {
    let (mut length, mut hash) = (0, Sha256::new());
    while let Some(frame) = upload.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        length += piece.len() as u64;
        if length > LONGEST_UPLOAD {
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
        }
        hash.update(&piece);
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json(format!("{{\"length\": {length}, \"sha256\": \"{hash}\"}}\n")))
}

fn json(text: String) -> Response<Reply> {
    let mut response = Response::new(Reply::Text(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A status that says what it is.
fn plain(status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Text(format!("{status}\n").into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn not_allowed(allowed: &'static str) -> Response<Reply> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The body of a response: a text at once, or a file piece by piece. hyper tells its length, and
/// sends nothing of it for HEAD.
enum Reply {
    Text(Bytes),
    File(FileReply),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut *self {
            Reply::Text(text) if text.is_empty() => None,
            Reply::Text(text) => Some(Ok(std::mem::take(text))),
            Reply::File(file) => ready!(file.poll_piece(cx)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Reply::Text(text) => text.len() as u64,
            Reply::File(file) => file.left,
        })
    }
}

/// A file that is sent. Files are always ready for epoll, and block all the same: the next piece is
/// read in another thread.
struct FileReply {
    left: u64,
    at: Place,
}

enum Place {
    Here(File),
    There(Unblock<io::Result<(File, Bytes)>>),
    Nowhere,
}

impl FileReply {
    fn new(file: File, length: u64) -> Self {
        FileReply { left: length, at: Place::Here(file) }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match &mut self.at {
                Place::Here(_) if self.left == 0 => return Poll::Ready(None),
                Place::Here(_) => {
                    let Place::Here(file) = std::mem::replace(&mut self.at, Place::Nowhere) else {
                        unreachable!("it was there a line ago")
                    };
                    let wanted = self.left.min(PIECE);
                    self.at = Place::There(unblock(move || read_piece(file, wanted)));
                }
                Place::There(reading) => {
                    let read = ready!(Pin::new(reading).poll(cx));
                    self.at = Place::Nowhere;
                    return Poll::Ready(Some(read.map(|(file, piece)| {
                        self.left -= piece.len() as u64;
                        self.at = Place::Here(file);
                        piece
                    })));
                }
                Place::Nowhere => return Poll::Ready(None),
            }
        }
    }
}

/// The next piece of a file, of this length at the most. A file that has become shorter than was
/// promised is an error: the client must not take what it has for all.
fn read_piece(file: File, wanted: u64) -> io::Result<(File, Bytes)> {
    let mut piece = Vec::with_capacity(wanted as usize);
    (&file).take(wanted).read_to_end(&mut piece)?;
    if piece.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((file, piece.into()))
}
