//! The least that can run futures: boxes in a table, and a queue of indices. A waker is a number. It
//! keeps nothing alive, knows no other thread, and is pushed as often as it is woken.
#![allow(unsafe_code)] // A waker that allocates nothing is made of raw parts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

thread_local! {
    static QUEUE: RefCell<VecDeque<usize>> = const { RefCell::new(VecDeque::new()) };
}

fn push(index: usize) {
    QUEUE.with(|queue| queue.borrow_mut().push_back(index));
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |index| RawWaker::new(index, &VTABLE),
    |index| push(index.addr()),
    |index| push(index.addr()),
    |_| (),
);

fn waker(index: usize) -> Waker {
    // SAFETY: the data is a number, for which every function of the table is sound.
    unsafe { Waker::from_raw(RawWaker::new(ptr::without_provenance(index), &VTABLE)) }
}

/// Tasks, until they are done.
#[derive(Default)]
pub struct Executor {
    tasks: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    free: Vec<usize>,
}

impl Executor {
    /// Takes a task in. It is polled by [`run`](Self::run).
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        let task = Some(Box::pin(future) as _);
        let index = if let Some(index) = self.free.pop() {
            self.tasks[index] = task;
            index
        } else {
            self.tasks.push(task);
            self.tasks.len() - 1
        };
        push(index);
    }

    /// Polls what is queued until nothing is.
    pub fn run(&mut self) {
        while let Some(index) = QUEUE.with(|queue| queue.borrow_mut().pop_front()) {
            let Some(task) = &mut self.tasks[index] else { continue };
            let waker = waker(index);
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks[index] = None;
                self.free.push(index);
            }
        }
    }
}
