//! `block_on`: who wakes its future, in which order tasks run, and that nobody starves.

use crate::kit;
use crate::kit::futures;
use crate::kit::sockets;
use futures::{Gate, a_moment, counted, on_drop, settle};
use selio::event::Event;
use selio::net::{TcpListener, TcpStream, UdpSocket};
use selio::time::{sleep, timeout};
use selio::{Async, Timer, block_on, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than whatever should end at once takes on a busy machine, and shorter than the watchdog.
const AGES: Duration = Duration::from_secs(60);

/// How many polls of others may lie between a kernel's event and the poll it brings: the kernel is
/// asked after 61.
const PATIENCE: usize = 200;

// G04
#[test]
fn a_task_wakes_the_root() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let theirs = gate.clone();
    block_on(async {
        let task = spawn(async move { theirs.open() });
        gate.pass().await;
        task.await.unwrap();
    });
}

// The next call on this thread has the same waker.
#[test]
fn a_root_that_wakes_itself_at_its_end_does_not_deafen_the_next() {
    let _guard = kit::watchdog(10);
    for _ in 0..3 {
        block_on(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(())
        }));
        block_on(yield_now());
    }
}

// G04
#[test]
fn what_was_woken_before_a_spawn_is_polled_before_it() {
    let _guard = kit::watchdog(10);
    let order = Rc::new(RefCell::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Rc::clone(&order);
        move || order.borrow_mut().push(name)
    };
    block_on(async {
        let gate = Gate::new();
        let (pass, note_woken, note_spawned) = (gate.pass(), note("woken"), note("spawned"));
        let woken = spawn(async move {
            pass.await;
            note_woken();
        });
        settle().await;
        gate.open();
        spawn(async move { note_spawned() }).await.unwrap();
        woken.await.unwrap();
    });
    assert_eq!(*order.borrow(), ["woken", "spawned"]);
}

// G04
#[test]
fn a_thread_wakes_a_root_whose_tasks_never_rest() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let thread = gate.opener();
    block_on(async {
        drop(spawn(async {
            loop {
                yield_now().await;
            }
        }));
        gate.pass().await;
    });
    thread.join().unwrap();
}

// G04
#[test]
fn a_thread_wakes_the_root() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let theirs = gate.clone();
    let thread = thread::spawn(move || {
        kit::eventually("the root waits", || theirs.is_awaited());
        a_moment();
        theirs.open();
    });
    block_on(gate.pass());
    thread.join().unwrap();
}

// G04
#[test]
fn a_timer_wakes_the_root() {
    let _guard = kit::watchdog(10);
    let wanted = Duration::from_millis(5);
    let ((), elapsed) = kit::took(|| block_on(sleep(wanted)));
    kit::assert_at_least(elapsed, wanted);
}

// G04
#[test]
fn a_tasks_destructor_wakes_the_root() {
    let _guard = kit::watchdog(10);
    let gate = Gate::new();
    let theirs = gate.clone();
    block_on(async {
        let opens = on_drop(move || theirs.open());
        let task = spawn(async move {
            let _opens = opens;
            pending::<()>().await;
        });
        yield_now().await;
        task.abort();
        gate.pass().await;
    });
}

// G04
#[test]
fn the_root_runs_beside_tasks_that_wake_themselves() {
    let _guard = kit::watchdog(10);
    let spins = Rc::new(Cell::new(0));
    block_on(async {
        for _ in 0..10 {
            let spins = Rc::clone(&spins);
            drop(spawn(async move {
                loop {
                    spins.set(spins.get() + 1);
                    yield_now().await;
                }
            }));
        }
        for _ in 0..100 {
            yield_now().await;
        }
        sleep(Duration::from_millis(2)).await;
    });
    assert!(spins.get() >= 1000, "{} spins", spins.get());
}

/// Spins until the reason to stop is there, and counts the polls since the awaited thing was ready.
async fn spin(ready: impl Fn() -> bool, served: Rc<Cell<bool>>) -> usize {
    let mut late = 0;
    while !served.get() && late < 100_000 {
        late += usize::from(ready());
        yield_now().await;
    }
    late
}

// G06
#[test]
fn a_timer_is_served_beside_a_task_that_never_sleeps() {
    let _guard = kit::watchdog(10);
    let served = Rc::new(Cell::new(false));
    let late = block_on(async {
        let due = Instant::now() + Duration::from_millis(5);
        let noted = Rc::clone(&served);
        drop(spawn(async move {
            Timer::at(due).await;
            noted.set(true);
        }));
        spin(|| Instant::now() >= due, served).await
    });
    assert!(late <= PATIENCE, "{late} polls went before the timer");
}

// G06
#[test]
fn a_socket_is_served_beside_a_task_that_never_sleeps() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let served = Rc::new(Cell::new(false));
    let late = block_on(async {
        let near = Async::new(near).unwrap();
        let noted = Rc::clone(&served);
        drop(spawn(async move {
            assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 1);
            noted.set(true);
        }));
        settle().await;
        far.write_all(b"x").unwrap();
        spin(|| true, served).await
    });
    assert!(late <= PATIENCE, "{late} polls went before the socket");
}

// G06
#[test]
fn a_timer_is_served_beside_a_thousand_pairs_that_wake_each_other() {
    let _guard = kit::watchdog(20);
    let stop = Rc::new(Cell::new(false));
    let polls = Rc::new(Cell::new(0));
    block_on(async {
        for _ in 0..1000 {
            let pair = Rc::new(RefCell::new([None, None]));
            for side in 0..2 {
                let (pair, stop) = (Rc::clone(&pair), Rc::clone(&stop));
                let other_wakes = poll_fn(move |cx| {
                    pair.borrow_mut()[side] = Some(cx.waker().clone());
                    if let Some(other) = pair.borrow_mut()[1 - side].take() {
                        other.wake();
                    }
                    if stop.get() { Poll::Ready(()) } else { Poll::Pending }
                });
                drop(spawn(counted(&polls, other_wakes)));
            }
        }
        let due = Instant::now() + Duration::from_millis(5);
        Timer::at(due).await;
        stop.set(true);
    });
    assert!(polls.get() >= 2000);
}

// G06
#[test]
fn a_timer_is_served_beside_a_socket_that_is_always_ready() {
    let _guard = kit::watchdog(10);
    let (near, far) = UnixStream::pair().unwrap();
    block_on(async {
        let (near, far) = (Async::new(near).unwrap(), Async::new(far).unwrap());
        // Neither waits for the other for long: each read finds something, each write finds room.
        let talk = spawn(async move {
            let mut buffer = [0; 512];
            loop {
                far.write_all(&buffer).await.unwrap();
                near.read_exact(&mut buffer).await.unwrap();
            }
        });
        sleep(Duration::from_millis(5)).await;
        talk.abort();
    });
}

// G06
#[test]
fn a_timer_is_served_beside_a_task_that_a_thread_keeps_waking() {
    let _guard = kit::watchdog(10);
    let (ask, asked) = mpsc::channel::<std::task::Waker>();
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        for waker in asked {
            waker.wake();
            tell.send(()).unwrap();
        }
    });
    let (polls, due) = block_on(async {
        let due = Rc::new(Cell::new(false));
        let noted = Rc::clone(&due);
        drop(spawn(async move {
            sleep(Duration::from_millis(1)).await;
            noted.set(true);
        }));
        // Whenever the task has been polled, the thread has made it ready again: the queue that
        // other threads fill is never empty when the loop's own one is.
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if due.get() || polls == 20_000 {
                return Poll::Ready(());
            }
            ask.send(cx.waker().clone()).unwrap();
            told.recv().unwrap();
            Poll::Pending
        })
        .await;
        drop(ask);
        (polls, due.get())
    });
    thread.join().unwrap();
    assert!(due, "no timer in {polls} polls");
}

/// Logs its name at each of its polls, and wakes whom it is told to wake.
fn logs<W: Fn(&mut Context<'_>)>(
    log: &Rc<RefCell<String>>,
    name: char,
    polls: usize,
    wakes: W,
) -> impl Future<Output = ()> + use<W> {
    let log = Rc::clone(log);
    let mut left = polls;
    poll_fn(move |cx| {
        log.borrow_mut().push(name);
        left -= 1;
        if left == 0 {
            return Poll::Ready(());
        }
        wakes(cx);
        Poll::Pending
    })
}

// G07
#[test]
fn a_third_task_runs_between_two_that_wake_each_other() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    block_on(async {
        let wakers = Rc::new(RefCell::new(Vec::new()));
        for name in ['a', 'b'] {
            let wakers = Rc::clone(&wakers);
            drop(spawn(logs(&log, name, 50, move |cx| {
                let other = wakers.borrow_mut().pop();
                wakers.borrow_mut().push(cx.waker().clone());
                other.into_iter().for_each(std::task::Waker::wake);
            })));
        }
        settle().await;
        log.borrow_mut().clear();
        drop(spawn(logs(&log, 'c', 1, |_| {})));
        settle().await;
    });
    let log = log.borrow();
    let before = log.find('c').expect("the third ran");
    assert!(before <= 2, "it waited for more than one round: {log}");
}

// G08
#[test]
fn a_task_that_wakes_itself_and_others_runs_once_a_round() {
    let _guard = kit::watchdog(10);
    let log = Rc::new(RefCell::new(String::new()));
    block_on(async {
        let others = Rc::new(RefCell::new(Vec::new()));
        for name in ['b', 'c'] {
            let others = Rc::clone(&others);
            drop(spawn(logs(&log, name, 4, move |cx| {
                others.borrow_mut().push(cx.waker().clone())
            })));
        }
        yield_now().await;
        log.borrow_mut().clear();
        let all = Rc::clone(&others);
        drop(spawn(logs(&log, 'a', 4, move |cx| {
            cx.waker().wake_by_ref();
            cx.waker().wake_by_ref();
            all.borrow().iter().for_each(std::task::Waker::wake_by_ref);
        })));
        for _ in 0..10 {
            yield_now().await;
        }
    });
    // The second poll of `a` finds the others queued by the first one, so that its wakes of them
    // bring nothing.
    assert_eq!(*log.borrow(), "aabcaabc", "rounds of a, abc, a, abc");
}

// G09
#[test]
fn a_wake_while_the_batch_is_woken_is_not_slept_over() {
    let _guard = kit::watchdog(10);
    for by_drop in [false, true] {
        let gate = Gate::new();
        let theirs = gate.clone();
        let hostile = match by_drop {
            // The waker is used up by its wake, and what it owned is dropped with it.
            true => {
                let opens = on_drop(move || theirs.open());
                kit::closure_waker(move || _ = &opens)
            }
            false => kit::closure_waker(move || theirs.open()),
        };
        let mut timer = Timer::after(Duration::from_millis(2));
        block_on(async move {
            assert!(kit::poll_with(&mut timer, &hostile).is_pending());
            drop(hostile);
            gate.pass().await;
        });
    }
}

// G13
#[test]
fn one_wake_is_one_poll() {
    let _guard = kit::watchdog(10);
    let (of_root, of_task) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let gates: [Gate; 10] = Default::default();
    let theirs = gates.clone();
    let task = counted(&of_task, async move {
        for gate in theirs {
            gate.pass().await;
        }
    });
    block_on(counted(&of_root, async move {
        let task = spawn(task);
        for gate in gates {
            gate.open();
            yield_now().await;
        }
        task.await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }));
    assert_eq!(of_task.get(), 10, "ready at each poll, as each gate was open by then");
    assert_eq!(of_root.get(), 1 + 10 + 1, "one at first, one for each yield, one for the sleep");
}

// G13
#[test]
fn waiting_costs_one_poll_each() {
    let _guard = kit::watchdog(10);
    let polls = Rc::new(Cell::new(0));
    let (near, far) = UnixStream::pair().unwrap();
    let far = Arc::new(far);
    block_on(async {
        let near = Async::new(near).unwrap();
        let reads = spawn(counted(&polls, async move {
            for _ in 0..20 {
                assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 1);
            }
        }));
        for _ in 0..20 {
            sleep(Duration::from_millis(1)).await;
            (&*far).write_all(b"x").unwrap();
        }
        reads.await.unwrap();
    });
    // Each byte wakes once; the one that was there when the reader came need not wake at all.
    assert!((20..=21).contains(&polls.get()), "{} polls", polls.get());
}

/// Polls a thousand times with one waker; whatever it says, it says it again.
fn poll_on<F: Future + ?Sized>(mut future: Pin<&mut F>) {
    let (counter, waker) = kit::CountingWaker::new();
    for _ in 0..1000 {
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(counter.wakers() <= 3, "{} wakers have piled up", counter.wakers());
    // What tries a system call at each poll uses up its task's budget now and then, and asks to be
    // polled again.
    assert!(counter.wakes() <= 1000 / 100, "{} wakes for nothing", counter.wakes());
}

// G12
#[test]
fn polling_too_often_changes_nothing() {
    let _guard = kit::watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    block_on(async {
        poll_on(pin!(sleep(AGES)));
        poll_on(pin!(Timer::after(AGES)));
        poll_on(pin!(Timer::interval(AGES).next()));
        poll_on(pin!(Timer::never()));
        poll_on(pin!(timeout(AGES, sleep(AGES))));
        poll_on(pin!(near.readable()));
        poll_on(pin!(near.read_with(|_| Err::<(), _>(std::io::ErrorKind::WouldBlock.into()))));
        poll_on(pin!(poll_fn(|cx| near.poll_readable(cx))));
        poll_on(pin!(selio::race(sleep(AGES), sleep(AGES))));
        poll_on(pin!(selio::join(sleep(AGES), sleep(AGES))));
        let mut task = spawn(pending::<()>());
        poll_on(Pin::new(&mut task));
        // And the real poll is not spoilt by them.
        let mut byte = [0];
        let mut read = pin!(near.read(&mut byte));
        poll_on(read.as_mut());
        far.write_all(b"z").unwrap();
        assert_eq!(read.await.unwrap(), 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut accept = pin!(listener.accept());
        poll_on(accept.as_mut());
        let address = listener.local_addr().unwrap();
        let (accepted, connected) = selio::join(accept, TcpStream::connect(address)).await;
        assert_eq!(accepted.unwrap().1, connected.unwrap().local_addr().unwrap());
    });
}

// G12
#[test]
fn polling_sources_too_often_changes_nothing() {
    let _guard = kit::watchdog(20);
    let (deaf, _queued) = sockets::deaf_listener();
    let (full, _far) = sockets::pair();
    sockets::fill(full.get_ref());
    let (silent, mut speaks) = sockets::pair();
    let (near, far) = selio::io::duplex(1);
    let (go_on, goes_on) = mpsc::channel();
    block_on(async {
        let mut event = Event::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        poll_on(pin!(event.wait()));
        poll_on(pin!(event.next()));
        poll_on(pin!(socket.recv(&mut [0; 8])));
        poll_on(pin!(socket.recv_from(&mut [0; 8])));
        poll_on(pin!(listener.incoming().next()));
        poll_on(pin!(TcpStream::connect(deaf.local_addr().unwrap())));
        poll_on(pin!(full.writable()));
        poll_on(pin!(poll_fn(|cx| full.poll_writable(cx))));
        poll_on(pin!(full.write(b"x")));
        poll_on(pin!(full.write_all(b"x")));
        poll_on(pin!(near.read(&mut [0; 8])));
        near.write_all(b"x").await.unwrap();
        poll_on(pin!(near.write(b"y")));
        // And the real poll is not spoilt by them.
        let mut copies = pin!(selio::io::copy(&silent, &socket));
        poll_on(copies.as_mut());
        let mut works = pin!(selio::unblock(move || goes_on.recv().unwrap()));
        poll_on(works.as_mut());
        go_on.send(9).unwrap();
        assert_eq!(works.await, 9);
        event.trigger().trigger().unwrap();
        assert_eq!(event.next().await.unwrap().unwrap(), 1);
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 1);
        speaks.write_all(b"x").unwrap();
        drop(speaks);
        // The socket is connected to nobody.
        copies.await.unwrap_err();
    });
}
