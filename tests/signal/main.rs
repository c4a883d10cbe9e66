//! Signals as streams, beside everything else a process does with them.

#[path = "../kit/mod.rs"]
mod kit;

mod calls;
mod children;
mod fork;
mod handlers;
mod info;
mod interrupts;
mod limits;
mod shutdown;
mod sigpipe;
mod storm;
mod streams;
mod threads;
mod wakers;

#[global_allocator]
static ALLOCATOR: kit::CountingAllocator = kit::CountingAllocator;

fn main() {
    kit::run_files(&[
        ("calls", calls::cases),
        ("children", children::cases),
        ("fork", fork::cases),
        ("handlers", handlers::cases),
        ("info", info::cases),
        ("interrupts", interrupts::cases),
        ("limits", limits::cases),
        ("shutdown", shutdown::cases),
        ("sigpipe", sigpipe::cases),
        ("storm", storm::cases),
        ("streams", streams::cases),
        ("threads", threads::cases),
        ("wakers", wakers::cases),
    ]);
}
