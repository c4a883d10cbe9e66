//! hyper's servers and clients on selio, in one thread, with services and bodies that are not
//! `Send`.

mod common;

use common::{pattern, read_to_end, run};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use selio::event::Event;
use selio::net::{TcpListener, TcpStream, UnixStream};
use selio::race;
use selio::time::sleep;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Says back what it is sent, and counts.
async fn echo(
    count: Rc<Cell<usize>>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Full<Bytes>>> {
    count.set(count.get() + 1);
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body)))
}

async fn ask(client: &mut SendRequest<Full<Bytes>>, body: impl Into<Bytes>) -> Bytes {
    let request = Request::post("/").header(HOST, "test").body(Full::new(body.into())).unwrap();
    client.ready().await.unwrap();
    client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
}

#[test]
fn one_connection_carries_many_requests() {
    run(async {
        let (near, far) = tcp_pair().await;
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let service = service_fn(move |request| echo(Rc::clone(&counted), request));
        let server =
            selio::spawn(server::conn::http1::Builder::new().serve_connection(far, service));
        let (mut client, connection) = client::conn::http1::handshake(near).await.unwrap();
        let connection = selio::spawn(connection);
        for number in 0..1000 {
            assert_eq!(ask(&mut client, number.to_string()).await, number.to_string());
        }
        assert_eq!(count.get(), 1000);
        // Who asks no more lets go of the connection, and both ends see it out.
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap().unwrap();
    });
}

#[test]
fn ten_megabytes_go_both_ways() {
    run(async {
        let service = || service_fn(|request| echo(Rc::default(), request));
        let http = server::conn::http1::Builder::new();
        let body = Bytes::from(pattern(10_000_000));
        let (near, far) = tcp_pair().await;
        selio::spawn(http.serve_connection(far, service()));
        let (mut client, connection) = client::conn::http1::handshake(near).await.unwrap();
        selio::spawn(connection);
        assert!(ask(&mut client, body.clone()).await == body);

        let (near, far) = UnixStream::pair().unwrap();
        selio::spawn(http.serve_connection(far, service()));
        let (mut client, connection) = client::conn::http1::handshake(near).await.unwrap();
        selio::spawn(connection);
        assert!(ask(&mut client, body.clone()).await == body);
    });
}

#[test]
fn the_head_of_a_request_has_its_time() {
    run(async {
        const TIME: Duration = Duration::from_millis(150);
        let mut http = server::conn::http1::Builder::new();
        http.timer(selio::hyper::Timer).header_read_timeout(TIME);
        for said in ["", "GET / HTTP/1.1\r\nHost: "] {
            let (near, far) = tcp_pair().await;
            let start = Instant::now();
            let service = service_fn(|request| echo(Rc::default(), request));
            let server = selio::spawn(http.serve_connection(far, service));
            near.write_all(said.as_bytes()).await.unwrap();
            _ = read_to_end(&near).await.unwrap();
            assert!(start.elapsed() >= TIME);
            assert!(server.await.unwrap().unwrap_err().is_timeout());
        }
        // A body has all the time it wants, and each head its own.
        let (near, far) = tcp_pair().await;
        let service = service_fn(|request| echo(Rc::default(), request));
        selio::spawn(http.serve_connection(far, service));
        for _ in 0..2 {
            near.write_all(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n")
                .await
                .unwrap();
            sleep(2 * TIME).await;
            near.write_all(b"ok").await.unwrap();
            let mut answer = [0; 512];
            let got = near.read(&mut answer).await.unwrap();
            assert!(answer[..got].ends_with(b"\r\n\r\nok"));
        }
    });
}

#[test]
fn a_graceful_end_waits_for_the_answer() {
    run(async {
        let (near, far) = tcp_pair().await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let (asked, go_on) = (Event::new().unwrap(), Rc::new(Event::new().unwrap()));
        let (asks, lets_go_on) = (asked.trigger(), go_on.trigger());
        let noted = Rc::clone(&order);
        let service = service_fn(move |_| {
            let (noted, asks, go_on) = (Rc::clone(&noted), asks.clone(), Rc::clone(&go_on));
            async move {
                noted.borrow_mut().push("asked");
                asks.trigger().unwrap();
                go_on.wait().await.unwrap();
                noted.borrow_mut().push("answered");
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"late"))))
            }
        });
        let noted = Rc::clone(&order);
        let server = selio::spawn(async move {
            let connection = server::conn::http1::Builder::new().serve_connection(far, service);
            let mut connection = std::pin::pin!(connection);
            let early = race(async { Some(connection.as_mut().await) }, async {
                asked.wait().await.map(|_| None).unwrap()
            });
            assert!(early.await.is_none());
            noted.borrow_mut().push("told to end");
            connection.as_mut().graceful_shutdown();
            connection.as_mut().graceful_shutdown();
            lets_go_on.trigger().unwrap();
            connection.await.unwrap();
            noted.borrow_mut().push("ended");
        });
        near.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let answer = read_to_end(&near).await.unwrap();
        assert!(answer.ends_with(b"\r\n\r\nlate"));
        server.await.unwrap();
        assert_eq!(*order.borrow(), ["asked", "told to end", "answered", "ended"]);
    });
}
