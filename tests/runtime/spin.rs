//! A spin before sleeping: only when asked for, only as long, and nothing else is different.

use crate::kit;
use crate::kit::timers;
use kit::{Case, Trace, case};
use selio::net::{TcpListener, TcpStream};
use selio::selector::{Events, Selector};
use selio::time::sleep;
use selio::{Driver, Spin, block_on, spawn, spin, yield_now};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};
use timers::{HOUR, is_refused, ms};

pub(crate) fn cases() -> Vec<Case> {
    timers::twice(
        &[
            ("only_when_asked", only_when_asked),
            ("only_as_long_as_asked", only_as_long_as_asked),
            ("the_longest_counts", the_longest_counts),
            ("a_timer_within_it", a_timer_within_it),
            ("another_thread_ends_it", another_thread_ends_it),
            ("another_thread_writes_no_eventfd", another_thread_writes_no_eventfd),
            ("everything_works_as_without", everything_works_as_without),
            ("nested", nested),
            ("of_its_thread_alone", of_its_thread_alone),
        ],
        &[
            case("a_driver_never_waits", a_driver_never_waits),
            case("an_idle_program_rests", an_idle_program_rests),
            case("a_guard_that_goes_just_before_the_sleep", part_stops_spinning),
            case("a_driver_is_woken_where_a_block_on_would_spin", a_driver_is_woken),
            case("_asks", part_asks),
            case("_for_a_millisecond", part_for_a_millisecond),
            case("_drops_in_any_order", part_drops_in_any_order),
            case("_within", part_within),
            case("_is_woken", part_is_woken),
            case("_nests", part_nests),
            case("_drives", part_drives),
        ],
    )
}

/// Runs a part under strace and returns the timeouts of the waits between the marks `begin` and
/// `end`: whether each was zero.
#[track_caller]
fn zero_waits(part: &str) -> Vec<bool> {
    let Some((ended, trace)) = kit::rerun(part).strace() else {
        kit::pass_over("there is no strace");
    };
    ended.assert_success();
    let trace: Trace = trace.between("begin", "end");
    let waits = [trace.calls("epoll_pwait2"), trace.calls("epoll_wait")].concat();
    let zero = if is_refused() { ", 0) " } else { "{tv_sec=0, tv_nsec=0}" };
    waits.iter().map(|line| line.contains(zero)).collect()
}

/// Makes the reactor, and finds out what the kernel has, before the calls are counted.
async fn begin() {
    sleep(Duration::from_micros(1)).await;
    kit::mark("begin");
}

fn part_asks() {
    block_on(async {
        begin().await;
        sleep(ms(30)).await;
        drop(spin(ms(30)));
        sleep(ms(30)).await;
        let _none = spin(Duration::ZERO);
        sleep(ms(30)).await;
        kit::mark("end");
    });
}

fn only_when_asked() {
    assert_eq!(zero_waits("_asks"), [false; 3], "it spins although nobody asks for it now");
}

fn part_for_a_millisecond() {
    block_on(async {
        let _spin = spin(ms(1));
        begin().await;
        sleep(ms(50)).await;
        kit::mark("end");
    });
}

/// It sleeps once, after it has looked, and for the rest.
fn only_as_long_as_asked() {
    let waits = zero_waits("_for_a_millisecond");
    let (last, looks) = waits.split_last().expect("it waits");
    assert!(!last, "it never sleeps");
    assert!(!looks.is_empty() && looks.iter().all(|zero| *zero), "{waits:?}");
}

fn part_drops_in_any_order() {
    block_on(async {
        let (short, long, zero) = (spin(ms(1)), spin(HOUR), spin(Duration::ZERO));
        drop(short);
        begin().await;
        // The long one would let it look for all of this.
        sleep(ms(20)).await;
        drop(long);
        let again = spin(Duration::from_nanos(1));
        drop(zero);
        drop(again);
        sleep(ms(20)).await;
        kit::mark("end");
    });
}

fn the_longest_counts() {
    let waits = zero_waits("_drops_in_any_order");
    let (last, looks) = waits.split_last().expect("it waits");
    assert!(!last && looks.iter().all(|zero| *zero) && !looks.is_empty(), "{waits:?}");
}

fn part_within() {
    block_on(async {
        let _spin = spin(HOUR);
        begin().await;
        for micros in [0, 1, 50, 300, 2000] {
            let (start, asked) = (Instant::now(), Duration::from_micros(micros));
            sleep(asked).await;
            kit::assert_at_least(start.elapsed(), asked);
        }
        kit::mark("end");
    });
}

/// Never early, and without sleeping.
fn a_timer_within_it() {
    let waits = zero_waits("_within");
    assert!(waits.iter().all(|zero| *zero), "it sleeps: {waits:?}");
}

fn another_thread_ends_it() {
    for time in [ms(2), HOUR] {
        let shared = Arc::new(Mutex::new((0, None::<Waker>)));
        let theirs = Arc::clone(&shared);
        let waker = thread::spawn(move || {
            for _ in 0..20 {
                thread::sleep(ms(1));
                let mut shared = theirs.lock().unwrap();
                shared.0 += 1;
                let waker = shared.1.take();
                drop(shared);
                waker.into_iter().for_each(Waker::wake);
            }
        });
        block_on(async {
            let _spin = spin(time);
            poll_fn(|cx| {
                let mut shared = shared.lock().unwrap();
                shared.1 = Some(cx.waker().clone());
                if shared.0 == 20 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        waker.join().unwrap();
    }
}

/// Waits until another thread has woken it so many times, one after the other.
async fn woken(times: usize) {
    let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (theirs, answers) = (Arc::clone(&asked), Arc::clone(&answered));
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let thread = thread::spawn(move || {
        for round in 1..=times {
            theirs.store(round, Ordering::SeqCst);
            waker.wake_by_ref();
            while answers.load(Ordering::SeqCst) < round {
                thread::yield_now();
            }
        }
    });
    poll_fn(|_| {
        let asked = asked.load(Ordering::SeqCst);
        answered.store(asked, Ordering::SeqCst);
        if asked == times { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    thread.join().unwrap();
}

fn part_is_woken() {
    block_on(async {
        let _spin = spin(HOUR);
        begin().await;
        woken(20).await;
        kit::mark("end");
    });
}

/// Who spins sees for itself what other threads have queued.
fn another_thread_writes_no_eventfd() {
    let Some((ended, trace)) = kit::rerun("_is_woken").strace() else {
        kit::pass_over("there is no strace");
    };
    ended.assert_success();
    let trace = trace.between("begin", "end");
    let writes = trace.calls("write");
    assert!(writes.is_empty(), "{writes:?}");
}

/// A guard that is dropped by the last poll before the thread sleeps.
fn part_stops_spinning() {
    block_on(async {
        let mut guard = Some(spin(ms(1)));
        let (send, receive) = mpsc::channel::<Waker>();
        let thread = thread::spawn(move || {
            let waker = receive.recv().unwrap();
            thread::sleep(ms(50));
            waker.wake();
        });
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            drop(guard.take());
            _ = send.send(cx.waker().clone());
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        thread.join().unwrap();
    });
}

fn everything_works_as_without() {
    for time in [Duration::from_micros(20), ms(1), HOUR] {
        block_on(async {
            let _spin = spin(time);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap();
            _ = spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    _ = spawn(async move {
                        let mut buffer = [0; 64];
                        while let Ok(got @ 1..) = stream.read(&mut buffer).await {
                            stream.write_all(&buffer[..got]).await.unwrap();
                        }
                    });
                }
            });
            for round in 0..20_u8 {
                let stream = TcpStream::connect(to).await.unwrap();
                for n in 0..20 {
                    let mut answer = [0; 2];
                    stream.write_all(&[round, n]).await.unwrap();
                    stream.read_exact(&mut answer).await.unwrap();
                    assert_eq!(answer, [round, n]);
                    if n % 7 == 0 {
                        sleep(Duration::from_micros(100)).await;
                        yield_now().await;
                    }
                }
            }
        });
    }
}

fn part_nests() {
    block_on(async {
        let spin = spin(HOUR);
        begin().await;
        // The inner one spins, and after its end the guard is what it was.
        block_on(sleep(ms(20)));
        sleep(ms(20)).await;
        drop(spin);
    });
    let spin: Spin = block_on(async { spin(HOUR) });
    block_on(sleep(ms(20)));
    drop(spin);
    kit::mark("end");
}

fn nested() {
    let waits = zero_waits("_nests");
    assert!(waits.len() >= 3 && waits.iter().all(|zero| *zero), "it sleeps: {waits:?}");
}

fn of_its_thread_alone() {
    let _spin = spin(HOUR);
    let used = thread::spawn(|| {
        let before = kit::thread_cpu_time();
        block_on(sleep(ms(200)));
        kit::thread_cpu_time() - before
    });
    assert!(used.join().unwrap() < ms(100), "another thread spins");
}

fn part_drives() {
    let _spin = spin(HOUR);
    let mut driver = Driver::new(sleep(HOUR)).unwrap();
    block_on(begin());
    assert!(driver.turn().is_pending());
    kit::mark("end");
}

/// Its loop sleeps, whoever spins.
fn a_driver_is_woken() {
    let _spin = spin(HOUR);
    let mut driver = Driver::new(woken(20)).unwrap();
    let mut theirs = Selector::new().unwrap();
    theirs.register_handle(&driver, Events::READ, ()).unwrap();
    while driver.turn().is_pending() {
        if driver.next_deadline().is_none() {
            assert!(!theirs.select(Some(ms(5000))).unwrap().is_empty(), "nobody wakes the loop");
        }
    }
}

fn a_driver_never_waits() {
    assert_eq!(zero_waits("_drives"), [true]);
}

/// It pays once for each time that it sleeps, and not all the time.
fn an_idle_program_rests() {
    let _spin = spin(Duration::from_micros(50));
    let before = kit::thread_cpu_time();
    block_on(sleep(ms(300)));
    assert!(kit::thread_cpu_time() - before < ms(100), "it spins while it should sleep");
}
