//! What a selector watches that is no file of the program's: signals and children.

use super::files::assert_interrupted;
use crate::bytes::Bytes;
use crate::kit;
use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// The signals that were sent to this thread and that nobody has taken.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<i32, u64>);

impl Pending {
    /// Two that merge and two that queue.
    pub(super) fn signals() -> [i32; 4] {
        [libc::SIGWINCH, libc::SIGURG, libc::SIGRTMIN() + 3, libc::SIGRTMIN() + 4]
    }

    pub(super) fn any(&self, bytes: &mut Bytes) -> i32 {
        Self::signals()[bytes.below(4)]
    }

    pub(super) fn count(&self, signal: i32) -> u64 {
        self.0.get(&signal).copied().unwrap_or(0)
    }

    /// Sends one to this thread, which blocks it.
    pub(super) fn raise(&mut self, signal: i32) {
        let queues = signal >= libc::SIGRTMIN();
        if self.count(signal) < 8 {
            // SAFETY: the call takes a number.
            assert_eq!(unsafe { libc::raise(signal) }, 0);
            let count = self.0.entry(signal).or_default();
            *count = if queues { *count + 1 } else { 1 };
        }
    }

    pub(super) fn take(&mut self, signal: i32) {
        *self.0.get_mut(&signal).expect("a signal that was sent") -= 1;
    }

    pub(super) fn clear(&mut self, signal: i32) {
        self.0.remove(&signal);
    }
}

/// Which of the signals this thread blocks.
pub(super) fn blocked() -> Vec<i32> {
    // SAFETY: the set is plain integers, for which zero is a value.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: nothing is changed, and the set lives through the call.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set) };
    // SAFETY: the set was filled in and lives through the call.
    let holds = |signal: &i32| unsafe { libc::sigismember(&raw const set, *signal) == 1 };
    Pending::signals().into_iter().filter(holds).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Reaped,
}

/// Children that do nothing, until they are killed.
#[derive(Debug)]
pub(super) struct Children(Vec<(i32, State)>);

impl Children {
    pub(super) fn start(count: usize) -> Self {
        Self((0..count).map(|_| (start_child(), State::Running)).collect())
    }

    /// One that is not reaped.
    pub(super) fn any(&self, bytes: &mut Bytes) -> Option<(usize, u32)> {
        let all = (0..self.0.len()).filter(|&child| self.0[child].1 != State::Reaped);
        let child = bytes.one_of(&all.collect::<Vec<_>>())?;
        Some((child, self.0[child].0 as u32))
    }

    pub(super) fn has_ended(&self, child: usize) -> bool {
        self.0[child].1 != State::Running
    }

    /// Kills one, or reaps one that was killed.
    pub(super) fn change(&mut self, bytes: &mut Bytes) {
        if let Some((child, _)) = self.any(bytes) {
            let (pid, state) = &mut self.0[child];
            *state = match state {
                State::Running => end(*pid),
                _ => reap(*pid),
            };
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (pid, state) in mem::take(&mut self.0) {
            if state == State::Running {
                end(pid);
            }
            if state != State::Reaped {
                reap(pid);
            }
        }
    }
}

/// A child with nothing open, which ends with this process.
fn start_child() -> i32 {
    let pid = fork();
    if pid == 0 {
        // SAFETY: the call takes numbers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // SAFETY: nothing of the parent's is used here, nor closed there.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        loop {
            // SAFETY: the call takes nothing.
            unsafe { libc::pause() };
        }
    }
    pid
}

/// Kills a child and waits until it has ended.
fn end(pid: i32) -> State {
    kit::kill(pid, libc::SIGKILL).unwrap();
    // SAFETY: it is plain integers, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: what is filled in lives through the call.
    while unsafe { libc::waitid(libc::P_PID, pid as u32, &raw mut info, options) } == -1 {
        assert_interrupted();
    }
    State::Ended
}

fn reap(pid: i32) -> State {
    kit::wait_status(pid);
    State::Reaped
}

/// Forks, also where there are other threads: the C library sees to its own locks, and those of
/// this crate are held by nobody.
fn fork() -> i32 {
    // SAFETY: the child does what it is told to, on its one thread, and ends without unwinding.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    pid
}

/// Runs a closure in a child, and waits for it to end well.
pub(super) fn in_child(body: impl FnOnce()) {
    let pid = fork();
    if pid == 0 {
        let code = i32::from(catch_unwind(AssertUnwindSafe(body)).is_err());
        // SAFETY: the call does not return. Nothing of the parent's is to be dropped here.
        unsafe { libc::_exit(code) };
    }
    assert!(kit::wait_status(pid).success(), "the child has failed");
}
