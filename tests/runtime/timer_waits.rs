//! What timers make the thread wait for: how often, how long, at what cost, and through which
//! interruptions.
#![allow(unsafe_code, reason = "interval timers, timer slack and handlers are the C library's")]

use crate::kit;
use crate::kit::timers;
use kit::{Case, Trace, case, poll_with};
use selio::time::{interval, sleep};
use selio::{Async, Timer, block_on, spawn, yield_now};
use std::future::pending;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timers::{HOUR, REFUSED_VARIABLE, Random, is_refused, ms, panic_message, poll_next, turn};

pub(crate) fn cases() -> Vec<Case> {
    timers::twice(&usual_cases(), &other_cases())
}

/// Those that run with and without `epoll_pwait2`.
fn usual_cases() -> Vec<(&'static str, fn())> {
    vec![
        ("one_wait_for_each_sleep", one_wait_for_each_sleep),
        ("one_wait_for_each_tick", one_wait_for_each_tick),
        ("no_wait_without_need", no_wait_without_need),
        ("no_blocking_while_there_is_work", no_blocking_while_there_is_work),
        ("a_cancelled_deadline_bounds_no_wait", a_cancelled_deadline_bounds_no_wait),
        ("handlers_shorten_no_sleep", handlers_shorten_no_sleep),
        ("timers_nobody_awaits_are_quiet", timers_nobody_awaits_are_quiet),
        ("cancelled_timers_take_no_memory", cancelled_timers_take_no_memory),
        ("idle_ticks_take_no_memory", idle_ticks_take_no_memory),
        ("deadlines_that_pass_before_the_wait", deadlines_that_pass_before_the_wait),
    ]
}

fn other_cases() -> Vec<Case> {
    vec![
        case("a_refusal_is_remembered", a_refusal_is_remembered),
        case("a_zero_period_blames_the_caller", a_zero_period_blames_the_caller),
        case("a_timer_outside_warns_once", a_timer_outside_warns_once),
        case("a_warning_nobody_can_read", a_warning_nobody_can_read),
        case("_sleeps", part_sleeps),
        case("_ticks", part_ticks),
        case("_ready", part_ready),
        case("_busy", part_busy),
        case("_cancel", part_cancel),
        case("_outside", part_outside),
    ]
}

/// Runs a part under strace and returns what lies between its marks `begin` and `end`.
#[track_caller]
fn traced(part: &str) -> Trace {
    let Some((ended, trace)) = kit::rerun(part).strace() else {
        kit::pass_over("there is no strace");
    };
    ended.assert_success();
    trace.between("begin", "end")
}

/// Makes the reactor, and finds out what the kernel has, before the calls are counted.
async fn begin_trace() {
    sleep(Duration::from_micros(1)).await;
    kit::mark("begin");
}

fn waits(trace: &Trace) -> Vec<&str> {
    [trace.calls("epoll_pwait2"), trace.calls("epoll_wait")].concat()
}

/// Asserts that there are so many waits and no other call, but for the memory's and the clock's.
#[track_caller]
fn assert_only_waits(trace: &Trace, expected: usize) {
    let mut counts = trace.counts();
    for call in ["brk", "mmap", "munmap", "mremap", "madvise", "clock_gettime"] {
        counts.remove(call);
    }
    let wait = if is_refused() { "epoll_wait" } else { "epoll_pwait2" };
    let found = counts.remove(wait).unwrap_or(0);
    assert_eq!(found, expected as u64, "waits in:\n{}", trace.lines.join("\n"));
    assert!(counts.is_empty(), "more than waits: {counts:?}");
}

/// Whether a line's wait returns at once, by its timeout.
fn is_zero_wait(line: &str) -> bool {
    let zero = if is_refused() { ", 0) " } else { "{tv_sec=0, tv_nsec=0}" };
    line.contains(zero)
}

const SLEEPS: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_micros(900),
    Duration::from_micros(1100),
    Duration::from_micros(1999),
    Duration::from_micros(19_980),
    Duration::from_millis(3),
];

fn part_sleeps() {
    block_on(async {
        begin_trace().await;
        for duration in SLEEPS {
            let start = Instant::now();
            sleep(duration).await;
            kit::assert_at_least(start.elapsed(), duration);
        }
        kit::mark("end");
    });
}

// A22, A37
fn one_wait_for_each_sleep() {
    let trace = traced("_sleeps");
    assert_only_waits(&trace, SLEEPS.len());
    assert!(is_zero_wait(waits(&trace)[0]), "a zero sleep blocks");
}

fn part_ticks() {
    block_on(async {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ours = Async::new(ours).unwrap();
        _ = spawn(async move { ours.read(&mut [0]).await });
        _ = spawn(sleep(HOUR));
        let mut ticks = interval(ms(1));
        begin_trace().await;
        for _ in 0..100 {
            ticks.next().await;
        }
        kit::mark("end");
    });
}

// A37
fn one_wait_for_each_tick() {
    assert_only_waits(&traced("_ticks"), 100);
}

fn part_ready() {
    block_on(begin_trace());
    for n in 0..10 {
        assert_eq!(block_on(async { n }), n);
        assert_eq!(block_on(selio::time::timeout(HOUR, async { n })), Ok(n));
    }
    kit::mark("end");
}

// A24
fn no_wait_without_need() {
    assert_only_waits(&traced("_ready"), 0);
}

fn part_busy() {
    block_on(async {
        _ = spawn(sleep(HOUR));
        _ = spawn(pending::<()>());
        begin_trace().await;
        for _ in 0..200 {
            yield_now().await;
        }
        kit::mark("end");
    });
}

// A24
fn no_blocking_while_there_is_work() {
    let trace = traced("_busy");
    let waits = waits(&trace);
    assert!(!waits.is_empty(), "nobody looks at the kernel");
    assert!(waits.iter().all(|line| is_zero_wait(line)), "{waits:?}");
}

fn part_cancel() {
    block_on(async {
        let waker = kit::noop_waker();
        begin_trace().await;
        let mut near = Timer::after(ms(5));
        let mut far = Timer::after(ms(40));
        assert!(poll_with(&mut near, &waker).is_pending());
        assert!(poll_with(&mut far, &waker).is_pending());
        drop(near);
        far.await;
        kit::mark("end");
    });
}

// C07
fn a_cancelled_deadline_bounds_no_wait() {
    assert_only_waits(&traced("_cancel"), 1);
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Interrupts this thread again and again.
fn start_alarms(period: Duration) {
    let handler: extern "C" fn(i32) = count_signal;
    // SAFETY: sigaction is plain integers and an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action lives through the call; the handler only counts, which is safe at any
    // time.
    let returned =
        unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    assert_eq!(returned, 0, "sigaction");
    let micros = libc::suseconds_t::from(i32::try_from(period.as_micros()).unwrap());
    let period = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: period, it_value: period };
    // SAFETY: the value lives through the call, and the old one is not asked for.
    let returned =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(returned, 0, "setitimer");
}

// A21
fn handlers_shorten_no_sleep() {
    start_alarms(ms(5));
    for duration in [ms(200), ms(3), ms(12)] {
        let ((), elapsed) = kit::took(|| block_on(sleep(duration)));
        kit::assert_at_least(elapsed, duration);
    }
    block_on(async {
        let start = Instant::now();
        let mut ticks = Timer::interval_at(start, ms(2));
        for n in 0..20 {
            assert_eq!(ticks.next().await, Some(start + ms(2) * n));
            assert!(start.elapsed() >= ms(2) * n);
        }
        let asked = selio::time::timeout(ms(20), pending::<()>());
        assert!(asked.await.is_err());
    });
    assert!(SIGNALS.load(Ordering::SeqCst) > 0, "nothing was interrupted");
}

// J02, H16, C07
fn timers_nobody_awaits_are_quiet() {
    block_on(async {
        let waker = kit::noop_waker();
        let mut idle = [interval(Duration::from_nanos(1)), interval(ms(1)), Timer::never()];
        for timer in &mut idle {
            assert!(poll_next(timer, &waker).is_pending());
        }
        let mut far = [Timer::after(HOUR), Timer::after(Duration::from_secs(u64::MAX / 4))];
        for timer in &mut far {
            assert!(poll_with(timer, &waker).is_pending());
        }
        for duration in [Duration::ZERO, ms(1), HOUR] {
            let mut forgotten = Timer::after(duration);
            assert!(poll_with(&mut forgotten, &waker).is_pending());
            std::mem::forget(forgotten);
        }
        let start = Instant::now();
        let before = kit::thread_cpu_time();
        sleep(ms(300)).await;
        let used = kit::thread_cpu_time() - before;
        assert!(used < ms(30), "{used:?} of CPU time in {:?}", start.elapsed());
        assert!(poll_next(&mut idle[0], &waker).is_ready(), "the tick has waited");
    });
}

// C07
fn cancelled_timers_take_no_memory() {
    block_on(async {
        let waker = kit::noop_waker();
        let cancel = |n: u64| {
            let mut far = sleep(HOUR + Duration::from_nanos(n));
            assert!(poll_with(&mut far, &waker).is_pending());
        };
        cancel(0);
        turn().await;
        let before = kit::allocated_bytes();
        (0..300_000).for_each(cancel);
        assert!(kit::allocated_bytes() <= before, "cancelled timers stay");
        // The same where each is set anew instead of dropped.
        let mut idle = Timer::after(HOUR);
        for _ in 0..100_000 {
            idle.set_after(HOUR);
            assert!(poll_with(&mut idle, &waker).is_pending());
        }
        assert!(kit::allocated_bytes() <= before, "timers that were set anew stay");
    });
}

// J02: a hundred thousand ticks pass.
fn idle_ticks_take_no_memory() {
    block_on(async {
        let (period, start) = (Duration::from_micros(1), Instant::now());
        let mut idle = Timer::interval_at(start, period);
        let waker = kit::noop_waker();
        assert!(poll_next(&mut idle, &waker).is_pending());
        sleep(ms(1)).await;
        let before = kit::allocated_bytes();
        sleep(ms(100)).await;
        assert!(kit::allocated_bytes() <= before);
        for n in 0..1000 {
            assert_eq!(idle.next().await, Some(start + period * n), "none is lost");
        }
    });
}

// C21
fn deadlines_that_pass_before_the_wait() {
    // SAFETY: the call takes numbers. Without slack a wait of a microsecond takes not fifty.
    let returned = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    assert_eq!(returned, 0, "PR_SET_TIMERSLACK");
    // Whole milliseconds take their time.
    let sleeps = if is_refused() { 300 } else { 30_000 };
    let mut random = Random::new(21);
    block_on(async {
        for _ in 0..sleeps {
            let duration = Duration::from_nanos(random.below(2000));
            let start = Instant::now();
            sleep(duration).await;
            assert!(start.elapsed() >= duration);
        }
    });
}

// A22: neither answer of an old kernel or sandbox is asked for twice.
fn a_refusal_is_remembered() {
    for errno in ["ENOSYS", "EPERM"] {
        let part = kit::rerun("_sleeps").env(REFUSED_VARIABLE, errno);
        let Some((ended, trace)) = part.strace() else {
            kit::pass_over("there is no strace");
        };
        ended.assert_success();
        assert_eq!(trace.count("epoll_pwait2"), 1, "{errno}");
        let sleeps = trace.between("begin", "end");
        assert_eq!(sleeps.count("epoll_wait"), SLEEPS.len(), "{errno}");
    }
}

// C12
fn a_zero_period_blames_the_caller() {
    let places = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&places);
    std::panic::set_hook(Box::new(move |info| {
        let file = info.location().expect("a place").file().to_string();
        noted.lock().unwrap().push(file);
    }));
    let (zero, now) = (Duration::ZERO, Instant::now());
    panic_message(|| Timer::interval(zero));
    panic_message(|| Timer::interval_at(now, zero));
    panic_message(|| interval(zero));
    panic_message(|| Timer::never().set_interval(zero));
    panic_message(|| Timer::never().set_interval_at(now, zero));
    _ = std::panic::take_hook();
    assert_eq!(*places.lock().unwrap(), [file!(); 5]);
}

/// Polls two timers where nothing will wake them, and awaits one where something does.
fn part_outside() {
    let waker = kit::noop_waker();
    block_on(sleep(ms(1)));
    for _ in 0..2 {
        assert!(poll_with(&mut Timer::after(ms(1)), &waker).is_pending());
    }
    block_on(sleep(ms(1)));
}

// C20
fn a_timer_outside_warns_once() {
    let ended = kit::rerun("_outside").run();
    ended.assert_success();
    let warnings = ended.output.matches("no `selio::block_on` running").count();
    let expected = usize::from(cfg!(debug_assertions));
    assert_eq!(warnings, expected, "{}", ended.output);
}

// C20: the warning is no reason to panic.
fn a_warning_nobody_can_read() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { kit::pass_over("there is no /dev/full") };
    kit::dup2(full, 2);
    part_outside();
}
