//! The models. Each is a small program that must come to its end in every schedule: a wake that is
//! lost shows as threads that all wait.

mod aborts;
mod alarms;
mod cells;
mod events;
mod locks;
mod signals;
mod sources;
mod wakes;

use crate::executor::block_on;
use crate::reactor;
use crate::signal::Signals;
use std::model::Limits;
use std::task::Waker;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) for_loom: bool,
    pub(crate) limits: Limits,
    pub(crate) run: fn(),
}

impl Case {
    /// Of what is tried, in words.
    pub(crate) fn bound(&self) -> String {
        match self.limits {
            Limits { schedules, .. } if cfg!(feature = "shuttle") => {
                format!("{schedules} schedules, random and by priorities")
            }
            Limits { preemptions: Some(most), .. } => format!("all with up to {most} preemptions"),
            Limits { preemptions: None, .. } => "all schedules".to_owned(),
        }
    }
}

pub(crate) fn all() -> Vec<Case> {
    let all = [
        cells::all(),
        aborts::all(),
        wakes::all(),
        alarms::all(),
        sources::all(),
        signals::all(),
        events::all(),
        locks::all(),
    ];
    let here = |case: &Case| case.for_loom || cfg!(feature = "shuttle");
    all.into_iter().flatten().filter(here).collect()
}

/// Uses each static of the crate once.
pub(crate) fn use_statics() {
    let _signals = Signals::new([1]).unwrap();
    reactor::wake_when_driven(Waker::noop());
    block_on(async {});
}

/// A model: its name, how many preemptions loom allows (zero is no bound), how many schedules shuttle
/// tries.
fn case(name: &'static str, preemptions: usize, schedules: usize, run: fn()) -> Case {
    let preemptions = (preemptions > 0).then_some(preemptions);
    Case { name, for_loom: true, limits: Limits { preemptions, schedules }, run }
}

/// A model that is too large for loom.
fn shuttle_only(name: &'static str, schedules: usize, run: fn()) -> Case {
    Case { for_loom: false, ..case(name, 0, schedules, run) }
}
