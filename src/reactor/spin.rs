//! Looking for events for some time before sleeping, for who asks for it.

use std::cell::{Cell, RefCell};
use std::hint;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

thread_local! {
    /// The times of the guards that live on this thread.
    static TIMES: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
    /// The longest of them, in nanoseconds; zero if there is none.
    static LONGEST: Cell<u64> = const { Cell::new(0) };
    /// Whether the last that ended a spin early was another thread, and not the kernel.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// How often to look at what other threads have queued before the kernel is asked, where another
/// thread was the last to end a spin. A look takes some ten nanoseconds, and the kernel twenty times
/// as long: who asks in that time has to wait for it.
const LOOKS: u32 = 16;

/// Has this thread look for events for some time before it sleeps, as long as the returned guard
/// lives.
///
/// When nothing is ready, a [`block_on`](crate::block_on) sleeps, and it takes the kernel some time
/// to wake it: on a machine of two cores, a request and its answer over loopback took 55 µs in the
/// median, and 22 µs with a spin of 50 µs. Instead of sleeping at once, the thread asks the kernel
/// again and again whether something is ready (`epoll_wait(2)` with a timeout of zero, some 200 ns
/// each), until something is, or a timer is due, or the time is over; then it sleeps. It is for
/// programs whose events follow each other so closely that they come within that time: shorter spins
/// only cost. Timers that end within it end more exactly, too.
///
/// It costs processor time: at most this much each time the thread would sleep, so that a program
/// that is idle pays next to nothing, and one that is woken often may use all of a core. Where the
/// other side needs the same core, do not spin.
///
/// It holds for this thread alone: for the `block_on` that is running, for all others before the
/// guard is dropped, and for nested ones; not for a [`Driver`](crate::Driver), which never waits. Of
/// several guards, the longest time counts, in whatever order they are dropped. A time of zero is no
/// spin.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// selio::block_on(async {
///     let _spin = selio::spin(Duration::from_micros(50));
///     selio::time::sleep(Duration::from_micros(20)).await;
/// });
/// ```
pub fn spin(time: Duration) -> Spin {
    _ = TIMES.try_with(|times| times.borrow_mut().push(time));
    note_longest();
    Spin { time, thread: PhantomData }
}

/// Keeps this thread from sleeping at once; made by [`spin`]. It stays on its thread.
///
/// # Examples
///
/// See [`spin`].
#[must_use = "the thread spins as long as this lives"]
#[derive(Debug)]
pub struct Spin {
    time: Duration,
    thread: PhantomData<*const ()>,
}

impl Drop for Spin {
    fn drop(&mut self) {
        _ = TIMES.try_with(|times| {
            let mut times = times.borrow_mut();
            if let Some(at) = times.iter().position(|time| *time == self.time) {
                times.swap_remove(at);
            }
        });
        note_longest();
    }
}

/// Whether the thread spins before it sleeps. If so, a turn that may wait asks again and again whether
/// it may rest, and tells when it is going to sleep.
#[inline]
pub(crate) fn spins() -> bool {
    LONGEST.get() > 0
}

fn note_longest() {
    let longest = TIMES.try_with(|times| times.borrow().iter().max().copied());
    let longest = longest.ok().flatten().unwrap_or_default();
    LONGEST.set(u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX));
}

/// How long to look before a wait of at most `timeout`; `None` if it is not to be looked at all.
#[inline]
pub(super) fn before(timeout: Option<Duration>) -> Option<Spinning> {
    let longest = LONGEST.get();
    if longest == 0 { None } else { Spinning::begin(Duration::from_nanos(longest), timeout) }
}

/// Looks for some time whether another thread has asked for something, before the kernel is asked, if
/// that is what has ended the last spin.
#[inline]
pub(super) fn looks_first(asked: impl Fn() -> bool) -> bool {
    let look = |_| {
        hint::spin_loop();
        asked()
    };
    ASKED.get() && (0..LOOKS).any(look)
}

/// Notes what has ended a spin: another thread, or else the kernel.
pub(super) fn note_end(asked: bool) {
    ASKED.set(asked);
}

/// One spin that is under way.
pub(super) struct Spinning {
    began: Instant,
    length: Duration,
    /// Of the wait as a whole.
    timeout: Option<Duration>,
}

impl Spinning {
    #[cold]
    fn begin(longest: Duration, timeout: Option<Duration>) -> Option<Self> {
        let length = timeout.map_or(longest, |timeout| timeout.min(longest));
        (!length.is_zero()).then(|| Spinning { began: Instant::now(), length, timeout })
    }

    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() >= self.length
    }

    /// What is left of the timeout to be slept.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(self.timeout?.saturating_sub(self.began.elapsed()))
    }
}
