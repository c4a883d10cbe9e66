//! How late the thread's timers may be so that several go off at once: by a rule of our own, or as
//! the innermost scope on the thread asks.

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::time::Duration;

use crate::sys::timer_slack;

/// How far ahead a wait may reach so as to end for a crowd of timers, where no scope asks for
/// another slack. A wait costs some microseconds.
const WINDOW: Duration = Duration::from_micros(500);

/// The longest wait that the kernel takes exactly in a scope that asks for it: it adds a thousandth
/// of the timeout to the slack (for nice threads five).
const EXACT_WAIT: Duration = Duration::from_millis(10);

thread_local! {
    /// What the innermost scope asks for, in nanoseconds; zero if there is no scope.
    static INNERMOST: Cell<u64> = const { Cell::new(0) };
    /// It has no destructor, for scopes may live in thread-locals that go later; without scopes it
    /// has nothing to free.
    static SCOPES: ManuallyDrop<RefCell<Scopes>> =
        const { ManuallyDrop::new(RefCell::new(Scopes { found: 0, living: Vec::new() })) };
}

/// The living scopes of a thread.
struct Scopes {
    /// The slack that the first of them found.
    found: u64,
    /// In the order of their beginning.
    living: Vec<Living>,
}

struct Living {
    /// Tells it from the others that live.
    number: u64,
    slack: u64,
}

/// A slack of the thread's that lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct SlackScope {
    number: u64,
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl SlackScope {
    pub(crate) fn begin(slack: Duration) -> io::Result<Self> {
        // To the kernel zero means something else.
        let slack = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX).max(1);
        SCOPES.with(|scopes| {
            let mut scopes = scopes.borrow_mut();
            let number = scopes.living.last().map_or(0, |last| last.number + 1);
            let found = if number == 0 { timer_slack::get()? } else { scopes.found };
            timer_slack::set(slack)?;
            scopes.found = found;
            scopes.living.push(Living { number, slack });
            INNERMOST.set(slack);
            Ok(SlackScope { number, thread: PhantomData })
        })
    }
}

impl Drop for SlackScope {
    fn drop(&mut self) {
        SCOPES.with(|scopes| scopes.borrow_mut().end(self.number));
    }
}

impl Scopes {
    /// Ends a scope. What the thread has then is what the innermost of those asks that are left.
    fn end(&mut self, number: u64) {
        let was_innermost = self.living.last().is_some_and(|last| last.number == number);
        self.living.retain(|scope| scope.number != number);
        if self.living.is_empty() {
            self.living = Vec::new();
        }
        if was_innermost {
            let innermost = self.living.last().map(|scope| scope.slack);
            INNERMOST.set(innermost.unwrap_or(0));
            // It was allowed at the beginning, and nobody could be told.
            _ = timer_slack::set(innermost.unwrap_or(self.found));
        }
    }
}

/// Does something, such as starting a child or a thread, that shall inherit the slack the thread had
/// before any scope.
pub(crate) fn with_former_slack<R>(f: impl FnOnce() -> R) -> R {
    struct Innermost(u64);
    impl Drop for Innermost {
        fn drop(&mut self) {
            _ = timer_slack::set(self.0);
        }
    }
    let innermost = INNERMOST.get();
    if innermost == 0 {
        return f();
    }
    _ = timer_slack::set(SCOPES.with(|scopes| scopes.borrow().found));
    let _back = Innermost(innermost);
    f()
}

/// How far beyond the nearest deadline a wait may reach for a crowd.
pub(super) fn window() -> Duration {
    match INNERMOST.get() {
        0 => WINDOW,
        slack => Duration::from_nanos(slack),
    }
}

/// How much of the time to a deadline to wait in one go: where the kernel would be later than a
/// scope allows, nearly all, and the rest in another wait, whose timeout is shorter.
pub(super) fn step(left: Duration) -> Duration {
    let slack = INNERMOST.get();
    if slack == 0 || left <= EXACT_WAIT || left / 1000 <= Duration::from_nanos(slack) {
        return left;
    }
    left - left / 128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_in_a_scope_leaves_a_part_for_another() {
        let long = Duration::from_secs(128);
        assert_eq!((step(long), window()), (long, WINDOW));

        let scope = SlackScope::begin(Duration::from_micros(50)).unwrap();
        assert_eq!(window(), Duration::from_micros(50));
        assert_eq!(step(long), Duration::from_secs(127));
        // The kernel is not later than these allow.
        assert_eq!(step(EXACT_WAIT), EXACT_WAIT);
        let later = EXACT_WAIT + Duration::from_nanos(1);
        assert_eq!(step(later), later);
        let exact = Duration::from_millis(50);
        assert_eq!(step(exact), exact);
        let over = exact + Duration::from_micros(1);
        assert!(step(over) < over);
        drop(scope);

        // One of the least slack: the kernel is exact enough up to this very wait.
        let _scope = SlackScope::begin(Duration::from_nanos(1)).unwrap();
        assert_eq!(step(EXACT_WAIT), EXACT_WAIT);
        assert!(step(later) < later);
    }
}
