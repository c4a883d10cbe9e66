//! Programs of `tests/random/selector/mod.rs`.
#![no_main]

#[path = "../../random/bytes.rs"]
mod bytes;
#[path = "../../kit/mod.rs"]
mod kit;
#[path = "../../random/selector/mod.rs"]
mod selector;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selector::run(bytes));
