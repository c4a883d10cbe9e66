//! Every way of the two ends, with counted drops.

use super::{Body, GIVEN, GONE, Giver, HANDING, Memory, Runner, Taker, TaskCell, vacant};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

/// A body of a closure; `None` is handed over where there is no output.
struct Work<F>(F);

type Output = Option<Box<usize>>;
/// Counts the cells that are not freed.
type Head = Arc<()>;

impl<F: FnMut() -> Poll<Output> + Unpin + 'static> Body for Work<F> {
    type Head = Head;
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, _: &Head, _: &mut Context<'_>) -> Poll<Output> {
        (self.0)()
    }

    fn ended(output: Output, dropped: thread::Result<()>) -> Output {
        output.filter(|_| dropped.is_ok())
    }

    fn unfinished() -> Output {
        None
    }

    fn abandoned(dropped: thread::Result<()>, joiner: Option<Waker>) {
        joiner.into_iter().for_each(Waker::wake);
        if let Err(payload) = dropped {
            panic::resume_unwind(payload);
        }
    }
}

/// Counts its drop, and may panic then.
struct Dropped(Rc<Cell<usize>>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        assert!(!self.1, "in a drop");
    }
}

type Given = Giver<Work<fn() -> Poll<Output>>>;

fn pair(head: &Head) -> (Given, Taker<Head, Output>) {
    vacant(Arc::clone(head))
}

fn running<F>(head: &Head, body: F) -> (Runner<Head>, Taker<Head, Output>)
where
    F: FnMut() -> Poll<Output> + Unpin + 'static,
{
    let (giver, taker) = vacant(Arc::clone(head));
    (giver.start(Work(body)), taker)
}

/// A body with a drop, and what it gives when it is polled.
fn dropping(
    head: &Head,
    panics: bool,
    mut body: impl FnMut() -> Poll<Output> + Unpin + 'static,
) -> (Runner<Head>, Taker<Head, Output>, Rc<Cell<usize>>) {
    let drops = Rc::new(Cell::new(0));
    let dropped = Dropped(Rc::clone(&drops), panics);
    let (runner, taker) = running(head, move || {
        _ = &dropped;
        body()
    });
    (runner, taker, drops)
}

fn poll(runner: &mut Runner<Head>) -> Poll<()> {
    runner.parts().1.poll(&mut Context::from_waker(Waker::noop()))
}

fn cells(head: &Head) -> usize {
    Arc::strong_count(head) - 1
}

fn caught<R>(f: impl FnOnce() -> R) -> thread::Result<R> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

#[test]
fn what_was_given_is_taken_once() {
    let head = Head::default();
    let (giver, mut taker) = pair(&head);
    assert!(Arc::ptr_eq(giver.head(), taker.head().unwrap()));
    assert!(!taker.is_given());
    assert!(giver.give(Some(Box::new(7))).is_none());
    assert!(taker.is_given());
    assert_eq!(taker.poll(Waker::noop()), Poll::Ready(Some(Some(Box::new(7)))));
    assert_eq!(cells(&head), 0, "who takes frees");
    assert_eq!(taker.poll(Waker::noop()), Poll::Ready(None));
    assert!(taker.is_given() && taker.head().is_none());
}

#[test]
fn a_body_is_polled_in_place_and_dropped_before_its_output_is_handed_over() {
    let head = Head::default();
    let mut polls = 0;
    let (mut runner, mut taker, drops) = dropping(&head, false, move || {
        polls += 1;
        if polls < 3 { Poll::Pending } else { Poll::Ready(Some(Box::new(polls))) }
    });
    assert!(poll(&mut runner).is_pending() && poll(&mut runner).is_pending());
    assert_eq!(drops.get(), 0);
    assert!(poll(&mut runner).is_ready());
    assert_eq!((drops.get(), taker.is_given()), (1, false));
    assert!(caught(|| poll(&mut runner)).is_err(), "it is no more");
    assert!(runner.hand_over().is_none());
    assert_eq!(taker.poll(Waker::noop()), Poll::Ready(Some(Some(Box::new(3)))));
    assert_eq!((drops.get(), cells(&head)), (1, 0));
}

/// A body that is as large as `P`, and done at once.
struct Ready<T, P>(Option<T>, P);

impl<T: Unpin + 'static, P: Unpin + 'static> Body for Ready<T, P> {
    type Head = Head;
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, _: &Head, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(self.0.take())
    }

    fn ended(output: Option<T>, _: thread::Result<()>) -> Option<T> {
        output
    }

    fn unfinished() -> Option<T> {
        None
    }

    fn abandoned(_: thread::Result<()>, _: Option<Waker>) {}
}

fn through<T: Unpin + 'static, P: Unpin + 'static>(output: T, padding: P) -> Option<T> {
    let head = Head::default();
    let (giver, mut taker) = vacant(Arc::clone(&head));
    let mut runner = giver.start(Ready(Some(output), padding));
    assert!(poll(&mut runner).is_ready());
    runner.hand_over();
    let Poll::Ready(taken) = taker.poll(Waker::noop()) else { panic!("it was handed over") };
    assert_eq!(cells(&head), 0);
    taken?
}

#[test]
fn an_output_of_any_size_has_room() {
    #[repr(align(64))]
    #[derive(Debug, Clone, PartialEq)]
    struct Aligned([u8; 200]);
    let aligned = Aligned([3; 200]);
    assert_eq!(through(aligned.clone(), ()), Some(aligned.clone()));
    assert_eq!(through((), aligned.clone()), Some(()));
    assert_eq!(through(7_u8, aligned), Some(7));
    assert_eq!(through("text".to_owned(), [0_u64; 99]), Some("text".to_owned()));
}

#[test]
fn the_last_waker_is_given_up() {
    let head = Head::default();
    let (giver, mut taker) = pair(&head);
    let ((first, waker), (second, other)) = (counting(), counting());
    assert!(taker.poll(&waker).is_pending() && taker.poll(&waker).is_pending());
    assert!(taker.poll(&other).is_pending());
    assert_eq!(Arc::strong_count(&first), 2, "the former one is dropped");
    giver.give(None).expect("somebody waits").wake();
    assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
    drop(taker);
    assert_eq!(cells(&head), 0);
}

#[test]
fn a_taker_that_goes_takes_its_waker_and_leaves_the_cell_to_the_owner() {
    let head = Head::default();
    let (count, waker) = counting();
    let (mut runner, mut taker, drops) = dropping(&head, false, || Poll::Ready(Some(Box::new(1))));
    assert!(taker.poll(&waker).is_pending());
    assert_eq!(Arc::strong_count(&count), 3, "it lies there");
    assert!(!runner.is_detached());
    drop(taker);
    assert!(runner.is_detached());
    assert_eq!((Arc::strong_count(&count), cells(&head), drops.get()), (2, 1, 0));
    assert!(poll(&mut runner).is_ready());
    assert!(runner.hand_over().is_none());
    assert_eq!((cells(&head), drops.get()), (0, 1));
}

#[test]
fn an_owner_that_goes_says_so() {
    let head = Head::default();
    let ((count, waker), (giver, mut taker)) = (counting(), pair(&head));
    assert!(taker.poll(&waker).is_pending());
    drop(giver);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(taker.poll(&waker), Poll::Ready(Some(None)));
    let (runner, mut taker, drops) = dropping(&head, false, || Poll::Pending);
    drop(runner);
    assert_eq!((drops.get(), taker.poll(&waker)), (1, Poll::Ready(Some(None))));
    let (mut runner, mut taker, drops) = dropping(&head, false, || Poll::Ready(Some(Box::new(5))));
    assert!(poll(&mut runner).is_ready());
    drop(runner);
    let taken = taker.poll(&waker);
    assert_eq!((drops.get(), taken), (1, Poll::Ready(Some(Some(Box::new(5))))), "it was there");
    let (runner, taker, drops) = dropping(&head, false, || Poll::Pending);
    drop((taker, runner));
    assert_eq!((drops.get(), cells(&head)), (1, 0));
}

#[test]
fn a_body_may_panic_in_its_poll_and_in_its_drop() {
    let head = Head::default();
    let (mut runner, mut taker, drops) = dropping(&head, false, || panic!("in a poll"));
    assert!(caught(|| poll(&mut runner)).is_err());
    assert_eq!(drops.get(), 0, "it is still there");
    drop(runner);
    assert_eq!((drops.get(), taker.poll(Waker::noop())), (1, Poll::Ready(Some(None))));

    let (mut runner, mut taker, drops) = dropping(&head, true, || Poll::Ready(Some(Box::new(1))));
    assert!(poll(&mut runner).is_ready());
    runner.hand_over();
    assert_eq!((drops.get(), taker.poll(Waker::noop())), (1, Poll::Ready(Some(None))));

    let ((count, waker), (runner, mut taker, drops)) =
        (counting(), dropping(&head, true, || Poll::Pending));
    assert!(taker.poll(&waker).is_pending());
    assert!(caught(|| drop(runner)).is_err(), "it goes on");
    assert_eq!((drops.get(), count.0.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(taker.poll(&waker), Poll::Ready(Some(None)));
    assert_eq!(cells(&head), 0);
}

#[test]
fn an_output_that_nobody_takes_is_dropped_once_and_may_panic() {
    struct Made(Arc<()>, bool);
    impl Drop for Made {
        fn drop(&mut self) {
            assert!(!self.1, "in a drop, of {:?}", self.0);
        }
    }
    for (panics, owner_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let (head, made) = (Head::default(), Arc::new(()));
        let (giver, taker) = vacant::<Ready<Made, ()>>(Arc::clone(&head));
        let output = Some(Made(Arc::clone(&made), panics));
        let went = if owner_first {
            giver.give(output);
            assert_eq!(Arc::strong_count(&made), 2, "it lies there");
            thread::spawn(move || drop(taker)).join()
        } else {
            drop(taker);
            caught(|| drop(giver.give(output)))
        };
        assert_eq!(went.is_err(), panics);
        assert_eq!((Arc::strong_count(&made), cells(&head)), (1, 0));
    }
}

#[test]
fn the_taker_may_outlive_the_owners_thread() {
    let head = Head::default();
    let theirs = Arc::clone(&head);
    let mut taker = thread::spawn(move || {
        let (runner, taker, drops) = dropping(&theirs, false, || Poll::Pending);
        drop(runner);
        assert_eq!(drops.get(), 1);
        taker
    })
    .join()
    .unwrap();
    assert_eq!(taker.poll(Waker::noop()), Poll::Ready(Some(None)));
    assert_eq!(cells(&head), 0);
}

/// The two ends do what they do at the same time, round after round.
fn meet(rounds: usize, mut take: impl FnMut(usize, Taker<Head, Output>)) {
    let head = Head::default();
    for round in 0..rounds {
        let (giver, taker) = pair(&head);
        let giving = thread::spawn(move || {
            if round % 3 == 0 {
                thread::yield_now();
            }
            giver.give(Some(Box::new(round))).into_iter().for_each(Waker::wake);
        });
        take(round, taker);
        giving.join().unwrap();
        assert_eq!(cells(&head), 0);
    }
}

#[test]
fn threads_meet() {
    meet(250, |round, mut taker| {
        let (count, waker) = counting();
        let mut waits = 0;
        let output = loop {
            // Another waker now and then, so that the one that lies there is replaced.
            let waker = if waits % 2 == 0 { waker.clone() } else { counting().1 };
            match taker.poll(&waker) {
                Poll::Ready(output) => break output,
                Poll::Pending => waits += 1,
            }
        };
        assert_eq!(output, Some(Some(Box::new(round))));
        assert!(count.0.load(Ordering::SeqCst) <= waits);
    });
}

#[test]
fn threads_part() {
    meet(250, |round, mut taker| {
        for _ in 0..round % 4 {
            drop(taker.poll(&counting().1));
        }
        drop(taker);
    });
}

/// The owner stands still between its two looks, which threads meet hardly ever.
#[test]
fn a_taker_that_leaves_while_the_owner_looks_again_frees_nothing() {
    type Made = TaskCell<Work<fn() -> Poll<Output>>>;
    for polls in [true, false] {
        let head = Head::default();
        let cell = Made::vacant(Arc::clone(&head));
        // SAFETY: the cell is new, and one for this output.
        let mut taker: Taker<Head, Output> = unsafe { Taker::new(cell) };
        // SAFETY: nothing lies there, and there is no other owner than this test.
        unsafe { Made::write_output(cell, Some(Box::new(7))) };
        // SAFETY: the owner, which this test is, has not freed it.
        let state = unsafe { &(*cell.as_ptr()).state };
        state.store(HANDING, Ordering::SeqCst);
        if polls {
            assert_eq!(taker.poll(Waker::noop()), Poll::Ready(Some(Some(Box::new(7)))));
        }
        drop(taker);
        assert_eq!(Arc::strong_count(&head), 2, "the cell is the owner's to free");
        assert_eq!(state.swap(GIVEN, Ordering::SeqCst), GONE);
        drop(Memory(cell));
        assert_eq!(Arc::strong_count(&head), 1);
    }
}
