//! The protocols by which threads meet, run with all schedules (loom) or many (shuttle).
//!
//! The modules of selio that take part stand under `target/house`, where the script `run` copies
//! them; the rest of the crate is stood in for by what is here: the selector and the objects of
//! `sys`, over the kernel in `std/src/kernel.rs`.
//!
//! usage: models            lists the models
//!        models NAME…      runs these
#![feature(arbitrary_self_types)]
#![allow(dead_code, unused_imports, unused_parens, unused_braces, clippy::all)]

#[macro_use]
extern crate model_std as std;

mod sys;
#[path = "../target/house/panics.rs"]
mod panics;
mod selector;
#[path = "../target/house/reactor/mod.rs"]
mod reactor;
#[path = "../target/house/executor/mod.rs"]
mod executor;
#[path = "../target/house/future.rs"]
mod future;
mod io;
#[path = "../target/house/event.rs"]
mod event;
#[path = "../target/house/signal/mod.rs"]
mod signal;

mod cases;

use std::env;
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    let named: Vec<String> = env::args().skip(1).collect();
    let cases = cases::all();
    if named.is_empty() {
        cases.iter().for_each(|case| println!("{} {}", case.name, case.bound()));
        return ExitCode::SUCCESS;
    }
    for name in named {
        let Some(case) = cases.iter().find(|case| case.name == name) else {
            eprintln!("there is no model named {name}");
            return ExitCode::from(2);
        };
        let (began, before) = (SystemTime::now(), std::model::runs());
        std::model::check(case.limits, cases::use_statics, case.run);
        let seconds = began.elapsed().map_or(0.0, |time| time.as_secs_f64());
        println!("{name} {} {seconds:.1}", std::model::runs() - before);
    }
    ExitCode::SUCCESS
}
