//! Computes on all cores and tells of it in one loop: how many primes there are below a limit.
//!
//! Threads of std take one range of numbers after the other. They wake the loop in two ways. A
//! `Trigger` says "some more is done": triggers merge, so however fast they come, the loop prints
//! as often as it gets to it. A `Handle` has the loop run a closure: each range's result is booked
//! in the loop's thread, where nothing needs a lock. What is done once and returns once, like the
//! sieve that checks the sum, and what only blocks, like joining a thread, goes to `unblock`.
//!
//! Run it with `cargo run --release --example worker_threads -- 20000000` (without an argument the
//! limit is a million).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use selio::Handle;
use selio::event::{Event, Trigger};

/// How many ranges there are, and in how many steps each is worked through.
const RANGES: u64 = 10;
const STEPS: u64 = 4;

thread_local! {
    /// How many primes each range has. Only the loop's thread has anything in it.
    static BOOK: RefCell<BTreeMap<u64, u64>> = const { RefCell::new(BTreeMap::new()) };
}

fn main() -> Result<(), Box<dyn Error>> {
    let limit = std::env::args().nth(1).map_or(Ok(1_000_000), |limit| limit.parse())?;
    selio::block_on(count_below(limit))
}

async fn count_below(limit: u64) -> Result<(), Box<dyn Error>> {
    let check = selio::unblock(move || sieve(limit));
    let (progress, next) = (Event::new()?, Arc::new(AtomicU64::new(0)));
    let threads = thread::available_parallelism()?.get();
    let workers = (0..threads)
        .map(|_| {
            // Made here, in the loop it leads to, and sent to the thread.
            let (next, handle) = (Arc::clone(&next), selio::handle());
            let trigger = progress.trigger();
            thread::Builder::new().spawn(move || work(limit, &next, &handle, &trigger))
        })
        .collect::<Result<Vec<_>, _>>()?;
    println!("{threads} threads look for the primes below {limit}");
    let printer = selio::spawn(print_progress(progress));
    for worker in workers {
        // To join here would block the loop, for whose answers the threads wait.
        selio::unblock(move || worker.join()).await.map_err(|_| "a thread has panicked")?;
    }
    printer.await??;
    let (ranges, found) = BOOK.with_borrow(|book| (book.len(), book.values().sum::<u64>()));
    let expected = check.await;
    if (ranges, found) != (RANGES as usize, expected) {
        return Err(format!("{found} primes in {ranges} ranges, and not {expected}").into());
    }
    println!("{found} primes below {limit}, and a sieve agrees");
    Ok(())
}

/// What each thread does, until no range is left.
fn work(limit: u64, next: &AtomicU64, handle: &Handle, trigger: &Trigger) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= RANGES {
            return;
        }
        let range = part(&(0..limit), number, RANGES);
        let mut primes = 0;
        for step in 0..STEPS {
            let numbers = part(&range, step, STEPS);
            primes += numbers.filter(|&number| is_prime(number)).count() as u64;
            trigger.trigger().expect("an event takes every trigger");
        }
        // A loop of its own, just to wait: the next range begins when this one is booked.
        let booked = selio::block_on(handle.spawn(move || book(number, range, primes)));
        if booked.is_err() {
            return; // The loop has ended before its time, and nobody asks for more.
        }
    }
}

/// Runs in the loop's thread, whichever thread has ordered it.
async fn book(number: u64, range: Range<u64>, primes: u64) {
    println!("{primes:>8} primes in {range:?}");
    BOOK.with_borrow_mut(|book| book.insert(number, primes));
}

async fn print_progress(progress: Event) -> std::io::Result<()> {
    let (mut done, all) = (0, RANGES * STEPS);
    while done < all {
        done += progress.wait().await?;
        println!("{:>7}%", 100 * done / all);
    }
    Ok(())
}

/// One of several parts of a range, of lengths that differ by one at most.
fn part(whole: &Range<u64>, number: u64, parts: u64) -> Range<u64> {
    let at = |number| whole.start + (whole.end - whole.start) * number / parts;
    at(number)..at(number + 1)
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|d| d * d <= number).all(|d| number % d != 0)
}

/// Counts the primes in another way, by crossing out what is none.
fn sieve(limit: u64) -> u64 {
    let limit = limit as usize;
    let mut crossed = vec![false; limit];
    for number in (2..).take_while(|number| number * number < limit) {
        (number * number..limit).step_by(number).for_each(|multiple| crossed[multiple] = true);
    }
    crossed.iter().skip(2).filter(|crossed| !**crossed).count() as u64
}
