//! A `block_on` that somebody else's loop drives.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::{Executor, Round, Running};
use crate::reactor::{self, Turn};
use crate::selector::{Events, Selector};
use crate::sys::event_fd::EventFd;

/// Runs a future, and the tasks that it spawns, inside of another event loop.
///
/// Where a program has a loop already (GLib's, Qt's, a game's, one around `poll(2)`), that loop
/// waits, and a driver tells it for what: until the [descriptor](AsFd) of the driver is readable, or
/// until [`next_deadline`](Self::next_deadline) has come. Then it calls [`turn`](Self::turn), which
/// does what can be done and never waits.
///
/// Everything works as in [`block_on`](crate::block_on): sockets, timers, signals, children, tasks,
/// wakes from other threads. Between two turns the thread belongs to the other loop; a `block_on`
/// that runs there meanwhile drives the same reactor, but not the driver's tasks. There may be
/// several drivers on a thread, each with its tasks and its descriptor.
///
/// A driver stays on its thread. When it is dropped, its future and then the tasks that are left
/// are dropped, in the order of their creation.
///
/// # Examples
///
/// A loop around a selector, as one around `poll(2)` would be:
///
/// ```
/// use selio::Driver;
/// use selio::selector::{Events, Selector};
/// use std::task::Poll;
/// use std::time::{Duration, Instant};
///
/// # fn main() -> std::io::Result<()> {
/// let mut watched = Selector::new()?;
/// let mut driver = Driver::new(async {
///     let task = selio::spawn(async {
///         selio::time::sleep(Duration::from_millis(2)).await;
///         "done"
///     });
///     task.await.unwrap()
/// })?;
/// // The other descriptors of the loop would stand beside this one.
/// watched.register_handle(&driver, Events::READ, ())?;
/// let output = loop {
///     if let Poll::Ready(output) = driver.turn() {
///         break output;
///     }
///     // To a loop that counts milliseconds it would be given rounded up, for a wait that ends too
///     // early is a turn for nothing.
///     let deadline = driver.next_deadline();
///     watched.select(deadline.map(|it| it.saturating_duration_since(Instant::now())))?;
/// };
/// assert_eq!(output, "done");
/// # Ok(())
/// # }
/// ```
pub struct Driver<F: Future> {
    /// `None` once it is done.
    root: Option<Pin<Box<F>>>,
    /// Whether the last turn has left something to do.
    busy: bool,
    turn: Option<Turn>,
    /// Wakes come by an eventfd of its own, which stays readable until the next turn: what the
    /// reactor's eventfd tells may be taken by a `block_on` that runs between two turns.
    wakeup: Arc<EventFd>,
    /// Holds the reactor's epoll set and that eventfd, so that there is one descriptor to be watched.
    watched: Selector<()>,
    executor: Running,
}

impl<F: Future> Driver<F> {
    /// Takes a future in. It is polled first in the first [`turn`](Self::turn).
    ///
    /// # Errors
    ///
    /// The kernel's, if it refuses the descriptors this takes, or to watch them: two, and those of
    /// the thread's reactor if that is new.
    ///
    /// # Examples
    ///
    /// See [`Driver`].
    pub fn new(future: F) -> io::Result<Self> {
        let driving = reactor::drive()?;
        let wakeup = Arc::new(EventFd::new()?);
        let mut watched = Selector::new()?;
        watched.register_handle(&wakeup, Events::READ, ())?;
        watched.register_handle(&**driving.reactor(), Events::READ, ())?;
        let executor = Running(Some(Executor::new(driving, &wakeup)));
        let root = Some(Box::pin(future));
        executor.scheduler.wake_root();
        Ok(Driver { root, busy: true, turn: None, wakeup, watched, executor })
    }

    /// Does what can be done now, without waiting: looks what has become ready, and polls the
    /// future and the tasks.
    ///
    /// A turn ends after some dozens of polls, so that the other loop has its share; then
    /// [`next_deadline`](Self::next_deadline) is now. When the future is done, the tasks that are
    /// left are dropped before its output is returned.
    ///
    /// # Panics
    ///
    /// As [`block_on`](crate::block_on) does, and if it is called after it has returned
    /// [`Poll::Ready`].
    ///
    /// # Examples
    ///
    /// See [`Driver`].
    #[track_caller]
    pub fn turn(&mut self) -> Poll<F::Output> {
        let Some(root) = &mut self.root else {
            panic!("`Driver::turn` was called after the future had ended");
        };
        let entered = self.executor.scheduler.enter();
        // An eventfd of our own can be read. Whoever writes later has pushed later, or is found now
        // and makes a turn for nothing.
        _ = self.wakeup.read();
        // Until it is known to be otherwise, also if somebody's waker panics.
        self.busy = true;
        self.executor.work().look(&mut self.turn);
        let round = self.executor.work().round(root.as_mut());
        drop(entered);
        // Whoever waits for this to be ready is asleep, also where a `block_on` would spin.
        self.busy = !matches!(round, Round::Idle) || !self.executor.scheduler.may_rest(true);
        match round {
            Round::Done(output) => {
                self.end();
                Poll::Ready(output)
            }
            Round::Idle | Round::Busy => Poll::Pending,
        }
    }

    /// When to call [`turn`](Self::turn), if the descriptor is not readable before; `None` if there
    /// is no such time.
    ///
    /// It may change with each turn. An instant that is not in the future means: now.
    ///
    /// # Examples
    ///
    /// See [`Driver`].
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.root {
            None => None,
            Some(_) if self.busy => Some(Instant::now()),
            Some(_) => reactor::next_deadline(),
        }
    }

    fn end(&mut self) {
        let _entered = self.executor.scheduler.enter();
        self.root = None;
        self.executor.work().drop_tasks().resume();
    }
}

impl<F: Future> Drop for Driver<F> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The descriptor that is readable when there is something to do: an epoll set, which stays the same.
/// It may be watched by `poll(2)`, `select(2)`, another epoll or io_uring; nothing else may be done
/// with it.
impl<F: Future> AsFd for Driver<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

/// See [`AsFd`].
impl<F: Future> AsRawFd for Driver<F> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<F: Future> fmt::Debug for Driver<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Driver");
        out.field("done", &self.root.is_none()).field("busy", &self.busy).finish_non_exhaustive()
    }
}
