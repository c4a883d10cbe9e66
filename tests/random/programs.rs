//! Makes programs by chance, runs them, and makes shorter what fails.
//!
//! The programs are always the same, unless the environment asks for others:
//!
//! * `SELIO_RANDOM_BYTES=0a1b` runs one program, in hexadecimal digits;
//! * `SELIO_RANDOM_SECS=60` runs as many as there is time for;
//! * `SELIO_RANDOM_SEED=7` begins with another seed.

use crate::kit;
use crate::kit::timers::Random;
use std::env;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const BYTES_VARIABLE: &str = "SELIO_RANDOM_BYTES";
const SECS_VARIABLE: &str = "SELIO_RANDOM_SECS";
const SEED_VARIABLE: &str = "SELIO_RANDOM_SEED";

const LONGEST_PROGRAM: u64 = 500;
/// A program that runs so long hangs.
const LONGEST_RUN_SECS: u64 = 8;
/// For how long a program that fails is made shorter.
const SHORTENING: Duration = Duration::from_secs(8);

type Run = fn(&[u8]);

/// The program that runs, and since when.
static RUNNING: Mutex<Option<(Instant, Vec<u8>)>> = Mutex::new(None);

/// The one case of a file, with time for what it is asked for.
pub(crate) fn cases(body: fn()) -> Vec<kit::Case> {
    let secs = 60 + number(SECS_VARIABLE).unwrap_or(0);
    vec![kit::case("random_programs_do_as_the_model", body).secs(secs)]
}

/// Runs so many programs, or what the environment asks for.
pub(crate) fn run(run: Run, count: u64) {
    thread::spawn(watch);
    if let Ok(digits) = env::var(BYTES_VARIABLE) {
        return run(&from_hex(&digits));
    }
    let end = number(SECS_VARIABLE).map(|secs| Instant::now() + Duration::from_secs(secs));
    let first = number(SEED_VARIABLE).unwrap_or(1);
    for seed in first.. {
        if end.map_or(seed - first >= count, |end| Instant::now() >= end) {
            return println!("{} programs", seed - first);
        }
        // For whoever looks for the one that has ended the process.
        if seed % 50 == 0 {
            println!("the program of seed {seed}, and those after it");
        }
        let program = program(seed);
        if !passes(run, &program) {
            report(run, seed, program);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number")))
}

fn program(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let len = 1 + random.below(LONGEST_PROGRAM);
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn passes(run: Run, program: &[u8]) -> bool {
    *RUNNING.lock().unwrap() = Some((Instant::now(), program.to_vec()));
    let ended = panic::catch_unwind(AssertUnwindSafe(|| run(program)));
    *RUNNING.lock().unwrap() = None;
    ended.is_ok()
}

/// Says which program has failed, and then the shortest that was found to fail as well.
fn report(run: Run, seed: u64, program: Vec<u8>) -> ! {
    eprintln!("the program of seed {seed} failed: {BYTES_VARIABLE}={}", to_hex(&program));
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let short = shorten(run, program);
    panic::set_hook(hook);
    eprintln!("a shorter one, and how it fails: {BYTES_VARIABLE}={}", to_hex(&short));
    run(&short);
    panic!("it has passed this time");
}

/// Leaves out what can be left out, in smaller and smaller pieces.
fn shorten(run: Run, mut program: Vec<u8>) -> Vec<u8> {
    let end = Instant::now() + SHORTENING;
    let mut piece = program.len().next_power_of_two() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < program.len() && Instant::now() < end {
            let mut shorter = program.clone();
            shorter.drain(at..(at + piece).min(program.len()));
            if passes(run, &shorter) {
                at += piece;
            } else {
                program = shorter;
            }
        }
        piece /= 2;
    }
    program
}

fn to_hex(program: &[u8]) -> String {
    program.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let text = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
    text.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}

/// Ends the process, with the bytes, if a program hangs.
fn watch() {
    loop {
        thread::sleep(Duration::from_millis(100));
        if let Some((since, program)) = &*RUNNING.lock().unwrap() {
            if since.elapsed() > kit::patience(LONGEST_RUN_SECS) {
                eprintln!("a program hangs: {BYTES_VARIABLE}={}", to_hex(program));
                process::abort();
            }
        }
    }
}
