//! What is counted, and what has to be equal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Named counts, as one process prints them in a line and another reads them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(BTreeMap<String, u64>);

impl Report {
    pub(crate) fn parse(line: &str) -> Self {
        let count = |word: &str| {
            let (name, count) =
                word.split_once('=').unwrap_or_else(|| panic!("no counts: {line:?}"));
            (name.to_string(), count.parse().unwrap())
        };
        Self(line.split_whitespace().map(count).collect())
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_insert(0) += count;
        }
    }

    /// What the clients have sent and seen is what the server has got and done.
    #[track_caller]
    pub(crate) fn assert_even(&self, sent: &Report) {
        let zero =
            ["connections", "uneven", "busy", "zombies", "wrong_exits", "early", "out_of_order"];
        for name in zero {
            assert_eq!(self.get(name), 0, "{name} in: {self}");
        }
        assert_eq!(self.get("started"), self.get("ended"), "a child is missing: {self}");
        assert_eq!(self.get("values"), sent.get("values"), "a queued signal is missing: {self}");
        assert!(self.get("hangups") <= sent.get("hangups"), "signals from nowhere: {self}");
        assert!(self.get("hangups") > 0 && self.get("started") > 0, "nothing happened: {self}");
        // Some of what was said back to who resets is on its way for ever.
        assert!(self.get("sent") >= sent.get("verified"), "bytes from nowhere: {self}, {sent}");
        assert_eq!(self.get("accepted"), sent.get("connected"), "a connection is missing: {self}");
        // On a free core none is late. A busy one is slow in all it does, and a loop that stands still is
        // late for every tick.
        assert!(self.get("told") >= self.get("ticks"), "most ticks cannot be told of: {self}");
        for late in ["late_ticks", "late_turns"] {
            assert!(self.get(late) <= 5 + self.get("ticks") / 50, "the canary comes late: {self}");
        }
    }

    /// Nothing has grown.
    #[track_caller]
    pub(crate) fn assert_level_with(&self, before: &Report, slack: u64) {
        for name in ["descriptors", "threads"] {
            assert_eq!(self.get(name), before.get(name), "{name} in: {self}; before: {before}");
        }
        let heap = self.get("heap");
        assert!(heap <= before.get("heap") + slack, "the heap grows: {self}; before: {before}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|(name, count)| format!("{name}={count}")).collect();
        f.write_str(&words.join(" "))
    }
}

/// A table of counts in one thread.
#[derive(Debug, Default)]
pub(crate) struct Counts(RefCell<BTreeMap<&'static str, u64>>);

impl Counts {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<&'static str, u64>) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    pub(crate) fn add(&self, name: &'static str, more: u64) {
        self.with(|counts| *counts.entry(name).or_insert(0) += more);
    }

    pub(crate) fn subtract(&self, name: &'static str, less: u64) {
        self.with(|counts| *counts.get_mut(name).expect("it was added to") -= less);
    }

    pub(crate) fn set(&self, name: &'static str, count: u64) {
        self.with(|counts| counts.insert(name, count));
    }

    pub(crate) fn raise(&self, name: &'static str, count: u64) {
        self.with(|counts| {
            let most = counts.entry(name).or_insert(0);
            *most = (*most).max(count);
        });
    }

    pub(crate) fn get(&self, name: &'static str) -> u64 {
        self.with(|counts| counts.get(name).copied().unwrap_or(0))
    }

    pub(crate) fn report(&self) -> Report {
        self.with(|counts| {
            Report(counts.iter().map(|(name, count)| ((*name).to_string(), *count)).collect())
        })
    }
}
