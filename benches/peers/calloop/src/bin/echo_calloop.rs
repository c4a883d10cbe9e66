//! An echo server on calloop's executor.

use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use calloop::futures::{Scheduler, executor};
use calloop::io::Async;
use calloop::{EventLoop, LoopHandle};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

fn main() -> calloop::Result<()> {
    let mut event_loop: EventLoop<()> = EventLoop::try_new()?;
    let (executor, scheduler) = executor()?;
    let handle = event_loop.handle();
    handle.insert_source(executor, |(), (), ()| ())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening on {}", listener.local_addr()?);
    let accepting = scheduler.clone();
    let listening = async { listen(listener, handle, accepting).await.expect("it can accept") };
    scheduler.schedule(listening).expect("the executor is there");
    event_loop.run(None, &mut (), |()| ())
}

async fn listen(
    listener: TcpListener,
    handle: LoopHandle<'static, ()>,
    scheduler: Scheduler<()>,
) -> Result<()> {
    let mut listener = handle.adapt_io(listener)?;
    loop {
        match listener.get_mut().accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                let stream = handle.adapt_io(stream)?;
                let serving = async { drop(serve(stream).await) };
                scheduler.schedule(serving).expect("the executor is there");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => listener.readable().await,
            Err(error) => return Err(error),
        }
    }
}

async fn serve(mut stream: Async<'static, TcpStream>) -> Result<()> {
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}
