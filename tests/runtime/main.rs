//! What touches the whole process: counted calls, forks, threads, limits, and the examples.

#[path = "../kit/mod.rs"]
mod kit;

mod connect;
mod copy;
mod echo_calls;
mod eventfds;
mod examples;
mod executor_counts;
mod executor_process;
mod fork;
mod io_calls;
mod io_quiet;
mod port_forward;
mod spin;
mod stdio;
mod tcp_echo;
mod timer_slack;
mod timer_stops;
mod timer_waits;
mod unblock;
mod unix_paths;

#[global_allocator]
static ALLOCATOR: kit::CountingAllocator = kit::CountingAllocator;

fn main() {
    kit::run_files(&[
        ("connect", connect::cases),
        ("copy", copy::cases),
        ("echo_calls", echo_calls::cases),
        ("eventfds", eventfds::cases),
        ("examples", examples::cases),
        ("executor_counts", executor_counts::cases),
        ("executor_process", executor_process::cases),
        ("fork", fork::cases),
        ("io_calls", io_calls::cases),
        ("io_quiet", io_quiet::cases),
        ("port_forward", port_forward::cases),
        ("spin", spin::cases),
        ("stdio", stdio::cases),
        ("tcp_echo", tcp_echo::cases),
        ("timer_slack", timer_slack::cases),
        ("timer_stops", timer_stops::cases),
        ("timer_waits", timer_waits::cases),
        ("unblock", unblock::cases),
        ("unix_paths", unix_paths::cases),
    ]);
}
