//! Runs commands at once and tells of each, when it ends, how it ended and what it has used.
//!
//! One task per command awaits it; all of them in this thread. Run it with
//!
//! ```text
//! cargo run --release --example child_exit -- 'make -C one' 'make -C two'
//! ```
//!
//! It ends with 0 if all of them did, else with 1. Without arguments it runs three of its own.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use selio::process::{Child, Command};

const OWN: [&str; 3] =
    ["sleep 0.5", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done", "ls / >/dev/null"];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut scripts: Vec<String> = std::env::args().skip(1).collect();
    if scripts.is_empty() {
        scripts = OWN.map(String::from).to_vec();
    }
    selio::block_on(async {
        let mut waiting = Vec::new();
        for script in scripts {
            let child = Command::new("sh").args(["-c", &script]).spawn()?;
            println!("{:>7}  started: {script}", child.id());
            waiting.push(selio::spawn(tell_end(child)));
        }
        let mut all_good = true;
        for end in waiting {
            all_good &= end.await??;
        }
        Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Waits for a child, and returns whether it ended well.
async fn tell_end(mut child: Child) -> std::io::Result<bool> {
    let start = Instant::now();
    let status = child.status().await?;
    let usage = child.usage().expect("it has ended");
    println!(
        "{:>7}  {status} after {:.2?}: user {:.2?}, system {:.2?}, at most {} KiB of memory",
        child.id(),
        start.elapsed(),
        usage.user_time(),
        usage.system_time(),
        usage.max_rss() / 1024,
    );
    Ok(status.success())
}
