//! TCP: [`TcpListener`] and [`TcpStream`].
//!
//! The types are [`Async`](crate::Async) around those of std, so everything that `Async` can do
//! they can do, too.

mod address;
mod tcp;

pub use address::ToAddresses;
pub use tcp::{Incoming, TcpListener, TcpStream};
