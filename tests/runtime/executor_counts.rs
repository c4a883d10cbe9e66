//! What wakes, yields and waits cost in system calls, and what comes of wakes that hit the worst
//! moment.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, own_waker};
use selio::time::sleep;
use selio::{block_on, spawn, yield_now};
use std::collections::HashMap;
use std::sync::mpsc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        kit::case("wakes_write_at_most_once_a_wait", wakes_write_at_most_once_a_wait),
        kit::case("wakes_at_home_write_nothing", wakes_at_home_write_nothing),
        kit::case("wakes_of_an_outer_call_write_nothing", wakes_of_an_outer_call_write_nothing),
        kit::case("what_is_ready_waits_for_nothing", what_is_ready_waits_for_nothing),
        kit::case("a_wake_before_the_wait_ends_it", a_wake_before_the_wait_ends_it),
        kit::case("a_wake_that_writes_late_is_no_loss", a_wake_that_writes_late_is_no_loss),
        kit::case("a_call_after_another_allocates_nothing", a_call_after_another_allocates_nothing),
        kit::case("what_has_become_large_is_not_kept", what_has_become_large_is_not_kept),
        kit::case("many_that_waited_leave_no_room", many_that_waited_leave_no_room),
        kit::case("each_of_many_tasks_is_one_allocation", each_of_many_tasks_is_one_allocation),
        kit::case("a_wake_after_the_end_is_kept_nowhere", a_wake_after_the_end_is_kept_nowhere),
        kit::case("handles_that_are_gone_leave_nothing", handles_that_are_gone_leave_nothing),
        kit::case("wakes_after_a_timers_write_nothing", wakes_after_a_timers_write_nothing),
        kit::case("_threads_wake", part_threads_wake),
        kit::case("_tasks_wake", part_tasks_wake),
        kit::case("_outer_is_woken", part_outer_is_woken),
        kit::case("_is_woken_after_a_timer", part_is_woken_after_a_timer),
        kit::case("_is_ready", part_is_ready),
        kit::case("_wakes_in_the_gap", part_wakes_in_the_gap),
    ]
}

/// Runs a part under strace and gives what lies between its marks.
fn traced(part: &str, args: &[&str]) -> kit::Trace {
    let Some((ended, trace)) = kit::rerun(part).strace_with(args) else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    whole(&trace).between("begin", "end")
}

/// Makes one line of the two that strace writes when a call of one thread is interrupted by one of
/// another.
fn whole(trace: &kit::Trace) -> kit::Trace {
    let mut lines: Vec<String> = Vec::new();
    let mut unfinished: HashMap<String, usize> = HashMap::new();
    for line in &trace.lines {
        let thread = line.split(' ').next().unwrap_or_default().to_string();
        if let Some(start) = line.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, lines.len());
            lines.push(start.trim_end().to_string());
            continue;
        }
        match (line.split_once(" resumed>"), unfinished.get(&thread)) {
            (Some((_, rest)), Some(&start)) => lines[start].push_str(rest),
            _ => lines.push(line.clone()),
        }
    }
    kit::Trace { lines }
}

/// The writes of eight bytes, as an eventfd takes them.
fn eventfd_writes(trace: &kit::Trace) -> usize {
    let writes = trace.calls("write");
    writes.iter().filter(|line| line.contains("\"\\1\\0\\0\\0\\0\\0\\0\\0\", 8")).count()
}

/// The waits that may block: those with another timeout than zero.
fn waits(trace: &kit::Trace) -> usize {
    let exact = trace.calls("epoll_pwait2").into_iter();
    let rounded = trace.calls("epoll_wait").into_iter();
    exact.filter(|line| !line.contains("{tv_sec=0, tv_nsec=0}")).count()
        + rounded.filter(|line| !line.contains(", 0) ")).count()
}

/// Wakes tasks from two threads, each task once.
fn part_threads_wake() {
    const TASKS: usize = 1_000;
    let gates: Vec<Gate> = (0..TASKS).map(|_| Gate::new()).collect();
    let theirs = gates.clone();
    block_on(async {
        let tasks: Vec<_> = gates.iter().map(|gate| spawn(gate.pass())).collect();
        yield_now().await;
        kit::mark("begin");
        let threads = [0, 1].map(|odd| {
            let gates: Vec<_> = theirs.iter().skip(odd).step_by(2).cloned().collect();
            thread::spawn(move || {
                // At first the loop sleeps; then it is awake, or about to sleep, at one wake or the
                // other.
                futures::a_moment();
                gates.iter().for_each(Gate::open);
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        kit::mark("end");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

// B08
fn wakes_write_at_most_once_a_wait() {
    let trace = traced("_threads_wake", &[]);
    let (writes, waits) = (eventfd_writes(&trace), waits(&trace));
    assert!(writes >= 1, "the threads never met a sleeping loop");
    println!("{writes} writes for {waits} waits");
    assert!(writes <= waits, "{writes} writes for {waits} waits");
}

fn part_tasks_wake() {
    block_on(async {
        let (there, back) = (own_waker().await, Gate::new());
        // Finds out what the kernel has.
        sleep(Duration::from_micros(1)).await;
        kit::mark("begin");
        let task = spawn(async {
            for _ in 0..1_000 {
                yield_now().await;
            }
        });
        let gate = back.clone();
        drop(spawn(async move { gate.open() }));
        back.pass().await;
        (0..10).for_each(|_| there.wake_by_ref());
        task.await.unwrap();
        spawn(async move { there.wake() }).await.unwrap();
        kit::mark("end");
    });
}

// B08
fn wakes_at_home_write_nothing() {
    let trace = traced("_tasks_wake", &[]);
    assert_eq!(trace.count("write"), 0);
    assert_eq!(waits(&trace), 0, "there was always something to do");
    let looks = trace.count("epoll_pwait2") + trace.count("epoll_wait");
    // A thousand polls and some, and a look after each 61 of them.
    assert!((10..=40).contains(&looks), "{looks} looks");
}

fn part_outer_is_woken() {
    block_on(async {
        let gate = Gate::new();
        let task = spawn(gate.pass());
        yield_now().await;
        kit::mark("begin");
        block_on(async {
            gate.open();
            // Another thread finds the outer one awake as well, although its thread sleeps in the
            // inner call.
            let theirs = own_waker().await;
            futures::on_thread(move || theirs.wake());
            yield_now().await;
        });
        task.await.unwrap();
        kit::mark("end");
    });
}

// G15
fn wakes_of_an_outer_call_write_nothing() {
    let trace = traced("_outer_is_woken", &[]);
    assert_eq!(eventfd_writes(&trace), 0);
}

fn part_is_woken_after_a_timer() {
    block_on(async {
        let gate = Gate::new();
        let waiting = spawn(gate.pass());
        sleep(Duration::from_millis(1)).await;
        kit::mark("begin");
        futures::on_thread(move || gate.open());
        kit::mark("end");
        waiting.await.unwrap();
    });
}

// B08: it has slept, but something else has ended that.
fn wakes_after_a_timers_write_nothing() {
    let trace = traced("_is_woken_after_a_timer", &[]);
    assert_eq!(eventfd_writes(&trace), 0, "the loop is up");
}

fn part_is_ready() {
    assert_eq!(block_on(async { 1 }), 1);
    kit::mark("begin");
    assert_eq!(block_on(async { 2 }), 2);
    assert_eq!(block_on(async { spawn(async { 3 }).await.unwrap() }), 3);
    kit::mark("end");
}

// G04
fn what_is_ready_waits_for_nothing() {
    let trace = traced("_is_ready", &[]);
    assert_eq!(trace.lines.len(), 0, "{:#?}", trace.lines);
}

/// A thread wakes a root that is about to wait.
fn part_wakes_in_the_gap() {
    kit::mark("begin");
    for _ in 0..5 {
        let gate = Gate::new();
        let theirs = gate.clone();
        let (send, start) = mpsc::channel::<Waker>();
        let thread = thread::spawn(move || {
            let waker = start.recv().unwrap();
            // The loop is in its long way into the wait now, or in the short one before it.
            thread::sleep(Duration::from_millis(10));
            waker.wake();
            theirs.open();
        });
        block_on(async {
            send.send(own_waker().await).unwrap();
            gate.pass().await;
            sleep(Duration::from_millis(1)).await;
        });
        thread.join().unwrap();
    }
    kit::mark("end");
}

// B03
fn a_wake_before_the_wait_ends_it() {
    let delay = ["-e", "inject=epoll_pwait2,epoll_wait:delay_enter=40000"];
    let trace = traced("_wakes_in_the_gap", &delay);
    assert!(eventfd_writes(&trace) >= 1, "no wake hit the gap");
}

// B02
fn a_wake_that_writes_late_is_no_loss() {
    let delay = ["-e", "inject=write:delay_enter=20000"];
    traced("_wakes_in_the_gap", &delay);
    let delay = ["-e", "inject=epoll_pwait2,epoll_wait,write:delay_exit=20000"];
    traced("_wakes_in_the_gap", &delay);
}

/// What a call of `block_on` allocates that does this, when others have done so before.
fn allocations_of(call: impl Fn()) -> usize {
    (0..3).for_each(|_| call());
    let before = kit::allocations();
    call();
    kit::allocations() - before
}

fn a_call_after_another_allocates_nothing() {
    assert_eq!(allocations_of(|| block_on(async {})), 0);
    assert_eq!(allocations_of(|| block_on(yield_now())), 0, "also if it has waited");
    let spawned = || block_on(async { spawn(async {}).await.unwrap() });
    assert_eq!(allocations_of(spawned), 1, "the task's own");
    // What a waker of an earlier call may still reach serves no other call.
    let kept = block_on(own_waker());
    let before = kit::allocations();
    block_on(yield_now());
    assert!(kit::allocations() > before);
    kept.wake();
    assert_eq!(allocations_of(|| block_on(yield_now())), 0);
}

/// Whoever has had very many tasks once need not keep their room.
fn what_has_become_large_is_not_kept() {
    let many = |tasks: usize| {
        block_on(async {
            let tasks: Vec<_> = (0..tasks).map(|_| spawn(yield_now())).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    };
    (0..3).for_each(|_| many(1));
    let before = kit::allocated_bytes();
    many(100_000);
    let more = kit::allocated_bytes().saturating_sub(before);
    assert!(more < 100_000, "{more} bytes are kept");
}

/// As above, where there were few in the queue at any time.
fn many_that_waited_leave_no_room() {
    const TASKS: usize = 50_000;
    let many = |tasks: usize| {
        block_on(async {
            let mut waiting = Vec::new();
            for _ in 0..tasks {
                let gate = Gate::new();
                waiting.push((spawn(gate.pass()), gate));
                yield_now().await;
            }
            for (task, gate) in waiting {
                gate.open();
                task.await.unwrap();
            }
        });
    };
    (0..3).for_each(|_| many(1));
    let before = kit::allocated_bytes();
    many(TASKS);
    let more = kit::allocated_bytes().saturating_sub(before);
    assert!(more < TASKS, "{more} bytes are kept");
}

fn each_of_many_tasks_is_one_allocation() {
    const TASKS: usize = 10_000;
    let spawned = || {
        block_on(async {
            (0..TASKS).for_each(|_| drop(spawn(async {})));
            yield_now().await;
        });
    };
    let more = allocations_of(spawned) - TASKS;
    // The table grows by a quarter, and the queue doubles.
    assert!(more < 100, "{more} more for {TASKS} tasks");
}

fn a_wake_after_the_end_is_kept_nowhere() {
    let wakers: Vec<_> = (0..100).map(|_| block_on(own_waker())).collect();
    let (bytes, allocations) = (kit::allocated_bytes(), kit::allocations());
    wakers.iter().for_each(Waker::wake_by_ref);
    assert_eq!((kit::allocated_bytes(), kit::allocations()), (bytes, allocations));
}

/// A `block_on` may run for months, and make a handle for each order.
fn handles_that_are_gone_leave_nothing() {
    block_on(async {
        let round = async |rounds: usize| {
            for _ in 0..rounds {
                // Gone before who serves it was polled first, and after it.
                drop(selio::handle());
                let handle = selio::handle();
                yield_now().await;
                drop(handle);
                yield_now().await;
            }
        };
        round(10).await;
        let before = kit::allocated_bytes();
        round(1_000).await;
        let more = kit::allocated_bytes().saturating_sub(before);
        assert!(more < 10_000, "{more} bytes are left of 2,000 handles");
    });
}
