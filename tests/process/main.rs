//! Children: how they are started, awaited, ended, dropped and reaped.

#[path = "../kit/mod.rs"]
mod kit;

mod child;
mod drop;
mod exited;
mod faults;
mod group;
mod hazards;
mod io;
mod many;
mod orphans;
mod reuse;
mod supervisor;
mod threads;

#[global_allocator]
static ALLOCATOR: kit::CountingAllocator = kit::CountingAllocator;

fn main() {
    kit::run_files(&[
        ("child", child::cases),
        ("drop", drop::cases),
        ("exited", exited::cases),
        ("faults", faults::cases),
        ("group", group::cases),
        ("hazards", hazards::cases),
        ("io", io::cases),
        ("many", many::cases),
        ("orphans", orphans::cases),
        ("reuse", reuse::cases),
        ("supervisor", supervisor::cases),
        ("threads", threads::cases),
    ]);
}
