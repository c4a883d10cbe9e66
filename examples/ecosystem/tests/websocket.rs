//! `websocket_chat`, as a program.

mod common;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Message;
use common::{Program, read_to_end, run};
use futures_util::StreamExt;
use selio::net::TcpStream;
use selio::time::timeout;
use std::time::Duration;

type Guest = WebSocketStream<TcpStream>;

async fn start() -> Program {
    Program::start(env!("CARGO_BIN_EXE_websocket_chat"), &[]).await
}

async fn enter(server: &Program) -> Guest {
    let url = format!("ws://{}/ws", server.address);
    let (guest, _) = async_tungstenite::client_async(url, server.connect().await).await.unwrap();
    guest
}

async fn say(guest: &mut Guest, text: &str) {
    guest.send(Message::text(text)).await.unwrap();
}

async fn hear(guest: &mut Guest) -> String {
    loop {
        match guest.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            message => assert!(message.is_ping(), "{message:?}"),
        }
    }
}

async fn request(server: &Program, request: &str) -> String {
    let stream = server.connect().await;
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    String::from_utf8(read_to_end(&stream).await.unwrap()).unwrap()
}

#[test]
fn one_port_serves_the_page_and_the_chat() {
    run(async {
        let server = start().await;
        let page = request(&server, "GET / HTTP/1.1\nHost: t\nConnection: close\n\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("new WebSocket("));
        let no_socket = request(&server, "GET /ws HTTP/1.1\nHost: t\nConnection: close\n\n").await;
        assert!(no_socket.starts_with("HTTP/1.1 400 "), "{no_socket}");
        let nothing = request(&server, "GET /x HTTP/1.1\nHost: t\nConnection: close\n\n").await;
        assert!(nothing.starts_with("HTTP/1.1 404 "), "{nothing}");

        let mut first = enter(&server).await;
        assert_eq!(hear(&mut first).await, "guest 1 has come, 1 are here");
        let mut second = enter(&server).await;
        for guest in [&mut first, &mut second] {
            assert_eq!(hear(guest).await, "guest 2 has come, 2 are here");
        }
        say(&mut first, "hello <b>äöü</b>").await;
        say(&mut second, "hello yourself").await;
        let mut heard = Vec::new();
        for guest in [&mut first, &mut second] {
            let mut lines = [hear(guest).await, hear(guest).await];
            lines.sort();
            heard.push(lines);
        }
        assert_eq!(heard[0], ["guest 1: hello <b>äöü</b>", "guest 2: hello yourself"]);
        assert_eq!(heard[0], heard[1]);

        second.close(None).await.unwrap();
        assert_eq!(hear(&mut first).await, "guest 2 has gone, 1 are here");
        // Gone without a word.
        let third = enter(&server).await;
        assert_eq!(hear(&mut first).await, "guest 3 has come, 2 are here");
        drop(third);
        assert_eq!(hear(&mut first).await, "guest 3 has gone, 1 are here");
    });
}

#[test]
fn a_message_that_comes_with_the_request_is_not_lost() {
    run(async {
        let server = start().await;
        let mut guest = enter(&server).await;
        hear(&mut guest).await;
        let hasty = server.connect().await;
        let mut said = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.address
        )
        .into_bytes();
        // The text "hi", masked with zeros.
        said.extend([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        hasty.write_all(&said).await.unwrap();
        assert_eq!(hear(&mut guest).await, "guest 2 has come, 2 are here");
        assert_eq!(hear(&mut guest).await, "guest 2: hi");
        let mut answer = [0; 512];
        let got = hasty.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..got]);
        // The key that RFC 6455 gives for this one.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    });
}

#[test]
fn who_does_not_listen_is_sent_away_and_holds_up_nobody() {
    run(async {
        let server = start().await;
        let mut deaf = enter(&server).await;
        let mut speaker = enter(&server).await;
        hear(&mut speaker).await;
        let text = "x".repeat(4000);
        let mut rounds = 0;
        // What the kernel keeps for a connection has to be filled as well.
        let gone = loop {
            say(&mut speaker, &text).await;
            let heard = timeout(Duration::from_secs(10), hear(&mut speaker)).await;
            let heard = heard.expect("the deaf one holds up nobody");
            if heard.ends_with("are here") {
                break heard;
            }
            assert_eq!(heard.len(), "guest 2: ".len() + text.len());
            rounds += 1;
            assert!(rounds < 20_000, "the deaf one is never sent away");
        };
        assert_eq!(gone, "guest 1 has gone, 1 are here");
        // It finds what was sent before, and then the end.
        let mut left = 0;
        while let Some(Ok(_)) = deaf.next().await {
            left += 1;
        }
        assert!(left < rounds, "{left} of {rounds}");
    });
}

#[test]
fn who_says_too_much_at_once_goes_alone() {
    run(async {
        let server = start().await;
        let (mut quiet, mut loud) = (enter(&server).await, enter(&server).await);
        hear(&mut quiet).await;
        hear(&mut quiet).await;
        say(&mut loud, &"x".repeat(5000)).await;
        assert_eq!(hear(&mut quiet).await, "guest 2 has gone, 1 are here");
        say(&mut quiet, "still there?").await;
        assert_eq!(hear(&mut quiet).await, "guest 1: still there?");
    });
}
