//! The selector, used by itself.

#[path = "../kit/mod.rs"]
mod kit;

mod calls;
mod children;
mod fallback;
mod faults;
mod fork;
mod halves;
mod handles;
mod model;
mod nim_scenarios;
mod numbers;
mod signals;
mod sources;
mod values;
mod waiting;

#[global_allocator]
static ALLOCATOR: kit::CountingAllocator = kit::CountingAllocator;

fn main() {
    kit::run_files(&[
        ("calls", calls::cases),
        ("children", children::cases),
        ("fallback", fallback::cases),
        ("faults", faults::cases),
        ("fork", fork::cases),
        ("halves", halves::cases),
        ("handles", handles::cases),
        ("model", model::cases),
        ("nim_scenarios", nim_scenarios::cases),
        ("numbers", numbers::cases),
        ("signals", signals::cases),
        ("sources", sources::cases),
        ("values", values::cases),
        ("waiting", waiting::cases),
    ]);
}
