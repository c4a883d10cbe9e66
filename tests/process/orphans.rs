//! A process that inherits the orphans of others, and reaps them: as a subreaper, which needs no
//! privilege. With pidfds, and with SIGCHLD alone.
#![allow(unsafe_code, reason = "becoming a subreaper")]

use crate::kit;
use crate::kit::children;
use children::{Herd, assert_code, millis, sh, soon, start};
use selio::block_on;
use selio::process::{Command, reap_orphans};
use selio::time::{sleep, timeout};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_both_modes(&[
        ("orphans_are_reaped_in_moments", orphans_are_reaped_in_moments),
        ("orphans_that_came_before_are_reaped", orphans_that_came_before_are_reaped),
        ("many_orphans_at_once", many_orphans_at_once),
        ("claimed_children_are_left_alone", claimed_children_are_left_alone),
        ("unclaimed_children_are_reaped", unclaimed_children_are_reaped),
        ("ours_are_never_stolen", ours_are_never_stolen),
        ("ours_are_never_stolen_in_a_storm", ours_are_never_stolen_in_a_storm),
        ("dropped_children_are_reaped_beside", dropped_children_are_reaped_beside),
        ("dropped_it_reaps_no_more", dropped_it_reaps_no_more),
        ("panic_in_a_claim_leaves_no_lock", panic_in_a_claim_leaves_no_lock),
        ("it_is_quiet_when_nothing_ends", it_is_quiet_when_nothing_ends),
    ])
}

/// From now on the orphans among our descendants are ours.
fn become_subreaper() {
    let (on, unused) = (1 as libc::c_ulong, 0 as libc::c_ulong);
    // SAFETY: the call takes numbers.
    let returned = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, on, unused, unused, unused) };
    assert_eq!(returned, 0, "prctl");
}

/// Starts a process that leaves orphans, which end after some milliseconds.
async fn leave_orphans(count: usize, after: f64) {
    let program = format!("for i in $(seq {count}); do sleep {after} & done");
    assert!(sh(&program).status().await.unwrap().success());
}

async fn until_no_child() {
    while !children::children().is_empty() {
        sleep(millis(1)).await;
    }
}

fn orphans_are_reaped_in_moments() {
    become_subreaper();
    soon(async {
        let reaper = selio::spawn(reap_orphans(|_| false));
        for _ in 0..3 {
            let herd = Herd::new();
            let program = "exec 3<&0; for i in 1 2; do cat <&3 & done";
            assert!(herd.sh(program).status().await.unwrap().success());
            sleep(millis(10)).await;
            assert_eq!(children::children().len(), 2);
            herd.end();
            until_no_child().await;
        }
        assert!(!reaper.is_finished());
    });
}

fn orphans_that_came_before_are_reaped() {
    become_subreaper();
    soon(leave_orphans(3, 0.0));
    kit::eventually("they end", || kit::zombies().len() == 3);
    soon(async {
        let _reaper = selio::spawn(reap_orphans(|_| false));
        until_no_child().await;
    });
}

fn many_orphans_at_once() {
    become_subreaper();
    soon(async {
        let _reaper = selio::spawn(reap_orphans(|_| false));
        leave_orphans(100, 0.1).await;
        until_no_child().await;
    });
}

fn claimed_children_are_left_alone() {
    become_subreaper();
    let claimed = Rc::new(RefCell::new(BTreeSet::new()));
    let asked = Rc::new(RefCell::new(BTreeSet::new()));
    let (claims, asks) = (Rc::clone(&claimed), Rc::clone(&asked));
    soon(async {
        let _reaper = selio::spawn(reap_orphans(move |pid| {
            asks.borrow_mut().insert(pid);
            claims.borrow().contains(&pid)
        }));
        let mut theirs = std::process::Command::new("sh").args(["-c", "exit 6"]).spawn().unwrap();
        claimed.borrow_mut().insert(theirs.id());
        let mut ours = start("exit 7");
        leave_orphans(2, 0.0).await;
        while kit::zombies() != [theirs.id() as i32] {
            sleep(millis(1)).await;
            _ = ours.try_status();
        }
        sleep(millis(50)).await;
        assert_eq!(theirs.wait().unwrap().code(), Some(6));
        assert_code(ours.status().await.unwrap(), 7);
        assert!(asked.borrow().contains(&theirs.id()));
        assert!(!asked.borrow().contains(&ours.id()), "nobody is asked about ours");
    });
}

fn unclaimed_children_are_reaped() {
    soon(async {
        let _reaper = selio::spawn(reap_orphans(|_| false));
        let mut theirs = std::process::Command::new("true").spawn().unwrap();
        until_no_child().await;
        assert!(theirs.wait().is_err());
    });
}

fn ours_are_never_stolen() {
    soon(async {
        let _reaper = selio::spawn(reap_orphans(|_| false));
        let mut all: Vec<_> = (0..50).map(|code| start(&format!("exit {code}"))).collect();
        // They end, and are looked at again and again.
        for _ in 0..10 {
            drop(std::process::Command::new("true").spawn().unwrap());
            sleep(millis(5)).await;
        }
        for (code, child) in (0..).zip(&mut all) {
            assert_code(child.status().await.unwrap(), code);
        }
    });
}

fn ours_are_never_stolen_in_a_storm() {
    become_subreaper();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3 {
            let stop = &stop;
            scope.spawn(move || {
                let mut code = thread;
                while !stop.load(Ordering::Relaxed) {
                    code = (code + 7) % 256;
                    let status = soon(sh(&format!("sleep 0 & exit {code}")).status());
                    assert_code(status.expect("nobody has stolen it"), code);
                }
            });
        }
        let start = Instant::now();
        block_on(async {
            let reaper = selio::spawn(reap_orphans(|_| false));
            while start.elapsed() < millis(700) {
                assert!(sh("sleep 0 & exit 0").status().await.unwrap().success());
            }
            assert!(!reaper.is_finished());
            stop.store(true, Ordering::Relaxed);
            timeout(Duration::from_secs(5), until_no_child()).await.unwrap();
        });
    });
}

fn dropped_children_are_reaped_beside() {
    soon(async {
        let _reaper = selio::spawn(reap_orphans(|_| false));
        for _ in 0..30 {
            drop(start("exit 1"));
        }
        until_no_child().await;
    });
}

fn dropped_it_reaps_no_more() {
    become_subreaper();
    soon(async {
        let reaper = selio::spawn(reap_orphans(|_| false));
        sleep(millis(5)).await;
        reaper.abort();
        assert!(reaper.await.is_err());
        leave_orphans(1, 0.0).await;
        while kit::zombies().len() != 1 {
            sleep(millis(1)).await;
        }
        sleep(millis(30)).await;
        assert_eq!(kit::zombies().len(), 1);
        // And another one does.
        let _reaper = selio::spawn(reap_orphans(|_| false));
        until_no_child().await;
    });
    assert!(kit::disposition(libc::SIGCHLD).is_default());
}

fn panic_in_a_claim_leaves_no_lock() {
    soon(async {
        let reaper = selio::spawn(reap_orphans(|_| panic!("expected by the test")));
        let mut theirs = std::process::Command::new("true").spawn().unwrap();
        assert!(reaper.await.unwrap_err().into_panic().is::<&str>());
        assert!(theirs.wait().unwrap().success());
        // A claim may start and await others.
        let _reaper = selio::spawn(reap_orphans(|_| {
            let mut child = Command::new("true").spawn().unwrap();
            block_on(child.status()).unwrap().success()
        }));
        let mut theirs = std::process::Command::new("true").spawn().unwrap();
        assert!(sh("sleep 0.05").status().await.unwrap().success());
        assert!(theirs.wait().unwrap().success(), "it was claimed");
    });
}

fn it_is_quiet_when_nothing_ends() {
    let mut sleeper = Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    block_on(async {
        let _reaper = selio::spawn(reap_orphans(|_| false));
        kit::assert_quiet(|| block_on(timeout(millis(200), sleeper.status())).unwrap_err());
    });
    // Nor when what has ended stays, because it is ours or claimed.
    let mut ended = start("exit 1");
    let mut claimed = std::process::Command::new("true").spawn().unwrap();
    block_on(async {
        let _reaper = selio::spawn(reap_orphans(|_| true));
        sleep(millis(20)).await;
        kit::assert_quiet(|| block_on(sleep(millis(200))));
    });
    assert_code(soon(ended.status()).unwrap(), 1);
    assert!(claimed.wait().unwrap().success());
}
