//! Signals and threads: whichever thread a signal finds, and whichever reads it, every stream on
//! every thread is told, and no thread's mask is ever changed.
#![allow(unsafe_code, reason = "a thread that reads with the bare system call")]

use crate::kit;
use crate::kit::deliveries;
use crate::kit::futures;
use crate::kit::keys;
use deliveries::{
    SI_TKILL, next, numbers, own_uid, poll, queue, queue_to, raise_here, raise_in, rest, settle,
    values,
};
use futures::{Gate, on_thread};
use keys::{millis, own_pid, put, raise};
use selio::block_on;
use selio::signal::{SIGHUP, SIGRTMIN, SIGTERM, SIGUSR1, SIGUSR2, SignalInfo, Signals};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::task::Waker;
use std::thread::{self, JoinHandle};

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("all_come_if_nobody_blocks", || all_come(false, false)),
        ("all_come_if_all_block", || all_come(true, true)),
        ("all_come_if_only_the_subscriber_blocks", || all_come(true, false)),
        ("all_come_if_only_the_others_block", || all_come(false, true)),
        ("raised_in_an_older_thread", raised_in_an_older_thread),
        ("raised_in_a_younger_thread", raised_in_a_younger_thread),
        ("raised_where_it_is_blocked", raised_where_it_is_blocked),
        ("raised_where_it_is_blocked_and_awaited", raised_where_it_is_blocked_and_awaited),
        ("two_streams_on_two_threads", two_streams_on_two_threads),
        ("made_here_awaited_there_dropped_elsewhere", made_here_awaited_there),
        ("awaited_on_one_thread_after_the_other", awaited_on_one_thread_after_the_other),
        ("the_thread_of_the_first_poll_has_ended", the_thread_of_the_first_poll_has_ended),
        ("every_thread_is_told_of_each", every_thread_is_told_of_each),
        ("no_mask_ever_differs", no_mask_ever_differs),
        ("added_while_another_thread_waits", added_while_another_thread_waits),
        ("added_after_another_thread_has_waited", added_after_another_thread_has_waited),
        ("begun_and_ended_under_fire", begun_and_ended_under_fire),
        ("awaited_while_a_thread_ends", awaited_while_a_thread_ends),
    ])
}

/// A thread that does as it is told, one thing after the other.
struct Worker {
    orders: Sender<Box<dyn FnOnce() + Send>>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn new() -> Self {
        let (orders, inbox): (_, Receiver<Box<dyn FnOnce() + Send>>) = mpsc::channel();
        let worker =
            Self { orders, thread: thread::spawn(move || inbox.iter().for_each(|it| it())) };
        // The C library lets a thread be born with everything blocked.
        worker.run(|| {});
        worker
    }

    /// Runs a closure there, and waits for what it gives.
    #[track_caller]
    fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(body).recv().expect("the thread is in order")
    }

    /// Lets a closure run there.
    fn start<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (send, receive) = mpsc::channel();
        let order = Box::new(move || drop(send.send(body())));
        self.orders.send(order).expect("the thread is there");
        receive
    }

    fn end(self) {
        drop(self.orders);
        self.thread.join().unwrap();
    }
}

/// A child that sends 100 signals and then 2,000 queued ones, once it is told to.
fn sender() -> (i32, File) {
    let (told, tell) = kit::pipe();
    let parent = own_pid();
    let child = kit::in_child(move || {
        File::from(told).read_exact(&mut [0]).unwrap();
        for _ in 0..100 {
            kit::kill(parent, SIGUSR1).unwrap();
        }
        (0..2_000).for_each(|value| queue_to(parent, SIGRTMIN(), value));
    });
    (child, tell.into())
}

fn block_if(blocks: bool) {
    if blocks {
        [SIGUSR1, SIGRTMIN()].into_iter().for_each(kit::block_signal);
    }
}

/// A thread in a blocking `read`, and the end by which it ends. What it gives is what the call
/// returned.
fn reader(blocks: bool) -> (JoinHandle<isize>, File) {
    let (reader, writer) = kit::pipe();
    let (ready, is_ready) = mpsc::channel();
    let thread = thread::spawn(move || {
        block_if(blocks);
        ready.send(()).unwrap();
        let mut byte = 0_u8;
        // SAFETY: the byte lives through the call.
        unsafe { libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) }
    });
    is_ready.recv().unwrap();
    (thread, writer.into())
}

// D01
fn all_come(subscriber_blocks: bool, others_block: bool) {
    let (child, tell) = sender();
    let (reader, end_of_read) = reader(others_block);
    let others = [Worker::new(), Worker::new()];
    others.iter().for_each(|it| it.run(move || block_if(others_block)));
    let gate = Gate::new();
    let passes = gate.pass();
    // One of them waits in a `block_on` of its own, the other in a lock.
    let waits = others[0].start(move || block_on(passes));
    block_if(subscriber_blocks);
    let mut signals = Signals::new([SIGUSR1, SIGRTMIN()]).unwrap();
    if !others_block {
        // Wherever the kernel takes the others to, one interrupts the `read`.
        raise_in(&reader, SIGUSR1);
        assert_eq!(next(&mut signals).code(), SI_TKILL);
    }
    put(&tell);
    let mut all = Vec::new();
    while all.iter().filter(|it: &&SignalInfo| it.signo() == SIGRTMIN()).count() < 2_000 {
        all.push(next(&mut signals));
    }
    assert!(kit::wait_status(child).success());
    all.extend(rest(&mut signals));
    let sender = (child as u32, own_uid());
    assert!(all.iter().all(|it| (it.pid(), it.uid()) == sender));
    let (queued, sent): (Vec<&SignalInfo>, Vec<&SignalInfo>) =
        all.iter().partition(|it| it.signo() == SIGRTMIN());
    assert!((1..=100).contains(&sent.len()), "{}", sent.len());
    assert!(sent.iter().all(|it| (it.signo(), it.code()) == (SIGUSR1, libc::SI_USER)));
    assert!(queued.iter().all(|it| it.code() == libc::SI_QUEUE));
    let mut values: Vec<i32> = queued.iter().map(|it| it.value()).collect();
    // Two threads that are interrupted at once may tell in either order.
    values.sort_unstable();
    assert_eq!(values, Vec::from_iter(0..2_000));
    put(&end_of_read);
    assert_eq!(reader.join().unwrap(), 1, "the system call was restarted");
    gate.open();
    waits.recv().unwrap();
    others.into_iter().for_each(Worker::end);
}

/// Who is told of what is sent to a thread: a stream here, and one on a thread that waits for it.
struct Told {
    here: Signals,
    there: Worker,
    seen: Receiver<SignalInfo>,
}

impl Told {
    fn new(signo: i32) -> Self {
        let there = Worker::new();
        let (send, seen) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        there.start(move || {
            let mut signals = Signals::new([signo]).unwrap();
            ready.send(()).unwrap();
            block_on(async {
                while let Some(info) = signals.next().await {
                    send.send(info.unwrap()).unwrap();
                }
            });
        });
        is_ready.recv().unwrap();
        Told { here: Signals::new([signo]).unwrap(), there, seen }
    }

    #[track_caller]
    fn both(&mut self, signo: i32) {
        for info in [next(&mut self.here), self.seen.recv().unwrap()] {
            assert_eq!((info.signo(), info.code()), (signo, SI_TKILL));
            assert_eq!((info.pid(), info.uid()), (std::process::id(), own_uid()));
        }
    }

    #[track_caller]
    fn nobody(&mut self) {
        assert_eq!(numbers(&mut self.here), []);
        assert!(self.seen.try_recv().is_err());
    }
}

/// Raises a signal in a thread in every way: by itself and from outside, with a `block_on` of its
/// own and without.
fn raised_in(worker: &Worker, told: &mut Told) {
    for with_loop in [false, true] {
        worker.run(move || match with_loop {
            false => raise_here(SIGUSR1),
            true => block_on(async { raise_here(SIGUSR1) }),
        });
        told.both(SIGUSR1);
        let gate = Gate::new();
        let passes = gate.pass();
        let (open, wait) = mpsc::channel::<()>();
        let busy = worker.start(move || match with_loop {
            false => drop(wait.recv()),
            true => block_on(passes),
        });
        futures::a_moment();
        raise_in(&worker.thread, SIGUSR1);
        told.both(SIGUSR1);
        gate.open();
        drop(open);
        busy.recv().unwrap();
    }
    told.nobody();
}

// D02
fn raised_in_an_older_thread() {
    let older = Worker::new();
    let mut told = Told::new(SIGUSR1);
    raised_in(&older, &mut told);
    raised_in(&told.there_too(), &mut told);
}

impl Told {
    /// A thread that was there before the stream of this one and waits for the signal, too.
    fn there_too(&self) -> Worker {
        let worker = Worker::new();
        worker.run(|| {
            let mut signals = Signals::new([SIGUSR1]).unwrap();
            assert!(poll(&mut signals, Waker::noop()).is_pending());
        });
        worker
    }
}

// D02
fn raised_in_a_younger_thread() {
    let mut told = Told::new(SIGUSR1);
    raised_in(&Worker::new(), &mut told);
    // The thread that waits, and the one that runs the test.
    raise_in(&told.there.thread, SIGUSR1);
    told.both(SIGUSR1);
    raise_here(SIGUSR1);
    told.both(SIGUSR1);
    told.nobody();
}

// D02: the limit that stands at `Signals`.
fn raised_where_it_is_blocked() {
    let worker = Worker::new();
    worker.run(|| kit::block_signal(SIGUSR1));
    let mut told = Told::new(SIGUSR1);
    worker.run(|| raise_here(SIGUSR1));
    raise_in(&worker.thread, SIGUSR1);
    told.nobody();
    // A `block_on` alone does not read it.
    worker.run(settle);
    told.nobody();
    // When the thread lets it act, the handler runs.
    worker.run(|| kit::unblock_signal(SIGUSR1));
    told.both(SIGUSR1);
    told.nobody();
}

// D02
fn raised_where_it_is_blocked_and_awaited() {
    let worker = Worker::new();
    worker.run(|| kit::block_signal(SIGUSR1));
    let mut told = Told::new(SIGUSR1);
    worker.run(|| raise_here(SIGUSR1));
    worker.run(|| {
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        assert_eq!(next(&mut signals).code(), SI_TKILL);
        assert!(poll(&mut signals, Waker::noop()).is_pending());
        raise_here(SIGUSR1);
        assert_eq!(next(&mut signals).code(), SI_TKILL);
        assert_eq!(numbers(&mut signals), []);
    });
    told.both(SIGUSR1);
    told.both(SIGUSR1);
    told.nobody();
    // It waits already when another thread sends it.
    let seen = worker.start(|| next(&mut Signals::new([SIGUSR1]).unwrap()).code());
    futures::a_moment();
    raise_in(&worker.thread, SIGUSR1);
    assert_eq!(seen.recv().unwrap(), SI_TKILL);
    told.both(SIGUSR1);
    told.nobody();
}

// D04
fn two_streams_on_two_threads() {
    let signo = SIGRTMIN();
    for (blocks_here, blocks_there) in [(false, false), (true, false), (false, true), (true, true)]
    {
        let there = Worker::new();
        there.run(
            move || {
                if blocks_there { kit::block_signal(signo) } else { kit::unblock_signal(signo) }
            },
        );
        match blocks_here {
            true => kit::block_signal(signo),
            false => kit::unblock_signal(signo),
        }
        let mut signals = Signals::new([signo]).unwrap();
        let mut others = Signals::new([signo]).unwrap();
        let all_there = there.start(move || take(&mut others, 500));
        (0..500).for_each(|value| queue(signo, value));
        assert_eq!(take(&mut signals, 500), Vec::from_iter(0..500));
        assert_eq!(all_there.recv().unwrap(), Vec::from_iter(0..500));
        assert_eq!(numbers(&mut signals), []);
        there.end();
    }
}

/// The values of the next deliveries, sorted.
fn take(signals: &mut Signals, count: usize) -> Vec<i32> {
    let mut values: Vec<i32> = (0..count).map(|_| next(signals).value()).collect();
    values.sort_unstable();
    values
}

// D15
fn made_here_awaited_there() {
    let dispositions = keys::dispositions();
    for (blocks_there, blocks_here) in [(false, false), (true, false), (true, true)] {
        if blocks_here {
            kit::block_signal(SIGUSR1);
        }
        let mut signals = on_thread(|| Signals::new([SIGUSR1]).unwrap());
        let signals = on_thread(move || {
            if blocks_there {
                kit::block_signal(SIGUSR1);
            }
            let raises = thread::spawn(|| {
                kit::unblock_signal(SIGUSR1);
                futures::a_moment();
                raise_here(SIGUSR1);
            });
            assert_eq!(next(&mut signals).signo(), SIGUSR1);
            raises.join().unwrap();
            signals
        });
        on_thread(move || drop(signals));
        assert_eq!(keys::changed_since(&dispositions), []);
    }
    assert_eq!(kit::signal_mask(), [SIGUSR1]);
}

// D15, J04: each thread's reactor hears while the stream is polled there, and no longer.
fn awaited_on_one_thread_after_the_other() {
    let signo = SIGRTMIN();
    let threads = [Worker::new(), Worker::new(), Worker::new()];
    let mut signals = Some(Signals::new([signo]).unwrap());
    let mut open = Vec::new();
    for round in 0..30 {
        let worker = &threads[round % threads.len()];
        let mut moved = signals.take().unwrap();
        let back = worker.start(move || {
            assert_eq!(next(&mut moved).value(), round as i32);
            assert!(poll(&mut moved, Waker::noop()).is_pending());
            moved
        });
        // At times it comes before the other thread has begun to wait.
        if round % 2 == 0 {
            thread::sleep(millis(2));
        }
        queue(signo, round as i32);
        signals = Some(back.recv().unwrap());
        open.push(kit::open_fds().len());
    }
    assert_eq!(open[3..].iter().max(), open[3..].iter().min(), "{open:?}");
    threads.into_iter().for_each(Worker::end);
}

fn the_thread_of_the_first_poll_has_ended() {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for blocked in [false, true] {
        signals = on_thread(move || {
            assert!(poll(&mut signals, Waker::noop()).is_pending());
            signals
        });
        if blocked {
            kit::block_signal(SIGUSR1);
        }
        raise(SIGUSR1);
        assert_eq!(numbers(&mut signals), [SIGUSR1]);
    }
}

// D16
fn every_thread_is_told_of_each() {
    const THREADS: usize = 4;
    let plain = Worker::new();
    let (send, seen) = mpsc::channel();
    let (reached, is_over) = (Arc::new(Barrier::new(THREADS + 1)), Gate::new());
    let threads: Vec<_> = (0..THREADS)
        .map(|index| {
            let (send, reached, is_over) = (send.clone(), Arc::clone(&reached), is_over.clone());
            thread::spawn(move || {
                let mut signals = Signals::new([SIGUSR1]).unwrap();
                reached.wait();
                // The last of them ends in the middle, with what it has registered.
                let rounds = if index + 1 < THREADS { 100 } else { 50 };
                for _ in 0..rounds {
                    assert_eq!(next(&mut signals).pid(), std::process::id());
                    send.send(index).unwrap();
                }
                if rounds == 100 {
                    block_on(is_over.pass());
                    assert_eq!(numbers(&mut signals), []);
                }
            })
        })
        .collect();
    reached.wait();
    for round in 0..100 {
        let all = if round < 50 { THREADS } else { THREADS - 1 };
        raise(SIGUSR1);
        let mut told: Vec<usize> = (0..all).map(|_| seen.recv().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, Vec::from_iter(0..all), "in round {round}");
    }
    is_over.open();
    threads.into_iter().for_each(|it| it.join().unwrap());
    assert!(seen.try_recv().is_err());
    assert!(kit::disposition(SIGUSR1).is_default());
    plain.end();
}

// D19
fn no_mask_ever_differs() {
    let workers = [Worker::new(), Worker::new(), Worker::new()];
    workers[0].run(|| [SIGTERM, SIGHUP].into_iter().for_each(kit::block_signal));
    kit::block_signal(SIGUSR2);
    let before = kit::thread_masks();
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), 3, "{before:?}");
    // A handler that runs in another thread has its signal blocked there meanwhile: so all are sent
    // to the thread that looks.
    let unchanged = || assert_eq!(kit::thread_masks(), before);
    let mut signals = Signals::new([SIGTERM]).unwrap();
    unchanged();
    raise_here(SIGTERM);
    assert_eq!(next(&mut signals).signo(), SIGTERM);
    unchanged();
    signals.add(SIGUSR2).unwrap();
    let signals = workers[0].run(move || {
        assert!(poll(&mut signals, Waker::noop()).is_pending());
        raise_here(SIGTERM);
        raise_here(SIGUSR2);
        assert_eq!(numbers(&mut signals).len(), 2);
        signals
    });
    unchanged();
    assert!(kit::poll_once(selio::signal::ctrl_c()).is_pending());
    drop(selio::signal::shutdown());
    unchanged();
    workers[1].run(move || drop(signals));
    unchanged();
    assert!(Signals::new([SIGTERM, libc::SIGKILL]).is_err());
    unchanged();
    workers.into_iter().for_each(Worker::end);
}

/// Whether a signal waits for the process, or for this thread, to let it act.
fn is_pending(signo: i32) -> bool {
    // SAFETY: `sigset_t` is plain integers, for which zero is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives through the call.
    assert_eq!(unsafe { libc::sigpending(&raw mut set) }, 0);
    // SAFETY: the set was filled in above.
    unsafe { libc::sigismember(&raw const set, signo) == 1 }
}

fn added_while_another_thread_waits() {
    // What is blocked everywhere can only be read by the thread that waits, whose signalfd was made
    // before anybody wanted the signal.
    let waiting = Worker::new();
    let everywhere = [SIGHUP, SIGUSR2];
    waiting.run(move || everywhere.into_iter().for_each(kit::block_signal));
    everywhere.into_iter().for_each(kit::block_signal);
    let mut hub = Signals::new([SIGUSR1]).unwrap();
    let (ready, is_ready) = mpsc::channel();
    let done = waiting.start(move || {
        block_on(async {
            assert!(deliveries::poll_here(&mut hub, Waker::noop()).is_pending());
            ready.send(()).unwrap();
            hub.next().await.unwrap().unwrap().signo()
        })
    });
    is_ready.recv().unwrap();
    let mut signals = Signals::new([SIGHUP]).unwrap();
    raise(SIGHUP);
    kit::eventually("the other reads it", || !is_pending(SIGHUP));
    // It is pending when it begins to be wanted.
    raise(SIGUSR2);
    signals.add(SIGUSR2).unwrap();
    kit::eventually("the other reads it", || !is_pending(SIGUSR2));
    // So this thread finds both handed out, or in a moment.
    assert_eq!([next(&mut signals).signo(), next(&mut signals).signo()], [SIGHUP, SIGUSR2]);
    assert_eq!(numbers(&mut signals), []);
    raise_in(&waiting.thread, SIGUSR1);
    assert_eq!(done.recv().unwrap(), SIGUSR1);
}

fn begun_and_ended_under_fire() {
    let signo = SIGRTMIN();
    // It keeps the process alive: between two others the default action is in place.
    let mut kept = Signals::new([signo]).unwrap();
    let fires = Worker::new();
    let fire = fires.start(move || (0..5_000).for_each(|value| queue(signo, value)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..200 {
                    let mut signals = Signals::new([signo]).unwrap();
                    let _ = poll(&mut signals, Waker::noop());
                    let _ = poll(&mut signals, Waker::noop());
                }
            })
        })
        .collect();
    fire.recv().unwrap();
    threads.into_iter().for_each(|it| it.join().unwrap());
    let mut all = values(&mut kept);
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..5_000));
    drop(kept);
    assert!(kit::disposition(signo).is_default());
    fires.end();
}

/// Polls a stream in the destructor of a thread-local, when the thread's reactor may be gone.
fn awaited_while_a_thread_ends() {
    struct Polls(std::cell::RefCell<Option<(Signals, Sender<bool>)>>);
    impl Drop for Polls {
        fn drop(&mut self) {
            let (mut signals, send) = self.0.borrow_mut().take().unwrap();
            let told = deliveries::try_poll(&mut signals, Waker::noop());
            let _ = send
                .send(matches!(told, std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending));
            raise_here(SIGUSR1);
        }
    }
    thread_local! {
        static POLLS: Polls = const { Polls(std::cell::RefCell::new(None)) };
    }
    let mut kept = Signals::new([SIGUSR1]).unwrap();
    for used_before in [false, true] {
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut signals = Signals::new([SIGUSR1]).unwrap();
            POLLS.with(|it| drop(it.0.borrow_mut().take()));
            if used_before {
                assert!(poll(&mut signals, Waker::noop()).is_pending());
            }
            POLLS.with(|it| *it.0.borrow_mut() = Some((signals, send)));
        })
        .join()
        .unwrap();
        assert!(receive.recv().unwrap());
        assert_eq!(numbers(&mut kept), [SIGUSR1]);
    }
}

/// Each thread's own descriptor learns what is wanted from now on, and not only the last one's.
fn added_after_another_thread_has_waited() {
    kit::block_signal(SIGUSR1);
    kit::block_signal(SIGUSR2);
    let mut mine = Signals::new([SIGUSR1]).unwrap();
    assert!(poll(&mut mine, Waker::noop()).is_pending());
    let (worker, theirs) = (Worker::new(), Signals::new([SIGUSR1]).unwrap());
    let theirs = Arc::new(Mutex::new(theirs));
    let kept = Arc::clone(&theirs);
    worker.run(move || assert!(poll(&mut kept.lock().unwrap(), Waker::noop()).is_pending()));
    mine.add(SIGUSR2).unwrap();
    raise(SIGUSR2);
    assert_eq!(next(&mut mine).signo(), SIGUSR2);
    drop(theirs);
}
