//! The loop that one writes by hand: an echo server, a timer, a signal, a child and an event from
//! another thread, all waited for in one `select`, with nothing but the standard library beside the
//! selector.
//!
//! It connects to itself and ends after about two seconds. Run it with
//!
//! ```text
//! cargo run --example selector_loop
//! ```

use selio::selector::{Events, ReadyKey, SelectEvent, Selector};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

/// The number of the signal that a terminal sends when its window changes size, and that is ignored
/// by default.
const SIGWINCH: i32 = 28;

/// What a descriptor is to us: the value that is registered beside it.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Client,
    Heartbeat,
    Resized,
    Helper,
    TimeIsUp,
}

struct Server {
    selector: Selector<Source>,
    listener: TcpListener,
    clients: HashMap<RawFd, TcpStream>,
    helper: Child,
}

fn main() -> io::Result<()> {
    let mut selector = Selector::new()?;
    // A signal is blocked in this thread only, and threads inherit the mask: so it comes before any
    // of them.
    selector.register_signal(SIGWINCH, Source::Resized)?;
    selector.register_timer(Duration::from_millis(500), false, Source::Heartbeat)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    selector.register_handle(&listener, Events::READ, Source::Listener)?;
    println!("listening on {address}");

    let script = format!("sleep 1; kill -{SIGWINCH} {}; exit 7", std::process::id());
    let helper = Command::new("sh").args(["-c", &script]).spawn()?;
    selector.register_process(helper.id(), Source::Helper)?;

    let time_is_up = SelectEvent::new()?;
    selector.register_event(&time_is_up, Source::TimeIsUp)?;
    // The loop ends when the client does, however that went.
    let client = thread::Builder::new().spawn(move || {
        let talked = talk(address);
        time_is_up.trigger()?;
        talked
    })?;

    Server { selector, listener, clients: HashMap::new(), helper }.run()?;
    client.join().expect("the client does not panic")
}

impl Server {
    /// The loop: waits, and does what each key asks for.
    fn run(&mut self) -> io::Result<()> {
        let mut keys = [ReadyKey::EMPTY; 16];
        loop {
            let count = self.selector.select_into(None, &mut keys)?;
            for key in &keys[..count] {
                // A key whose registration an earlier one of the batch has removed finds nothing.
                let Some(source) = self.selector.get(key).copied() else {
                    continue;
                };
                match source {
                    Source::Listener => self.accept()?,
                    Source::Client => self.serve(key.fd())?,
                    Source::Heartbeat => println!("tick, {} expirations", key.expirations()),
                    Source::Resized => {
                        let info = key.signal_info().expect("a signal's key tells about it");
                        println!("SIGWINCH from process {}", info.pid());
                    }
                    Source::Helper => println!("the child ended: {}", self.helper.wait()?),
                    Source::TimeIsUp => {
                        println!("another thread asks to stop, {} triggers", key.count());
                        return Ok(());
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (client, address) = match self.listener.accept() {
            // Readiness is a hint: the client may have left already.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        println!("{address} connected");
        client.set_nonblocking(true)?;
        self.selector.register_handle(&client, Events::READ, Source::Client)?;
        self.clients.insert(client.as_raw_fd(), client);
        Ok(())
    }

    fn serve(&mut self, fd: RawFd) -> io::Result<()> {
        let client = self.clients.get_mut(&fd).expect("every registered client is known");
        if !echo(client)? {
            // First unregistered, then closed.
            self.selector.unregister(fd)?;
            self.clients.remove(&fd);
            println!("a client left");
        }
        Ok(())
    }
}

/// Sends back what there is; `false` says that the client has left. A server that minds slow
/// readers would keep what it cannot write yet, and ask for `WRITE`.
fn echo(client: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    match client.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => client.write_all(&buffer[..count]).map(|()| true),
        // Readiness is a hint.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// The other side of the wire, in a thread of its own: three questions, and a pause.
fn talk(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    for word in ["one", "two", "three"] {
        stream.write_all(word.as_bytes())?;
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer)?;
        println!("echo: {}", String::from_utf8_lossy(&answer));
        thread::sleep(Duration::from_millis(300));
    }
    drop(stream);
    thread::sleep(Duration::from_millis(900));
    Ok(())
}
