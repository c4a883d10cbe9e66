//! Running a model, by loom or by shuttle.

use crate::{atomics, clock, kernel, locals, memory};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static RUNS: AtomicU64 = AtomicU64::new(0);

/// The number of the run that goes on.
pub(crate) fn run() -> u64 {
    RUNS.load(Ordering::Relaxed)
}

/// How many runs there were.
pub fn runs() -> u64 {
    run()
}

/// Whether this mutation of a source is to be there. See `mutations.py`.
pub fn is_mutated(name: &str) -> bool {
    static NAME: OnceLock<String> = OnceLock::new();
    let chosen = || std::env::var("MODELS_MUTATION").unwrap_or_default();
    NAME.get_or_init(chosen) == name
}

/// A thread of a run.
pub(crate) type ThreadKey = (u64, usize);

pub(crate) fn this_thread() -> ThreadKey {
    (run(), backend::thread_number())
}

pub use backend::{JoinHandle, Mutex, MutexGuard, Thread, current, park, yield_now};

/// Starts a thread. Its thread-locals are destroyed when it ends.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    backend::spawn(move || whole(f))
}

/// What a thread does, and then its thread-locals' destructors.
fn whole<T>(f: impl FnOnce() -> T) -> T {
    let output = f();
    locals::destroy();
    output
}

/// How a model is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// With loom: how often a thread may be stopped where it could go on. `None` is no bound.
    pub preemptions: Option<usize>,
    /// With shuttle: how many schedules.
    pub schedules: usize,
}

/// Runs a model with all schedules that the limits allow, and panics at the first that fails. `first`
/// is run before, to use every static once.
pub fn check(limits: Limits, first: fn(), model: fn()) {
    backend::once(move || begin(first));
    backend::check(limits, move || begin(model));
}

fn begin(model: fn()) {
    RUNS.fetch_add(1, Ordering::Relaxed);
    locals::reset();
    atomics::reset();
    clock::reset();
    kernel::reset();
    memory::reset();
    whole(model);
}

#[cfg(feature = "loom")]
pub(crate) mod backend {
    use super::Limits;
    pub use loom::sync::atomic::{
        AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    pub use loom::sync::{Mutex, MutexGuard};
    pub use loom::thread::{JoinHandle, Thread, current, park, spawn, yield_now};
    use std::sync::Mutex as Plain;

    pub(crate) struct Access(loom::cell::UnsafeCell<()>);

    impl Default for Access {
        fn default() -> Self {
            Self(loom::cell::UnsafeCell::new(()))
        }
    }

    impl Access {
        pub(crate) fn note(&self) {
            self.0.with_mut(|_| ());
        }

        pub(crate) fn note_look(&self) {
            self.0.with(|_| ());
        }
    }

    pub(crate) fn thread_number() -> usize {
        static NUMBERS: Plain<(u64, Vec<loom::thread::ThreadId>)> = Plain::new((0, Vec::new()));
        let mut numbers = NUMBERS.lock().unwrap();
        if numbers.0 != super::run() {
            *numbers = (super::run(), Vec::new());
        }
        let id = current().id();
        numbers.1.iter().position(|known| *known == id).unwrap_or_else(|| {
            numbers.1.push(id);
            numbers.1.len() - 1
        })
    }

    pub(crate) fn once(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        // It is looked at before each run.
        builder.max_permutations = Some(2);
        builder.checkpoint_interval = 1;
        builder.check(model);
    }

    pub(crate) fn check(limits: Limits, model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = limits.preemptions;
        builder.max_branches = 10_000;
        builder.check(model);
    }
}

#[cfg(feature = "shuttle")]
pub(crate) mod backend {
    use super::Limits;
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    pub use shuttle::sync::atomic::{
        AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    pub use shuttle::sync::{Mutex, MutexGuard};
    pub use shuttle::thread::{JoinHandle, Thread, current, park, spawn, yield_now};

    /// Fixed, so that each time the same schedules are tried.
    const SEED: u64 = 1;

    /// shuttle's threads are switched at atomics and locks only: nothing to be found out.
    #[derive(Default)]
    pub(crate) struct Access;

    impl Access {
        pub(crate) fn note(&self) {}

        pub(crate) fn note_look(&self) {}
    }

    pub(crate) fn thread_number() -> usize {
        usize::from(current().id())
    }

    pub(crate) fn once(model: impl Fn() + Send + Sync + 'static) {
        let mut config = shuttle::Config::new();
        // That its atomics are sequentially consistent is known.
        config.silence_warnings = true;
        shuttle::Runner::new(RandomScheduler::new(1), config).run(model);
    }

    pub(crate) fn check(limits: Limits, model: impl Fn() + Send + Sync + 'static) {
        let model = std::sync::Arc::new(model);
        let config = || {
            let mut config = shuttle::Config::new();
            config.silence_warnings = true;
            config
        };
        let half = limits.schedules / 2;
        let random = std::sync::Arc::clone(&model);
        shuttle::Runner::new(
            RandomScheduler::new_from_seed(SEED, limits.schedules - half),
            config(),
        )
        .run(move || random());
        shuttle::Runner::new(PctScheduler::new_from_seed(SEED, 3, half), config())
            .run(move || model());
    }
}
