//! An epoll selector.
