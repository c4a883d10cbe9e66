//! What the kernel says about this process: its time, descriptors, threads, children, signals.

use super::must;
use super::watchdog::patience;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// The CPU time of this process so far, user and system, all threads.
pub fn cpu_time() -> Duration {
    usage(libc::RUSAGE_SELF)
}

/// The CPU time of the calling thread so far.
pub fn thread_cpu_time() -> Duration {
    usage(libc::RUSAGE_THREAD)
}

fn usage(who: i32) -> Duration {
    // SAFETY: rusage is plain integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives through the call.
    must("getrusage", unsafe { libc::getrusage(who, &raw mut usage) });
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn time(value: libc::timeval) -> Duration {
    let secs = u64::try_from(value.tv_sec).expect("CPU time is not negative");
    let micros = u64::try_from(value.tv_usec).expect("CPU time is not negative");
    Duration::from_secs(secs) + Duration::from_micros(micros)
}

/// Asserts that next to no CPU time passes: less than 30 ms in each 300 ms.
///
/// It is the whole process's time: use it in cases of their own process.
#[track_caller]
pub fn assert_quiet<T>(body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let before = cpu_time();
    let value = body();
    let used = cpu_time() - before;
    let elapsed = start.elapsed();
    let allowed = Duration::from_millis(30).max(elapsed / 10);
    assert!(used < allowed, "not quiet: {used:?} of CPU time in {elapsed:?}");
    value
}

/// The value and the time it took.
pub fn took<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = body();
    (value, start.elapsed())
}

/// Asserts time from below. Above there is only a bound that no loaded machine reaches, for what
/// should have ended a thousand times sooner.
#[track_caller]
pub fn assert_at_least(elapsed: Duration, low: Duration) {
    assert!(elapsed >= low, "too early: {elapsed:?} instead of {low:?}");
    let high = low + Duration::from_secs(5);
    assert!(elapsed < high, "far too late: {elapsed:?} instead of {low:?}");
}

/// Asserts that something comes true, asking every millisecond for five seconds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let (start, limit) = (Instant::now(), patience(5));
    while !holds() {
        assert!(start.elapsed() < limit, "not in {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The open descriptors of this process and what they are, by number.
pub fn open_fds() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let numbers: Vec<i32> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    // The directory's own descriptor is closed by now, and its link gone.
    let mut fds: Vec<_> = numbers
        .into_iter()
        .filter_map(|number| {
            let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect();
    fds.sort();
    fds
}

/// What the kernel knows about an open descriptor: `tfd:` lines, `clockid:`, `eventfd-count:`, …
pub fn fdinfo(fd: i32) -> String {
    fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("the descriptor is open")
}

/// The number of threads of this process. One that has been joined is listed for a moment more: ask
/// [`eventually`].
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// The children of this process that have ended and are not reaped.
pub fn zombies() -> Vec<i32> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the two looks.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in brackets may hold anything; the state and the parent follow it.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after_name.split_whitespace();
        if fields.next() == Some("Z") && fields.next() == Some(own.as_str()) {
            found.push(pid);
        }
    }
    found
}

/// The signals the calling thread blocks.
pub fn signal_mask() -> Vec<i32> {
    sets_in("/proc/thread-self/status").blocked
}

/// The signals each thread of this process blocks, by thread id.
///
/// The C library lets a thread be born with everything blocked: wait until it runs.
pub fn thread_masks() -> BTreeMap<i32, Vec<i32>> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    ids.map(|id: i32| (id, sets_in(&format!("/proc/self/task/{id}/status")).blocked)).collect()
}

/// What a process does with signals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalSets {
    pub blocked: Vec<i32>,
    pub ignored: Vec<i32>,
    pub caught: Vec<i32>,
}

/// The signal sets of a process (of its main thread), a child for example.
pub fn signal_sets(pid: i32) -> SignalSets {
    sets_in(&format!("/proc/{pid}/status"))
}

#[track_caller]
fn sets_in(path: &str) -> SignalSets {
    let status = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let set = |field: &str| {
        let bits = status.lines().find_map(|line| line.strip_prefix(field));
        let bits = u64::from_str_radix(bits.expect("a set in the status").trim(), 16).unwrap();
        (1..=64).filter(|signo| bits >> (signo - 1) & 1 == 1).collect()
    };
    SignalSets { blocked: set("SigBlk:"), ignored: set("SigIgn:"), caught: set("SigCgt:") }
}

/// What `sigaction` says about a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    pub handler: usize,
    pub flags: i32,
    pub mask: Vec<i32>,
}

impl Disposition {
    pub fn is_default(&self) -> bool {
        self.handler == libc::SIG_DFL
    }

    pub fn is_ignored(&self) -> bool {
        self.handler == libc::SIG_IGN
    }
}

/// The disposition of a signal.
#[track_caller]
pub fn disposition(signo: i32) -> Disposition {
    // SAFETY: sigaction is plain integers and an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is installed; `action` lives through the call.
    let returned = unsafe { libc::sigaction(signo, std::ptr::null(), &raw mut action) };
    must("sigaction", returned);
    // SAFETY: the set was filled in by the call; it lives through this one.
    let holds = |signo: &i32| unsafe { libc::sigismember(&raw const action.sa_mask, *signo) == 1 };
    Disposition {
        handler: action.sa_sigaction,
        flags: action.sa_flags,
        mask: (1..=64).filter(holds).collect(),
    }
}
