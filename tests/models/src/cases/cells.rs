//! The cell of a task: handed over once, taken once, freed once, by whoever is the last.

use super::{Case, case};
use crate::executor::block_on;
use crate::sys::task_cell::{Body, Giver, Runner, Taker, vacant};
use std::cell::{Looked, UnsafeCell};
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::plain::{Arc, Wake};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::{memory, model};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("handover", 3, 4000, handover),
        case("handover_replaced", 0, 4000, handover_replaced),
        case("handover_left", 0, 4000, handover_left),
        case("handover_unasked", 0, 4000, handover_unasked),
        case("handover_moved", 0, 4000, handover_moved),
        case("handover_seen", 0, 4000, handover_seen),
        case("giver_gone", 0, 4000, giver_gone),
        case("runner_gone", 0, 4000, runner_gone),
        case("taker_gone", 0, 4000, taker_gone),
    ]
}

/// What happens to a cell's parts, which std's `Mutex` does not tell the model of.
#[derive(Default)]
struct Counts {
    wakes: Mutex<[usize; 2]>,
    bodies: Mutex<usize>,
    values: Mutex<usize>,
}

/// What both ends look at: the cell is to be freed after all looks.
#[derive(Default)]
struct Head {
    looked: Looked,
    told: AtomicBool,
}

/// An output that notices whether it is reached by two threads at once, and counts its drop.
struct Value {
    touched: UnsafeCell<()>,
    finished: bool,
    counts: Arc<Counts>,
}

impl Value {
    fn new(counts: &Arc<Counts>, finished: bool) -> Self {
        let value = Value { touched: UnsafeCell::new(()), finished, counts: Arc::clone(counts) };
        value.touched.get();
        value
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.touched.get();
        *self.counts.values.lock().unwrap() += 1;
    }
}

/// A body that has to stay on the thread where it was made. It is done in its second poll.
struct Work {
    counts: Arc<Counts>,
    home: model::Thread,
    polls: usize,
    not_sent: PhantomData<Rc<()>>,
}

thread_local! {
    /// What is told of by `unfinished`, which is given nothing.
    static COUNTS: Mutex<Option<Arc<Counts>>> = const { Mutex::new(None) };
}

impl Body for Work {
    type Head = Head;
    type Output = Value;

    fn poll(mut self: Pin<&mut Self>, head: &Head, _: &mut Context<'_>) -> Poll<Value> {
        head.looked.look();
        self.polls += 1;
        if self.polls < 2 { Poll::Pending } else { Poll::Ready(Value::new(&self.counts, true)) }
    }

    fn ended(output: Value, dropped: thread::Result<()>) -> Value {
        dropped.expect("the body's drop does not panic");
        output
    }

    fn unfinished() -> Value {
        COUNTS.with(|counts| Value::new(counts.lock().unwrap().as_ref().unwrap(), false))
    }

    fn abandoned(dropped: thread::Result<()>, joiner: Option<Waker>) {
        dropped.expect("the body's drop does not panic");
        joiner.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        assert!(self.home.id() == model::current().id(), "dropped on another thread");
        *self.counts.bodies.lock().unwrap() += 1;
    }
}

/// A waker that counts, the first or the second.
struct Woken(Arc<Counts>, usize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.wakes.lock().unwrap()[self.1] += 1;
    }
}

/// A cell, what is to be counted of it, and two wakers.
struct Trial {
    counts: Arc<Counts>,
    wakers: [Waker; 2],
    watched: [Arc<Woken>; 2],
}

type Owner = model::JoinHandle<()>;
type Taking = Taker<Head, Value>;

impl Trial {
    /// Begins with an owner that does this on a thread of its own, where its body is.
    fn begin(owner: fn(Giver<Work>, Arc<Counts>)) -> (Self, Owner, Taking) {
        let counts = Arc::<Counts>::default();
        let (giver, taker) = vacant::<Work>(Head::default());
        let theirs = Arc::clone(&counts);
        let owner = model::spawn(move || {
            COUNTS.with(|counts| *counts.lock().unwrap() = Some(Arc::clone(&theirs)));
            owner(giver, theirs);
        });
        let watched = [0, 1].map(|at| Arc::new(Woken(Arc::clone(&counts), at)));
        let wakers = watched.clone().map(Waker::from);
        (Self { counts, wakers, watched }, owner, taker)
    }

    fn wakes(&self) -> [usize; 2] {
        *self.counts.wakes.lock().unwrap()
    }

    /// Both ends are gone: all that was made has been dropped, and the memory was freed.
    fn end(self, bodies: usize) {
        drop(self.wakers);
        assert_eq!(memory::freed(), 1);
        assert_eq!(*self.counts.bodies.lock().unwrap(), bodies);
        assert_eq!(*self.counts.values.lock().unwrap(), 1);
        let [first, second] = &self.watched;
        assert_eq!((Arc::strong_count(first), Arc::strong_count(second)), (1, 1), "wakers left");
    }
}

/// Puts a body in its place.
fn start(giver: Giver<Work>, counts: Arc<Counts>) -> Runner<Head> {
    giver.head().looked.look();
    giver.start(Work { counts, home: model::current(), polls: 0, not_sent: PhantomData })
}

fn poll(runner: &mut Runner<Head>) -> Poll<()> {
    let (head, polling) = runner.parts();
    head.looked.look();
    polling.poll(&mut Context::from_waker(Waker::noop()))
}

/// What an owner does mostly: it polls the body until it is done, and hands the output over.
fn whole(giver: Giver<Work>, counts: Arc<Counts>) {
    let mut runner = start(giver, counts);
    assert!(poll(&mut runner).is_pending() && poll(&mut runner).is_ready());
    runner.hand_over().into_iter().for_each(Waker::wake);
}

fn look(taker: &Taking) {
    taker.head().into_iter().for_each(|head| head.looked.look());
}

/// Whoever waits is woken and gets the value.
fn handover() {
    let (trial, owner, mut taker) = Trial::begin(whole);
    look(&taker);
    let value = block_on(poll_fn(|cx| taker.poll(cx.waker()))).expect("it is taken once");
    assert!(value.finished && taker.head().is_none() && taker.is_given());
    assert_eq!(*trial.counts.bodies.lock().unwrap(), 1, "the body goes before its output");
    drop((value, taker));
    owner.join().unwrap();
    trial.end(1);
}

/// The last waker is woken if the value had not come by then, and no other.
fn handover_replaced() {
    let (trial, owner, mut taker) = Trial::begin(whole);
    look(&taker);
    let [first, second] = &trial.wakers;
    let got = [first, second, second].map(|waker| taker.poll(waker));
    owner.join().unwrap();
    let at_once = got.iter().filter(|it| matches!(it, Poll::Ready(Some(_)))).count();
    let pending = got.iter().filter(|it| it.is_pending()).count();
    match (at_once, pending) {
        (0, 3) => assert_eq!(trial.wakes(), [0, 1], "the second waits"),
        // It may have been woken before it looked again.
        (1, pending) => assert!(trial.wakes().iter().sum::<usize>() <= pending.min(1)),
        _ => panic!("taken more than once"),
    }
    drop((got, taker));
    trial.end(1);
}

/// Somebody waits and goes: if the value comes later, nobody is woken.
fn handover_left() {
    let (trial, owner, mut taker) = Trial::begin(whole);
    look(&taker);
    let polled = taker.poll(&trial.wakers[0]);
    let waited = polled.is_pending();
    drop((polled, taker));
    let before = trial.wakes()[0];
    owner.join().unwrap();
    assert!(trial.wakes()[0] <= usize::from(waited) && trial.wakes()[1] == 0);
    assert!(before <= trial.wakes()[0]);
    trial.end(1);
}

/// Nobody ever asks for it.
fn handover_unasked() {
    let (trial, owner, taker) = Trial::begin(whole);
    look(&taker);
    drop(taker);
    owner.join().unwrap();
    assert_eq!(trial.wakes(), [0, 0]);
    trial.end(1);
}

/// The taker waits on one thread, and then on another.
fn handover_moved() {
    let (trial, owner, mut taker) = Trial::begin(whole);
    look(&taker);
    let first = taker.poll(&trial.wakers[0]);
    let waker = trial.wakers[1].clone();
    let moved = model::spawn(move || {
        look(&taker);
        let second = taker.poll(&waker);
        (second, taker)
    });
    let (second, taker) = moved.join().unwrap();
    drop((first, second, taker));
    owner.join().unwrap();
    assert!(trial.wakes().iter().sum::<usize>() <= 1);
    trial.end(1);
}

/// Who looks whether it is given sees what was written before, and gets it then.
fn handover_seen() {
    let (trial, owner, mut taker) = Trial::begin(|giver, counts| {
        giver.head().told.store(true, Ordering::Relaxed);
        giver.give(Value::new(&counts, true)).into_iter().for_each(Waker::wake);
    });
    for waker in &trial.wakers {
        if taker.is_given() {
            if let Some(head) = taker.head() {
                assert!(head.told.load(Ordering::Relaxed), "given, and not seen");
                assert!(taker.poll(waker).is_ready());
            }
        } else {
            drop(taker.poll(waker));
        }
    }
    drop(taker);
    owner.join().unwrap();
    trial.end(0);
}

/// Takes with both wakers; returns whether what it got, if anything, was finished, and who waits.
fn take_twice(trial: &Trial, taker: &mut Taking) -> (Option<bool>, usize) {
    let got = [0, 1].map(|at| taker.poll(&trial.wakers[at]));
    let pending = got.iter().filter(|it| it.is_pending()).count();
    let mut values = got.into_iter().filter_map(|it| match it {
        Poll::Ready(value) => value,
        Poll::Pending => None,
    });
    (values.next().map(|value| value.finished), pending)
}

/// The owner's end goes before there is a body: that is told as an output.
fn giver_gone() {
    let (trial, owner, mut taker) = Trial::begin(|giver, _| {
        giver.head().looked.look();
        drop(giver);
    });
    look(&taker);
    let (finished, pending) = take_twice(&trial, &mut taker);
    assert_ne!(finished, Some(true));
    drop(taker);
    owner.join().unwrap();
    assert!(trial.wakes().iter().sum::<usize>() <= pending.min(1));
    trial.end(0);
}

/// And with a body that is not done: it is dropped where it lies, and by its owner.
fn runner_gone() {
    let (trial, owner, mut taker) = Trial::begin(|giver, counts| {
        let mut runner = start(giver, counts);
        assert!(poll(&mut runner).is_pending());
        drop(runner);
    });
    look(&taker);
    let (finished, pending) = take_twice(&trial, &mut taker);
    assert_ne!(finished, Some(true));
    if finished.is_some() {
        assert_eq!(*trial.counts.bodies.lock().unwrap(), 1, "the body goes before that is told");
    }
    drop(taker);
    owner.join().unwrap();
    assert!(trial.wakes().iter().sum::<usize>() <= pending.min(1));
    trial.end(1);
}

/// An owner that sees that the taker is gone sees what that did before.
fn taker_gone() {
    let (trial, owner, taker) = Trial::begin(|giver, counts| {
        let mut runner = start(giver, counts);
        while poll(&mut runner).is_pending() {
            if runner.is_detached() {
                assert!(runner.parts().0.told.load(Ordering::Relaxed), "gone, and not seen");
            }
        }
        runner.hand_over().into_iter().for_each(Waker::wake);
    });
    taker.head().into_iter().for_each(|head| head.told.store(true, Ordering::Relaxed));
    drop(taker);
    owner.join().unwrap();
    trial.end(1);
}
