//! Children that nobody waits for any more. Every case runs with pidfds, and where a kernel, a
//! sandbox or a lack of descriptors refuses them.

use crate::kit;
use crate::kit::children;
use children::{
    Herd, assert_code, exists, idle_quietly, is_alive, millis, sh, soon, start, start_waiting,
    until_ended, until_gone,
};
use selio::block_on;
use selio::process::{Child, Command};
use selio::time::{sleep, timeout};
use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_all_modes(&[
        ("hundred_that_were_dropped", hundred_that_were_dropped),
        ("dropped_after_its_end", dropped_after_its_end),
        ("dropped_outside_of_the_loop", dropped_outside_of_the_loop),
        ("as_few_as_eight_are_looked_at", as_few_as_eight_are_looked_at),
        ("many_that_run_are_looked_at_seldom", many_that_run_are_looked_at_seldom),
        ("few_are_left_by_many_starts", few_are_left_by_many_starts),
        ("alive_when_the_loop_ends", alive_when_the_loop_ends),
        ("ended_after_the_last_loop", ended_after_the_last_loop),
        ("dropped_in_a_nested_loop", dropped_in_a_nested_loop),
        ("dropped_on_another_thread", dropped_on_another_thread),
        ("dropped_in_the_loop_of_another_thread", dropped_in_the_loop_of_another_thread),
        ("watched_by_a_loop_that_ends", watched_by_a_loop_that_ends),
        ("dropped_where_the_thread_ends", dropped_where_the_thread_ends),
        ("dropped_while_another_thread_waits", dropped_while_another_thread_waits),
        ("kill_while_status_waits", kill_while_status_waits),
        ("kill_only_who_was_asked_for", kill_only_who_was_asked_for),
        ("kill_at_a_panic", kill_at_a_panic),
        ("kill_with_an_aborted_task", kill_with_an_aborted_task),
        ("kill_with_a_task_that_is_left", kill_with_a_task_that_is_left),
        ("kill_when_a_thread_ends", kill_when_a_thread_ends),
        ("forked_child_drops_its_parents", forked_child_drops_its_parents),
        ("forked_child_has_its_own", forked_child_has_its_own),
    ])
}

/// Runs the loop until no child is left, not even a zombie.
#[track_caller]
fn until_none_is_left() {
    soon(async {
        while !children::children().is_empty() {
            sleep(millis(2)).await;
        }
    });
}

/// Waits without a loop until all have ended, and nobody has reaped them.
#[track_caller]
fn until_zombies(count: usize) {
    kit::eventually("all have ended", || kit::zombies().len() == count);
}

fn start_all(herd: &Herd, count: usize) -> Vec<Child> {
    (0..count).map(|_| herd.command().spawn().unwrap()).collect()
}

// E08
fn hundred_that_were_dropped() {
    // What the thread keeps is made before.
    soon(sh("exit 0").status()).unwrap();
    let open = kit::open_fds();
    let herd = Herd::new();
    soon(async {
        let mut all = start_all(&herd, 100);
        // Some were waited for before.
        for child in &mut all[..10] {
            assert!(timeout(millis(1), child.status()).await.is_err());
        }
        drop(all);
        kit::assert_quiet(|| block_on(sleep(millis(100))));
        assert_eq!(children::children().len(), 100);
        herd.end();
        while !children::children().is_empty() {
            sleep(millis(10)).await;
        }
    });
    assert_eq!(kit::threads(), 1);
    children::assert_nothing_left(&open);
    idle_quietly();
}

fn dropped_after_its_end() {
    let child = start("exit 0");
    until_ended(child.id());
    drop(child);
    assert_eq!(children::children(), [], "reaped at once, without a loop");
}

fn dropped_outside_of_the_loop() {
    let herd = Herd::new();
    drop(start_all(&herd, 40));
    herd.end();
    until_zombies(40);
    assert_code(soon(sh("exit 1").status()).unwrap(), 1);
    assert_eq!(children::children(), [], "reaped by the next start");
}

fn as_few_as_eight_are_looked_at() {
    let herd = Herd::new();
    drop(start_all(&herd, 8));
    herd.end();
    until_zombies(8);
    let mut last = start("exit 0");
    until_ended(last.id());
    assert!(last.try_status().unwrap().is_some());
    assert_eq!(children::children(), []);
}

/// Not by each start, but when they have doubled: each is looked at about once for each drop.
fn many_that_run_are_looked_at_seldom() {
    let (herd, others) = (Herd::new(), Herd::new());
    let start = |herd: &Herd, count| (0..count).for_each(|_| drop(start_all(herd, 1)));
    // The ninth start looks at eight, and the seventeenth at sixteen.
    start(&herd, 17);
    start(&others, 10);
    others.end();
    until_zombies(10);
    start(&herd, 5);
    assert_eq!(kit::zombies().len(), 10, "there are not yet twice as many");
    start(&herd, 1);
    assert_eq!(kit::zombies().len(), 0);
    herd.end();
    until_none_is_left();
}

fn few_are_left_by_many_starts() {
    for _ in 0..100 {
        let child = start("exit 0");
        let pid = child.id();
        drop(child);
        until_ended(pid);
        assert!(kit::zombies().len() <= 10, "a handful");
    }
}

fn alive_when_the_loop_ends() {
    let herd = Herd::new();
    block_on(async { drop(start_all(&herd, 4)) });
    block_on(sleep(millis(1)));
    herd.end();
    until_zombies(4);
    until_none_is_left();
}

fn ended_after_the_last_loop() {
    let herd = Herd::new();
    block_on(async { drop(start_all(&herd, 20)) });
    herd.end();
    until_zombies(20);
    let mut last = start("exit 0");
    until_ended(last.id());
    assert!(last.try_status().unwrap().is_some());
    assert_eq!(children::children(), []);
}

fn dropped_in_a_nested_loop() {
    let herd = Herd::new();
    soon(async {
        block_on(async { drop(start_all(&herd, 3)) });
        herd.end();
        until_zombies(3);
        while !children::children().is_empty() {
            sleep(millis(1)).await;
        }
    });
}

fn dropped_on_another_thread() {
    let herd = Herd::new();
    let all = start_all(&herd, 20);
    soon(async { thread::spawn(|| drop(all)).join().unwrap() });
    herd.end();
    until_zombies(20);
    drop(start("exit 0"));
    kit::eventually("only the last one is left", || kit::zombies().len() <= 1);
}

fn dropped_in_the_loop_of_another_thread() {
    let herd = Herd::new();
    let mut all = start_all(&herd, 5);
    // They were watched here first.
    soon(async {
        for child in &mut all {
            assert!(timeout(millis(1), child.status()).await.is_err());
        }
    });
    let there = thread::spawn(|| {
        block_on(async {
            drop(all);
            herd.end();
        });
        until_none_is_left();
    });
    there.join().unwrap();
}

/// Others have begun and ended meanwhile, and then the loop ends that watched them: the next one has
/// to.
fn watched_by_a_loop_that_ends() {
    let herd = Herd::new();
    let (dropped, are_dropped) = mpsc::channel();
    let gate = kit::futures::Gate::new();
    let (pass, all) = (gate.pass(), start_all(&herd, 3));
    let there = thread::spawn(move || {
        block_on(async {
            drop(all);
            dropped.send(()).unwrap();
            pass.await;
        });
    });
    are_dropped.recv().unwrap();
    for _ in 0..2 {
        block_on(sleep(millis(1)));
    }
    gate.open();
    there.join().unwrap();
    herd.end();
    until_zombies(3);
    until_none_is_left();
}

fn dropped_where_the_thread_ends() {
    soon(sh("exit 0").status()).unwrap();
    let open = kit::open_fds();
    let herd = Herd::new();
    let all = start_all(&herd, 10);
    thread::spawn(|| block_on(async { drop(all) })).join().unwrap();
    herd.end();
    until_zombies(10);
    soon(sh("exit 0").status()).unwrap();
    children::assert_nothing_left(&open);
}

fn dropped_while_another_thread_waits() {
    let mut child = start_waiting(4);
    let (pid, stdin) = (child.id(), child.stdin.take());
    let status = child.status();
    let (polled, is_polled) = mpsc::channel();
    let there = thread::spawn(move || {
        soon(async {
            let mut status = Box::pin(status);
            assert!(timeout(millis(1), status.as_mut()).await.is_err());
            polled.send(()).unwrap();
            status.await
        })
    });
    is_polled.recv().unwrap();
    soon(async {
        drop(child);
        sleep(millis(10)).await;
        drop(stdin);
        while exists(pid) {
            sleep(millis(1)).await;
        }
    });
    assert_code(there.join().unwrap().unwrap(), 4);
}

// E09
fn kill_while_status_waits() {
    let mut child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    soon(async {
        let waiting = selio::spawn(child.status());
        sleep(millis(10)).await;
        assert!(!waiting.is_finished());
        drop(child);
        assert_eq!(waiting.await.unwrap().unwrap().signal(), Some(libc::SIGKILL));
    });
}

// E09
fn kill_only_who_was_asked_for() {
    let mut command = Command::new("sleep");
    command.arg("60");
    let spared = command.spawn().unwrap();
    let killed = command.kill_on_drop(true).spawn().unwrap();
    let spared_too = command.kill_on_drop(false).spawn().unwrap();
    let pids = [spared.id(), killed.id(), spared_too.id()];
    soon(async {
        drop((spared, killed, spared_too));
        while exists(pids[1]) {
            sleep(millis(1)).await;
        }
        assert!(is_alive(pids[0]) && is_alive(pids[2]));
        for pid in pids {
            _ = kit::kill(pid as i32, libc::SIGKILL);
        }
    });
    until_none_is_left();
}

fn victim() -> Child {
    Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap()
}

// E09
fn kill_at_a_panic() {
    let child = victim();
    let pid = child.id();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        block_on(async move {
            let _child = child;
            sleep(millis(1)).await;
            panic!("expected by the test");
        })
    }));
    assert!(panicked.is_err());
    until_ended(pid);
    until_none_is_left();
}

// E09
fn kill_with_an_aborted_task() {
    soon(async {
        let (status, child) = (sh("exec sleep 60").kill_on_drop(true).status(), victim());
        let pids = children::children();
        assert_eq!(pids.len(), 2);
        let one = selio::spawn(status);
        let other = selio::spawn(child.output());
        sleep(millis(10)).await;
        one.abort();
        other.abort();
        while pids.iter().any(|&pid| exists(pid)) {
            sleep(millis(1)).await;
        }
    });
}

// E09
fn kill_with_a_task_that_is_left() {
    let child = victim();
    let pid = child.id();
    block_on(async {
        drop(selio::spawn(child.output()));
        sleep(millis(1)).await;
    });
    until_ended(pid);
    until_none_is_left();
}

thread_local! {
    static LAST: RefCell<Option<Child>> = const { RefCell::new(None) };
}

// E09
fn kill_when_a_thread_ends() {
    for with_loop in [false, true] {
        let (send, receive) = mpsc::channel();
        let there = thread::spawn(move || {
            LAST.set(None);
            if with_loop {
                soon(sh("exit 0").status()).unwrap();
            }
            let child = victim();
            send.send(child.id()).unwrap();
            LAST.set(Some(child));
        });
        let pid = receive.recv().unwrap();
        until_ended(pid);
        there.join().unwrap();
    }
    // They were dropped when their threads had no loop any more.
    let herd = Herd::new();
    drop(start_all(&herd, 10));
    herd.end();
    kit::eventually("all have ended", || kit::zombies().len() == children::children().len());
    drop(start("exit 0"));
    assert!(kit::zombies().len() <= 1);
}

fn forked_child_drops_its_parents() {
    let herd = Herd::new();
    let mut command = herd.command();
    let spared = command.spawn().unwrap();
    let killer = command.kill_on_drop(true).spawn().unwrap();
    let group = command.kill_group(true).spawn().unwrap();
    let ended = start("exit 5");
    until_ended(ended.id());
    let mut all = [spared, killer, group, ended];
    block_on(async {
        assert!(timeout(millis(1), all[0].status()).await.is_err());
        // In a list of those that are to be reaped.
        drop(command.kill_on_drop(false).spawn().unwrap());
    });
    let mut all = Some(all);
    let forked = kit::in_child(|| {
        let mut all = all.take().unwrap();
        for child in &mut all {
            child.kill().unwrap_err();
            child.try_status().unwrap_err();
            soon(child.status()).unwrap_err();
        }
        drop(all);
        soon(sh("exit 0").status()).unwrap();
    });
    assert!(kit::wait_status(forked).success());
    let mut all = all.take().unwrap();
    assert!(all[..3].iter().all(|child| is_alive(child.id())), "the fork has killed none");
    herd.end();
    for child in &mut all[..3] {
        assert!(soon(child.status()).unwrap().success());
    }
    assert_code(soon(all[3].status()).unwrap(), 5);
    until_none_is_left();
}

fn forked_child_has_its_own() {
    let mut parents = start_waiting(6);
    let stdin = parents.stdin.take();
    block_on(async { assert!(timeout(millis(1), parents.status()).await.is_err()) });
    let forked = kit::in_child(|| {
        let mut own = start_waiting(7);
        let stdin = own.stdin.take();
        block_on(async {
            let mut status = Box::pin(own.status());
            assert!(timeout(millis(10), status.as_mut()).await.is_err());
            drop(stdin);
            assert_code(timeout(millis(5000), status).await.unwrap().unwrap(), 7);
            // One that is dropped is reaped here.
            let child = start("exit 0");
            let pid = child.id();
            drop(child);
            while exists(pid) {
                sleep(millis(1)).await;
            }
        });
    });
    assert!(kit::wait_status(forked).success());
    drop(stdin);
    assert_code(soon(parents.status()).unwrap(), 6);
    until_gone(parents.id());
}
