//! The timer slack of the thread, for a while.

use std::io;
use std::time::Duration;

use crate::reactor::SlackScope;

/// Sets the timer slack of the current thread, until it is dropped: how late the kernel may wake the
/// thread so that it wakes for several things at once (`PR_SET_TIMERSLACK` in `prctl(2)`).
///
/// It counts for the whole thread: for all of its timers, whichever task they are of, and for every
/// other wait of the thread, `std::thread::sleep` among them. Within it, timers that are many are
/// gathered within the slack instead of within 500 µs, as the page of [`time`](crate::time) tells.
/// In an [exact](Self::exact) one a sleep of a millisecond is some 35 µs late, most of which is what it
/// takes to wake a thread, where it is some 75 µs late without, and each deadline has a wait of its
/// own.
///
/// If there are several on a thread, the one that was made last counts, in whichever order they are
/// dropped; when the last is dropped, the thread has what it had before the first. A slack that the
/// program sets by `prctl(2)` meanwhile is lost then.
///
/// Children of a [`Command`](crate::process::Command), and the threads of
/// [`unblock`](crate::unblock()), begin with the slack that the thread had before. Threads and
/// processes that are started in any other way, by `std::thread::spawn`, by
/// `std::process::Command`, by `fork(2)`, inherit the slack of the moment, and keep it.
///
/// A thread with a real-time scheduling policy has no slack; there it changes only how timers are
/// gathered.
///
/// # Examples
///
/// ```
/// use selio::time::{TimerSlack, interval};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let exact = TimerSlack::exact()?;
/// selio::block_on(async {
///     let mut ticks = interval(Duration::from_micros(500));
///     for _ in 0..10 {
///         ticks.next().await;
///     }
/// });
/// drop(exact); // From here on the kernel may be late again.
/// # Ok(())
/// # }
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// let exact = selio::time::TimerSlack::exact().unwrap();
/// std::thread::spawn(move || drop(exact));
/// ```
#[derive(Debug)]
#[must_use = "the slack is set back as soon as this is dropped"]
pub struct TimerSlack {
    _scope: SlackScope,
}

impl TimerSlack {
    /// Sets the least slack there is, a nanosecond: timers go off as soon as the kernel can wake the
    /// thread, and each for itself.
    ///
    /// # Errors
    ///
    /// Those of `prctl(2)`: none, but where a sandbox forbids the call.
    ///
    /// # Examples
    ///
    /// See [`TimerSlack`].
    pub fn exact() -> io::Result<Self> {
        Self::set(Duration::ZERO)
    }

    /// Sets a slack. A long one saves wakes where timers need not be exact; they may be twice as late,
    /// once for the others' sake and once for the kernel's. Zero is set as a nanosecond.
    ///
    /// # Errors
    ///
    /// Those of `prctl(2)`: none, but where a sandbox forbids the call.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// // A program that runs on a battery.
    /// let _slack = selio::time::TimerSlack::set(std::time::Duration::from_millis(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set(slack: Duration) -> io::Result<Self> {
        SlackScope::begin(slack).map(|_scope| TimerSlack { _scope })
    }
}
