//! Programs of `tests/random/timers.rs`.
#![no_main]

#[path = "../../random/bytes.rs"]
mod bytes;
#[path = "../../kit/mod.rs"]
mod kit;
#[path = "../../random/timers.rs"]
mod timers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| timers::run(bytes));
