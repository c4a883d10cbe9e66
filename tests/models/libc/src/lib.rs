//! What the modelled sources take for libc: the real one, but for the calls that reach the kernel.

pub use model_std::kernel::calls::{eventfd, pipe2, read, write};
pub use real::*;
