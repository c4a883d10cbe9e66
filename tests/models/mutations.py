"""What the models have to notice: a few words of a source, and what stands there instead.

Each of MUTATIONS names the models of which one has to fail. EQUIVALENT are those that change nothing
that matters, for reasons that README.md gives: all of their models have to pass.

Old and new are expressions or whole statements, so that one program can have both.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    name: str
    source: str
    old: str
    new: str
    models: list
    engine: str = "loom"
    # What stands once in the source, where the old does not: the old stands once in it.
    within: str = ""


def weaker(name, source, line, old, new, models):
    """An ordering that is weakened in a place that the rest of its line tells."""
    return Mutation(name, source, f"Ordering::{old}", f"Ordering::{new}", models, within=line)


SCHEDULER = "executor/scheduler.rs"
EXECUTOR = "executor.rs"
JOIN = "executor/join.rs"
HANDLE = "executor/handle.rs"
SOURCE = "reactor/source.rs"
REACTOR = "reactor.rs"
QUEUE = "reactor/queue.rs"
SPIN = "reactor/spin.rs"
PIPE = "sys/signal_pipe.rs"
EVENT = "event.rs"
CELL = "sys/task_cell.rs"
OWNER = "sys/task_cell/owner.rs"
TAKER = "sys/task_cell/taker.rs"
ABORT = "sys/abort.rs"
LOCK = "sys/lock.rs"
EVENT_FD = "sys/event_fd.rs"

WAKES = ["wake_root", "wake_task"]
EDGES = ["edge_and_try", "edge_before_waiter"]
MOVES = ["home_ends", "stranger"]
ASKED = ["handover_replaced", "handover_left", "handover_moved"]
HANDOVERS = ["handover_unasked", "handover_left", "handover_replaced", "handover_seen", "handover_moved", "handover"]
OWNERS_GONE = ["giver_gone", "runner_gone"]
ORDERS = ["order_and_keep", "two_orders"]
ABORTS = ["abort_and_drop", "abort_waiting", "abort"]
TRIGGERS = ["triggers", "triggered_stream"]

# Three in which the same words stand, and what comes after them.
LEFT_WAKER = "let (success, failure) = (Ordering::Release, Ordering::Acquire);\n        match header.state.compare_exchange(EMPTY, WAITING, success, failure) {"
LEFT_HANDING = "let (success, failure) = (Ordering::Release, Ordering::Acquire);\n    if state.compare_exchange(HANDING, GONE, success, failure).is_ok() {"
LEFT_EMPTY = "let (success, failure) = (Ordering::Release, Ordering::Acquire);\n        if let Err(seen) = header.state.compare_exchange(EMPTY, GONE, success, failure) {"
TAKEN_BACK = "let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);"
GIVEN_AT_ONCE = "state.compare_exchange(EMPTY, GIVEN, Ordering::Release, Ordering::Acquire)"
EXCHANGED = "self.word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire)"
MAY_BE_ABORTED = "let may_be_aborted = !body.is_detached() || body.parts().0.is_ordered();"

MUTATIONS = [
    # The state of a task.
    weaker("wake-releases-nothing", SCHEDULER, "self.state.fetch_or(QUEUED, Ordering::AcqRel)", "AcqRel", "Acquire", WAKES),
    weaker("poll-acquires-nothing", SCHEDULER, "self.state.fetch_and(!QUEUED, Ordering::AcqRel);", "AcqRel", "Release", WAKES),
    Mutation("stays-queued", SCHEDULER, "self.state.fetch_and(!QUEUED, Ordering::AcqRel);", "", WAKES),
    Mutation("queued-twice", SCHEDULER, "self.state.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED == 0", "self.state.fetch_or(QUEUED, Ordering::AcqRel) < u64::MAX", WAKES),
    Mutation("shared-waker-goes-round", SCHEDULER, "Arc::strong_count(&self.task) > 2", "Arc::strong_count(&self.task) > 3", ["wake_spare"]),
    Mutation("no-fence-after-last-clone", SCHEDULER, "fence(Ordering::Acquire);", "", ["wake_spare", "wake_task"]),
    Mutation("root-goes-round", SCHEDULER, "!self.root.is_shared()", "true", ["wake_after_end"]),
    Mutation("former-root-is-polled", SCHEDULER, "self.root.task.id() == id", "true", ["wake_after_end"]),
    # The queues and the sleep.
    Mutation("other-executors-queue", SCHEDULER, "ptr::eq(&*it.remote, self)", "true", ["abort"]),
    Mutation("sleeper-not-woken", SCHEDULER, "_ = wakeup.wake();", "_ = wakeup;", WAKES),
    weaker("filled-only-releases", SCHEDULER, "self.filled.store(true, Ordering::SeqCst);", "SeqCst", "Release", WAKES),
    weaker("sleeper-seen-apart", SCHEDULER, "self.asleep.load(Ordering::SeqCst)", "SeqCst", "Acquire", WAKES),
    weaker("sleep-only-releases", SCHEDULER, "self.remote.asleep.store(true, Ordering::SeqCst);", "SeqCst", "Release", WAKES),
    weaker("last-look-apart", SCHEDULER, "self.remote.filled.load(Ordering::SeqCst)", "SeqCst", "Acquire", WAKES),
    Mutation("filled-not-said", SCHEDULER, "self.filled.store(true, Ordering::SeqCst);", "", WAKES),
    Mutation("filled-for-ever", SCHEDULER, "self.remote.filled.store(false, Ordering::Relaxed);", "", WAKES),
    Mutation("emptied-after-the-lock", SCHEDULER, "self.remote.filled.store(false, Ordering::Relaxed);\n        remote.iter_mut().for_each(|queue| self.local.append(queue));", "remote.iter_mut().for_each(|queue| self.local.append(queue));\n        drop(remote);\n        self.remote.filled.store(false, Ordering::Relaxed);", ["wake_spare"]),
    Mutation("no-last-look", SCHEDULER, "self.remote.filled.load(Ordering::SeqCst)", "false", WAKES),
    Mutation("sleep-not-announced", SCHEDULER, "self.remote.asleep.store(true, Ordering::SeqCst);", "", WAKES),
    Mutation("announced-after-the-look", SCHEDULER, "self.remote.asleep.store(true, Ordering::SeqCst);\n            if self.remote.filled.load(Ordering::SeqCst) {\n                self.woke_up();\n                self.append_remote();\n                return false;\n            }", "let filled = self.remote.filled.load(Ordering::SeqCst);\n            self.remote.asleep.store(true, Ordering::SeqCst);\n            if filled {\n                self.woke_up();\n                self.append_remote();\n                return false;\n            }", WAKES),
    Mutation("spun-and-not-announced", REACTOR, "may_rest(over)", "may_rest(false)", ["wake_spinning"]),
    Mutation("spun-without-a-look", REACTOR, "!may_rest(over)", "(over && !may_rest(true) && false)", ["wake_spinning"]),
    Mutation("full-counter-no-edge", EVENT_FD, "self.read()?;\n                self.signal()", "Ok(())", ["wake_root", "wake_task", "wake_spare"]),
    # Aborting, and orders from other threads.
    Mutation("order-of-no-handle-lost", SCHEDULER, "!body.is_detached() || body.parts().0.is_ordered()", "!body.is_detached()", ["abort_and_drop"]),
    Mutation("order-looked-for-first", SCHEDULER, "!body.is_detached() || body.parts().0.is_ordered()", "body.parts().0.is_ordered() || !body.is_detached()", ["abort_and_drop"]),
    Mutation("nothing-kept-for-order", SCHEDULER, "abort.keep(Arc::clone(&spare.task));", "", ["abort_waiting"], within="if polled.is_pending() {\n                abort.keep(Arc::clone(&spare.task));"),
    Mutation("nothing-kept-without-waker", SCHEDULER, "body.parts().0.keep(Arc::clone(&spare.task));", "", ["abort", "abort_and_drop"]),
    weaker("detached-unacquired", OWNER, "self.0.header().state.load(Ordering::Acquire) == GONE", "Acquire", "Relaxed", ["taker_gone", "abort_and_drop"]),
    Mutation("order-wakes-nobody", ABORT, "return self.get().into_iter().for_each(|task| task.waker().wake_by_ref())", "return", ORDERS, within="Ok(_) => return self.get().into_iter().for_each(|task| task.waker().wake_by_ref()),"),
    Mutation("order-not-found", ABORT, "is_ordered(before)", "false", ORDERS, within="Ok(_) if is_ordered(before) => {"),
    Mutation("order-overwritten", ABORT, "task.map_addr(|address| address | before.addr())", "task", ORDERS),
    Mutation("each-order-wakes", ABORT, "!is_ordered(before)", "true", ["two_orders"]),
    Mutation("kept-for-ever", ABORT, "!kept.is_null()", "false", ORDERS),
    weaker("keeper-releases-nothing", ABORT, EXCHANGED, "AcqRel", "Acquire", ORDERS + ABORTS),
    weaker("order-unacquired", ABORT, "is_ordered(self.word.load(Ordering::Acquire))", "Acquire", "Relaxed", ABORTS),
    Mutation("order-not-looked-at", JOIN, "abort.is_ordered()", "false", ["abort", "abort_order"]),
    Mutation("doorman-leaves-no-waker", HANDLE, "orders.doorman = Some(waker);", "drop(waker);", ["order"]),
    # The counts of edges.
    Mutation("drained-at-the-newest", SOURCE, "edges", "{ _ = edges; self.edges(direction) }", ["edge_before_waiter", "edge_and_try", "edges_and_waiters"], "shuttle", ".drained.store(edges, Ordering::Relaxed)"),
    Mutation("edge-not-counted", SOURCE, "edges.store(edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);", "_ = edges;", EDGES),
    Mutation("left-without-a-look", SOURCE, "self.nothing_new(direction)", "Some(self.edges(direction))", EDGES + MOVES, within="let Some(edges) = self.nothing_new(direction) else { return Left::NotNow(waker) };"),
    Mutation("busy-source-forgotten", REACTOR, "put_off(busy, source, reported)", "_ = (&busy, source, reported)", EDGES + MOVES),
    # Moving.
    Mutation("lends-not-noted", SOURCE, "home.lend()", "home.is_driven()", MOVES, within="(home.lend() ||"),
    Mutation("lends-after-the-look", REACTOR, "self.lends.store(true, Ordering::SeqCst);\n        self.is_driven()", "let driven = self.is_driven();\n        self.lends.store(true, Ordering::SeqCst);\n        driven", MOVES),
    weaker("lend-only-releases", REACTOR, "self.lends.store(true, Ordering::SeqCst);", "SeqCst", "Release", MOVES),
    weaker("driven-only-acquires", REACTOR, "self.driven.load(Ordering::SeqCst) > 0", "SeqCst", "Acquire", MOVES),
    weaker("end-only-releases", REACTOR, "self.driven.store(left, Ordering::SeqCst);", "SeqCst", "Release", MOVES),
    weaker("end-only-acquires", REACTOR, "left == 0 && self.lends.load(Ordering::SeqCst)", "SeqCst", "Acquire", MOVES),
    Mutation("end-before-it-is-said", REACTOR, "self.driven.store(left, Ordering::SeqCst);\n        left == 0 && self.lends.load(Ordering::SeqCst)", "let lent = left == 0 && self.lends.load(Ordering::SeqCst);\n        self.driven.store(left, Ordering::SeqCst);\n        lent", MOVES),
    Mutation("one-is-not-watched", REACTOR, "self.watched.load(Ordering::Relaxed) == 0", "self.watched.load(Ordering::Relaxed) <= 1", MOVES),
    Mutation("strangers-stay", REACTOR, "wake_all(reactor.take_strangers());", "", MOVES),
    Mutation("taken-along-not-noted", SOURCE, "here.lend()", "here.is_driven()", MOVES, within="here.lend();\n        }\n        state.home"),
    # Alarms that are dropped elsewhere.
    Mutation("withdrawn-not-said", QUEUE, "withdrawn.any.store(true, Ordering::Release);", "", ["withdrawn"]),
    Mutation("withdrawn-said-before", QUEUE, "withdrawn.alarms.lock().push(alarm);\n    withdrawn.any.store(true, Ordering::Release);", "withdrawn.any.store(true, Ordering::Release);\n    withdrawn.alarms.lock().push(alarm);", ["withdrawn"]),
    Mutation("none-withdrawn-said-late", QUEUE, "let_go.extend(alarms.into_iter().filter_map(|alarm| self.timers.remove(alarm)));", "let_go.extend(alarms.into_iter().filter_map(|alarm| self.timers.remove(alarm)));\n        withdrawn.any.store(false, Ordering::Relaxed);", ["withdrawn"]),
    # The signal pipe.
    Mutation("no-second-write", PIPE, "self.try_write(record);", "", ["burst", "two_handlers"], within="fetch_or(1 << (signal % BITS), Ordering::SeqCst);\n            self.try_write(record);"),
    Mutation("no-flag", PIPE, "missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);", "_ = missed;", ["burst", "two_handlers"]),
    Mutation("flag-after-second-write", PIPE, "missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);\n            self.try_write(record);", "self.try_write(record);\n            missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);", ["burst", "two_handlers"]),
    Mutation("full-batch-is-the-last", PIPE, "records.len() < BATCH", "records.len() <= BATCH", ["batches"]),
    Mutation("read-behind-the-waker", "signal.rs", "if let Some(info) = hub.take(self.inbox) {\n            drop(hub);\n            return Poll::Ready(Ok(info));\n        }", "", ["burst", "two_handlers"]),
    Mutation("subscriber-not-woken", "signal/hub.rs", "woken.extend(inbox.waker.take());", "", ["burst", "two_handlers"]),
    # Events.
    weaker("trigger-counts-apart", EVENT, "self.pending.fetch_add(1, Ordering::SeqCst);", "SeqCst", "AcqRel", TRIGGERS),
    weaker("trigger-looks-apart", EVENT, "self.waiting.load(Ordering::SeqCst) > 0", "SeqCst", "Acquire", TRIGGERS),
    weaker("waiter-says-apart", EVENT, "self.waiting.fetch_add(1, Ordering::SeqCst);", "SeqCst", "AcqRel", TRIGGERS),
    weaker("waiter-looks-apart", EVENT, "self.pending.load(Ordering::SeqCst) == 0", "SeqCst", "Acquire", TRIGGERS),
    Mutation("waiter-says-nothing", EVENT, "counter.begin_wait();", "", ["triggers"], within="-> Self {\n        counter.begin_wait();"),
    Mutation("stream-says-nothing", EVENT, "counter.begin_wait()", "{}", ["triggered_stream"], within="(false, true) => counter.begin_wait(),"),
    # The cell of a task: its owner hands over.
    weaker("giver-releases-nothing", CELL, GIVEN_AT_ONCE, "Release", "Relaxed", HANDOVERS),
    weaker("giver-acquires-nothing", CELL, GIVEN_AT_ONCE, "Acquire", "Relaxed", HANDOVERS),
    weaker("handing-releases-nothing", CELL, "state.swap(HANDING, Ordering::AcqRel)", "AcqRel", "Acquire", ASKED),
    weaker("handing-acquires-nothing", CELL, "state.swap(HANDING, Ordering::AcqRel)", "AcqRel", "Release", ASKED),
    weaker("given-releases-nothing", CELL, "state.swap(GIVEN, Ordering::AcqRel)", "AcqRel", "Acquire", ASKED),
    weaker("given-acquires-nothing", CELL, "state.swap(GIVEN, Ordering::AcqRel)", "AcqRel", "Release", ASKED),
    Mutation("given-without-handing", CELL, "state.swap(HANDING, Ordering::AcqRel)", "state.swap(GIVEN, Ordering::AcqRel)", ASKED),
    Mutation("nobody-frees", CELL, "drop(Memory(cell));", "", ASKED),
    Mutation("owner-frees-too", CELL, "state.swap(GIVEN, Ordering::AcqRel) == GONE", "state.swap(GIVEN, Ordering::AcqRel) > 0", ASKED),
    Mutation("discarded-output-stays", CELL, "unsafe { (kind.drop_output)(memory.output()) };", "_ = kind;", ["handover_unasked"]),
    Mutation("nobody-told-of-owners-end", CELL, "B::abandoned(dropped, joiner);", "_ = (dropped, std::mem::ManuallyDrop::new(joiner));", OWNERS_GONE),
    Mutation("body-left-to-the-taker", CELL, "unsafe { Self::drop_body(cell) }", "Ok(())", ["runner_gone"], within="Stage::Body => unsafe { Self::drop_body(cell) },"),
    Mutation("body-overwritten", CELL, "unsafe { Self::drop_body(cell) }", "Ok(())", ["handover_unasked"], within="let dropped = unsafe { Self::drop_body(cell) };"),
    # And its taker.
    weaker("taker-acquires-nothing", TAKER, "match header.state.load(Ordering::Acquire) {", "Acquire", "Relaxed", HANDOVERS + OWNERS_GONE),
    weaker("given-seen-unacquired", TAKER, "header.state.load(Ordering::Acquire) >= HANDING", "Acquire", "Relaxed", ["handover_seen"]),
    weaker("waker-left-unreleased", TAKER, LEFT_WAKER, "Release", "Relaxed", ASKED),
    weaker("waker-too-late-unacquired", TAKER, LEFT_WAKER, "Acquire", "Relaxed", ASKED),
    weaker("replaced-too-late-unacquired", TAKER, "self.header().map_or(GIVEN, |header| header.state.load(Ordering::Acquire))", "Acquire", "Relaxed", ASKED),
    weaker("handing-left-unreleased", TAKER, LEFT_HANDING, "Release", "Relaxed", ASKED),
    weaker("handing-left-unacquired", TAKER, LEFT_HANDING, "Acquire", "Relaxed", ASKED),
    weaker("taker-goes-unreleased", TAKER, LEFT_EMPTY, "Release", "Relaxed", ["handover_unasked", "handover_left", "taker_gone"]),
    weaker("taker-goes-unacquired", TAKER, LEFT_EMPTY, "Acquire", "Relaxed", ["handover_unasked", "handover_left"]),
    Mutation("former-waker-stays", TAKER, "known.will_wake(waker)", "known.will_wake(waker) || true", ["handover_replaced"]),
    Mutation("former-waker-forgotten", TAKER, "self.cell.filter(|_| waits).map(|cell| unsafe { take_waker(cell) })", "self.cell.filter(|_| waits).map(|cell| std::mem::forget(unsafe { take_waker(cell) })).map(|_| Waker::noop().clone())", ["handover_replaced", "handover_left"]),
    Mutation("taken-while-handing", TAKER, "seen == HANDING", "false", ASKED),
    Mutation("both-free", TAKER, "mem::forget(memory);", "drop(memory);", ASKED),
    Mutation("waker-not-withdrawn", TAKER, "let _waker = self.withdraw();", "if let Some(it) = self.header() { if it.state.load(Ordering::Relaxed) == WAITING { return } }", ["handover_left"]),
    # The lock.
    weaker("lock-acquires-nothing", LOCK, "compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)", "Acquire", "Relaxed", ["lock"]),
    weaker("lock-waited-for-unacquired", LOCK, "self.0.swap(AWAITED, Ordering::Acquire)", "Acquire", "Relaxed", ["lock"]),
    weaker("unlock-releases-nothing", LOCK, "self.0.swap(FREE, Ordering::Release)", "Release", "Relaxed", ["lock"]),
    Mutation("unlock-wakes-nobody", LOCK, "self.0.swap(FREE, Ordering::Release) == AWAITED", "self.0.swap(FREE, Ordering::Release) > AWAITED", ["lock"]),
    Mutation("taken-as-if-unawaited", LOCK, "self.0.swap(AWAITED, Ordering::Acquire)", "self.0.swap(HELD, Ordering::Acquire)", ["lock"]),
]

EQUIVALENT = [
    weaker("wake-acquires-nothing", SCHEDULER, "self.state.fetch_or(QUEUED, Ordering::AcqRel)", "AcqRel", "Release", WAKES + ["wake_spare"]),
    weaker("poll-releases-nothing", SCHEDULER, "self.state.fetch_and(!QUEUED, Ordering::AcqRel);", "AcqRel", "Acquire", WAKES + ["wake_spare"]),
    weaker("asleep-taken-relaxed", SCHEDULER, "self.asleep.swap(false, Ordering::SeqCst)", "SeqCst", "Relaxed", WAKES),
    weaker("order-exchanged-unacquired", ABORT, EXCHANGED, "AcqRel", "Release", ORDERS + ABORTS),
    Mutation("order-refused-unacquired", ABORT, "Ordering::Acquire", "Ordering::Relaxed", ORDERS + ABORTS, within=EXCHANGED),
    weaker("lent-unacquired", ABORT, "without_bit(self.word.load(Ordering::Acquire)).cast_const()", "Acquire", "Relaxed", ORDERS + ABORTS),
    weaker("taken-back-unacquired", TAKER, TAKEN_BACK, "Acquire", "Relaxed", ASKED),
    weaker("edge-unreleased", SOURCE, "edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release)", "Release", "Relaxed", EDGES + MOVES),
    weaker("flag-relaxed", PIPE, "missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);", "SeqCst", "Relaxed", ["burst", "two_handlers"]),
    weaker("flag-taken-relaxed", PIPE, "missed.swap(0, Ordering::SeqCst);", "SeqCst", "Relaxed", ["burst", "two_handlers"]),
]
