//! Signals as a stream, on one thread: what comes, to whom, and how often.

use crate::kit;
use crate::kit::deliveries;
use crate::kit::keys;
use deliveries::{
    assert_silent, next, numbers, own_uid, poll, poll_here, queue, raise_here, rest, settle, values,
};
use futures_core::FusedStream;
use keys::{NOW, millis, one_key, own_pid, raise};
use selio::block_on;
use selio::selector::Selector;
use selio::signal::{SIGCHLD, SIGHUP, SIGRTMAX, SIGRTMIN, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use selio::time::sleep;
use std::io::ErrorKind;
use std::process::Command;
use std::task::{Poll, Waker};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("numbers_that_cannot_be_waited_for", numbers_that_cannot_be_waited_for),
        ("every_other_number_can_both_ways", every_other_number_can),
        ("what_came_before_is_not_told", what_came_before_is_not_told),
        ("what_is_pending_does_not_kill", what_is_pending_does_not_kill),
        ("what_was_caught_does_not_kill", what_was_caught_does_not_kill),
        ("what_was_removed_is_forgotten", what_was_removed_is_forgotten),
        ("every_stream_gets_each_delivery", every_stream_gets_each_delivery),
        ("each_stream_gets_what_it_wants", each_stream_gets_what_it_wants),
        ("first_polled_after_it_has_come", first_polled_after_it_has_come),
        ("one_of_two_is_dropped", one_of_two_is_dropped),
        ("beside_a_registered_signal", beside_a_registered_signal),
        ("beside_children_without_pidfds", beside_children_without_pidfds),
        ("beside_them_with_sigchld_blocked", beside_them_with_sigchld_blocked),
        ("added_and_removed_while_it_waits", added_and_removed_while_it_waits),
        ("blocked_and_unblocked_while_it_waits", blocked_and_unblocked_while_it_waits),
        ("ordinary_signals_merge", ordinary_signals_merge),
        ("read_and_the_future_dropped", read_and_the_future_dropped),
        ("the_future_dropped_after_each_poll", the_future_dropped_after_each_poll),
        ("never_none_of_itself", never_none_of_itself),
        ("the_hint_of_its_size_is_honest", the_hint_of_its_size_is_honest),
    ])
}

const REFUSED: [i32; 13] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    0,
    -1,
    i32::MIN,
    i32::MAX,
    32,
    33,
    128,
];

/// The handler has interrupted this thread, which has not asked the kernel since.
fn first_polled_after_it_has_come() {
    let mut waits = Signals::new([SIGUSR1]).unwrap();
    let mut late = Signals::new([SIGUSR1]).unwrap();
    block_on(async {
        assert!(poll_here(&mut waits, Waker::noop()).is_pending());
        sleep(millis(1)).await;
        raise_here(SIGUSR1);
        assert!(poll_here(&mut late, Waker::noop()).is_ready());
        assert!(poll_here(&mut waits, Waker::noop()).is_ready());
    });
}

// D08
fn numbers_that_cannot_be_waited_for() {
    let mut some = Signals::new([SIGUSR1]).unwrap();
    assert!(poll(&mut some, Waker::noop()).is_pending());
    let before = (kit::open_fds(), kit::signal_mask());
    let dispositions = keys::dispositions();
    for signo in REFUSED.into_iter().chain([SIGRTMAX() + 1]) {
        let with_others = [SIGUSR1, SIGUSR2, signo, SIGHUP];
        for error in [
            Signals::new([signo]).unwrap_err(),
            Signals::new(with_others).unwrap_err(),
            some.add(signo).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signo}");
            assert!(error.to_string().contains(&format!(" {signo} ")), "{error}");
        }
        assert!(!some.remove(signo));
        assert_eq!(keys::changed_since(&dispositions), [], "{signo}");
    }
    assert_eq!((kit::open_fds(), kit::signal_mask()), before);
    raise(SIGUSR1);
    assert_eq!(numbers(&mut some), [SIGUSR1]);
}

fn every_other_number_can() {
    let ordinary = (1..32).filter(|signo| !REFUSED.contains(signo));
    let all: Vec<i32> = ordinary.chain(SIGRTMIN()..=SIGRTMAX()).collect();
    let mut signals = Signals::new(all.iter().copied()).unwrap();
    for blocked in [false, true] {
        // One by one, because SIGCONT and the signals that stop discard each other.
        for &signo in &all {
            if blocked {
                kit::block_signal(signo);
            }
            raise(signo);
            assert_eq!(next(&mut signals).signo(), signo);
        }
    }
}

fn what_came_before_is_not_told() {
    let mut early = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    raise(SIGUSR1);
    raise(SIGUSR2);
    // Nobody has read it yet: it waits in the process.
    let mut late = Signals::new([SIGUSR1]).unwrap();
    late.add(SIGUSR2).unwrap();
    assert_eq!(numbers(&mut late), []);
    assert_eq!(numbers(&mut early), [SIGUSR1, SIGUSR2]);
    raise(SIGUSR1);
    drop(early);
    let mut again = Signals::new([SIGUSR1]).unwrap();
    assert_eq!(numbers(&mut again), []);
    assert_eq!(numbers(&mut late), [SIGUSR1]);
}

// D03: the signal is blocked by the program itself.
fn what_is_pending_does_not_kill() {
    kit::block_signal(SIGTERM);
    let mut signals = Signals::new([SIGTERM]).unwrap();
    assert!(poll(&mut signals, Waker::noop()).is_pending());
    raise(SIGTERM);
    raise_here(SIGTERM);
    drop(signals);
    settle();
    assert_eq!(kit::signal_mask(), [SIGTERM], "nothing was unblocked");
    // What nobody has read stays pending, for whoever the program has in mind.
    let mut signals = Signals::new([SIGTERM]).unwrap();
    assert_eq!(numbers(&mut signals), [SIGTERM, SIGTERM]);
}

// D03: the signal is not blocked.
fn what_was_caught_does_not_kill() {
    for polled in [false, true] {
        let mut signals = Signals::new([SIGTERM]).unwrap();
        if polled {
            assert!(poll(&mut signals, Waker::noop()).is_pending());
        }
        raise(SIGTERM);
        raise_here(SIGTERM);
        drop(signals);
        assert!(kit::disposition(SIGTERM).is_default());
        settle();
        let mut next_one = Signals::new([SIGTERM]).unwrap();
        assert_eq!(numbers(&mut next_one), [], "it was the former's");
        raise(SIGTERM);
        assert!(next_one.remove(SIGTERM));
        assert!(kit::disposition(SIGTERM).is_default());
    }
}

fn what_was_removed_is_forgotten() {
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    assert!(poll(&mut signals, Waker::noop()).is_pending());
    // Once in the pipe, once in the inbox.
    for taken_in in [false, true] {
        raise(SIGUSR1);
        raise(SIGUSR2);
        if taken_in {
            settle();
        }
        assert!(signals.remove(SIGUSR1));
        assert!(!signals.remove(SIGUSR1));
        assert!(kit::disposition(SIGUSR1).is_default());
        signals.add(SIGUSR1).unwrap();
        assert_eq!(numbers(&mut signals), [SIGUSR2]);
    }
    // One that is added twice is there once.
    signals.add(SIGUSR1).unwrap();
    raise(SIGUSR1);
    assert_eq!(numbers(&mut signals), [SIGUSR1]);
    assert_eq!(
        format!("{signals:?}"),
        format!("Signals {{ signals: [{SIGUSR2}, {SIGUSR1}], .. }}")
    );
    assert!(signals.remove(SIGUSR1));
    assert!(kit::disposition(SIGUSR1).is_default());
}

// D04
fn every_stream_gets_each_delivery() {
    let signo = SIGRTMIN();
    let mut all: Vec<_> = (0..3).map(|_| Signals::new([signo]).unwrap()).collect();
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(signo);
        }
        (0..100).for_each(|value| queue(signo, value));
        for signals in &mut all {
            assert_eq!(values(signals), Vec::from_iter(0..100));
        }
    }
}

// D04: nobody gets what another wants.
fn each_stream_gets_what_it_wants() {
    let mut one = Signals::new([SIGUSR1, SIGHUP]).unwrap();
    let mut other = Signals::new([SIGUSR2, SIGHUP]).unwrap();
    let mut none = Signals::new([]).unwrap();
    [SIGUSR1, SIGUSR2, SIGHUP].into_iter().for_each(raise);
    assert_eq!(numbers(&mut one), [SIGUSR1, SIGHUP]);
    assert_eq!(numbers(&mut none), []);
    assert_eq!(numbers(&mut other), [SIGUSR2, SIGHUP]);
}

// D05
fn one_of_two_is_dropped() {
    for first in [0, 1] {
        let mut both = vec![Signals::new([SIGUSR1]).unwrap(), Signals::new([SIGUSR1]).unwrap()];
        both.iter_mut().for_each(|it| assert!(poll(it, Waker::noop()).is_pending()));
        // One polls with the other's reactor known, and keeps it.
        drop(both.remove(first));
        raise(SIGUSR1);
        assert_eq!(numbers(&mut both[0]), [SIGUSR1]);
        kit::block_signal(SIGUSR1);
        raise(SIGUSR1);
        assert_eq!(numbers(&mut both[0]), [SIGUSR1]);
        kit::unblock_signal(SIGUSR1);
        drop(both);
        assert!(kit::disposition(SIGUSR1).is_default());
    }
}

// D04: the selector blocks the signal here, so that both read it; each delivery reaches one.
fn beside_a_registered_signal() {
    let signo = SIGRTMIN();
    let mut selector = Selector::new().unwrap();
    let mut signals = Signals::new([signo]).unwrap();
    selector.register_signal(signo, ()).unwrap();
    (0..10).for_each(|value| queue(signo, value));
    let mut seen: Vec<i32> =
        (0..3).map(|_| one_key(&mut selector).signal_info().unwrap().value()).collect();
    assert_eq!(seen, [0, 1, 2]);
    seen.extend(values(&mut signals));
    assert_eq!(seen, Vec::from_iter(0..10));
    assert_eq!(selector.select(NOW).unwrap().len(), 0);
    assert_silent(&mut signals);
}

// D05: a stream of SIGCHLD beside a selector that needs it.
fn beside_children_without_pidfds() {
    kit::refuse(&[(libc::SYS_pidfd_open, libc::ENOSYS)]);
    let found = keys::disposition(SIGCHLD);
    for selector_first in [true, false] {
        let mut selector = Some(Selector::new().unwrap());
        let mut signals = Signals::new([SIGCHLD]).ok();
        both_hear(selector.as_mut(), signals.as_mut());
        match selector_first {
            true => drop(selector.take()),
            false => drop(signals.take()),
        }
        both_hear(selector.as_mut(), signals.as_mut());
        drop((selector, signals));
        assert_eq!(keys::disposition(SIGCHLD), found);
    }
}

fn beside_them_with_sigchld_blocked() {
    kit::block_signal(SIGCHLD);
    beside_children_without_pidfds();
}

/// A child ends, of which both are told. The stream is polled first, and reads what is blocked.
fn both_hear(selector: Option<&mut Selector<()>>, mut signals: Option<&mut Signals>) {
    if let Some(signals) = &mut signals {
        assert!(poll(signals, Waker::noop()).is_pending());
    }
    let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let mut selector = selector;
    if let Some(selector) = &mut selector {
        selector.register_process(id, ()).unwrap();
    }
    drop(child.stdin.take());
    let keys_first = selector.is_some() && signals.is_none();
    if let (Some(signals), false) = (signals, keys_first) {
        let info = next(signals);
        assert_eq!((info.signo(), info.pid(), info.status()), (SIGCHLD, id, 0));
        assert_eq!(numbers(signals), []);
    }
    if let Some(selector) = &mut selector {
        let key = one_key(selector);
        selector.unregister(key.fd()).unwrap();
    }
    assert!(child.wait().unwrap().success());
}

fn added_and_removed_while_it_waits() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(SIGHUP);
        }
        let (counter, waker) = kit::CountingWaker::new();
        assert!(poll(&mut signals, &waker).is_pending());
        signals.add(SIGHUP).unwrap();
        raise(SIGHUP);
        settle();
        assert_eq!(counter.wakes(), 1);
        assert_eq!(numbers(&mut signals), [SIGHUP]);
        assert!(poll(&mut signals, &waker).is_pending());
        assert!(signals.remove(SIGHUP));
        if blocked {
            raise(SIGHUP);
            settle();
            assert_eq!(counter.wakes(), 1, "it stays pending");
        }
    }
}

fn blocked_and_unblocked_while_it_waits() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo]).unwrap();
    for round in 0..10 {
        queue(signo, round);
        assert_eq!(values(&mut signals), [round]);
        kit::block_signal(signo);
        queue(signo, 100);
        assert_eq!(values(&mut signals), [100]);
        queue(signo, 200);
        queue(signo, 201);
        // What nobody has read is the handler's now.
        kit::unblock_signal(signo);
        assert_eq!(values(&mut signals), [200, 201]);
    }
}

// D06
fn ordinary_signals_merge() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    let parent = own_pid();
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        let child = kit::in_child(|| (0..3).for_each(|_| kit::kill(parent, SIGUSR1).unwrap()));
        assert!(kit::wait_status(child).success());
        let all = rest(&mut signals);
        assert!((1..=3).contains(&all.len()), "{all:?}");
        assert!(!blocked || all.len() == 1, "{all:?}");
        assert!(all.iter().all(|it| (it.pid(), it.uid()) == (child as u32, own_uid())));
        assert_silent(&mut signals);
    }
}

// D18
fn read_and_the_future_dropped() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for blocked in [false, true] {
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        block_on(async {
            let mut waits = Box::pin(signals.next());
            assert!(kit::poll_with(&mut waits, Waker::noop()).is_pending());
            raise(SIGUSR1);
            // The reactor reads the signal here, and nobody takes it.
            sleep(millis(3)).await;
            drop(waits);
            sleep(millis(3)).await;
            assert!(kit::poll_once(signals.next()).is_ready());
        });
        assert_eq!(numbers(&mut signals), []);
    }
}

// J01
fn the_future_dropped_after_each_poll() {
    let signo = SIGRTMIN();
    let mut signals = Signals::new([signo]).unwrap();
    let mut seen = Vec::new();
    block_on(async {
        for round in 0..200 {
            if round % 4 == 0 {
                queue(signo, round);
            }
            if let Poll::Ready(info) = kit::poll_once(signals.next()) {
                seen.push(info.unwrap().unwrap().value());
            }
            if round % 3 == 0 {
                sleep(millis(1)).await;
            }
        }
    });
    seen.extend(values(&mut signals));
    assert_eq!(seen, Vec::from_iter((0..200).step_by(4)));
}

// J03
fn never_none_of_itself() {
    let mut signals = Signals::new([]).unwrap();
    assert_silent(&mut signals);
    assert!(!FusedStream::is_terminated(&signals));
    signals.add(SIGUSR1).unwrap();
    raise(SIGUSR1);
    assert!(signals.remove(SIGUSR1));
    assert_silent(&mut signals);
    signals.add(SIGUSR1).unwrap();
    raise(SIGUSR1);
    assert_eq!(numbers(&mut signals), [SIGUSR1]);
}

// J05
fn the_hint_of_its_size_is_honest() {
    use futures_core::Stream;
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for _ in 0..2 {
        assert_eq!(signals.size_hint(), (0, None));
        raise(SIGUSR1);
        settle();
        assert_eq!(signals.size_hint(), (0, None));
        next(&mut signals);
    }
}
