//! Children that end in every way, and are told from each other.

use crate::kit::timers::Random;
use crate::server::World;
use selio::process::{Child, Command};
use selio::time::sleep;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Starts one child after the other.
pub(crate) async fn run(world: Rc<World>, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        world.begin().await;
        match one(&world, &mut random).await {
            Ok(true) => world.counts.add("ended", 1),
            Ok(false) => world.counts.add("wrong_exits", 1),
            // What could not be started for want of descriptors leaves nothing behind.
            Err(error) if is_shortage(&error) => world.counts.add("refused", 1),
            Err(error) => panic!("a child cannot be had: {error}"),
        }
        world.done();
        // Others shall have something of the processor, too.
        sleep(Duration::from_millis(random.below(20))).await;
    }
}

fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

/// One child from its start to its end: whether that is the one it was to have.
async fn one(world: &World, random: &mut Random) -> io::Result<bool> {
    match random.below(6) {
        0 => ends(world, start(world, "true", &[])?, exit(0)).await,
        1 => {
            let code = random.below(256) as i32;
            let child = start(world, "sh", &["-c", &format!("exit {code}")])?;
            ends(world, child, exit(code)).await
        }
        2 => {
            ends(world, start(world, "sh", &["-c", "kill -TERM $$"])?, ExitStatus::from_raw(15))
                .await
        }
        3 => {
            let child = start(world, "sleep", &["60"])?;
            child.kill()?;
            ends(world, child, ExitStatus::from_raw(9)).await
        }
        4 => {
            let child = start(world, "sleep", &["60"])?;
            sleep(Duration::from_millis(1)).await;
            drop(child);
            Ok(true)
        }
        _ => talks(world, random).await,
    }
}

fn exit(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

fn start(world: &World, program: &str, args: &[&str]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    begin(world, &mut command)
}

async fn ends(world: &World, mut child: Child, how: ExitStatus) -> io::Result<bool> {
    match child.status().await {
        Ok(status) => Ok(status == how),
        Err(error) => {
            // It has begun, and is killed and reaped now.
            world.counts.subtract("started", u64::from(is_shortage(&error)));
            Err(error)
        }
    }
}

fn begin(world: &World, command: &mut Command) -> io::Result<Child> {
    let start = Instant::now();
    let child = command.spawn();
    world.counts.add("starting_us", start.elapsed().as_micros() as u64);
    world.counts.add("started", u64::from(child.is_ok()));
    child
}

/// What goes in comes out.
async fn talks(world: &World, random: &mut Random) -> io::Result<bool> {
    let said: Vec<u8> = (0..random.below(200_000)).map(|at| (at % 251) as u8).collect();
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let child = begin(world, &mut command)?;
    match child.output_with_input(&said).await {
        Ok(output) => Ok(output.status.success() && output.stdout == said),
        Err(error) => {
            world.counts.subtract("started", u64::from(is_shortage(&error)));
            Err(error)
        }
    }
}
