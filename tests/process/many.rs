//! Many children at once, and what they cost: with pidfds, and with SIGCHLD alone.
#![allow(unsafe_code, reason = "memory in small pages")]

use crate::kit;
use crate::kit::children;
use children::{Herd, assert_code, assert_nothing_left, millis, sh, soon, until_ended};
use selio::block_on;
use selio::process::{Child, Command, exited};
use selio::time::{sleep, timeout};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    let cases = children::in_both_modes(&[
        ("two_hundred_end_at_once", two_hundred_end_at_once),
        ("two_hundred_ended_before", two_hundred_ended_before),
        ("two_hundred_on_two_threads", two_hundred_on_two_threads),
        ("thousand_alive_at_once", thousand_alive_at_once),
        ("one_after_the_other_leaves_nothing", one_after_the_other_leaves_nothing),
        ("start_costs_no_copy_of_our_memory", start_costs_no_copy_of_our_memory),
    ]);
    // On a busy machine so many take their time.
    cases.into_iter().map(|case| case.secs(60)).collect()
}

// D07
fn two_hundred_end_at_once() {
    let herd = Herd::new();
    let mut all: Vec<Child> = (0..200).map(|_| herd.command().spawn().unwrap()).collect();
    soon(async {
        let exits: Vec<_> = all.iter().map(|child| selio::spawn(exited(child.id()))).collect();
        let waits: Vec<_> = all.iter_mut().map(|child| selio::spawn(child.status())).collect();
        sleep(millis(10)).await;
        herd.end();
        for wait in waits {
            assert!(wait.await.unwrap().unwrap().success());
        }
        for exit in exits {
            exit.await.unwrap().unwrap();
        }
    });
    assert_eq!(children::children(), []);
}

// D07
fn two_hundred_ended_before() {
    let mut command = Command::new("true");
    let mut all: Vec<Child> = (0..200).map(|_| command.spawn().unwrap()).collect();
    all.iter().for_each(|child| until_ended(child.id()));
    soon(async {
        for child in &mut all {
            exited(child.id()).await.unwrap();
            assert!(child.status().await.unwrap().success());
        }
    });
    assert_eq!(children::children(), []);
}

// D07: whichever thread takes the one signal, the other one's children are heard of.
fn two_hundred_on_two_threads() {
    let herd = Herd::new();
    let start = |herd: &Herd| (0..100).map(|_| herd.command().spawn().unwrap()).collect();
    let both: [Vec<Child>; 2] = [start(&herd), start(&herd)];
    let threads = both.map(|mut all| {
        thread::spawn(move || {
            soon(async {
                let waits: Vec<_> =
                    all.iter_mut().map(|child| selio::spawn(child.status())).collect();
                for wait in waits {
                    assert!(wait.await.unwrap().unwrap().success());
                }
            });
        })
    });
    thread::sleep(millis(30));
    herd.end();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(children::children(), []);
}

fn thousand_alive_at_once() {
    const CHILDREN: usize = 1000;
    if rlimit::increase_nofile_limit(4096).is_ok_and(|limit| limit < 2100) {
        kit::pass_over("there is no room for a thousand descriptors");
    }
    soon(sh("exit 0").status()).unwrap();
    let (open, bytes, cpu) = (kit::open_fds(), kit::allocated_bytes(), kit::cpu_time());
    let (reader, writer) = kit::pipe();
    let mut all = Vec::new();
    for number in 0..CHILDREN {
        let mut command = sh(&format!("read x; exit {}", number % 251));
        all.push(command.stdin(Stdio::from(kit::dup(&reader))).spawn().unwrap());
    }
    let started = kit::cpu_time();
    block_on(async {
        let waits: Vec<_> = all.iter_mut().map(|child| selio::spawn(child.status())).collect();
        sleep(millis(50)).await;
        let each = (kit::allocated_bytes() - bytes) / CHILDREN;
        assert!(each < 4096, "{each} bytes for each child and its task");
        assert_eq!((children::children().len(), kit::threads()), (CHILDREN, 1));
        drop(writer);
        for (number, wait) in (0..).zip(waits) {
            let status = timeout(Duration::from_secs(8), wait).await.unwrap();
            assert_code(status.unwrap().unwrap(), number % 251);
        }
    });
    let (starting, waiting) = (started - cpu, kit::cpu_time() - started);
    assert!(starting + waiting < Duration::from_secs(3), "{starting:?} and {waiting:?}");
    drop((all, reader));
    assert_nothing_left(&open);
    let left = kit::allocated_bytes().saturating_sub(bytes);
    // Lists keep what they have grown to.
    assert!(left < 200 << 10, "{left} bytes are left");
}

fn one_after_the_other_leaves_nothing() {
    let mut command = Command::new("true");
    let mut round = |rounds: usize| {
        for _ in 0..rounds {
            assert!(soon(command.status()).unwrap().success());
            let mut child = command.spawn().unwrap();
            until_ended(child.id());
            assert!(child.try_status().unwrap().is_some());
        }
    };
    round(10);
    let (open, bytes) = (kit::open_fds(), kit::allocated_bytes());
    round(100);
    assert_nothing_left(&open);
    let left = kit::allocated_bytes().saturating_sub(bytes);
    assert!(left < 4096, "{left} bytes are left");
}

/// Memory that is all there, in small pages.
struct Resident {
    start: *mut libc::c_void,
    len: usize,
}

impl Resident {
    fn new(len: usize) -> Self {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // Large pages would make the copy cheap. Where there are none the call fails.
        // SAFETY: the range is the mapping.
        _ = unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
        // SAFETY: the range is the mapping, which nobody else uses.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 1, len) };
        Self { start, len }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping, and nobody uses it any more.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

const GIBIBYTE: usize = 1 << 30;

/// The median of what a start, and the wait for the end, cost this thread. Not of the time they
/// take, which is others' affair, too.
fn median(command: &mut Command) -> Duration {
    let mut costs: Vec<Duration> = (0..21)
        .map(|_| {
            let start = kit::thread_cpu_time();
            assert!(soon(command.status()).unwrap().success());
            kit::thread_cpu_time() - start
        })
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

/// The median costs without much memory, and with it.
fn medians(command: &mut Command) -> (Duration, Duration) {
    let available = std::fs::read_to_string("/proc/meminfo").unwrap();
    let available = available.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let kibibytes: usize = available.trim().trim_end_matches(" kB").parse().unwrap();
    if kibibytes < 3 << 20 {
        kit::pass_over("there is no gibibyte to spare");
    }
    let before = median(command);
    // Once it need not be all of it.
    let much = Resident::new(if children::has_pidfd() { GIBIBYTE } else { GIBIBYTE / 4 });
    let with = median(command);
    drop(much);
    (before.max(median(command)), with)
}

// A fork would take fifty times as long.
fn start_costs_no_copy_of_our_memory() {
    let (without, with) = medians(&mut Command::new("true"));
    assert!(with < 3 * without, "{with:?} instead of {without:?}");
}
