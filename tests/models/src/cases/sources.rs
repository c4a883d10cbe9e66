//! Descriptors: the counts of edges, and whose reactor watches them.

use super::{Case, case};
use crate::executor::block_on;
use crate::io::Async;
use crate::reactor::Direction;
use crate::sys::event_fd::EventFd;
use std::future::{Future, poll_fn};
use std::model::{self, Thread};
use std::pin::{Pin, pin};
use std::plain;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::{io, kernel};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("edge_and_try", 2, 4000, edge_and_try),
        case("edge_before_waiter", 2, 4000, edge_before_waiter),
        case("edges_and_waiters", 3, 4000, edges_and_waiters),
        case("stranger", 2, 4000, stranger),
        case("home_ends", 2, 4000, home_ends),
        case("there_and_back", 2, 4000, there_and_back),
    ]
}

type Object = plain::Arc<Async<Arc<EventFd>>>;

fn object() -> (Object, Arc<EventFd>) {
    kernel::set_most_counted(2);
    let event = Arc::new(EventFd::new().unwrap());
    (plain::Arc::new(Async::new_nonblocking(Arc::clone(&event))), event)
}

fn read(event: &Arc<EventFd>) -> io::Result<u64> {
    event.read()?.ok_or(io::ErrorKind::WouldBlock.into())
}

fn take(object: &Object) -> impl Future<Output = io::Result<u64>> {
    object.operation(Direction::Read, read, |_| false)
}

/// Takes until it has so many.
async fn take_in_all(object: Object, wanted: u64) {
    let mut sum = 0;
    while sum < wanted {
        sum += take(&object).await.unwrap();
    }
    assert_eq!(sum, wanted);
}

/// What never becomes possible, so that whoever waits for it keeps the object.
fn write(object: &Object) -> impl Future<Output = io::Result<()>> {
    let refuse = |_: &Arc<EventFd>| Err(io::ErrorKind::WouldBlock.into());
    object.operation(Direction::Write, refuse, |_| false)
}

/// One thread waits for what comes, and another tries: what that one finds empty must not hide what
/// has just come.
fn edge_and_try() {
    let (object, event) = object();
    let theirs = plain::Arc::clone(&object);
    model::spawn(move || try_once(&theirs));
    model::spawn(move || event.add(1).unwrap());
    let mut writing = pin!(write(&object));
    let mut taking = pin!(take_in_all(plain::Arc::clone(&object), 1));
    let mut begun = false;
    block_on(poll_fn(|cx| {
        if !begun {
            assert!(writing.as_mut().poll(cx).is_pending());
        }
        begun = true;
        taking.as_mut().poll(cx)
    }));
}

/// Tries once, and puts back what it gets.
fn try_once(object: &Object) {
    let taken = pin!(take(object)).poll(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(count) = taken {
        object.get_ref().add(count.unwrap()).unwrap();
    }
}

/// One thread waits to write, which never becomes possible, and so keeps the object; another waits to
/// read there. The edge may come before that one has left its waker.
fn edge_before_waiter() {
    let (object, event) = object();
    let told = plain::Arc::new(AtomicBool::new(false));
    let (telling, theirs) = (plain::Arc::clone(&told), plain::Arc::clone(&object));
    let begin = Box::new(move |waker: Waker| {
        model::spawn(move || {
            block_on(take_in_all(theirs, 1));
            telling.store(true, Ordering::Relaxed);
            waker.wake();
        });
        model::spawn(move || event.add(1).unwrap());
    });
    let mut awaited = pin!(write(&object));
    block_on(Until { awaited: awaited.as_mut(), told, begin: Some(begin) });
}

/// Two threads wait for one object. Whoever gets something passes the rest on.
fn edges_and_waiters() {
    let (object, event) = object();
    block_on(async move {
        let mut begun = false;
        let mut taking = pin!(take_one(plain::Arc::clone(&object)));
        poll_fn(|cx| {
            let polled = taking.as_mut().poll(cx);
            if !begun {
                let theirs = take_one(plain::Arc::clone(&object));
                model::spawn(move || block_on(theirs));
                let event = Arc::clone(&event);
                model::spawn(move || event.add(2).unwrap());
            }
            begun = true;
            polled
        })
        .await;
    });
}

/// Awaits what it is given, and starts threads after the first poll. Ends when it is told to.
struct Until<'a, F> {
    awaited: Pin<&'a mut F>,
    told: plain::Arc<AtomicBool>,
    begin: Option<Box<dyn FnOnce(Waker) + 'a>>,
}

impl<F: Future> Future for Until<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.awaited.as_mut().poll(cx);
        if let Some(begin) = self.begin.take() {
            begin(cx.waker().clone());
        }
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.told.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The thread where an object is watched ends while another waits there, and then something comes.
fn home_ends() {
    let (object, event) = object();
    let told = plain::Arc::new(AtomicBool::new(false));
    let (ending, theirs, giving) =
        (plain::Arc::clone(&told), plain::Arc::clone(&object), Arc::clone(&event));
    let begin = Box::new(move |waker: Waker| {
        model::spawn(move || block_on(take_in_all(theirs, 1)));
        model::spawn(move || {
            ending.store(true, Ordering::Relaxed);
            waker.wake();
            giving.add(1).unwrap();
        });
    });
    // It waits on after the end, for it is not dropped before.
    let mut awaited = pin!(take(&object));
    let taken = block_on(Until { awaited: awaited.as_mut(), told, begin: Some(begin) });
    if let Some(count) = taken {
        event.add(count.unwrap()).unwrap();
    }
}

/// An object goes from the thread that has ended to one that waits, and back when that one has ended:
/// two take one each.
fn there_and_back() {
    let (object, event) = object();
    let told = plain::Arc::new(AtomicBool::new(false));
    let (ending, theirs) = (plain::Arc::clone(&told), plain::Arc::clone(&object));
    let begin = Box::new(move |waker: Waker| {
        model::spawn(move || block_on(take_one(theirs)));
        model::spawn(move || {
            ending.store(true, Ordering::Relaxed);
            waker.wake();
            event.add(2).unwrap();
        });
    });
    let mut awaited = pin!(take_one(object));
    let taken = block_on(Until { awaited: awaited.as_mut(), told, begin: Some(begin) });
    if taken.is_none() {
        block_on(awaited);
    }
}

/// Ends the wait of a thread that is no `block_on`'s.
struct Unpark(Thread, plain::Arc<std::sync::Mutex<bool>>);

impl plain::Wake for Unpark {
    fn wake(self: plain::Arc<Self>) {
        *self.1.lock().unwrap() = true;
        self.0.unpark();
    }
}

/// A thread waits without a `block_on`, and another takes the object along. When that one ends, who
/// waits is told, and can wait elsewhere.
fn stranger() {
    let (object, event) = object();
    let woken = plain::Arc::new(std::sync::Mutex::new(false));
    let unpark = plain::Arc::new(Unpark(model::current(), plain::Arc::clone(&woken)));
    let mut taking = pin!(take_in_all(plain::Arc::clone(&object), 1));
    let waker = Waker::from(unpark);
    assert!(taking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    model::spawn(move || {
        let mut theirs = pin!(take(&object));
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            assert!(theirs.as_mut().poll(cx).is_pending());
            if polls > 1 { Poll::Ready(()) } else { Poll::Pending }
        }));
        event.add(1).unwrap();
    });
    while !*woken.lock().unwrap() {
        model::park();
    }
    block_on(taking);
}

/// Takes one, and puts back what there is more.
async fn take_one(object: Object) {
    let count = take(&object).await.unwrap();
    if count > 1 {
        object.get_ref().add(count - 1).unwrap();
    }
}
