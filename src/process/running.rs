//! A child from its start until it is reaped, and what becomes of those that nobody waits for.
//!
//! A child is signalled and reaped under one lock: before it is reaped its number cannot be
//! another's, and after that the number is not used. Only this module reaps; std's `Child` is taken
//! apart as soon as it was started.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Wake, Waker};

use super::exit_fd::{ExitFd, heard};
use crate::io::Async;
use crate::reactor::{self, Direction};
use crate::signal::Port;
use crate::sys::child::{self, Exit};
use crate::sys::event_fd::EventFd;
use crate::sys::fork::{self, PerProcess};
use crate::sys::pid_fd::{Child, Pid};
use crate::sys::signal_mask;
use crate::sys::signal_number::SIGKILL;

/// How many children may have been dropped before somebody looks whether they have ended.
const FEWEST_TO_SWEEP: usize = 8;

/// What tells our children from those of others.
static STARTED: PerProcess<Mutex<Started>> = PerProcess::new();

/// The children that were dropped and not reaped yet.
static DROPPED: PerProcess<Mutex<Dropped>> = PerProcess::new();

#[derive(Default)]
struct Started {
    /// Those that were started here and not reaped yet. Counted, because a number can be another
    /// child's before it was taken out.
    children: HashMap<Pid, usize>,
    /// How many are being started: their numbers are not known yet.
    unknown: usize,
}

#[derive(Default)]
struct Dropped {
    children: Vec<(Arc<Running>, Option<Arc<Port>>)>,
    /// How many were left by the last sweep.
    left: usize,
}

/// A child that was started and that only we reap.
#[derive(Debug)]
pub(super) struct Running {
    pid: Pid,
    /// The process whose child it is.
    process: usize,
    /// Whether it leads a process group that shares its fate.
    group: bool,
    watch: Async<ExitFd>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Running,
    Ended(Exit),
    /// Somebody else has reaped it.
    Taken,
}

impl State {
    /// What the child left, or why that is not known; `None` while it runs.
    fn outcome(self) -> Option<io::Result<Exit>> {
        match self {
            State::Running => None,
            State::Ended(exit) => Some(Ok(exit)),
            State::Taken => Some(Err(taken())),
        }
    }
}

impl Running {
    /// Starts a child. `group` says that the command makes it the leader of a group of its own.
    ///
    /// If it cannot be watched, it is killed and reaped before it is an error.
    pub(super) fn start(
        command: &mut process::Command,
        group: bool,
    ) -> io::Result<(Arc<Self>, process::Child)> {
        sweep();
        // Made before the child: without room for a descriptor nothing is started.
        let spare = EventFd::new()?;
        let (pid, child) = spawn(command)?;
        match ExitFd::of_child(pid, spare) {
            Ok(exit_fd) => {
                let (watch, state) = (exit_fd.watch(), Mutex::new(State::Running));
                let process = fork::process_id();
                Ok((Arc::new(Self { pid, process, group, watch, state }), child))
            }
            Err(error) => {
                child::kill_and_reap(pid);
                forget_started(pid);
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// What the child left, if it was reaped.
    pub(super) fn known(&self) -> Option<Exit> {
        match *self.lock() {
            State::Ended(exit) => Some(exit),
            State::Running | State::Taken => None,
        }
    }

    /// Reaps the child if it has ended; `None` while it runs.
    pub(super) fn try_reap(&self) -> Option<io::Result<Exit>> {
        if self.process != fork::process_id() {
            return Some(Err(io::Error::other(
                "the process has forked: this is its parent's child",
            )));
        }
        let mut state = self.lock();
        if let Some(known) = state.outcome() {
            return Some(known);
        }
        match self.reap() {
            Ok(State::Running) => return None,
            Ok(over) => *state = over,
            Err(error) => return Some(Err(error)),
        }
        forget_started(self.pid);
        state.outcome()
    }

    /// Looks first, for `wait4` knows numbers only: by the pidfd, one that is another child's by now
    /// is not mistaken.
    fn reap(&self) -> io::Result<State> {
        match self.watch.get_ref().peek(self.pid)? {
            Child::Running => return Ok(State::Running),
            Child::Unknown => return Ok(State::Taken),
            Child::Exited => {}
        }
        if self.group {
            // Before the number is given free. Those that are left may have gone meanwhile.
            _ = child::kill_group(self.pid, SIGKILL);
        }
        match child::reap(self.pid) {
            Ok(exit) => Ok(exit.map_or(State::Running, State::Ended)),
            Err(error) if child::is_not_ours(&error) => Ok(State::Taken),
            Err(error) => Err(error),
        }
    }

    /// Waits until the child has ended, and reaps it.
    pub(super) async fn exit(&self) -> io::Result<Exit> {
        // Without a wait, and so whether or not anything can be watched.
        if let Some(exit) = self.try_reap() {
            return exit;
        }
        heard(&self.watch, self.watch.read_with(|_| self.reap_or_wait())).await
    }

    fn reap_or_wait(&self) -> io::Result<Exit> {
        self.try_reap().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Sends a signal to the child, or to its group, unless it was reaped.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        if !signal_mask::exists(signal) {
            let text = format!("there is no signal {signal} to be sent");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.process != fork::process_id() {
            return Err(io::Error::other("the process has forked: this is its parent's child"));
        }
        // Nobody reaps it while this is held.
        let state = self.lock();
        let sent = match *state {
            State::Running => self.send(signal),
            State::Ended(_) | State::Taken => Ok(()),
        };
        drop(state);
        // Nobody is there: somebody else has reaped it.
        sent.or_else(|error| if child::is_nobody(&error) { Ok(()) } else { Err(error) })
    }

    fn send(&self, signal: i32) -> io::Result<()> {
        let exit_fd = self.watch.get_ref();
        if self.group && exit_fd.peek(self.pid)? != Child::Unknown {
            let sent = child::kill_group(self.pid, signal);
            if child::is_in_own_group(self.pid) {
                return sent;
            }
            // It has left the group that it led, and others may have stayed: it gets its own.
        }
        if let ExitFd::PidFd(pid_fd) = exit_fd {
            if pid_fd.send_signal(signal)? {
                return Ok(());
            }
        }
        match exit_fd.peek(self.pid)? {
            Child::Unknown => Ok(()),
            Child::Running | Child::Exited => child::kill(self.pid, signal),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps the child in the wake of its end, whoever drives this thread's reactor.
    fn poll_reap(self: &Arc<Self>, waker: &Waker) {
        let mut cx = Context::from_waker(waker);
        // An error says that it cannot be watched here: then a sweep has to do.
        let polled = self.watch.poll_with(Direction::Read, &mut cx, |_| self.reap_or_wait());
        if polled.is_ready() && self.is_over() {
            let mut dropped = dropped();
            let at = dropped.children.iter().position(|(child, _)| Arc::ptr_eq(child, self));
            let over = at.map(|at| dropped.children.swap_remove(at));
            drop(dropped);
            drop(over);
        }
    }

    fn is_over(&self) -> bool {
        !matches!(*self.lock(), State::Running)
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

fn taken() -> io::Error {
    let why = "the child's status is gone: somebody else has waited for it, or SIGCHLD is ignored";
    io::Error::other(why)
}

/// Starts a child that nobody takes for a stranger, from its first moment on. No lock is held
/// meanwhile: it can take long, and others start and reap theirs.
fn spawn(command: &mut process::Command) -> io::Result<(Pid, process::Child)> {
    let starting = Starting::begin();
    let child = command.spawn()?;
    let pid = Pid::new(child.id())?;
    *started().children.entry(pid).or_default() += 1;
    drop(starting);
    Ok((pid, child))
}

/// One that is counted as unknown.
struct Starting;

impl Starting {
    fn begin() -> Self {
        started().unknown += 1;
        Self
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        started().unknown -= 1;
    }
}

fn started() -> MutexGuard<'static, Started> {
    let Ok(started) = STARTED.get_or_make(|| Ok::<_, Infallible>(Mutex::default()));
    started.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget_started(pid: Pid) {
    let mut started = started();
    if let Some(count) = started.children.get_mut(&pid) {
        *count -= 1;
        if *count == 0 {
            started.children.remove(&pid);
        }
    }
}

/// Whether a child was started here and not reaped yet.
pub(super) fn is_started(pid: Pid) -> bool {
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
pub(super) fn reap_stranger(pid: Pid) -> Stranger {
    let started = started();
    if started.children.contains_key(&pid) {
        Stranger::Left
    } else if started.unknown > 0 {
        Stranger::Unclear
    } else if child::reap(pid).is_ok_and(|exit| exit.is_some()) {
        Stranger::Reaped
    } else {
        Stranger::Left
    }
}

fn dropped() -> MutexGuard<'static, Dropped> {
    let Ok(dropped) = DROPPED.get_or_make(|| Ok::<_, Infallible>(Mutex::default()));
    dropped.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes care of a child that nobody may wait for any more.
///
/// Inside of a `block_on` the reactor wakes a reaper when it ends. The list is for those that end
/// when nobody waits for anything: it is looked through now and then.
pub(super) fn adopt(running: &Arc<Running>) {
    if running.try_reap().is_some() {
        return;
    }
    let driven = reactor::is_driven_here();
    let port = if driven { running.watch.get_ref().port_here() } else { Ok(None) };
    dropped().children.push((Arc::clone(running), port.ok().flatten()));
    if driven {
        running.poll_reap(&Waker::from(Arc::new(Reaper(Arc::downgrade(running)))));
    }
}

/// Reaps what was dropped and has ended without being noticed. Each child is looked at about once
/// for each that was dropped.
fn sweep() {
    let mut dropped = dropped();
    if dropped.children.len() < FEWEST_TO_SWEEP.max(2 * dropped.left) {
        return;
    }
    let children = mem::take(&mut dropped.children);
    let (running, over): (Vec<_>, Vec<_>) =
        children.into_iter().partition(|(child, _)| child.try_reap().is_none());
    dropped.left = running.len();
    dropped.children = running;
    // What is over leaves its reactor, after the lock.
    drop(dropped);
    drop(over);
}

/// Reaps a dropped child when its end wakes it.
struct Reaper(Weak<Running>);

impl Wake for Reaper {
    fn wake(self: Arc<Self>) {
        if let Some(running) = self.0.upgrade() {
            running.poll_reap(&Waker::from(self));
        }
    }
}
