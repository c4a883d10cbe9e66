//! Timers.

#[path = "../kit/mod.rs"]
mod kit;

mod limits;
mod model;
mod policies;
mod threads;
mod timers;
mod wakers;

// A22: the same without `epoll_pwait2`, where the timer descriptor takes its place.
#[test]
fn all_again_where_epoll_pwait2_is_refused() {
    kit::timers::all_again_refused();
}
