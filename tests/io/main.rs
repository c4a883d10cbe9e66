//! `Async`, sockets, and the doors to other I/O traits.

#[path = "../kit/mod.rs"]
mod kit;

mod async_io;
mod copy;
#[cfg(feature = "futures-io")]
mod door_futures;
#[cfg(feature = "hyper")]
mod door_hyper;
#[cfg(feature = "tokio-io")]
mod door_tokio;
mod duplex;
mod nested_selector;
mod options;
mod other_descriptors;
mod readiness;
mod sendfile;
mod split;
mod tcp;
mod udp;
mod unix;
