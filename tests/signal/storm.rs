//! A storm of signals over a process with four threads, in four layouts of who blocks them, while it
//! starts children in two ways.
#![allow(unsafe_code, reason = "tests need system calls that selio does not offer")]

use crate::kit;
use kit::case;
use selio::process::Command;
use selio::signal::{SIGRTMIN, SIGUSR1, Signals};
use selio::time::timeout;
use selio::{block_on, spawn};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SIGNALS: i32 = 2_000;
const CHILDREN: usize = 250;
const OTHERS: usize = 3;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("nobody_blocks", || storm(false, false)).secs(60),
        case("all_block", || storm(true, true)).secs(60),
        case("only_the_subscriber_blocks", || storm(true, false)).secs(60),
        case("only_the_others_block", || storm(false, true)).secs(60),
    ]
}

fn queued() -> i32 {
    SIGRTMIN() + 3
}

fn block() {
    kit::block_signal(queued());
    kit::block_signal(SIGUSR1);
}

// D01, D10, D19
fn storm(subscriber_blocks: bool, others_block: bool) {
    let own = process::id();
    // Before there are threads: it is to know of nothing but this process's number.
    let (mut go, wait) = UnixStream::pair().unwrap();
    let sender = kit::in_child(|| send(wait, own as i32));
    let others = Others::start(others_block);
    if subscriber_blocks {
        block();
    }
    let masks = kit::thread_masks();
    let spawners_mask = kit::signal_mask();
    let mut signals = Signals::new([queued(), SIGUSR1]).unwrap();
    go.write_all(b"go").unwrap();
    block_on(async {
        let children = spawn(start_children(spawners_mask));
        let mut values = Vec::new();
        let mut kills = 0;
        // The kills are merged, but not lost. Their handler may run last: of several that are due
        // at once in one thread, the kernel lets the one for the greatest number run first.
        while values.len() < SIGNALS as usize || kills == 0 {
            let info = timeout(Duration::from_secs(20), signals.next()).await;
            let info = info.expect("all that was queued comes").unwrap().unwrap();
            assert_eq!((info.pid(), info.uid()), (sender as u32, own_uid()));
            if info.signo() == SIGUSR1 {
                assert_eq!(info.code(), libc::SI_USER);
                kills += 1;
            } else {
                assert_eq!((info.signo(), info.code()), (queued(), libc::SI_QUEUE));
                values.push(info.value());
            }
        }
        // In order where one reader takes them all; a handler in each of several threads has none.
        values.sort_unstable();
        assert!(values.iter().copied().eq(0..SIGNALS), "each came once");
        children.await.unwrap();
    });
    assert_eq!(kit::thread_masks(), masks);
    drop(signals);
    assert_eq!(kit::thread_masks(), masks);
    assert!(kit::wait_status(sender).success());
    others.stop();
    assert_eq!(kit::zombies(), []);
}

fn own_uid() -> u32 {
    // SAFETY: this takes nothing and cannot fail.
    unsafe { libc::getuid() }
}

/// What the sender does, once it is told to.
fn send(mut wait: UnixStream, to: i32) {
    wait.read_exact(&mut [0; 2]).unwrap();
    for value in 0..SIGNALS {
        kit::kill(to, SIGUSR1).unwrap();
        // The kernel queues as many as RLIMIT_SIGPENDING allows.
        while kit::sigqueue(to, queued(), value).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Starts children by selio and by std, each of which looks at its own mask.
async fn start_children(spawners_mask: Vec<i32>) {
    // A thread's mask is inherited, and nothing is added to it.
    let bits: u64 = spawners_mask.iter().map(|signal| 1 << (signal - 1)).sum();
    let expected = format!("^SigBlk:[[:space:]]*{bits:016x}$");
    let args = ["-q", expected.as_str(), "/proc/self/status"];
    let mut ours = Vec::new();
    let mut theirs = BTreeMap::new();
    for _ in 0..CHILDREN {
        ours.push(spawn(Command::new("grep").args(args).status()));
        let child = process::Command::new("grep").args(args).spawn().unwrap();
        theirs.insert(child.id(), child);
        selio::yield_now().await;
    }
    for child in ours {
        let status = timeout(Duration::from_secs(20), child).await.expect("every status arrives");
        assert!(status.unwrap().unwrap().success(), "its mask is that of its parent");
    }
    for (pid, mut child) in theirs {
        selio::process::exited(pid).await.unwrap();
        assert!(child.wait().unwrap().success(), "its mask is that of its parent");
    }
}

/// Three more threads: one in a blocking read, one that computes, one that sleeps.
struct Others {
    threads: Vec<JoinHandle<()>>,
    stop: Vec<mpsc::Sender<()>>,
    stream: UnixStream,
}

impl Others {
    fn start(blocking: bool) -> Self {
        let (ready, all_ready) = mpsc::channel();
        let (stream, mut theirs) = UnixStream::pair().unwrap();
        let mut stop = Vec::new();
        let mut threads = Vec::new();
        let mut start = |work: Box<dyn FnOnce() + Send>| {
            let ready = ready.clone();
            threads.push(thread::spawn(move || {
                if blocking {
                    block();
                }
                ready.send(()).unwrap();
                work();
            }));
        };
        // Restarted, however often it is interrupted.
        start(Box::new(move || theirs.read_exact(&mut [0; 1]).unwrap()));
        let (sender, stopped) = mpsc::channel::<()>();
        stop.push(sender);
        start(Box::new(move || {
            while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
                thread::sleep(Duration::from_micros(100));
            }
        }));
        let (sender, stopped) = mpsc::channel::<()>();
        stop.push(sender);
        start(Box::new(move || _ = stopped.recv()));
        (0..OTHERS).for_each(|_| all_ready.recv().unwrap());
        Self { threads, stop, stream }
    }

    fn stop(mut self) {
        self.stream.write_all(b"x").unwrap();
        drop(self.stop);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
