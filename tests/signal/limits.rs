//! Signals where something is full or missing: the pipe from the handler, a stream that nobody
//! polls, descriptors, watches.
#![allow(unsafe_code, reason = "the size of a pipe")]

use crate::kit;
use crate::kit::deliveries;
use crate::kit::keys;
use deliveries::{next, numbers, poll, poll_here, queue, raise_here, rest, try_poll, values};
use keys::{millis, raise};
use selio::block_on;
use selio::signal::{SIGRTMIN, SIGUSR1, SIGUSR2, SIGWINCH, SignalInfo, Signals};
use std::os::fd::RawFd;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;

/// How many deliveries a stream keeps, as its documentation says.
const KEPT: i32 = 8_192;

pub(crate) fn cases() -> Vec<kit::Case> {
    vec![
        kit::case("a_full_pipe_merges", a_full_pipe_merges),
        kit::case("the_pipe_holds_what_it_shall", the_pipe_holds_what_it_shall),
        kit::case("the_pipe_cannot_grow", the_pipe_cannot_grow),
        kit::case("a_storm_while_the_loop_is_blocked", a_storm_while_the_loop_is_blocked),
        kit::case("no_burst_is_stranded", no_burst_is_stranded),
        kit::case("an_idle_stream_merges", an_idle_stream_merges),
        kit::case("an_idle_stream_of_blocked_signals_merges", an_idle_stream_of_blocked_signals),
        kit::case("what_nobody_polls_takes_no_memory", what_nobody_polls_takes_no_memory),
        kit::case("no_descriptors_for_the_pipe", no_descriptors_for_the_pipe),
        kit::case("no_descriptors_at_the_first_poll", no_descriptors_at_the_first_poll),
        kit::case("no_watch_at_the_first_poll", no_watch_at_the_first_poll),
        kit::case("nothing_is_left_open", nothing_is_left_open),
        kit::case("nothing_is_left_allocated", nothing_is_left_allocated),
    ]
}

/// A signal of which only the number is known: several became one.
fn is_merged(info: &SignalInfo) -> bool {
    let rest = (info.code(), info.pid(), info.uid(), info.value(), info.pointer());
    rest == (0, 0, 0, 0, 0)
}

/// The pipe from the handler; its write end.
fn writer() -> RawFd {
    let pipes = kit::open_fds().into_iter().filter(|(_, name)| name.starts_with("pipe:"));
    let mut writers = pipes.filter(|&(fd, _)| kit::fdinfo(fd).contains("flags:\t02004001"));
    let (fd, _) = writers.next().expect("a non-blocking end to write to");
    assert!(writers.next().is_none());
    fd
}

/// How many signals the pipe holds.
fn room() -> i32 {
    // SAFETY: the call takes numbers.
    let bytes = unsafe { libc::fcntl(writer(), libc::F_GETPIPE_SZ) };
    assert!(bytes > 0);
    bytes / 64
}

/// Makes the pipe hold 64 signals.
fn shrink() {
    // SAFETY: the call takes numbers.
    let bytes = unsafe { libc::fcntl(writer(), libc::F_SETPIPE_SZ, 4096) };
    if bytes != 4096 {
        kit::pass_over("this system has greater pages");
    }
}

// D20
fn a_full_pipe_merges() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo, SIGUSR1, SIGWINCH]).unwrap();
    shrink();
    for _ in 0..3 {
        (0..100).for_each(|value| queue(signo, value));
        raise(SIGWINCH);
        let all = rest(&mut signals);
        let (whole, merged) = all.split_at(64);
        assert_eq!(Vec::from_iter(whole.iter().map(SignalInfo::value)), Vec::from_iter(0..64));
        let mut numbers: Vec<i32> = merged.iter().map(SignalInfo::signo).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [SIGWINCH, signo]);
        assert!(merged.iter().all(is_merged));
        // And there is room again.
        queue(signo, 7);
        assert_eq!(values(&mut signals), [7]);
    }
}

// D20
fn the_pipe_holds_what_it_shall() {
    let [first, second] = [SIGRTMIN(), SIGRTMIN() + 1];
    let mut both = [Signals::new([first]).unwrap(), Signals::new([second]).unwrap()];
    let half = room() / 2;
    for value in 0..half {
        queue(first, value);
        queue(second, value);
    }
    for signals in &mut both {
        assert_eq!(values(signals), Vec::from_iter(0..half));
    }
}

// D20: the limit that stands at `Signals`.
fn the_pipe_cannot_grow() {
    let command = libc::F_SETPIPE_SZ as u32;
    kit::refuse_when(libc::SYS_fcntl, 1, command, libc::EPERM);
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo]).unwrap();
    assert_eq!(room(), 1_024);
    (0..1_030).for_each(|value| queue(signo, value));
    let all = rest(&mut signals);
    assert_eq!(all.len(), 1_025);
    assert!(is_merged(&all[1_024]));
}

// D20
fn a_storm_while_the_loop_is_blocked() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo, SIGUSR1, SIGWINCH]).unwrap();
    assert!(poll(&mut signals, Waker::noop()).is_pending());
    let (send, wait) = mpsc::channel::<()>();
    let storm = thread::spawn(move || {
        for value in 0..100_000 {
            queue(signo, value);
            raise(SIGUSR1);
        }
        raise_here(SIGWINCH);
        drop(send);
    });
    // Neither the loop nor the storm waits for the other.
    assert!(wait.recv().is_err());
    storm.join().unwrap();
    let all = rest(&mut signals);
    for wanted in [signo, SIGUSR1, SIGWINCH] {
        assert!(all.iter().any(|it| it.signo() == wanted), "{wanted}");
        let merged = all.iter().filter(|it| it.signo() == wanted && is_merged(it));
        assert_eq!(merged.count(), 1, "{wanted}");
    }
    assert!(all.len() >= 1_024, "{}", all.len());
    assert_eq!(numbers(&mut signals), []);
}

// D22
fn no_burst_is_stranded() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo, SIGUSR2]).unwrap();
    shrink();
    let (go, rounds) = mpsc::channel();
    let bursts = thread::spawn(move || {
        for round in rounds {
            // Around the size of the pipe, so that the last one often finds it full.
            (0..60 + round % 16).for_each(|_| raise_here(signo));
            raise_here(SIGUSR2);
        }
    });
    for round in 0..3_000 {
        go.send(round).unwrap();
        // Of the burst at least one comes, and the signal after it.
        while next(&mut signals).signo() != SIGUSR2 {}
    }
    drop(go);
    bursts.join().unwrap();
}

// J02
fn an_idle_stream_merges() {
    fill_an_idle_stream(SIGRTMIN());
}

// J02
fn an_idle_stream_of_blocked_signals() {
    kit::block_signal(SIGRTMIN());
    fill_an_idle_stream(SIGRTMIN());
}

/// Lets one stream idle while another is polled, which takes in for both.
fn fill_an_idle_stream(signo: i32) {
    let mut idle = Signals::new([signo, SIGWINCH]).unwrap();
    let mut busy = Signals::new([signo]).unwrap();
    let before = kit::allocated_bytes();
    block_on(async {
        for value in 0..100_000 {
            queue(signo, value);
            if value % 500 == 499 {
                for _ in 0..500 {
                    busy.next().await.unwrap().unwrap();
                }
            }
        }
        raise(SIGWINCH);
        raise(SIGWINCH);
        selio::time::sleep(millis(3)).await;
    });
    let kept = kit::allocated_bytes() - before;
    assert!(kept < 2_000_000, "{kept}");
    let all = rest(&mut idle);
    let whole = all.iter().take(KEPT as usize).map(SignalInfo::value);
    assert_eq!(Vec::from_iter(whole), Vec::from_iter(0..KEPT));
    let merged = &all[KEPT as usize..];
    assert!(merged.iter().all(is_merged));
    let mut numbers: Vec<i32> = merged.iter().map(SignalInfo::signo).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [SIGWINCH, signo]);
    // What comes from now on comes one by one again, and what is merged is given up when the signal
    // is.
    queue(signo, -1);
    assert_eq!(values(&mut idle), [-1]);
    assert_eq!(values(&mut busy), [-1]);
}

// J02
fn what_nobody_polls_takes_no_memory() {
    let signo = SIGRTMIN();
    let signals = Signals::new([signo, SIGUSR1]).unwrap();
    block_on(async { selio::time::sleep(millis(1)).await });
    let before = kit::allocations();
    for value in 0..50_000 {
        queue(signo, value);
        raise(SIGUSR1);
    }
    assert_eq!(kit::allocations(), before, "the handler allocates");
    kit::assert_quiet(|| thread::sleep(millis(100)));
    drop(signals);
    assert!(kit::disposition(signo).is_default());
}

/// Leaves this many descriptors free while something runs.
fn with_free<T>(free: u64, body: impl FnOnce() -> T) -> T {
    let open: Vec<i32> = kit::open_fds().into_iter().map(|(fd, _)| fd).collect();
    // The numbers below the highest that are free count as well.
    let mut limit = 0;
    let mut left = free;
    loop {
        if !open.contains(&(limit as i32)) {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        limit += 1;
    }
    let highest = open.last().map_or(0, |&fd| fd as u64);
    assert!(limit > highest, "the numbers have a gap");
    let before = kit::set_nofile_limit(limit);
    let value = body();
    kit::set_nofile_limit(before);
    value
}

#[track_caller]
fn assert_no_descriptors(error: &std::io::Error) {
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
}

// B13
fn no_descriptors_for_the_pipe() {
    let before = (kit::open_fds(), keys::disposition(SIGUSR1), kit::signal_mask());
    let none = with_free(0, || Signals::new([]));
    let mut none = none.expect("it needs no descriptor");
    for free in [0, 1] {
        let error = with_free(free, || Signals::new([SIGUSR1, SIGUSR2]).unwrap_err());
        assert_no_descriptors(&error);
        let error = with_free(free, || none.add(SIGUSR1).unwrap_err());
        assert_no_descriptors(&error);
        assert!(!none.remove(SIGUSR1));
        let now = (kit::open_fds(), keys::disposition(SIGUSR1), kit::signal_mask());
        assert_eq!(now, before);
    }
    block_on(async {});
    let interrupted = with_free(0, selio::signal::ctrl_c);
    assert_no_descriptors(&block_on(interrupted).unwrap_err());
    none.add(SIGUSR1).unwrap();
    raise(SIGUSR1);
    assert_eq!(numbers(&mut none), [SIGUSR1]);
}

// B13
fn no_descriptors_at_the_first_poll() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    let (counter, waker) = kit::CountingWaker::new();
    // With the thread's reactor to be made as well, and then without it.
    for (blocked, needed) in [(false, 4), (true, 2)] {
        let before = kit::open_fds();
        for free in 0..needed {
            let polled = with_free(free, || try_poll(&mut signals, &waker));
            let Poll::Ready(Err(error)) = polled else { panic!("{free} free: {polled:?}") };
            assert_no_descriptors(&error);
            assert_eq!(kit::open_fds(), before, "{free} free");
            assert_eq!(counter.wakers(), 1, "{free} free");
        }
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        raise(SIGUSR1);
        let polled = with_free(0, || try_poll(&mut signals, &waker));
        assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
        let info = with_free(needed, || block_on(async { poll_here(&mut signals, &waker) }));
        assert!(matches!(info, Poll::Ready(info) if info.signo() == SIGUSR1), "{info:?}");
        assert_eq!(numbers(&mut signals), []);
        // The reactor stays, the rest goes.
        signals = Signals::new([SIGUSR1]).unwrap();
    }
}

// B13: epoll takes no more (the user's limit of watches), after the thread has begun to wait.
fn no_watch_at_the_first_poll() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    block_on(async { selio::time::sleep(millis(1)).await });
    let before = kit::open_fds();
    let add = libc::EPOLL_CTL_ADD as u32;
    kit::refuse_when(libc::SYS_epoll_ctl, 1, add, libc::ENOSPC);
    for _ in 0..2 {
        let error = block_on(signals.next()).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        assert_eq!(kit::open_fds(), before);
    }
    // What is there can be taken, as no wait is needed for it: at once, or after the error.
    raise(SIGUSR1);
    let taken = (0..2).find_map(|_| block_on(signals.next()).unwrap().ok());
    assert_eq!(taken.unwrap().signo(), SIGUSR1);
}

fn nothing_is_left_open() {
    let whole = || {
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        let mut other = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
        raise_here(SIGUSR1);
        assert_eq!(next(&mut signals).signo(), SIGUSR1);
        assert!(poll(&mut signals, Waker::noop()).is_pending());
        assert_eq!(next(&mut other).signo(), SIGUSR1);
        other.remove(SIGUSR2);
    };
    whole();
    let before = kit::open_fds();
    for _ in 0..20 {
        whole();
        thread::spawn(whole).join().unwrap();
        assert!(kit::poll_once(selio::signal::ctrl_c()).is_pending());
        assert!(Signals::new([SIGUSR1, 0]).is_err());
    }
    assert_eq!(kit::open_fds(), before);
    let reader_and_writer = before.iter().filter(|(_, name)| name.starts_with("pipe:"));
    assert_eq!(reader_and_writer.count(), 2, "{before:?}");
}

fn nothing_is_left_allocated() {
    let whole = |rounds: i32| {
        for _ in 0..rounds {
            let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
            raise(SIGUSR1);
            assert!(poll(&mut signals, Waker::noop()).is_ready());
            assert!(poll(&mut signals, Waker::noop()).is_pending());
            // Another disposition is found each time, of two.
            keys::set_handler(libc::SIGHUP, libc::SIG_IGN, 0);
            signals.add(libc::SIGHUP).unwrap();
            signals.remove(libc::SIGHUP);
            keys::set_handler(libc::SIGHUP, libc::SIG_DFL, 0);
            signals.add(libc::SIGHUP).unwrap();
        }
    };
    whole(10);
    let before = kit::allocated_bytes();
    whole(500);
    let more = kit::allocated_bytes().saturating_sub(before);
    assert!(more < 500, "{more} bytes more");
}
