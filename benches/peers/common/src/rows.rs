//! The front of a `micro_…` program: `micro_PEER ROW[@PARAMETER] N [REPEATS]`.
//!
//! Without arguments it lists the rows that it has. With more than one repeat there is a warm-up of a
//! tenth, and of several values the smallest counts: whatever disturbs a run makes it longer.

use std::time::{Duration, Instant};

/// A row does N operations, in a way that depends on the parameter, and says what they took: mostly
/// one value, nanoseconds per operation.
pub type Row = fn(n: u64, parameter: u64) -> Vec<f64>;

/// Runs the row that the command line names and prints what it says.
///
/// # Panics
///
/// If the command line names no row of these, or no number where there should be one.
pub fn main(rows: &[(&str, Row)]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(row) = arguments.first() else {
        for (name, _) in rows {
            println!("{name}");
        }
        return;
    };
    let (name, parameter) = row.split_once('@').unwrap_or((row, "0"));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"));
    let n: u64 = arguments.get(1).map_or(1, |text| number(text));
    let repeats = arguments.get(2).map_or(1, |text| number(text));
    crate::os::timer_slack_from_environment();
    let Some((_, row)) = rows.iter().find(|(known, _)| *known == name) else {
        panic!("there is no row `{name}`");
    };
    let parameter = number(parameter);
    if repeats > 1 {
        row((n / 10).max(1), parameter);
    }
    let mut best = row(n, parameter);
    for _ in 1..repeats {
        for (best, value) in best.iter_mut().zip(row(n, parameter)) {
            *best = best.min(value);
        }
    }
    let values: Vec<String> = best.iter().map(|value| format!("{value:.2}")).collect();
    println!("{}", values.join(" "));
}

/// What N operations have taken since then, each.
pub fn since(start: Instant, n: u64) -> Vec<f64> {
    per(start.elapsed(), n)
}

/// What each of N operations takes if all take this.
pub fn per(all: Duration, n: u64) -> Vec<f64> {
    vec![all.as_nanos() as f64 / n as f64]
}

/// The median of these.
///
/// # Panics
///
/// If there are none.
pub fn median(mut values: Vec<Duration>) -> Vec<f64> {
    values.sort_unstable();
    vec![values[values.len() / 2].as_nanos() as f64]
}

/// How many things are made between two looks at the clock.
pub const CHUNK: u64 = 50;

/// How long a loop does not come around, as a task sees it that looks at the clock whenever it does.
pub struct Pauses {
    last: Instant,
    longest: Duration,
}

impl Pauses {
    /// Begins to look.
    pub fn new() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    /// Looks at the clock.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    /// The longest there was, in nanoseconds.
    pub fn longest(&self) -> Vec<f64> {
        per(self.longest, 1)
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self::new()
    }
}
