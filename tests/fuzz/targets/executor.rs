//! Programs of `tests/random/executor/mod.rs`.
#![no_main]

#[path = "../../random/bytes.rs"]
mod bytes;
#[path = "../../kit/mod.rs"]
mod kit;
#[path = "../../random/executor/mod.rs"]
mod executor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| executor::run(bytes));
