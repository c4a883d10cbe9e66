//! What all tests here need: programs as children, and an end to everything that hangs.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

use selio::net::TcpStream;
use selio::process::{Child, Command, Pipe};
use selio::time::timeout;

/// Runs a test's future, for half a minute at the most.
pub fn run(test: impl Future<Output = ()>) {
    let (done, wait) = mpsc::channel::<()>();
    // For when the loop itself does not come to its timers any more.
    let watchdog = thread::spawn(move || {
        if wait.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the loop hangs");
            std::process::abort();
        }
    });
    let ended = selio::block_on(timeout(Duration::from_secs(30), test));
    drop(done);
    watchdog.join().unwrap();
    ended.expect("the test ends in time");
}

/// A running program that has printed the address it listens at. It ends with this value.
pub struct Program {
    pub child: Child,
    pub address: SocketAddr,
    pub told: Lines,
}

impl Program {
    pub async fn start(path: &str, args: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program can be started");
        let mut told = Lines::new(child.stdout.take().expect("it was piped"));
        let line = told.next().await.expect("it tells its address");
        let address = line.strip_prefix("listening on ").expect("the first line is the address");
        Program { address: address.parse().unwrap(), child, told }
    }

    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).unwrap();
        stream
    }
}

/// Lines of a pipe.
pub struct Lines {
    pipe: Pipe,
    read: Vec<u8>,
}

impl Lines {
    pub fn new(pipe: Pipe) -> Self {
        Lines { pipe, read: Vec::new() }
    }

    /// The next line, without its end; `None` at the end.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line = self.read.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let mut buffer = [0; 1024];
            match self.pipe.read(&mut buffer).await.unwrap() {
                0 => return None,
                got => self.read.extend_from_slice(&buffer[..got]),
            }
        }
    }
}

/// A directory that is gone with this value.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("selio-ecosystem-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Writes a file, and gives its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that differ from their neighbours.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Reads all that comes until the end.
pub async fn read_to_end(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(all),
            got => all.extend_from_slice(&buffer[..got]),
        }
    }
}
