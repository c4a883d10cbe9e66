//! Waits for several children in one thread, in the order in which they end, and reaps each by the
//! standard library.
//!
//! The selector tells that a child has ended and takes nothing from it: `Child::wait` then returns
//! its status at once. Run it with
//!
//! ```text
//! cargo run --example child_exit
//! ```

use selio::selector::Selector;
use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Longer than any of the children needs.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let start = Instant::now();
    let mut selector = Selector::<Child>::new()?;
    for script in ["sleep 0.6; exit 2", "exit 0", "sleep 0.3; kill -TERM $$"] {
        let child = Command::new("sh").args(["-c", script]).spawn()?;
        println!("{:4} ms  started {}: {script}", start.elapsed().as_millis(), child.id());
        selector.register_process(child.id(), child)?;
    }
    // A child that has ended is in the table until it is unregistered, but does not count any more.
    while !selector.is_empty() {
        let keys = selector.select(Some(PATIENCE))?;
        if keys.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a child does not end"));
        }
        for key in keys {
            let mut child = selector.unregister(key.fd())?;
            let status = child.wait()?;
            println!("{:4} ms  {} ended: {status}", start.elapsed().as_millis(), child.id());
        }
    }
    Ok(())
}
