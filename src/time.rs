//! Timers: [`Timer`], [`sleep`], [`timeout`], [`interval`].
//!
//! Time is that of [`Instant`], `CLOCK_MONOTONIC`: no step of the wall clock moves a deadline, and
//! the time that the machine is suspended does not count (see `clock_gettime(2)`). Deadlines are
//! kept in nanoseconds, and a timer costs no system call: the nearest deadline bounds the wait that
//! there is anyway.
//!
//! # How late
//!
//! A timer never goes off early. How late it is depends on the tasks that run first and on the
//! kernel, which may wake a thread later by its timer slack, 50 µs by default, or by a thousandth of
//! the wait if that is more. [`TimerSlack`] changes that, for a while and for one thread. Before
//! Linux 5.11, which lacks `epoll_pwait2`, waits are rounded up to the next millisecond.
//!
//! Where timers are many, a wait ends for several at once: if eight or more are due within the next
//! 500 µs, the thread may sleep until the last of those is due. So no timer is later than 500 µs for
//! the others' sake, and one that is alone, or among few, is as exact as the kernel.

mod slack;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::reactor::Alarm;

pub use slack::TimerSlack;

/// Goes off at a time: a future of one [`Instant`], and a stream of them if it repeats.
///
/// Only [`selio::block_on`](crate::block_on) makes it go off. Under another executor it stays
/// pending until a `block_on` of selio runs on the same thread; a debug build says so once. Where a
/// thread can have no reactor, for lack of descriptors or because it is ending, a poll sets
/// nothing, and the next one tries again.
///
/// The output is the deadline, not the time at which it was noticed. A timer goes off in the turn
/// of the loop that finds its deadline passed, never within the poll that sets it, so a timer of
/// zero duration lets everything else run once. Timers that are due together go off in the order of
/// their deadlines, and those of one deadline in the order in which they were first polled.
///
/// A timer may be made anywhere and moved between threads, where it has to be polled once; dropping
/// it, or setting it anew, takes it out of the queue. If that happens on another thread than the one
/// it waits on, that one lets go of the waker at its next turn.
///
/// As a future, a timer that has gone off and does not repeat gives the same instant again each
/// time it is polled. As a stream it yields that instant once, and then nothing more until it is
/// set again. The stream never ends.
///
/// # Cancel safety
///
/// A tick that was not polled for is not lost: the next poll yields it.
///
/// # Examples
///
/// ```
/// use selio::Timer;
/// use std::time::{Duration, Instant};
///
/// selio::block_on(async {
///     let start = Instant::now();
///     Timer::after(Duration::from_millis(5)).await;
///     assert!(start.elapsed() >= Duration::from_millis(5));
///
///     let mut ticks = Timer::interval(Duration::from_millis(2));
///     let (first, second) = (ticks.next().await, ticks.next().await);
///     assert_eq!(second.unwrap() - first.unwrap(), Duration::from_millis(2));
/// });
/// ```
pub struct Timer {
    /// When it goes off next, or, if it will not again, when it went off; `None` for never.
    deadline: Option<Instant>,
    period: Option<Duration>,
    missed: MissedTicks,
    /// Whether it has gone off and will not go off again, unless it is set.
    went_off: bool,
    alarm: Option<Alarm>,
}

/// What a repeating [`Timer`] does about ticks that passed while nobody polled it, or while the
/// loop was busy.
///
/// # Examples
///
/// ```
/// use selio::time::{MissedTicks, Timer};
/// use std::time::Duration;
///
/// let ticks = Timer::interval(Duration::from_secs(1)).missed_ticks(MissedTicks::Skip);
/// # drop(ticks);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MissedTicks {
    /// Yields each of them, one poll after the other, until it has caught up: as many ticks as
    /// periods have passed.
    #[default]
    Burst,
    /// Yields one for all of them, and starts a full period from then.
    Delay,
    /// Yields one for all of them, and goes on at the next multiple of the period: ticks stay
    /// aligned.
    Skip,
}

impl Timer {
    fn new(deadline: Option<Instant>, period: Option<Duration>) -> Self {
        Timer { deadline, period, missed: MissedTicks::default(), went_off: false, alarm: None }
    }

    /// Makes a timer that never goes off, until it is set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!selio::Timer::never().will_fire());
    /// ```
    #[must_use]
    pub fn never() -> Self {
        Timer::new(None, None)
    }

    /// Makes a timer that goes off once, this long from now. If that is past the end of
    /// [`Instant`], it never goes off.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// selio::block_on(selio::Timer::after(Duration::from_millis(1)));
    /// ```
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Timer::new(Instant::now().checked_add(duration), None)
    }

    /// Makes a timer that goes off once, at this time; at the next turn of the loop if it has
    /// passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    /// let now = Instant::now();
    /// assert_eq!(selio::block_on(selio::Timer::at(now)), now);
    /// ```
    #[must_use]
    pub fn at(deadline: Instant) -> Self {
        Timer::new(Some(deadline), None)
    }

    /// Makes a timer that goes off again and again, first after one period.
    ///
    /// # Panics
    ///
    /// If the period is zero: such a timer would always be ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// selio::block_on(async {
    ///     let mut ticks = selio::Timer::interval(Duration::from_millis(1));
    ///     for _ in 0..3 {
    ///         ticks.next().await;
    ///     }
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn interval(period: Duration) -> Self {
        Timer::new(Instant::now().checked_add(period), Some(checked(period)))
    }

    /// Makes a timer that goes off at this time and then again and again.
    ///
    /// # Panics
    ///
    /// If the period is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// let start = Instant::now();
    /// let mut ticks = selio::Timer::interval_at(start, Duration::from_secs(1));
    /// assert_eq!(selio::block_on(ticks.next()), Some(start));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn interval_at(start: Instant, period: Duration) -> Self {
        Timer::new(Some(start), Some(checked(period)))
    }

    /// Chooses what a repeating timer does about missed ticks. [`MissedTicks::Burst`] if nothing is
    /// chosen.
    ///
    /// # Examples
    ///
    /// See [`MissedTicks`].
    #[must_use]
    pub fn missed_ticks(mut self, policy: MissedTicks) -> Self {
        self.missed = policy;
        self
    }

    /// Sets the timer anew, as [`after`](Self::after) makes it. The chosen policy for missed ticks
    /// stays.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// let mut idle = selio::Timer::after(Duration::from_secs(60));
    /// idle.set_after(Duration::from_secs(60)); // Something happened.
    /// # assert!(idle.will_fire());
    /// ```
    pub fn set_after(&mut self, duration: Duration) {
        self.set(Instant::now().checked_add(duration), None);
    }

    /// Sets the timer anew, as [`at`](Self::at) makes it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Instant;
    /// let mut timer = selio::Timer::never();
    /// timer.set_at(Instant::now());
    /// selio::block_on(timer);
    /// ```
    pub fn set_at(&mut self, deadline: Instant) {
        self.set(Some(deadline), None);
    }

    /// Sets the timer anew, as [`interval`](Self::interval) makes it.
    ///
    /// # Panics
    ///
    /// If the period is zero; the timer is as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// let mut timer = selio::Timer::never();
    /// timer.set_interval(Duration::from_millis(1));
    /// selio::block_on(timer.next());
    /// ```
    #[track_caller]
    pub fn set_interval(&mut self, period: Duration) {
        let period = checked(period);
        self.set(Instant::now().checked_add(period), Some(period));
    }

    /// Sets the timer anew, as [`interval_at`](Self::interval_at) makes it.
    ///
    /// # Panics
    ///
    /// If the period is zero; the timer is as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// let mut timer = selio::Timer::never();
    /// timer.set_interval_at(Instant::now(), Duration::from_secs(1));
    /// selio::block_on(timer.next());
    /// ```
    #[track_caller]
    pub fn set_interval_at(&mut self, start: Instant, period: Duration) {
        let period = checked(period);
        self.set(Some(start), Some(period));
    }

    fn set(&mut self, deadline: Option<Instant>, period: Option<Duration>) {
        self.alarm = None;
        self.deadline = deadline;
        self.period = period;
        self.went_off = false;
    }

    /// Tells whether the timer will go off (again) without being set: false if it never could, and
    /// after its only tick.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// assert!(selio::Timer::after(Duration::ZERO).will_fire());
    /// assert!(!selio::Timer::after(Duration::MAX).will_fire());
    /// ```
    #[must_use]
    pub fn will_fire(&self) -> bool {
        self.next_deadline().is_some()
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.went_off { None } else { self.deadline }
    }

    /// Waits for the next tick. It is always `Some`; a timer that will not go off is waited for
    /// without end.
    ///
    /// # Cancel safety
    ///
    /// A tick is not lost if the future is dropped before it is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// let mut ticks = selio::Timer::interval(Duration::from_millis(1));
    /// assert!(selio::block_on(ticks.next()).is_some());
    /// ```
    pub async fn next(&mut self) -> Option<Instant> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Is ready with the deadline when it has come; the next one stands by then.
    #[inline]
    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(deadline) = self.next_deadline() else { return Poll::Pending };
        match &mut self.alarm {
            Some(alarm) => ready!(alarm.poll(deadline, cx.waker())),
            None => {
                self.alarm = Alarm::set(deadline, cx.waker());
                return Poll::Pending;
            }
        }
        self.alarm = None;
        match self.period.and_then(|period| self.missed.next(deadline, period)) {
            Some(next) => self.deadline = Some(next),
            None => self.went_off = true,
        }
        Poll::Ready(deadline)
    }
}

#[track_caller]
fn checked(period: Duration) -> Duration {
    assert!(
        !period.is_zero(),
        "a timer needs a period greater than zero: with zero it would always be ready"
    );
    period
}

impl MissedTicks {
    /// The tick that follows one at `deadline`.
    fn next(self, deadline: Instant, period: Duration) -> Option<Instant> {
        let next = deadline.checked_add(period)?;
        if self == MissedTicks::Burst {
            return Some(next);
        }
        let now = Instant::now();
        if next > now {
            return Some(next);
        }
        if self == MissedTicks::Delay {
            return now.checked_add(period);
        }
        // What of the running period has passed: no loop over the missed ones, however many.
        let into = now.duration_since(deadline).as_nanos() % period.as_nanos();
        let into = Duration::new((into / 1_000_000_000) as u64, (into % 1_000_000_000) as u32);
        now.checked_add(period - into)
    }
}

impl Future for Timer {
    type Output = Instant;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Instant> {
        match self.deadline {
            Some(deadline) if self.went_off => Poll::Ready(deadline),
            _ => self.poll_tick(cx),
        }
    }
}

impl Stream for Timer {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

/// Has ended when it will not go off any more, unless it is set anew.
impl FusedStream for Timer {
    fn is_terminated(&self) -> bool {
        !self.will_fire()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("deadline", &self.next_deadline())
            .field("period", &self.period)
            .field("missed_ticks", &self.missed)
            .finish_non_exhaustive()
    }
}

/// Waits this long, counted from the call.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// selio::block_on(selio::time::sleep(Duration::from_millis(1)));
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { timer: Timer::after(duration) }
}

/// Makes a stream that ticks once in each period; see [`Timer::interval`].
///
/// # Panics
///
/// If the period is zero.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// selio::block_on(async {
///     let mut ticks = selio::time::interval(Duration::from_millis(1));
///     ticks.next().await;
/// });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Timer {
    Timer::interval(period)
}

/// Awaits a future for this long at the most, counted from the call.
///
/// The future is polled first: if it is ready, it wins, however late.
///
/// # Errors
///
/// [`Elapsed`] if the time passed first. The future is dropped with the returned one.
///
/// # Cancel safety
///
/// That of the future.
///
/// # Examples
///
/// ```
/// use selio::time::timeout;
/// use std::time::Duration;
///
/// selio::block_on(async {
///     assert_eq!(timeout(Duration::from_secs(60), async { 7 }).await, Ok(7));
///     let never = std::future::pending::<()>();
///     assert!(timeout(Duration::from_millis(1), never).await.is_err());
/// });
/// ```
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, timer: Timer::after(duration) }
}

/// The future of [`sleep`]. Polled again after it was ready, it is ready again.
///
/// # Examples
///
/// See [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    timer: Timer,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.timer).poll(cx).map(drop)
    }
}

pin_project! {
    /// The future of [`timeout`].
    ///
    /// Polled again after the time has passed, it polls its future once more, and is ready either way. Polled again after its future
    /// was ready, it does what that future does.
    #[derive(Debug)]
    #[must_use = "a timeout does nothing unless it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        timer: Timer,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.timer).poll(cx).map(|_| Err(Elapsed(())))
    }
}

/// Says that the time of a [`timeout`] has passed. Turns into an [`io::Error`] of kind
/// [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::time::Duration;
///
/// async fn patient() -> io::Result<()> {
///     selio::time::timeout(Duration::from_millis(1), std::future::pending()).await?
/// }
/// let error = selio::block_on(patient()).unwrap_err();
/// assert_eq!(error.kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
