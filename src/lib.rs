//! An async runtime for Linux that lives in one thread.

#[cfg(not(target_os = "linux"))]
compile_error!("selio is built on epoll and needs Linux (target_os = \"linux\")");

mod sys;
pub mod selector;
