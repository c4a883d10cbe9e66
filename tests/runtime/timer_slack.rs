//! How late timers may be: the thread's slack while there is a `TimerSlack` and after it, who
//! inherits it, and which timers share a wait.
#![allow(unsafe_code, reason = "the slack of a thread is asked by prctl")]

use crate::kit;
use kit::{Case, case, poll_with};
use selio::process::Command;
use selio::time::{TimerSlack, sleep};
use selio::{Timer, block_on, unblock};
use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("the_thread_has_it_until_it_is_dropped", the_thread_has_it_until_it_is_dropped),
        case("zero_is_the_least_and_none_the_most", zero_is_the_least_and_none_the_most),
        case("the_last_that_lives_counts", the_last_that_lives_counts),
        case("each_thread_has_its_own", each_thread_has_its_own),
        case("a_panic_gives_it_back", a_panic_gives_it_back),
        case("children_begin_with_the_former_one", children_begin_with_the_former_one),
        case("a_child_that_cannot_be_started", a_child_that_cannot_be_started),
        case("threads_of_unblock_begin_with_the_former_one", threads_of_unblock),
        case("where_it_is_refused", where_it_is_refused),
        case("where_only_reading_is_allowed", where_only_reading_is_allowed),
        case("a_lone_timer_costs_no_call", a_lone_timer_costs_no_call),
        case("a_crowd_shares_a_wait", a_crowd_shares_a_wait),
        case("few_share_none", few_share_none),
        case("nor_do_many_that_are_far", nor_do_many_that_are_far),
        case("nor_do_many_in_an_exact_scope", nor_do_many_in_an_exact_scope),
        case("a_long_wait_is_exact_in_two_steps", a_long_wait_is_exact_in_two_steps),
        case("a_scope_that_outlives_thread_locals", a_scope_that_outlives_thread_locals),
        case("_lone", || block_on(part_waits(1, Duration::from_millis(5)))),
        case("_crowd", || block_on(part_waits(8, 4 * STEP))),
        case("_few", || block_on(part_waits(7, STEP))),
        case("_far", || block_on(part_waits(20, Duration::from_millis(5)))),
        case("_exact", || exactly(|| block_on(part_waits(8, STEP)))),
        case("_long", || exactly(|| block_on(part_waits(1, LONG)))),
    ]
}

/// Starts a child and a thread, and makes a scope, when its thread ends.
struct AtTheEnd;

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let ended = block_on(async { Command::new("true").status().await });
        assert!(ended.unwrap().success());
        block_on(unblock(|| ()));
        drop(TimerSlack::exact().unwrap());
    }
}

fn a_scope_that_outlives_thread_locals() {
    thread_local! {
        static FIRST: RefCell<Option<TimerSlack>> = const { RefCell::new(None) };
        static THEN: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    }
    for with_scope in [true, false] {
        let ending = thread::spawn(move || {
            // In this order, so that they end in the other.
            FIRST.with(|_| ());
            THEN.set(Some(AtTheEnd));
            if with_scope {
                FIRST.set(Some(TimerSlack::exact().unwrap()));
            }
        });
        ending.join().unwrap();
    }
}

/// What the kernel says of this thread, in nanoseconds.
fn slack() -> i32 {
    // SAFETY: the call takes no pointer.
    unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }
}

/// A slack that is nobody's default, so that what is given back is what was found.
fn begin() -> i32 {
    let found: libc::c_ulong = 123_456;
    // SAFETY: the call takes a number.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, found) }, 0);
    assert_eq!(slack(), 123_456);
    123_456
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn the_thread_has_it_until_it_is_dropped() {
    let found = begin();
    let exact = TimerSlack::exact().unwrap();
    assert_eq!(slack(), 1);
    block_on(sleep(micros(100)));
    assert_eq!(slack(), 1);
    drop(exact);
    assert_eq!(slack(), found);
    let long = TimerSlack::set(micros(2500)).unwrap();
    assert_eq!(slack(), 2_500_000);
    drop(long);
    assert_eq!(slack(), found);
    block_on(async {
        let _exact = TimerSlack::exact().unwrap();
        sleep(micros(100)).await;
        assert_eq!(slack(), 1);
    });
    assert_eq!(slack(), found);
}

fn zero_is_the_least_and_none_the_most() {
    let found = begin();
    for (asked, expected) in [(0, 1), (1, 1), (2, 2), (2_000_000_000, 2_000_000_000)] {
        let set = TimerSlack::set(Duration::from_nanos(asked)).unwrap();
        assert_eq!(slack(), expected);
        drop(set);
        assert_eq!(slack(), found);
    }
    // More than fits anywhere is no error. Nested, it is what the inner one finds.
    let most = TimerSlack::set(Duration::MAX).unwrap();
    drop(TimerSlack::exact().unwrap());
    drop(most);
    assert_eq!(slack(), found);
}

fn the_last_that_lives_counts() {
    let found = begin();
    let [a, b, c] = [1, 2, 3].map(|n| TimerSlack::set(micros(n)).unwrap());
    assert_eq!(slack(), 3000);
    drop(b);
    assert_eq!(slack(), 3000);
    drop(c);
    assert_eq!(slack(), 1000);
    let d = TimerSlack::set(micros(4)).unwrap();
    assert_eq!(slack(), 4000);
    drop(a);
    assert_eq!(slack(), 4000);
    let e = TimerSlack::set(micros(5)).unwrap();
    drop(d);
    assert_eq!(slack(), 5000);
    drop(e);
    assert_eq!(slack(), found);
    // A second time, from another one.
    let found = slack() + 1;
    // SAFETY: the call takes a number.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 123_457 as libc::c_ulong) };
    drop(TimerSlack::exact().unwrap());
    assert_eq!(slack(), found);
}

fn each_thread_has_its_own() {
    let found = begin();
    let exact = TimerSlack::exact().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(slack(), 1, "a thread inherits that of the moment");
            let long = TimerSlack::set(micros(7)).unwrap();
            assert_eq!(slack(), 7000);
            drop(long);
            assert_eq!(slack(), 1);
        });
    });
    assert_eq!(slack(), 1);
    drop(exact);
    assert_eq!(slack(), found);
}

fn a_panic_gives_it_back() {
    let found = begin();
    let panics = || {
        let _exact = TimerSlack::exact().unwrap();
        block_on(async { panic!("in a scope") });
    };
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(slack(), found);
}

/// What a child that selio starts is told.
fn slack_of_child() -> String {
    let output = block_on(Command::new("cat").arg("/proc/self/timerslack_ns").output()).unwrap();
    if !output.status.success() {
        kit::pass_over("there is no /proc/self/timerslack_ns");
    }
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn children_begin_with_the_former_one() {
    let found = begin();
    assert_eq!(slack_of_child(), found.to_string());
    let exact = TimerSlack::exact().unwrap();
    assert_eq!(slack_of_child(), found.to_string());
    assert_eq!(slack(), 1);
    let long = TimerSlack::set(micros(500)).unwrap();
    assert_eq!(slack_of_child(), found.to_string());
    assert_eq!(slack(), 500_000);
    drop(exact);
    // Where std has to fork as well.
    let mut forked = std::process::Command::new("cat");
    // SAFETY: nothing is done between fork and exec.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut forked, || Ok(())) };
    forked.arg("/proc/self/timerslack_ns");
    let output = block_on(Command::from(forked).output()).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), found.to_string());
    drop(long);
    assert_eq!(slack(), found);
}

fn a_child_that_cannot_be_started() {
    let found = begin();
    let exact = TimerSlack::exact().unwrap();
    assert!(Command::new("/there/is/none").spawn().is_err());
    assert_eq!(slack(), 1);
    drop(exact);
    assert_eq!(slack(), found);
}

fn threads_of_unblock() {
    let found = begin();
    let _exact = TimerSlack::exact().unwrap();
    assert_eq!(block_on(unblock(slack)), found);
    assert_eq!(slack(), 1);
}

fn refuse(operation: i32) {
    let operation = u32::try_from(operation).unwrap();
    kit::refuse_when(libc::SYS_prctl, 0, operation, libc::EPERM);
}

fn where_it_is_refused() {
    let found = begin();
    let before = TimerSlack::exact().unwrap();
    refuse(libc::PR_SET_TIMERSLACK);
    let error = TimerSlack::exact().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    // It cannot be given back, and that is no reason to panic; children still start.
    assert_eq!(slack_of_child(), "1");
    drop(before);
    assert_eq!(slack(), 1);
    assert_ne!(found, 1);
    // The scopes are in order all the same.
    assert!(TimerSlack::set(micros(1)).is_err());
    block_on(sleep(micros(100)));
}

fn where_only_reading_is_allowed() {
    let found = begin();
    refuse(libc::PR_GET_TIMERSLACK);
    let error = TimerSlack::exact().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(slack_of_child(), found.to_string());
}

/// The deadlines of the timers in the parts are so far apart.
const STEP: Duration = micros(40);

const LONG: Duration = Duration::from_millis(60);

fn exactly(body: fn()) {
    let _exact = TimerSlack::exact().unwrap();
    body();
}

/// Waits for so many timers, the first of which is due after `first`.
async fn part_waits(count: u32, first: Duration) {
    sleep(micros(1)).await;
    kit::mark("begin");
    let start = Instant::now();
    let at = |n: u32| Timer::at(start + first + n * STEP);
    let mut timers: Vec<Timer> = (0..count - 1).map(at).collect();
    for timer in &mut timers {
        assert!(poll_with(timer, &kit::noop_waker()).is_pending());
    }
    at(count - 1).await;
    kit::mark("end");
    for timer in &mut timers {
        assert!(poll_with(timer, &kit::noop_waker()).is_ready());
    }
}

/// The timeouts of the waits of a part.
fn timeouts(part: &str) -> Vec<Duration> {
    if kit::timers::is_refused() {
        kit::pass_over("waits are counted in milliseconds without `epoll_pwait2`");
    }
    let Some((ended, trace)) = kit::rerun(part).strace() else {
        kit::pass_over("there is no strace");
    };
    ended.assert_success();
    let trace = trace.between("begin", "end");
    let mut counts = trace.counts();
    counts.retain(|call, _| call != "clock_gettime" && call != "mmap" && call != "brk");
    let waits = trace.calls("epoll_pwait2");
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["epoll_pwait2"], "nothing but waits");
    waits.into_iter().map(timeout).collect()
}

/// The timeout in a line such as `epoll_pwait2(3, [], 256, {tv_sec=0, tv_nsec=4960}, NULL, 0) = 0`.
fn timeout(line: &str) -> Duration {
    let field = |name: &str| {
        let rest = line.split_once(name).expect("a timeout").1;
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap()
    };
    Duration::new(field("tv_sec="), u32::try_from(field("tv_nsec=")).unwrap())
}

// A37
fn a_lone_timer_costs_no_call() {
    let timeouts = timeouts("_lone");
    assert_eq!(timeouts.len(), 1);
    assert!(timeouts[0] <= Duration::from_millis(5));
}

fn a_crowd_shares_a_wait() {
    // All within 500 µs: whenever the wait begins, it ends with the last. Unless the first is due by
    // then, on a slow machine: then there is nothing to wait for.
    let timeouts = timeouts("_crowd");
    assert!(timeouts.len() == 1 || timeouts[0].is_zero(), "{timeouts:?}");
}

fn few_share_none() {
    let timeouts = timeouts("_few");
    assert!(timeouts[0] <= STEP, "the first is waited for");
}

fn nor_do_many_that_are_far() {
    let timeouts = timeouts("_far");
    assert!(timeouts[0] <= Duration::from_millis(5), "the first is waited for");
}

fn nor_do_many_in_an_exact_scope() {
    let timeouts = timeouts("_exact");
    assert!(timeouts[0] <= STEP, "the first is waited for");
}

fn a_long_wait_is_exact_in_two_steps() {
    let timeouts = timeouts("_long");
    assert!(timeouts[0] < LONG - LONG / 150, "{timeouts:?}");
    // One, if the first came back very late.
    assert!(timeouts.len() <= 2, "{timeouts:?}");
}
