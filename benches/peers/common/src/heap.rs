//! An allocator that counts, and the front of a `memory_…` program.
#![allow(unsafe_code)] // An allocator is an unsafe trait.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator; knows how many bytes are in use, as they were asked for.
pub struct Counting;

// SAFETY: all is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The bytes in use.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// What a buffer of a connection is long; the rows speak of what there is besides.
pub const BUFFER: usize = 64;

/// A row makes N things and gives back the bytes that are in use for them.
pub type Row = fn(n: usize) -> usize;

/// Runs the row that the command line names, `memory_PEER ROW N`, and prints the bytes per thing.
/// Without arguments it lists the rows that it has.
///
/// # Panics
///
/// If the command line names no row of these or no number.
pub fn main(rows: &[(&str, Row)]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, n] = &arguments[..] else {
        for (name, _) in rows {
            println!("{name}");
        }
        return;
    };
    let Some((_, row)) = rows.iter().find(|(known, _)| known == name) else {
        panic!("there is no row `{name}`");
    };
    let n = n.parse().expect("N is a number");
    crate::os::raise_descriptor_limit();
    println!("{:.1}", row(n) as f64 / n as f64);
}

/// Clients that say nothing, made beforehand so that they do not count.
pub fn silent_clients(
    at: std::net::SocketAddr,
    n: usize,
) -> impl Iterator<Item = std::net::TcpStream> {
    (0..n).map(move |_| std::net::TcpStream::connect(at).expect("the server listens"))
}
