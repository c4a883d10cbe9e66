//! The practical limit: what a program can do that is written for one purpose, on epoll alone.

pub mod executor;
pub mod wheel;
