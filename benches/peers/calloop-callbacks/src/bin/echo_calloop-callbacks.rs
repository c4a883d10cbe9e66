//! An echo server of callbacks on calloop.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use calloop::generic::{Generic, NoIoDrop};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, Readiness};

type Handle = LoopHandle<'static, ()>;

fn main() -> calloop::Result<()> {
    let mut event_loop: EventLoop<()> = EventLoop::try_new()?;
    let handle = event_loop.handle();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    let accepting = handle.clone();
    let source = Generic::new(listener, Interest::READ, Mode::Level);
    handle.insert_source(source, move |_, listener, ()| accept(listener, &accepting))?;
    event_loop.run(None, &mut (), |()| ())
}

fn accept(listener: &TcpListener, handle: &Handle) -> Result<PostAction> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut connection = Connection { buffer: vec![0; 8192], from: 0, to: 0 };
                let source = Generic::new(stream, Interest::BOTH, Mode::Edge);
                handle
                    .insert_source(source, move |ready, stream, ()| connection.serve(ready, stream))
                    .map_err(|refused| refused.error)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
            Err(error) => return Err(error),
        }
    }
}

struct Connection {
    buffer: Vec<u8>,
    /// What of the buffer has been read and not yet written back.
    from: usize,
    to: usize,
}

impl Connection {
    /// Answers until there is nothing to read.
    fn serve(&mut self, _: Readiness, stream: &mut NoIoDrop<TcpStream>) -> Result<PostAction> {
        loop {
            match self.exchange(stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(true) => break,
                Ok(false) => (),
                Err(_) => return Ok(PostAction::Remove),
            }
        }
        Ok(PostAction::Continue)
    }

    /// Writes what was left, or else what it reads. Tells whether it has seen that no more is there.
    fn exchange(&mut self, mut stream: &TcpStream) -> Result<bool> {
        let left = self.from < self.to;
        if !left {
            self.from = 0;
            self.to = 0;
            self.to = stream.read(&mut self.buffer)?;
            if self.to == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        while self.from < self.to {
            self.from += stream.write(&self.buffer[self.from..self.to])?;
        }
        Ok(!left && self.to < self.buffer.len())
    }
}
