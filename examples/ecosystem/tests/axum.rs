//! `axum_hello`, as a program.

mod common;

use common::{Program, read_to_end, run};
use selio::join;
use std::cell::Cell;
use std::time::{Duration, Instant};

async fn get(server: &Program, path: &str) -> String {
    let stream = server.connect().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(read_to_end(&stream).await.unwrap()).unwrap()
}

#[test]
fn handlers_hold_selios_objects_across_their_waits() {
    run(async {
        let server = Program::start(env!("CARGO_BIN_EXE_axum_hello"), &[]).await;
        assert!(get(&server, "/").await.ends_with("\r\n\r\nHello number 1\n"));

        let start = Instant::now();
        let awake = Cell::new(false);
        let sleeper = async {
            let slept = get(&server, "/sleep/500").await;
            awake.set(true);
            slept
        };
        let (slept, hello) = join(sleeper, async {
            let hello = get(&server, "/").await;
            assert!(!awake.get(), "nobody waits for the sleeper");
            hello
        })
        .await;
        assert!(start.elapsed() >= Duration::from_millis(500));
        assert!(slept.contains("\r\n\r\nslept for "), "{slept}");
        assert!(hello.ends_with("\r\n\r\nHello number 2\n"));

        let own = server.address.port();
        let connected = get(&server, &format!("/connect/{own}")).await;
        assert!(connected.contains("\r\n\r\nconnected in "), "{connected}");
        let refused = get(&server, "/connect/1").await;
        assert!(refused.starts_with("HTTP/1.1 502 ") && refused.contains("refused"), "{refused}");

        let load = get(&server, "/load").await;
        assert!(load.starts_with("HTTP/1.1 200 ") || load.contains("No such file"), "{load}");
        assert!(get(&server, "/sleep/long").await.starts_with("HTTP/1.1 400 "));
        assert!(get(&server, "/nowhere").await.starts_with("HTTP/1.1 404 "));
    });
}
