//! An echo server by hand: each connection registered once, edge-triggered, for both directions; a read
//! that is short has drained the socket.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use common::os::{self, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Epoll, NO_EVENT};

const LISTENER: u64 = u64::MAX;

fn main() -> Result<()> {
    os::raise_descriptor_limit();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    let epoll = Epoll::new()?;
    epoll.add(&listener, EPOLLIN | EPOLLET, LISTENER)?;
    let mut connections = Connections::default();
    let mut events = [NO_EVENT; 256];
    loop {
        let count = epoll.wait(&mut events, None)?;
        for event in &events[..count] {
            match event.u64 {
                LISTENER => connections.accept(&listener, &epoll)?,
                index => connections.serve(index as usize),
            }
        }
    }
}

#[derive(Default)]
struct Connections {
    open: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Connections {
    fn accept(&mut self, listener: &TcpListener, epoll: &Epoll) -> Result<()> {
        loop {
            let stream = match os::accept(listener) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?,
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.open.push(None);
                self.open.len() - 1
            });
            epoll.add(&stream, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, index as u64)?;
            self.open[index] = Some(Connection::new(stream));
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(connection) = &mut self.open[index] else { return };
        if connection.serve().is_err() {
            self.open[index] = None;
            self.free.push(index);
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Box<[u8; 8192]>,
    /// What of the buffer has been read and not yet written back.
    from: usize,
    to: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Box::new([0; 8192]), from: 0, to: 0 }
    }

    /// Answers until there is nothing to read. Fails when the connection has ended, too.
    fn serve(&mut self) -> Result<()> {
        loop {
            match self.exchange() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(true) => return Ok(()),
                Ok(false) => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what was left, or else what it reads. Tells whether it has seen that no more is there.
    fn exchange(&mut self) -> Result<bool> {
        let left = self.from < self.to;
        if !left {
            self.from = 0;
            self.to = 0;
            self.to = self.stream.read(&mut self.buffer[..])?;
            if self.to == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        while self.from < self.to {
            self.from += self.stream.write(&self.buffer[self.from..self.to])?;
        }
        Ok(!left && self.to < self.buffer.len())
    }
}
