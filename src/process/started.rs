//! Which children were started here: they are told from strangers for `reap_orphans`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::process;

use crate::reactor::with_former_slack;
use crate::signal::StandIn;
use crate::sys::child;
use crate::sys::fork::PerProcess;
use crate::sys::lock::{Guard, Lock};
use crate::sys::pid_fd::{Child, Pid, peek_exit};

static STARTED: PerProcess<Lock<Started>> = PerProcess::new();

#[derive(Default)]
struct Started {
    /// Those that were not reaped yet. Counted, because a number can be another child's before it
    /// was taken out.
    children: HashMap<Pid, usize>,
    /// How many are being started: their numbers are not known yet.
    unknown: usize,
}

/// Starts a child that nobody takes for a stranger, from its first moment on. No lock is held
/// meanwhile: it can take long, and others start and reap theirs.
#[inline]
pub(super) fn spawn(command: &mut process::Command) -> io::Result<(Pid, process::Child)> {
    let starting = Starting::begin();
    // A child has the slack of the thread that starts it.
    let child = with_former_slack(|| command.spawn())?;
    let pid = Pid::new(child.id())?;
    *started().children.entry(pid).or_default() += 1;
    drop(starting);
    Ok((pid, child))
}

/// One that is counted as unknown.
struct Starting;

impl Starting {
    #[inline]
    fn begin() -> Self {
        started().unknown += 1;
        Self
    }
}

impl Drop for Starting {
    #[inline]
    fn drop(&mut self) {
        started().unknown -= 1;
    }
}

#[inline]
fn started() -> Guard<'static, Started> {
    let Ok(started) = STARTED.get_or_make(|| Ok::<_, Infallible>(Lock::default()));
    started.lock()
}

#[inline]
pub(super) fn forget(pid: Pid) {
    let mut started = started();
    if let Some(count) = started.children.get_mut(&pid) {
        *count -= 1;
        if *count == 0 {
            started.children.remove(&pid);
        }
    }
}

/// Whether a child was started here and not reaped yet.
#[inline]
pub(super) fn contains(pid: Pid) -> bool {
    started().children.contains_key(&pid)
}

/// What became of a child that was not known to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stranger {
    Left,
    /// Other threads are starting children: it may be one of those.
    Unclear,
    Reaped,
}

/// Reaps a child that has ended, if it was not started here. Nobody begins to start one meanwhile.
#[inline]
pub(super) fn reap_stranger(pid: Pid) -> Stranger {
    let started = started();
    if started.children.contains_key(&pid) {
        Stranger::Left
    } else if started.unknown > 0 {
        Stranger::Unclear
    } else if !matches!(peek_exit(pid), Ok(Child::Exited)) {
        Stranger::Left
    } else {
        StandIn::tell(pid);
        let reaped = child::reap(pid).is_ok_and(|exit| exit.is_some());
        if reaped { Stranger::Reaped } else { Stranger::Left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_ours_as_long_as_a_child_that_had_it_is_not_forgotten() {
        let (pid, mut child) = spawn(&mut process::Command::new("true")).unwrap();
        // Another one that has the number, before the first was taken out.
        *started().children.entry(pid).or_default() += 1;
        for _ in 0..2 {
            assert!(contains(pid));
            forget(pid);
        }
        assert!(!contains(pid));
        assert_eq!(started().children.get(&pid), None);
        assert!(child.wait().unwrap().success());
        // Nobody knows it, and that is no error.
        forget(pid);
    }
}
