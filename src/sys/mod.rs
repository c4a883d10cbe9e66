//! Every `unsafe` block and every `libc` name of the crate: one kernel object per file, each an owned, safe type.
#![allow(unsafe_code)]
