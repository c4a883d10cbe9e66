//! Random programs, each against a model of what is to come of it.
//!
//! A program is a string of bytes, and each file here runs one: the same that the targets in
//! `tests/fuzz` give to a fuzzer. [`programs`] makes some, and says which one failed.

#[path = "../kit/mod.rs"]
mod kit;

mod bytes;
mod executor;
mod programs;
mod selector;
mod timers;

fn main() {
    kit::run_files(&[
        ("executor", || programs::cases(|| programs::run(executor::run, 1500))),
        ("selector", || programs::cases(selectors)),
        ("timers", || programs::cases(|| programs::run(timers::run, 800))),
    ]);
}

fn selectors() {
    // Without them the end of a child is told some time after it.
    kit::children::need_pidfd();
    programs::run(selector::run, 600);
}
