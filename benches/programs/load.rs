//! A load for an echo server: `load ADDRESS CONNECTIONS REQUESTS SIZE`.
//!
//! Opens the connections, then goes in lock-step: a message on each, then an answer from each,
//! until the requests are through. Answers are compared byte by byte. Blocking calls of std only,
//! so that nothing of what is measured is part of the measure.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, requests, size] = &arguments[..] else {
        panic!("usage: load ADDRESS CONNECTIONS REQUESTS SIZE");
    };
    let connections: usize = connections.parse().expect("CONNECTIONS is a number");
    let requests: usize = requests.parse().expect("REQUESTS is a number");
    let size: usize = size.parse().expect("SIZE is a number");

    let mut streams: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let stream = TcpStream::connect(address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket has TCP_NODELAY");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
            stream
        })
        .collect();
    let start = Instant::now();
    let mut answer = vec![0; size];
    for round in 0..requests / connections {
        let message: Vec<u8> = (0..size).map(|i| (i + round) as u8).collect();
        for stream in &mut streams {
            stream.write_all(&message).expect("the server reads");
        }
        for stream in &mut streams {
            stream.read_exact(&mut answer).expect("the server answers in time");
            assert_eq!(answer, message, "the answer is what was sent");
        }
    }
    let done = requests / connections * connections;
    println!("{done} requests over {connections} connections in {:?}", start.elapsed());
}
