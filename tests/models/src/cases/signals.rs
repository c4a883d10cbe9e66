//! Signals: the pipe that the handler writes, its flags, and the hub that reads.

use super::{Case, case, shuttle_only};
use crate::executor::block_on;
use crate::signal::Signals;
use crate::sys::signal_action::deliver;
use std::{kernel, model};

const FIRST: i32 = 10;
const SECOND: i32 = 12;
const THIRD: i32 = 34;

pub(super) fn all() -> Vec<Case> {
    vec![
        case("burst", 3, 4000, burst),
        case("batches", 3, 4000, batches),
        case("two_handlers", 3, 4000, two_handlers),
        shuttle_only("two_who_hear", 4000, two_who_hear),
    ]
}

/// Waits until each of these has come.
async fn hear_all(mut signals: Signals, mut missing: Vec<i32>) {
    while !missing.is_empty() {
        let signal = signals.next().await.unwrap().unwrap().signo();
        missing.retain(|it| *it != signal);
    }
}

/// A handler writes more than the pipe holds.
fn burst() {
    kernel::set_pipe_room(1);
    let signals = Signals::new([FIRST, SECOND, THIRD]).unwrap();
    model::spawn(|| [FIRST, SECOND, THIRD].into_iter().for_each(deliver));
    block_on(hear_all(signals, vec![FIRST, SECOND, THIRD]));
}

/// There is more in the pipe than one read brings.
fn batches() {
    kernel::set_pipe_room(3);
    let signals = Signals::new([FIRST, SECOND, THIRD]).unwrap();
    model::spawn(|| [FIRST, SECOND, THIRD].into_iter().for_each(deliver));
    block_on(hear_all(signals, vec![FIRST, SECOND, THIRD]));
}

/// Two do at once.
fn two_handlers() {
    kernel::set_pipe_room(1);
    let signals = Signals::new([FIRST, SECOND]).unwrap();
    model::spawn(|| deliver(FIRST));
    model::spawn(|| deliver(SECOND));
    block_on(hear_all(signals, vec![FIRST, SECOND]));
}

/// Two threads hear of all, whoever reads.
fn two_who_hear() {
    kernel::set_pipe_room(2);
    let all = [FIRST, SECOND, THIRD];
    let listen = move || {
        let signals = Signals::new(all).unwrap();
        move || block_on(hear_all(signals, all.to_vec()))
    };
    let (here, there) = (listen(), listen());
    model::spawn(there);
    model::spawn(|| [FIRST, SECOND].into_iter().for_each(deliver));
    model::spawn(|| [THIRD, FIRST].into_iter().for_each(deliver));
    here();
}
