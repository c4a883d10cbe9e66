"""What the models have to notice: a few words of a source, and what stands there instead.

Each of MUTATIONS names the models of which one has to fail. EQUIVALENT are those that change nothing
that matters, for reasons that README.md gives: all of their models have to pass.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    name: str
    source: str
    old: str
    new: str
    models: list
    engine: str = "loom"


def weaker(name, source, line, old, new, models):
    """An ordering that is weakened in a place that the rest of its line tells."""
    assert line.count(old) == 1, (name, line, old)
    return Mutation(name, source, line, line.replace(old, new), models)


SCHEDULER = "executor/scheduler.rs"
JOIN = "executor/join.rs"
HANDLE = "executor/handle.rs"
SOURCE = "reactor/source.rs"
REACTOR = "reactor.rs"
PIPE = "sys/signal_pipe.rs"
EVENT = "event.rs"
ONESHOT = "sys/oneshot.rs"
LOCK = "sys/lock.rs"
EVENT_FD = "sys/event_fd.rs"

WAKES = ["wake_root", "wake_task"]
EDGES = ["edge_and_try", "edge_before_waiter"]
MOVES = ["home_ends", "stranger"]
HANDOVERS = ["handover_replaced", "handover_given_up", "handover"]
TRIGGERS = ["triggers", "triggered_stream"]

MUTATIONS = [
    # The state of a task.
    weaker("wake-releases-nothing", SCHEDULER, "self.state.fetch_or(QUEUED, Ordering::AcqRel)", "AcqRel", "Acquire", WAKES),
    weaker("poll-acquires-nothing", SCHEDULER, "self.state.fetch_and(!QUEUED, Ordering::AcqRel);", "AcqRel", "Release", WAKES),
    Mutation("stays-queued", SCHEDULER, "self.state.fetch_and(!QUEUED, Ordering::AcqRel);", "", WAKES),
    Mutation("queued-twice", SCHEDULER, "fetch_or(QUEUED, Ordering::AcqRel) & QUEUED == 0", "fetch_or(QUEUED, Ordering::AcqRel) < u64::MAX", WAKES),
    Mutation("shared-waker-goes-round", SCHEDULER, "Arc::strong_count(&self.task) > 2", "Arc::strong_count(&self.task) > 3", ["wake_spare"]),
    Mutation("no-fence-after-last-clone", SCHEDULER, "fence(Ordering::Acquire);", "", ["wake_spare", "wake_task"]),
    Mutation("root-goes-round", SCHEDULER, "&& !self.root.is_shared()", "", ["wake_after_end"]),
    # The queues and the sleep.
    Mutation("other-executors-queue", SCHEDULER, "Some(it) if ptr::eq(&*it.remote, self) => it.push(id),", "Some(it) => it.push(id),", ["abort"]),
    Mutation("sleeper-not-woken", SCHEDULER, "_ = wakeup.wake();", "_ = wakeup;", WAKES),
    Mutation("no-last-look", SCHEDULER, "as_mut().filter(|queue| !queue.is_empty())", "as_mut().filter(|_| false)", WAKES),
    Mutation("sleep-not-announced", SCHEDULER, "if announce {", "if false && announce {", WAKES),
    Mutation("announced-after-the-lock", SCHEDULER, "if announce {", "drop(remote);\n        if announce {", WAKES),
    Mutation("spun-and-not-announced", REACTOR, "!may_rest(over)", "!may_rest(false)", ["wake_spinning"]),
    Mutation("spun-without-a-look", REACTOR, "|| !may_rest(over)", "|| (over && !may_rest(true) && false)", ["wake_spinning"]),
    Mutation("full-counter-no-edge", EVENT_FD, "self.read()?;\n                self.signal()", "Ok(())", ["wake_root", "wake_task", "wake_spare"]),
    # Aborting, and orders from other threads.
    Mutation("abort-queues-nothing", JOIN, "remote.schedule(task);", "_ = (remote, task);", ["abort"]),
    Mutation("doorman-leaves-no-waker", HANDLE, "orders.doorman = Some(waker);", "drop(waker);", ["order"]),
    Mutation("task-not-named", JOIN, "self.0.fetch_or(task.to_bits(), Ordering::AcqRel);", "_ = task;", ["abort_order"]),
    Mutation("abort-not-looked-at", JOIN, "self.0.load(Ordering::Acquire) & ABORTED != 0", "self.0.load(Ordering::Acquire) & ABORTED == 1", ["abort", "abort_order"]),
    # The counts of edges.
    Mutation("drained-at-the-newest", SOURCE, ".drained.store(edges, Ordering::Relaxed);", ".drained.store({ _ = edges; self.edges(direction) }, Ordering::Relaxed);", ["edge_before_waiter", "edge_and_try", "edges_and_waiters"], "shuttle"),
    Mutation("edge-not-counted", SOURCE, "edges.store(edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);", "_ = edges;", EDGES),
    Mutation("left-without-a-look", SOURCE, "let Some(edges) = self.nothing_new(direction) else { return Left::NotNow(waker) };", "let edges = self.edges(direction);", EDGES + MOVES),
    Mutation("busy-source-forgotten", REACTOR, "put_off(busy, source, reported);", "_ = (&busy, source, reported);", EDGES + MOVES),
    # Moving.
    Mutation("lends-not-noted", SOURCE, "(home.lend() ||", "(home.is_driven() ||", MOVES),
    Mutation("lends-after-the-look", REACTOR, "self.lends.store(true, Ordering::SeqCst);\n        self.is_driven()", "let driven = self.is_driven();\n        self.lends.store(true, Ordering::SeqCst);\n        driven", MOVES),
    weaker("lend-only-releases", REACTOR, "self.lends.store(true, Ordering::SeqCst);", "SeqCst", "Release", MOVES),
    weaker("driven-only-acquires", REACTOR, "self.driven.load(Ordering::SeqCst) > 0", "SeqCst", "Acquire", MOVES),
    weaker("end-only-releases", REACTOR, "self.driven.store(left, Ordering::SeqCst);", "SeqCst", "Release", MOVES),
    weaker("end-only-acquires", REACTOR, "left == 0 && self.lends.load(Ordering::SeqCst)", "SeqCst", "Acquire", MOVES),
    Mutation("end-before-it-is-said", REACTOR, "self.driven.store(left, Ordering::SeqCst);\n        left == 0 && self.lends.load(Ordering::SeqCst)", "let lent = left == 0 && self.lends.load(Ordering::SeqCst);\n        self.driven.store(left, Ordering::SeqCst);\n        lent", MOVES),
    Mutation("strangers-stay", REACTOR, "wake_all(reactor.take_strangers());", "", MOVES),
    Mutation("taken-along-not-noted", SOURCE, "here.lend();\n        }\n        state.home", "here.is_driven();\n        }\n        state.home", MOVES),
    # The signal pipe.
    Mutation("no-second-write", PIPE, "fetch_or(1 << (signal % BITS), Ordering::SeqCst);\n            self.try_write(record);", "fetch_or(1 << (signal % BITS), Ordering::SeqCst);", ["burst", "two_handlers"]),
    Mutation("no-flag", PIPE, "missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);", "_ = missed;", ["burst", "two_handlers"]),
    Mutation("flag-after-second-write", PIPE, "missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);\n            self.try_write(record);", "self.try_write(record);\n            missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);", ["burst", "two_handlers"]),
    Mutation("full-batch-is-the-last", PIPE, "if records.len() < BATCH {", "if records.len() <= BATCH {", ["batches"]),
    Mutation("read-behind-the-waker", "signal.rs", "if let Some(info) = hub.take(self.inbox) {\n            drop(hub);\n            return Poll::Ready(Ok(info));\n        }", "", ["burst", "two_handlers"]),
    Mutation("subscriber-not-woken", "signal/hub.rs", "woken.extend(inbox.waker.take());", "", ["burst", "two_handlers"]),
    # Events.
    weaker("trigger-counts-apart", EVENT, "self.pending.fetch_add(1, Ordering::SeqCst);", "SeqCst", "AcqRel", TRIGGERS),
    weaker("trigger-looks-apart", EVENT, "self.waiting.load(Ordering::SeqCst) > 0", "SeqCst", "Acquire", TRIGGERS),
    weaker("waiter-says-apart", EVENT, "self.waiting.fetch_add(1, Ordering::SeqCst);", "SeqCst", "AcqRel", TRIGGERS),
    weaker("waiter-looks-apart", EVENT, "self.pending.load(Ordering::SeqCst) == 0", "SeqCst", "Acquire", TRIGGERS),
    Mutation("waiter-says-nothing", EVENT, "let _waiting = Waiting::begin(counter);", "", ["triggers"]),
    Mutation("stream-says-nothing", EVENT, "(false, true) => counter.begin_wait(),", "(false, true) => {}", ["triggered_stream"]),
    # Handing over.
    weaker("giver-releases-nothing", ONESHOT, "self.0.state.swap(GIVEN, Ordering::AcqRel)", "AcqRel", "Acquire", HANDOVERS),
    weaker("giver-acquires-nothing", ONESHOT, "self.0.state.swap(GIVEN, Ordering::AcqRel)", "AcqRel", "Release", HANDOVERS),
    weaker("taker-leaves-unreleased", ONESHOT, "let (success, failure) = (Ordering::Release, Ordering::Acquire);", "Release", "Relaxed", HANDOVERS),
    weaker("taker-late-unacquired", ONESHOT, "let (success, failure) = (Ordering::Release, Ordering::Acquire);", "Acquire", "Relaxed", HANDOVERS),
    Mutation("former-waker-stays", ONESHOT, "waits.then(", "false.then(", HANDOVERS),
    # The lock.
    weaker("lock-acquires-nothing", LOCK, "compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)", "Ordering::Acquire", "Ordering::Relaxed", ["lock"]),
    weaker("lock-waited-for-unacquired", LOCK, "self.state.swap(AWAITED, Ordering::Acquire)", "Acquire", "Relaxed", ["lock"]),
    weaker("unlock-releases-nothing", LOCK, "self.lock.state.swap(FREE, Ordering::Release)", "Release", "Relaxed", ["lock"]),
    Mutation("unlock-wakes-nobody", LOCK, "swap(FREE, Ordering::Release) == AWAITED", "swap(FREE, Ordering::Release) > AWAITED", ["lock"]),
    Mutation("taken-as-if-unawaited", LOCK, "while self.state.swap(AWAITED, Ordering::Acquire) != FREE", "while self.state.swap(HELD, Ordering::Acquire) != FREE", ["lock"]),
]

EQUIVALENT = [
    weaker("wake-acquires-nothing", SCHEDULER, "self.state.fetch_or(QUEUED, Ordering::AcqRel)", "AcqRel", "Release", WAKES + ["wake_spare"]),
    weaker("poll-releases-nothing", SCHEDULER, "self.state.fetch_and(!QUEUED, Ordering::AcqRel);", "AcqRel", "Acquire", WAKES + ["wake_spare"]),
    weaker("asleep-said-relaxed", SCHEDULER, "self.remote.asleep.store(true, Ordering::SeqCst);", "SeqCst", "Relaxed", WAKES),
    weaker("asleep-seen-relaxed", SCHEDULER, "self.asleep.load(Ordering::SeqCst)", "SeqCst", "Relaxed", WAKES),
    weaker("asleep-taken-relaxed", SCHEDULER, "self.asleep.swap(false, Ordering::SeqCst)", "SeqCst", "Relaxed", WAKES),
    weaker("edge-unreleased", SOURCE, "edges.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release)", "Release", "Relaxed", EDGES + MOVES),
    weaker("flag-relaxed", PIPE, "missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);", "SeqCst", "Relaxed", ["burst", "two_handlers"]),
    weaker("flag-taken-relaxed", PIPE, "missed.swap(0, Ordering::SeqCst);", "SeqCst", "Relaxed", ["burst", "two_handlers"]),
]
