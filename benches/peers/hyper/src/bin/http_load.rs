//! A load of exactly so many requests: `http_load ADDRESS CONNECTIONS REQUESTS`.
//!
//! Goes in lock-step, a request on each connection and then an answer from each. Blocking calls of
//! std only, so that nothing of what is measured is part of the measure.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, requests] = &arguments[..] else {
        panic!("usage: http_load ADDRESS CONNECTIONS REQUESTS");
    };
    let connections: usize = connections.parse().expect("CONNECTIONS is a number");
    let requests: usize = requests.parse().expect("REQUESTS is a number");
    let mut streams: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let stream = TcpStream::connect(address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket has TCP_NODELAY");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
            stream
        })
        .collect();
    let mut answer = [0; 4096];
    for _ in 0..requests / connections {
        for stream in &mut streams {
            stream.write_all(REQUEST).expect("the server reads");
        }
        for stream in &mut streams {
            let count = stream.read(&mut answer).expect("the server answers in time");
            assert!(answer[..count].ends_with(b"Hello, World!\n"), "the answer is whole");
        }
    }
    // The server closes each connection before it is ended itself, so that every run counts that.
    for stream in &mut streams {
        stream.shutdown(Shutdown::Write).expect("the server is there");
        assert_eq!(stream.read(&mut answer).expect("the server closes in time"), 0);
    }
}
