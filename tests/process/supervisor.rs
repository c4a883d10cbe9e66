//! The example `supervisor`, as a program: what it starts, forwards, restarts, keeps and ends.

use crate::kit;
use kit::case;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        case("what_is_printed_is_forwarded_with_a_name", forwards),
        case("a_line_may_be_long_and_binary", long_lines),
        case("what_ends_is_started_again_after_growing_pauses", restarts),
        case("a_hangup_changes_what_has_changed", hangup),
        case("a_list_that_is_wrong_changes_nothing", wrong_list),
        case("a_wrong_list_at_the_start_is_an_error", wrong_at_the_start),
        case("all_are_ended_with_grace_and_none_is_left", ends_all),
        case("it_sleeps_while_nothing_happens", idle),
        case("a_storm_of_kills_leaves_none_dead", storm).secs(200),
        case("as_process_1_it_reaps_orphans", process_1),
    ]
}

/// A running supervisor, its list, and what it has said so far.
struct Supervisor {
    child: Child,
    list: PathBuf,
    _place: kit::Directory,
    told: [Arc<Mutex<Vec<u8>>>; 2],
    readers: Vec<JoinHandle<()>>,
}

/// Reads to the end, for who looks meanwhile.
fn collect(mut from: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&told);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = from.read(&mut buffer) {
            theirs.lock().unwrap().extend_from_slice(&buffer[..got]);
        }
    });
    (told, reader)
}

impl Supervisor {
    fn start(list: &str) -> Self {
        Self::start_as(Command::new(kit::example("supervisor")), list)
    }

    fn start_as(mut command: Command, text: &str) -> Self {
        let place = kit::Directory::new();
        let list = place.join("list");
        fs::write(&list, text).unwrap();
        // One second of grace.
        command.arg(&list).arg("1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, out_reader) = collect(child.stdout.take().unwrap());
        let (err, err_reader) = collect(child.stderr.take().unwrap());
        Self { child, list, _place: place, told: [out, err], readers: vec![out_reader, err_reader] }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn out(&self) -> Vec<u8> {
        self.told[0].lock().unwrap().clone()
    }

    fn err(&self) -> String {
        String::from_utf8(self.told[1].lock().unwrap().clone()).unwrap()
    }

    /// The processes that were started for a name, in their order.
    fn started(&self, name: &str) -> Vec<i32> {
        let prefix = format!("supervisor: {name}: process ");
        let err = self.err();
        err.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect()
    }

    #[track_caller]
    fn wait_for_start(&self, name: &str) -> i32 {
        kit::eventually(name, || !self.started(name).is_empty());
        self.started(name)[0]
    }

    #[track_caller]
    fn wait_to_hear(&self, what: &str) {
        kit::eventually(what, || {
            let (out, err) = (self.out(), self.err());
            String::from_utf8_lossy(&out).contains(what) || err.contains(what)
        });
    }

    fn change_list(&self, text: &str) {
        fs::write(&self.list, text).unwrap();
        kit::kill(self.pid(), libc::SIGHUP).unwrap();
    }

    /// Waits until it has ended and everything it said was heard.
    fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        status
    }

    #[track_caller]
    fn end(&mut self) {
        kit::kill(self.pid(), libc::SIGTERM).unwrap();
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.err());
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // In good order, so that what it runs ends as well; a hang is the watchdog's affair.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            _ = kit::kill(self.pid(), libc::SIGTERM);
            _ = self.child.wait();
        }
    }
}

/// A field of /proc/PID/stat from the third on, if there is such a process.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(field - 3).map(String::from)
}

fn is_alive(pid: i32) -> bool {
    stat(pid, 3).is_some_and(|state| state != "Z")
}

fn children(pid: i32) -> BTreeSet<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn zombies(pid: i32) -> BTreeSet<i32> {
    let is_zombie = |pid: &i32| stat(*pid, 3).as_deref() == Some("Z");
    children(pid).into_iter().filter(is_zombie).collect()
}

/// How often it was woken.
fn switches(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn forwards() {
    let mut supervisor = Supervisor::start(
        "# a comment\n\none: echo out; echo err >&2; exec sleep 30\n two :printf last; echo said >&2; exec sleep 30\n",
    );
    supervisor.wait_to_hear("one | out\n");
    supervisor.wait_to_hear("one | err\n");
    supervisor.wait_to_hear("two | said\n");
    supervisor.end();
    let out = String::from_utf8(supervisor.out()).unwrap();
    let lines: BTreeSet<_> = out.lines().collect();
    assert_eq!(lines, BTreeSet::from(["one | out", "two | last"]), "the last line without its end");
    assert!(supervisor.err().lines().any(|line| line == "one | err"));
}

fn long_lines() {
    let mut supervisor = Supervisor::start(
        "long: head -c 200000 /dev/zero | tr '\\0' x; printf '\\n\\377\\376\\n'; exec sleep 30\n",
    );
    kit::eventually("all of it", || supervisor.out().ends_with(b"\xff\xfe\n"));
    supervisor.end();
    let out = supervisor.out();
    let lines: Vec<_> = out.split_inclusive(|&byte| byte == b'\n').collect();
    let prefix = b"long | ";
    assert!(lines.iter().all(|line| line.starts_with(prefix)));
    assert!(lines.iter().all(|line| line.len() <= prefix.len() + 64 * 1024 + 1));
    let x = out.iter().filter(|&&byte| byte == b'x').count();
    assert_eq!(x, 200_000);
}

fn restarts() {
    let mut supervisor = Supervisor::start("flaky: date +%s%N; exit 3\n");
    kit::eventually("five runs", || supervisor.started("flaky").len() >= 5);
    supervisor.wait_to_hear("supervisor: flaky: exit status: 3\n");
    supervisor.end();
    let out = String::from_utf8(supervisor.out()).unwrap();
    let times = out.lines().map(|line| line.strip_prefix("flaky | ").unwrap().parse::<u64>());
    let times: Vec<u64> = times.map(Result::unwrap).collect();
    let pauses: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    let least = [100, 200, 400, 800];
    assert!(pauses.iter().zip(least).all(|(pause, least)| *pause >= least), "{pauses:?}");
}

fn hangup() {
    let mut supervisor =
        Supervisor::start("kept: exec sleep 30\nchanged: exec sleep 30\nlost: exec sleep 30\n");
    let [kept, changed, lost] =
        ["kept", "changed", "lost"].map(|name| supervisor.wait_for_start(name));
    supervisor.change_list("kept: exec sleep 30\nchanged: exec sleep 31\nnew: exec sleep 30\n");
    let new = supervisor.wait_for_start("new");
    kit::eventually("the changed one runs again", || supervisor.started("changed").len() == 2);
    kit::eventually("what is not in the list is gone", || !is_alive(lost) && !is_alive(changed));
    assert!(is_alive(kept) && is_alive(new));
    let counts = ["kept", "new", "lost"].map(|name| supervisor.started(name).len());
    assert_eq!(counts, [1, 1, 1]);
    supervisor.end();
    assert!(!is_alive(kept) && !is_alive(new));
}

fn wrong_list() {
    let mut supervisor = Supervisor::start("one: exec sleep 30\n");
    let one = supervisor.wait_for_start("one");
    for (wrong, line) in [("one: exec sleep 30\nnonsense\n", 2), ("a: true\na: true\n", 2)] {
        supervisor.change_list(wrong);
        let complaint = format!(
            "supervisor: everything stays as it is: {}, line {line}: ",
            supervisor.list.display()
        );
        supervisor.wait_to_hear(&complaint);
        supervisor.told[1].lock().unwrap().clear();
    }
    fs::remove_file(&supervisor.list).unwrap();
    kit::kill(supervisor.pid(), libc::SIGHUP).unwrap();
    supervisor.wait_to_hear("supervisor: everything stays as it is: ");
    assert!(is_alive(one));
    assert_eq!(children(supervisor.pid()), BTreeSet::from([one]));
    supervisor.end();
}

fn wrong_at_the_start() {
    for wrong in ["two words: true\n", "name:\n", ": true\n", "name\n"] {
        let mut supervisor = Supervisor::start(&format!("good: exec sleep 30\n{wrong}"));
        assert_eq!(supervisor.wait().code(), Some(1));
        assert!(supervisor.err().contains("line 2: "), "{}", supervisor.err());
        assert!(supervisor.started("good").is_empty());
    }
}

fn ends_all() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut supervisor = Supervisor::start(
            "good: trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done\n\
             stubborn: trap '' TERM; echo ready; while :; do sleep 0.1; done\n\
             family: sleep 30 & echo ready; exec sleep 30\n",
        );
        for name in ["good", "stubborn", "family"] {
            supervisor.wait_to_hear(&format!("{name} | ready\n"));
        }
        let leaders = children(supervisor.pid());
        assert_eq!(leaders.len(), 3);
        let members: Vec<i32> = leaders.iter().flat_map(|&leader| children(leader)).collect();
        assert!(!members.is_empty());
        let start = Instant::now();
        kit::kill(supervisor.pid(), signal).unwrap();
        assert!(supervisor.wait().success(), "{}", supervisor.err());
        assert!(start.elapsed() >= Duration::from_secs(1), "the stubborn one has its grace");
        supervisor.wait_to_hear("good | bye\n");
        assert!(!leaders.iter().chain(&members).any(|&pid| is_alive(pid)));
    }
}

fn idle() {
    let mut supervisor = Supervisor::start(
        "one: exec sleep 30\ntwo: echo ready; exec sleep 30\nquiet: exec sleep 30 >&- 2>&-\n",
    );
    supervisor.wait_to_hear("two | ready\n");
    supervisor.wait_for_start("quiet");
    let pid = supervisor.pid();
    kit::eventually("the closed streams were noticed", || {
        let before = switches(pid);
        sleep(Duration::from_millis(200));
        switches(pid) == before
    });
    let before = switches(pid);
    sleep(Duration::from_millis(1_000));
    assert_eq!(switches(pid), before, "it was woken while nothing happened");
    assert_eq!(children(pid).len(), 3);
    assert_eq!(fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(), 1);
    supervisor.end();
}

/// For how long: three seconds, or as many as this variable says.
fn storm() {
    let secs = std::env::var("SELIO_STORM_SECS").map_or(3, |secs| secs.parse().unwrap());
    let names: Vec<String> = (0..6).map(|number| format!("service{number}")).collect();
    let list: String = names.iter().map(|name| format!("{name}: exec sleep 1000\n")).collect();
    let mut supervisor = Supervisor::start(&list);
    let pid = supervisor.pid();
    let (start, mut random, mut kills) = (Instant::now(), 88_172_645_463_325_252_u64, 0);
    while start.elapsed() < Duration::from_secs(secs) {
        // xorshift: any sequence will do.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let victims = children(pid);
        let victim = victims.iter().nth(random as usize % victims.len().max(1));
        let signal = if random & 0x100 == 0 { libc::SIGKILL } else { libc::SIGTERM };
        kills += u32::from(victim.is_some_and(|&victim| kit::kill(victim, signal).is_ok()));
        let dead = zombies(pid);
        sleep(Duration::from_millis(1 + random % 40));
        let still_dead: Vec<_> = zombies(pid).intersection(&dead).copied().collect();
        let lasts = || still_dead.iter().all(|&dead| zombies(pid).contains(&dead));
        if !still_dead.is_empty() {
            kit::eventually("the dead are reaped", || !lasts());
        }
    }
    assert!(kills > 0);
    // The longest pause is ten seconds.
    let start = Instant::now();
    let last = |name: &String| supervisor.started(name).last().copied();
    let runs = |name| last(name).is_some_and(|last| children(pid).contains(&last));
    while !names.iter().all(runs) || !zombies(pid).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", supervisor.err());
        sleep(Duration::from_millis(10));
    }
    let running = children(pid);
    let started: usize = names.iter().map(|name| supervisor.started(name).len()).sum();
    println!("{kills} kills in {secs} s, {started} starts");
    supervisor.end();
    assert!(!running.into_iter().any(is_alive));
}

fn process_1() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc"]);
    let works = unshare.arg("true").stderr(Stdio::null()).status().is_ok_and(|it| it.success());
    if !works {
        kit::pass_over("a new pid namespace takes root and unshare(1)");
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc"]).arg(kit::example("supervisor"));
    // A session of its own leaves the group, and its parent leaves it.
    let list = "leaves: setsid sh -c 'sleep 2 & sleep 2 & exit'; echo left; exec sleep 30\n";
    let mut supervisor = Supervisor::start_as(unshare, list);
    kit::eventually("it has begun", || children(supervisor.pid()).len() == 1);
    let first = *children(supervisor.pid()).first().unwrap();
    kit::eventually("orphans are given to process 1", || children(first).len() == 3);
    kit::eventually("they are reaped", || children(first).len() == 1 && zombies(first).is_empty());
    supervisor.wait_to_hear("leaves | left\n");
    assert!(supervisor.err().contains("supervisor: leaves: process "));
    kit::kill(first, libc::SIGTERM).unwrap();
    assert!(supervisor.wait().success());
}
