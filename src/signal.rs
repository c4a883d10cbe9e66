//! Signals as a stream: with everything the kernel tells of them, whatever threads there are, and
//! without any thread's mask being changed.
//!
//! A signal that some thread does not block runs a handler of ours there, which passes it on. One
//! that every thread blocks is read from a signalfd(2). So no thread needs to block anything, and
//! children begin as if nobody had asked for signals: with the mask of the thread that starts them,
//! and, since exec resets handlers, with the default action. (A signal that the program found
//! *ignored*, and that it waits for, is default in a child too; without us it would be ignored
//! there.)
//!
//! Every delivery reaches every [`Signals`] that waits for it, on whatever thread; the disposition
//! that was found is put back when the last of them goes.

mod hub;
mod port;
mod stand_in;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use crate::panics::wake_all;
use crate::reactor;
pub use crate::selector::SignalInfo;
use crate::sys::fork;
use crate::sys::lock::Lock;
use crate::sys::signal_action::{self, Caught};
use crate::sys::signal_mask;
pub use crate::sys::signal_number::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGPROF, SIGPWR, SIGQUIT,
    SIGRTMAX, SIGRTMIN, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1,
    SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use hub::Hub;
pub(crate) use port::Port;
pub(crate) use stand_in::StandIn;

/// Waits for signals: a stream of what the kernel tells of each.
///
/// From [`new`](Self::new) on the signals do not act on the process any more, but wait here. When
/// the last `Signals` that waits for a signal is dropped, or has [removed](Self::remove) it, the
/// disposition that was found is put back: the default action, for instance, so that Ctrl-C kills
/// again.
///
/// A `Signals` may be made before `block_on`, between two, and on another thread than the one where
/// it is awaited, and be dropped on a third.
///
/// # What arrives
///
/// - Each delivery reaches every `Signals` that waits for it, once, with its sender, code and
///   value. Whoever uses [`Selector::register_signal`](crate::selector::Selector::register_signal)
///   for the same signal competes: then each delivery reaches one of the two.
/// - The kernel itself merges what is pending of a standard signal: several `kill(2)`s may be one
///   delivery, so their number is no count. Real-time signals are queued and come each with its
///   value (signal(7)).
/// - A `Signals` keeps 8,192 deliveries that nobody takes; the pipe from the handler holds 16,384
///   while no thread reads it (1,024 where the system limits pipes, pipe(7)). What comes beyond
///   that is merged, never lost: one item per signal, of which only [`signo`](SignalInfo::signo)
///   is known, and everything else is zero.
/// - A signal for a certain thread (`pthread_kill(3)`, `raise(3)`) arrives too, if that thread does
///   not block it. If it does, the signal waits in that thread alone (signal(7)), and arrives only
///   if the thread itself runs a `block_on` in which a `Signals` is awaited.
///
/// # Handlers of others
///
/// A handler that was found is called after ours, with the same arguments, and is put back in the
/// end. A handler that is installed later has to call the one that it found, ours; then both hear
/// of every signal, and ours stays beneath it for good, doing nothing once nobody waits. If the
/// later one is taken away then, ours gives way at the next signal to what was found. Interrupted
/// system calls are restarted (`SA_RESTART`).
///
/// # Errors
///
/// An item is an error if this thread cannot wait: it has no descriptor left for its reactor, or
/// the limit of watches is reached (epoll_ctl(2)). No signal is lost by that, and the next poll
/// tries again.
///
/// # Cancel safety
///
/// A delivery that nobody has taken stays, so dropping a future of [`next`](Self::next) loses
/// nothing.
///
/// # Examples
///
/// ```
/// # use libc as c;
/// use selio::signal::{SIGUSR1, SIGWINCH, Signals};
///
/// # fn main() -> std::io::Result<()> {
/// let mut signals = Signals::new([SIGWINCH, SIGUSR1])?;
/// # // SAFETY: the signal is caught.
/// # unsafe { c::raise(SIGUSR1) };
/// // Somebody has sent us SIGUSR1.
/// let info = selio::block_on(signals.next()).unwrap()?;
/// assert_eq!(info.signo(), SIGUSR1);
/// assert_eq!(info.pid(), std::process::id());
/// # Ok(())
/// # }
/// ```
pub struct Signals {
    hub: &'static Lock<Hub>,
    inbox: usize,
    process: usize,
    /// One of each signal that is waited for.
    caught: Vec<Caught>,
    /// The port of the thread where it was polled last.
    port: Option<Arc<Port>>,
}

impl Signals {
    /// Begins to wait for these signals, which may be none: others can be [added](Self::add).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that no signal has, for SIGKILL
    /// and SIGSTOP, which nobody can catch, for the faults SIGSEGV, SIGBUS, SIGFPE and SIGILL, and
    /// for the signals that the C library keeps for itself; the text names the signal. The process
    /// may have no descriptors left for the pipe from the handler. Nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::signal::Signals;
    /// use std::io::ErrorKind;
    ///
    /// const SIGKILL: i32 = 9;
    /// let error = Signals::new([SIGKILL]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidInput);
    /// ```
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let hub = Hub::get();
        let inbox = Hub::lock(hub).open_inbox();
        let process = fork::process_id();
        let mut this = Signals { hub, inbox, process, caught: Vec::new(), port: None };
        for signal in signals {
            this.add(signal)?;
        }
        Ok(this)
    }

    /// Begins to wait for one more signal. One that is waited for already stays as it is.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new). What was waited for before still is.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::signal::{SIGHUP, SIGUSR1, Signals};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut signals = Signals::new([SIGHUP])?;
    /// signals.add(SIGUSR1)?;
    /// assert!(signals.remove(SIGHUP));
    /// assert!(!signals.remove(SIGHUP));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn add(&mut self, signal: i32) -> io::Result<()> {
        if let Some(why) = signal_mask::refusal(signal) {
            let text = format!("signal {signal} cannot be waited for: {why}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.check_process()?;
        let mut woken = Vec::new();
        let mut hub = Hub::lock(self.hub);
        let wanted = if hub.wants(self.inbox, signal) {
            Ok(())
        } else {
            hub.want(self.inbox, signal, &mut woken).map(|caught| self.caught.push(caught))
        };
        drop(hub);
        wake_all(woken);
        wanted
    }

    /// Stops waiting for a signal, and tells whether it was waited for. What has come of it and was
    /// not taken is forgotten.
    ///
    /// # Examples
    ///
    /// See [`add`](Self::add).
    #[inline]
    pub fn remove(&mut self, signal: i32) -> bool {
        let Some(at) = self.caught.iter().position(|caught| caught.signal() == signal) else {
            return false;
        };
        let caught = self.caught.swap_remove(at);
        if self.process == fork::process_id() {
            Hub::lock(self.hub).refuse(self.inbox, signal);
        }
        // Last: until the disposition is put back, the handler takes what comes.
        drop(caught);
        true
    }

    /// Waits for the next signal. Always `Some`: without any signal to wait for, it waits for ever.
    ///
    /// # Errors
    ///
    /// See [`Signals`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a signal that was not returned comes again.
    ///
    /// # Examples
    ///
    /// See [`Signals`].
    #[inline]
    pub async fn next(&mut self) -> Option<io::Result<SignalInfo>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    #[inline]
    fn check_process(&self) -> io::Result<()> {
        if self.process == fork::process_id() {
            return Ok(());
        }
        Err(io::Error::other("the process has forked: these are the parent's signals"))
    }

    /// Takes a signal, or leaves a waker if there is none.
    #[inline]
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<SignalInfo>> {
        self.check_process()?;
        if let Some(info) = self.take()? {
            return Poll::Ready(Ok(info));
        }
        let former_port = self.port.replace(Port::here()?);
        drop(former_port);
        // Foreign code, and therefore before the lock.
        let waker = cx.waker().clone();
        let mut hub = Hub::lock(self.hub);
        if let Some(info) = hub.take(self.inbox) {
            drop(hub);
            return Poll::Ready(Ok(info));
        }
        let former = hub.replace_waker(self.inbox, Some(waker));
        drop(hub);
        drop(former);
        Poll::Pending
    }

    /// Takes a signal that has come already. What a handler has left in the pipe, having interrupted
    /// this very thread for instance, is read now, which saves the wait that would tell; but not
    /// before this stream has a port, so that from its first poll on a thread hands out for all.
    #[inline]
    fn take(&mut self) -> io::Result<Option<SignalInfo>> {
        let mut woken = Vec::new();
        let mut hub = Hub::lock(self.hub);
        // First, so that what is read, here or by the port, does not wake the task that asks.
        let former = hub.replace_waker(self.inbox, None);
        let taken = match self.port {
            Some(_) => hub.take_unread(self.inbox, &mut woken),
            None => Ok(hub.take(self.inbox)),
        };
        drop(hub);
        drop(former);
        if !woken.is_empty() {
            wake_all(woken);
        }
        taken
    }
}

impl Stream for Signals {
    type Item = io::Result<SignalInfo>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(reactor::spend_budget(cx));
        self.poll_take(cx).map(Some)
    }
}

/// It has no end.
impl FusedStream for Signals {
    #[inline]
    fn is_terminated(&self) -> bool {
        false
    }
}

impl Drop for Signals {
    #[inline]
    fn drop(&mut self) {
        // A forked child's hub does not know us.
        if self.process == fork::process_id() {
            let waker = Hub::lock(self.hub).close_inbox(self.inbox);
            drop(waker);
        }
    }
}

impl fmt::Debug for Signals {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signals: Vec<_> = self.caught.iter().map(Caught::signal).collect();
        f.debug_struct("Signals").field("signals", &signals).finish_non_exhaustive()
    }
}

/// Waits for a Ctrl-C, and gives SIGINT back then.
///
/// The wait begins with the call: from then on a Ctrl-C does not kill the process. Once the future
/// is done, or dropped, the next one does. A program that wants several uses [`Signals`].
///
/// # Errors
///
/// Those of [`Signals`].
///
/// # Cancel safety
///
/// A Ctrl-C that came before the future was dropped is forgotten with it.
///
/// # Examples
///
/// ```
/// # use libc as c;
/// use selio::signal::ctrl_c;
///
/// # fn main() -> std::io::Result<()> {
/// let interrupted = ctrl_c();
/// # // SAFETY: the signal is caught.
/// # unsafe { c::raise(c::SIGINT) };
/// // Somebody presses Ctrl-C.
/// selio::block_on(interrupted)?;
/// # Ok(())
/// # }
/// ```
#[inline]
pub fn ctrl_c() -> impl Future<Output = io::Result<()>> + Send + Sync + 'static {
    let first = first(Signals::new([SIGINT]));
    async move { first.await.map(|_| ()) }
}

/// Waits until the process is asked to end: for the first SIGTERM, SIGINT or SIGHUP. It tells which
/// it was, and who has sent it.
///
/// The wait begins with the call. Once the future is done, or dropped, the dispositions are put
/// back: a second Ctrl-C kills a program that takes too long to end, as its user expects. A SIGHUP
/// that the program was started to ignore, by nohup(1), stays ignored.
///
/// # Errors
///
/// Those of [`Signals`].
///
/// # Cancel safety
///
/// A signal that came before the future was dropped is forgotten with it.
///
/// # Examples
///
/// ```
/// # use libc as c;
/// use selio::signal::{SIGTERM, shutdown};
///
/// # fn main() -> std::io::Result<()> {
/// let asked = shutdown();
/// # // SAFETY: the signal is caught.
/// # unsafe { c::raise(c::SIGTERM) };
/// // Somebody runs `kill`.
/// assert_eq!(selio::block_on(asked)?.signo(), SIGTERM);
/// # Ok(())
/// # }
/// ```
#[inline]
pub fn shutdown() -> impl Future<Output = io::Result<SignalInfo>> + Send + Sync + 'static {
    let hangup = Some(SIGHUP).filter(|&signal| !signal_action::is_ignored(signal));
    first(Signals::new([SIGTERM, SIGINT].into_iter().chain(hangup)))
}

/// The future of the first signal. Whatever waits for others ends with it.
#[inline]
async fn first(signals: io::Result<Signals>) -> io::Result<SignalInfo> {
    let mut signals = signals?;
    poll_fn(|cx| signals.poll_take(cx)).await
}
