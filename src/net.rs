//! Sockets: TCP, UDP and those of Unix.
//!
//! The types are [`Async`](crate::Async) around those of std, so everything that `Async` can do
//! they can do, too.

mod accepting;
mod address;
mod connect;
mod descriptors;
mod options;
mod path_listener;
mod seqpacket;
mod tcp;
mod udp;
mod unix;
mod unix_datagram;

pub use address::ToAddresses;
pub use descriptors::Received;
pub use options::SocketOptions;
pub use path_listener::PathListener;
pub use seqpacket::{Seqpacket, SeqpacketListener};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{Credentials, UnixListener, UnixStream};
pub use unix_datagram::UnixDatagram;
