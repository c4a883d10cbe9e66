//! Foreign code may call back: whatever runs a waker, a destructor or a user's `Debug` holds no
//! lock and no borrow.

use crate::kit;
use crate::kit::futures;
use futures::{Gate, on_drop, settle};
use selio::selector::{Events, Selector};
use selio::time::sleep;
use selio::{Async, JoinHandle, Timer, block_on, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, pending};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What is called from within foreign code.
#[derive(Clone, Copy, Debug)]
enum Action {
    Spawn,
    Register,
    Unregister,
    SetTimer,
    DropTimer,
    Abort,
    Wake,
    BlockOn,
}

const ACTIONS: [Action; 8] = [
    Action::Spawn,
    Action::Register,
    Action::Unregister,
    Action::SetTimer,
    Action::DropTimer,
    Action::Abort,
    Action::Wake,
    Action::BlockOn,
];

/// What the actions work on, all of it in use: a descriptor and a timer that are waited for, a task
/// that waits.
struct Stage {
    action: Action,
    fresh: Async<UnixStream>,
    registered: Async<UnixStream>,
    set: Timer,
    task: JoinHandle<()>,
    waker: Waker,
    ends: [UnixStream; 2],
}

thread_local! {
    /// Wakers' closures must be `Send`, so that they find the stage here.
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
    static DEEDS: Cell<usize> = const { Cell::new(0) };
}

fn pair() -> (Async<UnixStream>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Async::new(near).unwrap(), far)
}

fn poll_readable(socket: &Async<UnixStream>, waker: &Waker) {
    assert!(socket.poll_readable(&mut Context::from_waker(waker)).is_pending());
}

/// Prepares the stage for one action, and tells how often the task to be woken is polled.
async fn set_stage(action: Action) -> Rc<Cell<usize>> {
    let (fresh, fresh_end) = pair();
    let (registered, registered_end) = pair();
    poll_readable(&registered, Waker::noop());
    let mut set = Timer::after(Duration::from_secs(60));
    assert!(kit::poll_with(&mut set, Waker::noop()).is_pending());
    let polls = Rc::new(Cell::new(0));
    let waker = Rc::new(Cell::new(None));
    let keeps = Rc::clone(&waker);
    let task = spawn(futures::counted(
        &polls,
        std::future::poll_fn(move |cx| {
            keeps.set(Some(cx.waker().clone()));
            Poll::Pending
        }),
    ));
    settle().await;
    let waker = waker.take().unwrap();
    let ends = [fresh_end, registered_end];
    let stage = Stage { action, fresh, registered, set, task, waker, ends };
    STAGE.with(|it| *it.borrow_mut() = Some(stage));
    DEEDS.set(0);
    polls
}

/// Does what the stage is set for, at the first call.
fn act() {
    let Some(mut stage) = STAGE.with(|it| it.borrow_mut().take()) else { return };
    match stage.action {
        Action::Spawn => drop(spawn(async { DEEDS.set(DEEDS.get() + 1) })),
        Action::Register => poll_readable(&stage.fresh, Waker::noop()),
        Action::Unregister => drop(stage.registered.into_inner().unwrap()),
        Action::SetTimer => {
            stage.set.set_after(Duration::from_secs(60));
            assert!(kit::poll_with(&mut stage.set, Waker::noop()).is_pending());
        }
        Action::DropTimer => drop(std::mem::replace(&mut stage.set, Timer::never())),
        Action::Abort => stage.task.abort(),
        Action::Wake => stage.waker.wake_by_ref(),
        Action::BlockOn => block_on(async {
            sleep(Duration::from_millis(1)).await;
            stage.ends[1].write_all(b"x").unwrap();
            assert_eq!(stage.registered.read(&mut [0; 2]).await.unwrap(), 1);
            spawn(async {}).await.unwrap();
        }),
    }
    DEEDS.set(DEEDS.get() + 1);
}

/// Checks that the action was done, and that it came to what it should.
async fn check_deed(action: Action, context: &str, polls: &Cell<usize>) {
    settle().await;
    let (wanted_deeds, wanted_polls) = match action {
        Action::Spawn => (2, 1),
        Action::Wake => (1, 2),
        _ => (1, 1),
    };
    let done = (DEEDS.get(), polls.get());
    assert_eq!(done, (wanted_deeds, wanted_polls), "{action:?} in {context}: deeds and polls");
}

/// Runs every action in a context that calls `act`, and finds the executor in order.
fn every_action_in<F: Future>(context: &str, calls_act: impl Fn() -> F) {
    let _guard = kit::watchdog(10);
    for action in ACTIONS {
        block_on(async {
            let polls = set_stage(action).await;
            calls_act().await;
            check_deed(action, context, &polls).await;
            sleep(Duration::from_millis(1)).await;
        });
    }
}

/// A waker that acts when it is woken, and one that acts when it is dropped.
fn acts_on_wake() -> Waker {
    kit::closure_waker(act)
}

fn acts_on_drop() -> Waker {
    kit::hostile().on_drop(act).waker()
}

// I01
#[test]
fn a_poll_may_call_back() {
    every_action_in("a task's poll", || async { spawn(async { act() }).await.unwrap() });
    every_action_in("the root's poll", || async { act() });
}

// I01
#[test]
fn a_wake_by_a_task_may_call_back() {
    every_action_in("the wake of a join", || async {
        let gate = Gate::new();
        let mut task = spawn(gate.pass());
        yield_now().await;
        assert!(kit::poll_with(&mut task, &acts_on_wake()).is_pending());
        gate.open();
        settle().await;
    });
}

// I01
#[test]
fn a_wake_by_a_descriptor_may_call_back() {
    every_action_in("the wake of a descriptor", || async {
        let (near, mut far) = pair();
        poll_readable(&near, &acts_on_wake());
        far.write_all(b"x").unwrap();
        sleep(Duration::from_millis(1)).await;
    });
}

// I01
#[test]
fn a_timer_that_goes_off_may_call_back() {
    every_action_in("the wake of a timer", || async {
        let mut timer = Timer::after(Duration::ZERO);
        assert!(kit::poll_with(&mut timer, &acts_on_wake()).is_pending());
        sleep(Duration::from_millis(1)).await;
    });
}

// I01
#[test]
fn a_wakers_clone_may_call_back() {
    every_action_in("a clone for a timer", || async {
        let waker = kit::hostile().on_clone(act).waker();
        let mut timer = Timer::after(Duration::from_secs(60));
        assert!(kit::poll_with(&mut timer, &waker).is_pending());
    });
    every_action_in("a clone for a descriptor", || async {
        let (near, _far) = pair();
        poll_readable(&near, &kit::hostile().on_clone(act).waker());
    });
    every_action_in("a clone for a join", || async {
        let waker = kit::hostile().on_clone(act).waker();
        assert!(kit::poll_with(&mut spawn(pending::<()>()), &waker).is_pending());
    });
}

// I01
#[test]
fn a_wakers_drop_may_call_back() {
    every_action_in("the drop of a timer's waker", || async {
        let mut timer = Timer::after(Duration::from_secs(60));
        let waker = std::mem::ManuallyDrop::new(acts_on_drop());
        assert!(kit::poll_with(&mut timer, &waker).is_pending());
        drop(timer);
    });
    every_action_in("the replaced waker of a timer", || async {
        let mut timer = Timer::after(Duration::from_secs(60));
        let waker = std::mem::ManuallyDrop::new(acts_on_drop());
        assert!(kit::poll_with(&mut timer, &waker).is_pending());
        assert!(kit::poll_with(&mut timer, Waker::noop()).is_pending());
    });
    every_action_in("the drop of a descriptor's waker", || async {
        let (near, _far) = pair();
        poll_readable(&near, &std::mem::ManuallyDrop::new(acts_on_drop()));
        drop(near);
    });
    every_action_in("the replaced waker of a descriptor", || async {
        let (near, _far) = pair();
        poll_readable(&near, &std::mem::ManuallyDrop::new(acts_on_drop()));
        poll_readable(&near, Waker::noop());
    });
    every_action_in("the waker of a wait that is given up", || async {
        let (near, _far) = pair();
        let mut readable = Box::pin(near.readable());
        let waker = std::mem::ManuallyDrop::new(acts_on_drop());
        assert!(kit::poll_with(&mut readable, &waker).is_pending());
        drop(readable);
    });
    every_action_in("the replaced waker of a join", || async {
        let mut task = spawn(pending::<()>());
        let waker = std::mem::ManuallyDrop::new(acts_on_drop());
        assert!(kit::poll_with(&mut task, &waker).is_pending());
        assert!(kit::poll_with(&mut task, Waker::noop()).is_pending());
    });
}

// I01
#[test]
fn a_futures_drop_may_call_back() {
    every_action_in("the drop of an aborted future", || async {
        let acts = on_drop(act);
        let task = spawn(async move {
            let _acts = acts;
            pending::<()>().await;
        });
        yield_now().await;
        task.abort();
        settle().await;
    });
    every_action_in("the drop of a finished future", || async {
        let acts = on_drop(act);
        spawn(async move { drop(acts) }).await.unwrap();
    });
}

// I01
#[test]
fn an_outputs_drop_may_call_back() {
    every_action_in("the drop of a detached output", || async {
        drop(spawn(async { on_drop(act) }));
        settle().await;
    });
    every_action_in("the drop of an output with its handle", || async {
        let task = spawn(async { on_drop(act) });
        settle().await;
        drop(task);
    });
    every_action_in("the drop of a payload", || async {
        drop(spawn(async { std::panic::panic_any(Acts) }));
        settle().await;
    });
}

/// Acts when it is dropped; unlike a closure's, its type is `Send` and has a name.
struct Acts;

impl Drop for Acts {
    fn drop(&mut self) {
        act();
    }
}

/// A descriptor that acts when it is shown or dropped.
struct Acting(UnixStream);

impl AsFd for Acting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Acting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        act();
        f.write_str("Acting")
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        act();
    }
}

/// A registered descriptor that acts, and its other end.
fn acting() -> (Async<Acting>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let near = Async::new(Acting(near)).unwrap();
    assert!(near.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending());
    (near, far)
}

// I01
#[test]
fn an_objects_debug_and_drop_may_call_back() {
    every_action_in("a Debug", || async {
        let (near, _far) = acting();
        assert!(format!("{near:?}").contains("Acting"));
    });
    every_action_in("the drop of what is inside an Async", || async {
        drop(acting());
    });
    every_action_in("a read that calls back", || async {
        let (near, _far) = pair();
        near.read_with(|_| {
            act();
            Ok(())
        })
        .await
        .unwrap();
    });
}

// I01, I02
#[test]
fn the_drop_of_a_selectors_data_may_call_back() {
    let with = |data| {
        let mut selector = Selector::new().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        selector.register_handle(&near, Events::READ, data).unwrap();
        (selector, near, far)
    };
    every_action_in("the drop of a selector", || async { drop(with(Some(Acts))) });
    every_action_in("the drop of what was unregistered", || async {
        let (mut selector, near, _far) = with(Some(Acts));
        drop(selector.unregister(near.as_raw_fd()).unwrap());
        assert!(selector.is_empty());
    });
    every_action_in("the drop of what was replaced", || async {
        let (mut selector, near, _far) = with(Some(Acts));
        drop(selector.set_data(near.as_raw_fd(), None).ok());
        assert_eq!(selector.len(), 1);
    });
    every_action_in("the drop of what was refused", || async {
        let (mut selector, near, _far) = with(None);
        assert!(selector.register_handle(&near, Events::READ, Some(Acts)).is_err());
    });
}
