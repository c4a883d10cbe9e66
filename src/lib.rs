//! An async runtime for Linux that lives in one thread.
//!
//! An epoll selector sits underneath a single-threaded executor. Whatever the kernel can wait for,
//! a socket, a timer, a signal, a child, an event from another thread, is one kind of thing in the
//! [`selector`], and one kind of thing to the user: a future or a stream.
//!
//! Start with [`block_on`] and [`spawn`]; then see [`net`], [`time`], [`signal`] and [`process`],
//! [`Async`] for any other descriptor, and [`selector`] for programs that write their own loop.
//!
//! ```
//! use selio::net::{TcpListener, TcpStream};
//! use selio::time::timeout;
//! use std::time::Duration;
//!
//! # fn main() -> std::io::Result<()> {
//! selio::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!
//!     // A server that says back what it hears, in the same thread.
//!     selio::spawn(async move {
//!         let (stream, _) = listener.accept().await?;
//!         let mut buffer = [0; 1024];
//!         loop {
//!             match stream.read(&mut buffer).await? {
//!                 0 => return Ok::<_, std::io::Error>(()),
//!                 n => stream.write_all(&buffer[..n]).await?,
//!             }
//!         }
//!     });
//!
//!     let client = TcpStream::connect(address).await?;
//!     client.write_all(b"hello").await?;
//!     let mut reply = [0; 5];
//!     timeout(Duration::from_secs(5), client.read_exact(&mut reply)).await??;
//!     assert_eq!(&reply, b"hello");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # What holds everywhere
//!
//! - There is no hidden thread: everything happens in the thread that calls [`block_on`]. Only
//!   [`unblock()`] has threads, once it is called, or a host name is looked up.
//! - Spawned futures may be `!Send`. The objects of this crate are `Send + Sync`; they work before
//!   `block_on`, between two, in a nested one, and on another thread than the one they were made
//!   on.
//! - A future of this crate that is dropped takes nothing with it, unless its page says otherwise.
//! - Linux 4.14 is the oldest kernel. What needs a later one says so, or does without.
//! - After `fork(2)`, the child must not use what the parent made, but may drop it, unless another
//!   thread of the parent was using that very object; a `block_on` of its own gets a reactor of its
//!   own.
//!
//! # Features
//!
//! None is on by default. The first two add one crate each, the third hyper and what that needs
//! without features of its own.
//!
//! - `futures-io`: `AsyncRead` and `AsyncWrite` of futures-io, for every [`Async`], for
//!   [`io::Duplex`], and for references to one.
//! - `tokio-io`: `AsyncRead` and `AsyncWrite` of tokio, for every [`Async`] and for
//!   [`io::Duplex`]. No runtime of tokio comes with it.
//! - `hyper`: `Read` and `Write` of hyper, for every [`Async`], and its `Executor` and `Timer`, so
//!   that hyper's servers and clients run on selio.

#[cfg(not(target_os = "linux"))]
compile_error!("selio is built on epoll and needs Linux (target_os = \"linux\")");

/// Holds the program in the README to compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod sys;
mod panics;
pub mod selector;
mod reactor;
mod executor;
mod future;
mod unblock;
pub mod time;
pub mod io;
pub mod event;
pub mod signal;
pub mod process;
pub mod net;
#[cfg(feature = "hyper")]
pub mod hyper;

pub use executor::{Driver, Handle, JoinError, JoinHandle, block_on, handle, spawn};
pub use future::{join, race, yield_now};
pub use io::Async;
pub use reactor::{Spin, spin};
pub use time::Timer;
pub use unblock::{Unblock, unblock};
