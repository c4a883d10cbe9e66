//! The queue of timers against a sorted list: each timer goes off once, by deadline and then by
//! age.
//!
//! When exactly a turn reads the clock is not known from outside. What is known: the timers that
//! have gone off are the first ones of the list, among them all that were due before the turn
//! began, and none that is not due yet.

use crate::kit;
use crate::kit::timers;
use kit::poll_with;
use selio::{Timer, block_on};
use std::task::Poll;
use std::time::{Duration, Instant};
use timers::{HOUR, Random, WakeLog, begin, ms, poll_next, turn, until};

// C22
#[test]
fn timers_of_one_deadline_go_off_in_the_order_of_their_first_polls() {
    let _guard = begin();
    block_on(async {
        let (log, mut random) = (WakeLog::new(), Random::new(1));
        let deadline = Instant::now();
        let mut timers: Vec<_> = (0..500).map(|number| (number, Timer::at(deadline))).collect();
        random.shuffle(&mut timers);
        for (number, timer) in &mut timers {
            assert!(poll_with(timer, &log.waker(*number)).is_pending());
        }
        let order: Vec<usize> = timers.iter().map(|(number, _)| *number).collect();
        // Neither another waker nor the going of others changes their places.
        random.shuffle(&mut timers);
        let mut gone = Vec::new();
        for (number, mut timer) in timers.drain(..250).collect::<Vec<_>>() {
            if number % 2 == 0 {
                assert!(poll_with(&mut timer, &log.waker(number)).is_pending());
                timers.push((number, timer));
            } else {
                gone.push(number);
            }
        }
        turn().await;
        let left = order.into_iter().filter(|number| !gone.contains(number));
        assert_eq!(log.take(), left.collect::<Vec<_>>());
    });
}

// C22: a deadline that is set again is a new one, behind its equals.
#[test]
fn a_timer_that_is_set_anew_goes_to_the_end_of_its_equals() {
    let _guard = begin();
    block_on(async {
        let log = WakeLog::new();
        let deadline = Instant::now();
        let mut timers: Vec<_> = (0..6).map(|_| Timer::at(deadline)).collect();
        for (number, timer) in timers.iter_mut().enumerate() {
            assert!(poll_with(timer, &log.waker(number)).is_pending());
        }
        for number in [3, 0] {
            timers[number].set_at(deadline);
            assert!(poll_with(&mut timers[number], &log.waker(number)).is_pending());
        }
        turn().await;
        assert_eq!(log.take(), [1, 2, 4, 5, 3, 0]);
    });
}

// C22
#[test]
fn a_hundred_thousand_timers_go_off_in_order_and_each_once() {
    let _guard = begin();
    block_on(async {
        let (log, mut random) = (WakeLog::new(), Random::new(22));
        let start = Instant::now();
        let mut timers = Vec::new();
        // All in one poll, so that none goes off before the last is set.
        for number in 0..100_000 {
            let deadline = start + Duration::from_micros(random.below(200_000));
            let mut timer = Timer::at(deadline);
            assert!(poll_with(&mut timer, &log.waker(number)).is_pending());
            timers.push((deadline, number, timer));
        }
        random.shuffle(&mut timers);
        timers.truncate(50_000);
        until(start + ms(200)).await;
        timers.sort_unstable_by_key(|&(deadline, number, _)| (deadline, number));
        let order: Vec<usize> = timers.iter().map(|&(_, number, _)| number).collect();
        assert!(log.take() == order, "out of order");
        for (deadline, _, timer) in &mut timers {
            let ready = poll_with(timer, &kit::noop_waker());
            assert_eq!(ready, Poll::Ready(*deadline));
        }
        turn().await;
        assert_eq!(log.take(), []);
    });
}

/// One timer of the model.
struct Entry {
    timer: Timer,
    deadline: Instant,
    period: Option<Duration>,
    /// The number of its present wait, which is also its age; `None` if it has not been polled
    /// since it was set.
    wait: Option<usize>,
    went_off: bool,
}

/// The timers, and what is to become of them.
struct Model {
    random: Random,
    log: WakeLog,
    entries: Vec<Entry>,
    waits: usize,
    went_off: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (random, log) = (Random::new(seed), WakeLog::new());
        Model { random, log, entries: Vec::new(), waits: 0, went_off: 0 }
    }

    /// Mostly within two milliseconds before or after now, in steps, so that some are equal.
    fn deadline(&mut self) -> Instant {
        let base = Instant::now() - ms(2);
        match self.random.below(10) {
            0 => base + HOUR,
            _ => base + Duration::from_micros(self.random.below(40) * 100),
        }
    }

    fn make(&mut self) {
        let (deadline, period) = (self.deadline(), self.period());
        let timer = match period {
            Some(period) => Timer::interval_at(deadline, period),
            None => Timer::at(deadline),
        };
        self.entries.push(Entry { timer, deadline, period, wait: None, went_off: false });
    }

    fn period(&mut self) -> Option<Duration> {
        (self.random.below(3) == 0).then(|| Duration::from_micros(1 + self.random.below(3000)))
    }

    fn set(&mut self, index: usize) {
        let (deadline, period) = (self.deadline(), self.period());
        let entry = &mut self.entries[index];
        match period {
            Some(period) => entry.timer.set_interval_at(deadline, period),
            None => entry.timer.set_at(deadline),
        }
        (entry.deadline, entry.period) = (deadline, period);
        (entry.wait, entry.went_off) = (None, false);
    }

    /// Polls a timer with a new waker: it is ready if, and only if, a turn has found it due.
    fn poll(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        let number = entry.wait.unwrap_or(self.waits);
        let polled = poll_next(&mut entry.timer, &self.log.waker(number));
        if entry.went_off {
            assert_eq!(polled, Poll::Ready(Some(entry.deadline)));
            assert_eq!(entry.timer.will_fire(), entry.period.is_some());
            entry.went_off = false;
            entry.wait = None;
            match entry.period {
                Some(period) => entry.deadline += period,
                // It has had its day: only a new setting brings it back.
                None => self.set(index),
            }
        } else {
            assert_eq!(polled, Poll::Pending);
            if entry.wait.is_none() {
                entry.wait = Some(number);
                self.waits += 1;
            }
        }
    }

    fn change(&mut self) {
        let len = self.entries.len();
        let what = self.random.below(10);
        if len == 0 || (what < 3 && len < 200) {
            return self.make();
        }
        let index = self.random.index(len);
        match what {
            0..3 => drop(self.entries.swap_remove(index)),
            3 => self.set(index),
            4 if self.random.below(2) == 0 => drop(self.entries.swap_remove(index)),
            _ => self.poll(index),
        }
    }

    /// Compares what a turn between two readings of the clock has woken with the list.
    fn check(&mut self, before: Instant, after: Instant) {
        let woken = self.log.take();
        let waiting = self.entries.iter_mut().filter(|entry| !entry.went_off);
        let mut waiting: Vec<_> = waiting.filter_map(|entry| Some((entry.wait?, entry))).collect();
        waiting.sort_by_key(|(wait, entry)| (entry.deadline, *wait));
        assert!(woken.len() <= waiting.len(), "woken: {woken:?}");
        for (number, (wait, entry)) in woken.iter().zip(&mut waiting) {
            assert_eq!(number, wait, "out of order");
            assert!(entry.deadline <= after, "early");
            entry.went_off = true;
        }
        let forgotten = waiting[woken.len()..].iter().find(|(_, entry)| entry.deadline <= before);
        assert!(forgotten.is_none(), "due, and not gone off");
        self.went_off += woken.len();
    }
}

// C04, C19, C22
#[test]
fn the_queue_does_what_a_sorted_list_does() {
    let _guard = begin();
    for seed in 1..=6 {
        block_on(async {
            let mut model = Model::new(seed);
            for _ in 0..400 {
                for _ in 0..model.random.below(30) {
                    model.change();
                }
                let before = Instant::now();
                turn().await;
                model.check(before, Instant::now());
            }
            assert!(model.went_off > 500, "only {} went off", model.went_off);
        });
    }
}
