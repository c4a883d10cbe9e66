//! A child from its start until it is reaped.
//!
//! A child is signalled and reaped under one lock: before it is reaped its number cannot be
//! another's, and after that the number is not used. Only this module reaps; std's `Child` is taken
//! apart as soon as it was started.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::exit_fd::{ExitFd, Spare, heard};
use super::started;
use crate::io::Async;
use crate::reactor::Direction;
use crate::signal::{Port, StandIn};
use crate::sys::child::{self, Exit};
use crate::sys::fork;
use crate::sys::lock::{Guard, Lock};
use crate::sys::pid_fd::{Child, Pid};
use crate::sys::signal_mask;
use crate::sys::signal_number::SIGKILL;

/// A child that was started and that only we reap.
#[derive(Debug)]
pub(super) struct Running {
    pid: Pid,
    /// The process whose child it is.
    process: usize,
    /// Whether it leads a process group that shares its fate.
    group: bool,
    watch: Async<ExitFd>,
    state: Lock<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Running,
    Ended(Exit),
    /// Somebody else has reaped it.
    Taken,
}

impl State {
    /// What an attempt to reap the child says.
    #[inline]
    fn after(reaped: io::Result<Option<Exit>>) -> io::Result<Self> {
        match reaped {
            Ok(exit) => Ok(exit.map_or(State::Running, State::Ended)),
            Err(error) if child::is_not_ours(&error) => Ok(State::Taken),
            Err(error) => Err(error),
        }
    }

    /// What the child left, or why that is not known; `None` while it runs.
    #[inline]
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
    #[inline]
    pub(super) fn start(
        command: &mut process::Command,
        group: bool,
    ) -> io::Result<(Arc<Self>, process::Child)> {
        // Made before the child: without room for a descriptor nothing is started.
        let spare = Spare::keep()?;
        let (pid, child) = started::spawn(command)?;
        match ExitFd::of_child(pid, spare) {
            Ok(exit_fd) => {
                let (watch, state) = (exit_fd.watch(), Lock::new(State::Running));
                let process = fork::process_id();
                Ok((Arc::new(Self { pid, process, group, watch, state }), child))
            }
            Err(error) => {
                child::kill_and_reap(pid);
                started::forget(pid);
                Err(error)
            }
        }
    }

    #[inline]
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// What the child left, if it was reaped.
    #[inline]
    pub(super) fn known(&self) -> Option<Exit> {
        match *self.lock() {
            State::Ended(exit) => Some(exit),
            State::Running | State::Taken => None,
        }
    }

    /// Reaps the child if it has ended; `None` while it runs.
    #[inline]
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
        started::forget(self.pid);
        state.outcome()
    }

    #[inline]
    fn reap(&self) -> io::Result<State> {
        let exit_fd = self.watch.get_ref();
        let at_once = match exit_fd {
            ExitFd::PidFd(pid_fd) if !self.group => {
                StandIn::unless_expected(|| child::reap_by(pid_fd))
            }
            _ => None,
        };
        match at_once {
            Some(reaped) if !reaped.as_ref().is_err_and(child::needs_number) => {
                State::after(reaped)
            }
            _ => self.look_and_reap(exit_fd),
        }
    }

    /// Reaps in two steps: for those who have to be signalled or told before the number is given
    /// free, and where it takes the number, for `wait4` knows no pidfd. By the pidfd one that is
    /// another child's by now is not mistaken.
    #[inline]
    fn look_and_reap(&self, exit_fd: &ExitFd) -> io::Result<State> {
        match exit_fd.peek(self.pid)? {
            Child::Running => return Ok(State::Running),
            Child::Unknown => return Ok(State::Taken),
            Child::Exited => StandIn::tell(self.pid),
        }
        if self.group {
            // Those that are left may have gone meanwhile.
            _ = child::kill_group(self.pid, SIGKILL);
        }
        State::after(child::reap(self.pid))
    }

    /// Waits until the child has ended, and reaps it.
    #[inline]
    pub(super) async fn exit(&self) -> io::Result<Exit> {
        // Without a wait, and so whether or not anything can be watched. With a pidfd the operation
        // needs nothing to begin, and mostly begins with this very look.
        let looks = matches!(self.watch.get_ref(), ExitFd::PidFd(_));
        if !(looks && self.watch.is_worth_reading()) {
            if let Some(exit) = self.try_reap() {
                return exit;
            }
        }
        heard(&self.watch, self.watch.read_with(|_| self.reap_or_wait())).await
    }

    /// Is ready when the child has ended, or cannot be watched here.
    #[inline]
    pub(super) fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<io::Result<Exit>> {
        self.watch.poll_with(Direction::Read, cx, |_| self.reap_or_wait())
    }

    /// Whether it is registered where a `block_on` runs.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_watched()
    }

    /// What is to be held on a thread so that it hears of the exit.
    #[inline]
    pub(super) fn port_here(&self) -> io::Result<Option<Arc<Port>>> {
        self.watch.get_ref().port_here()
    }

    #[inline]
    fn reap_or_wait(&self) -> io::Result<Exit> {
        self.try_reap().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Sends a signal to the child, or to its group, unless it was reaped.
    #[inline]
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

    #[inline]
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

    #[inline]
    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        !matches!(*self.lock(), State::Running)
    }
}

impl AsFd for Running {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

#[inline]
fn taken() -> io::Error {
    let why = "the child's status is gone: somebody else has waited for it, or SIGCHLD is ignored";
    io::Error::other(why)
}
