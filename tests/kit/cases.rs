//! A small test runner: every case in a process of its own.
//!
//! The test binary starts itself again for each case, with the case's name in the environment. The
//! output is libtest's, and so are the arguments, as far as cargo test and cargo nextest need them.

use super::rerun::{CASE_VARIABLE, Ended, rerun};
use super::watchdog::WATCHDOG_SECS;
use std::env;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The exit status of a case that could not be tried here.
pub(super) const PASSED_OVER_STATUS: i32 = 77;
pub(super) const PASSED_OVER: &str = "passed over: ";

/// A named test that runs in a process of its own.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    name: &'static str,
    first: fn(),
    body: fn(),
    secs: u64,
}

/// A case with the usual time limit.
///
/// A name that begins with `_` is a part: it is neither listed nor counted, and runs only when
/// another case asks for it by [`rerun`].
pub const fn case(name: &'static str, body: fn()) -> Case {
    Case { name, first: || {}, body, secs: WATCHDOG_SECS }
}

/// Cases with the usual time limit.
pub fn cases(cases: &[(&'static str, fn())]) -> Vec<Case> {
    cases.iter().map(|&(name, body)| case(name, body)).collect()
}

impl Case {
    /// Gives the case another time limit.
    #[must_use]
    pub const fn secs(mut self, secs: u64) -> Self {
        self.secs = secs;
        self
    }

    /// What is done before the case begins, such as to refuse it a system call.
    #[must_use]
    pub const fn first(mut self, first: fn()) -> Self {
        self.first = first;
        self
    }

    /// The case by a longer name.
    #[must_use]
    pub fn named(mut self, name: impl FnOnce(&str) -> String) -> Self {
        self.name = name(self.name).leak();
        self
    }

    fn is_part(&self) -> bool {
        self.name.rsplit("::").next().is_some_and(|name| name.starts_with('_'))
    }
}

/// The name of the running case or, under libtest, of the running test.
pub fn case_name() -> String {
    env::var(CASE_VARIABLE).unwrap_or_else(|_| {
        let thread = std::thread::current();
        thread.name().unwrap_or("unnamed").to_string()
    })
}

/// Ends the running case as one that cannot be tried here; it counts as passed, with the reason.
///
/// Only for cases of their own process: under libtest it would end the whole binary.
pub fn pass_over(reason: &str) -> ! {
    assert!(env::var_os(CASE_VARIABLE).is_some(), "pass_over is for child cases");
    println!("{PASSED_OVER}{reason}");
    let _ = std::io::stdout().flush();
    std::process::exit(PASSED_OVER_STATUS)
}

/// A file of cases: its name, and what lists them.
pub type File = (&'static str, fn() -> Vec<Case>);

/// The `main` of a test binary with `harness = false` whose cases stand in several files.
pub fn run_files(files: &[File]) {
    let cases_of = |&(file, cases): &File| {
        cases().into_iter().map(move |case| case.named(|name| format!("{file}::{name}")))
    };
    run_cases(&files.iter().flat_map(cases_of).collect::<Vec<_>>());
}

/// The `main` of a test binary with `harness = false`.
pub fn run_cases(cases: &[Case]) {
    if let Ok(name) = env::var(CASE_VARIABLE) {
        return run_here(cases, &name);
    }
    let options = Options::parse(env::args().skip(1));
    let tests = cases.iter().filter(|case| !case.is_part());
    let (chosen, others): (Vec<Case>, Vec<Case>) =
        tests.partition(|case| options.chooses(case.name));
    if options.list {
        return options.print_list(&chosen);
    }
    if !run_all(&chosen, others.len(), &options) {
        std::process::exit(101);
    }
}

/// Runs one case in this process, in its main thread.
fn run_here(cases: &[Case], name: &str) {
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        panic!("no case is named `{name}`");
    };
    super::process::fresh_start();
    (case.first)();
    (case.body)();
}

#[derive(Debug, Default)]
struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    terse: bool,
    nocapture: bool,
    only_ignored: bool,
    threads: Option<usize>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Self::default();
        if let Ok(threads) = env::var("RUST_TEST_THREADS") {
            options.threads = threads.parse().ok();
        }
        while let Some(arg) = args.next() {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) if flag.starts_with('-') => (flag, Some(value.to_string())),
                _ => (arg.as_str(), None),
            };
            let takes_value = ["--skip", "--format", "--test-threads", "--color", "--logfile"]
                .iter()
                .chain(&["-Z", "--shuffle-seed"])
                .any(|&known| known == flag);
            let value = match value {
                None if takes_value => args.next(),
                value => value,
            };
            options.set(flag, value.unwrap_or_default());
        }
        options
    }

    fn set(&mut self, flag: &str, value: String) {
        match flag {
            "--exact" => self.exact = true,
            "--list" => self.list = true,
            "--nocapture" | "--no-capture" => self.nocapture = true,
            "--ignored" => self.only_ignored = true,
            "--format" => self.terse = value == "terse",
            "--skip" => self.skips.push(value),
            "--test-threads" => self.threads = value.parse().ok(),
            // Whatever else libtest knows changes nothing here.
            _ if flag.starts_with('-') => {}
            _ => self.filters.push(flag.to_string()),
        }
    }

    fn chooses(&self, name: &str) -> bool {
        let fits = |pattern: &String| match self.exact {
            true => name == pattern,
            false => name.contains(pattern.as_str()),
        };
        let wanted = self.filters.is_empty() || self.filters.iter().any(fits);
        // No case is ignored, so that "only the ignored ones" is none.
        wanted && !self.skips.iter().any(fits) && !self.only_ignored
    }

    fn print_list(&self, chosen: &[Case]) {
        for case in chosen {
            println!("{}: test", case.name);
        }
        if !self.terse {
            println!("\n{}, 0 benchmarks", counted(chosen.len()));
        }
    }

    /// How many cases run at a time: three unless told otherwise, for most of them wait for something,
    /// and one where there is one core or the output is not captured.
    fn lanes(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let usual = if self.nocapture || cores == 1 { 1 } else { 3 };
        self.threads.unwrap_or(usual).max(1)
    }
}

fn counted(tests: usize) -> String {
    format!("{tests} test{}", if tests == 1 { "" } else { "s" })
}

/// Runs the chosen cases and prints libtest's lines; whether all of them passed.
fn run_all(chosen: &[Case], filtered_out: usize, options: &Options) -> bool {
    let start = Instant::now();
    println!("\nrunning {}", counted(chosen.len()));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.lanes().min(chosen.len()) {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ended = rerun(case.name).secs(case.secs).show(options.nocapture).run();
                    if !report(case.name, &ended) {
                        failures.lock().unwrap().push((case.name, ended));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    print_failures(&failures);
    let passed = chosen.len() - failures.len();
    print_summary(passed, failures.len(), filtered_out, start.elapsed());
    failures.is_empty()
}

/// Prints the line of one case; whether it passed. One call per case, so that lines stay whole.
fn report(name: &str, ended: &Ended) -> bool {
    let passed_over = ended.passed_over();
    let note = match passed_over {
        Some(reason) => format!("{PASSED_OVER}{name}: {reason}\n"),
        None => String::new(),
    };
    let passed = ended.success() || passed_over.is_some();
    let verdict = if passed { "ok" } else { "FAILED" };
    println!("{note}test {name} ... {verdict}");
    passed
}

fn print_failures(failures: &[(&str, Ended)]) {
    if failures.is_empty() {
        return;
    }
    println!("\nfailures:\n");
    for (name, ended) in failures {
        let why = ended.why();
        println!("---- {name} ----\n{}\n{name}: {why}\n", ended.output.trim_end());
    }
    println!("\nfailures:");
    for (name, _) in failures {
        println!("    {name}");
    }
}

fn print_summary(passed: usize, failed: usize, filtered_out: usize, time: Duration) {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {filtered_out} filtered out; finished in {:.2}s\n",
        time.as_secs_f64()
    );
}
