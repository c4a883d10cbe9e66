//! A chat in the browser: one port serves the page at `/` and its WebSocket at `/ws`, and what one
//! guest says is heard by all.
//!
//! hyper speaks HTTP and lets go of the connection when a browser asks for a WebSocket; tungstenite
//! takes it over. All guests are tasks of one thread, so that the room is a plain `RefCell`. Who is
//! too slow to hear what is said is sent away, and holds up nobody; who has vanished without a word
//! is noticed by a ping that stays unanswered.
//!
//! Run it with `cargo run --release --bin websocket_chat -- 127.0.0.1:8080` (no address, or port 0,
//! takes a free port; the address is printed), and open it in several tabs. It needs the features
//! `futures-io` and `hyper` of selio.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Message, Utf8Bytes};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use selio::net::{TcpListener, TcpStream};
use selio::time::timeout;

/// How many messages may wait for a guest. Who lets more wait is sent away.
const MAILBOX: usize = 64;
/// The longest message, in bytes.
const LONGEST: usize = 4096;
/// How often a guest that says nothing is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

const PAGE: &str = include_str!("page.html");

fn main() -> Result<(), Box<dyn Error>> {
    let at: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:0").parse()?;
    selio::block_on(async {
        let listener = TcpListener::bind(at).await?;
        println!("listening on {}", listener.local_addr()?);
        let room = Rc::new(RefCell::new(Room::default()));
        let mut http = http1::Builder::new();
        http.timer(selio::hyper::Timer);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Most likely out of descriptors: `accept` has paused.
                    eprintln!("cannot accept for now: {error}");
                    continue;
                }
            };
            _ = stream.set_nodelay(true);
            let room = Rc::clone(&room);
            let service = service_fn(move |request| {
                let response = answer(&room, request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http.serve_connection(stream, service);
            // What ends a connection concerns nobody else.
            selio::spawn(connection.with_upgrades());
        }
    })
}

fn answer(room: &Rc<RefCell<Room>>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => {
            let mut response = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
            response
        }
        (&Method::GET, "/ws") => match accept_key(request.headers()) {
            Some(key) => {
                let upgrade = hyper::upgrade::on(&mut request);
                selio::spawn(welcome(Rc::clone(room), upgrade));
                switch(&key)
            }
            None => plain(StatusCode::BAD_REQUEST),
        },
        _ => plain(StatusCode::NOT_FOUND),
    }
}

/// The key that accepts a request for a WebSocket (RFC 6455, section 4.2); `None` if it is no such
/// request.
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let names = |header: HeaderName, what: &str| {
        let mut values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(what)))
    };
    let asked = names(CONNECTION, "upgrade") && names(UPGRADE, "websocket");
    let asked = asked && names(SEC_WEBSOCKET_VERSION, "13");
    asked.then(|| headers.get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes())))?
}

fn switch(key: &str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, key)
        .body(Full::default())
        .expect("each header is a word")
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(format!("{status}\n").into()));
    *response.status_mut() = status;
    response
}

/// Takes the connection over once hyper has answered, and keeps the guest until it goes.
async fn welcome(room: Rc<RefCell<Room>>, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    // What hyper has read beyond the request belongs to the WebSocket.
    let parts = upgraded.downcast::<TcpStream>().expect("it was given a `TcpStream`");
    let read = parts.read_buf.to_vec();
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST))
        .max_write_buffer_size(64 * LONGEST)
        .write_buffer_size(0);
    let socket = WebSocketStream::from_partially_read(parts.io, read, Role::Server, Some(config));
    let (sender, receiver) = socket.await.split();

    let (number, mailbox, sent_away) = room.borrow_mut().enter();
    let heard = Cell::new(Instant::now());
    let listening = listen(&room, number, receiver, &heard);
    let talking = async {
        // Whichever comes first: the mailbox ends with the guest's place in the room, but a guest
        // that does not read keeps `talk` from looking at it.
        selio::race(talk(mailbox, sender, &heard), async { _ = sent_away.await }).await;
    };
    selio::race(listening, talking).await;
    room.borrow_mut().leave(number);
}

/// Tells the room what a guest says, until it goes.
async fn listen(
    room: &RefCell<Room>,
    number: u64,
    mut receiver: WebSocketReceiver<TcpStream>,
    heard: &Cell<Instant>,
) {
    while let Some(Ok(message)) = receiver.next().await {
        heard.set(Instant::now());
        if let Message::Text(text) = message {
            room.borrow_mut().say(&format!("guest {number}: {text}"));
        }
    }
}

/// Tells a guest what is said in the room, until it cannot be told any more.
async fn talk(
    mut mailbox: mpsc::Receiver<Utf8Bytes>,
    mut sender: WebSocketSender<TcpStream>,
    heard: &Cell<Instant>,
) {
    loop {
        let message = match timeout(PING, mailbox.next()).await {
            Ok(Some(text)) => Message::Text(text),
            Ok(None) => return,
            Err(_) if heard.get().elapsed() > 3 * PING => return,
            Err(_) => Message::Ping(Bytes::new()),
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
}

/// Who is here.
#[derive(Default)]
struct Room {
    guests: BTreeMap<u64, Guest>,
    /// How many have come so far.
    came: u64,
}

struct Guest {
    mailbox: mpsc::Sender<Utf8Bytes>,
    /// Dropped, it sends the guest away.
    _place: oneshot::Sender<Infallible>,
}

impl Room {
    /// Lets a guest in: its number, what it is to be told, and what ends when it is sent away.
    fn enter(&mut self) -> (u64, mpsc::Receiver<Utf8Bytes>, oneshot::Receiver<Infallible>) {
        // The channel keeps one more for its only sender.
        let (mailbox, told) = mpsc::channel(MAILBOX - 1);
        let (place, sent_away) = oneshot::channel();
        self.came += 1;
        self.guests.insert(self.came, Guest { mailbox, _place: place });
        self.say(&format!("guest {} has come, {} are here", self.came, self.guests.len()));
        (self.came, told, sent_away)
    }

    fn leave(&mut self, number: u64) {
        self.guests.remove(&number);
        self.say(&format!("guest {number} has gone, {} are here", self.guests.len()));
    }

    /// Tells everybody. Who has no room for it is too slow, and goes.
    fn say(&mut self, text: &str) {
        // All mailboxes share one copy.
        let text = Utf8Bytes::from(text);
        self.guests.retain(|_, guest| guest.mailbox.try_send(text.clone()).is_ok());
    }
}
