//! The examples that run to their end by themselves, as programs: they end, and say what they
//! should.

mod kit;

use std::process::Command;

fn main() {
    kit::run_cases(&[kit::case("worker_threads", worker_threads).secs(60)]);
}

/// What an example prints, line by line. It must end well and complain of nothing.
fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let ended = Command::new(kit::example(name)).args(args).output().unwrap();
    let told = String::from_utf8(ended.stdout).unwrap();
    let complaints = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{}\n{told}\n{complaints}", ended.status);
    assert_eq!(complaints, "");
    told.lines().map(|line| line.trim().to_owned()).collect()
}

fn worker_threads() {
    for (limit, primes) in [("100000", 9592), ("10", 4), ("0", 0)] {
        let lines = lines("worker_threads", &[limit]);
        let told = format!("{primes} primes below {limit}, and a sieve agrees");
        assert_eq!(lines.last(), Some(&told));
        // What came from the threads, each in its own way.
        let parts = lines.iter().filter_map(|line| line.split_once(" primes in "));
        let parts: Vec<u64> = parts.map(|(count, _)| count.parse().unwrap()).collect();
        assert_eq!((parts.len(), parts.iter().sum()), (10, primes));
        let steps = lines.iter().filter_map(|line| line.strip_suffix('%'));
        let steps: Vec<u64> = steps.map(|percent| percent.parse().unwrap()).collect();
        assert!(steps.is_sorted() && steps.last() == Some(&100), "{steps:?}");
    }
    let wrong = Command::new(kit::example("worker_threads")).arg("many").output().unwrap();
    assert!(!wrong.status.success());
}
