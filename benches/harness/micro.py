"""Small operations: `micro_PEER ROW N REPEATS`, the peers in turn, round after round."""

import os
import random
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.peers import BIN, LOAD_CORE, SERVER_CORE, has, say, tool
from harness.table import Row, Table


@dataclass
class Micro:
    """A row: what to run, and what its values are called, one line of the table each; with their unit and
    how many nanoseconds that has, where they are others than the row's."""

    id: str
    program: str
    n: int
    repeats: int
    values: list
    unit: str = "ns"
    scale: float = 1.0
    cores: str = SERVER_CORE
    environment: dict = field(default_factory=dict)
    without: tuple = ()
    # Of the rounds, the one that counts.
    take: Callable = min


BOTH_CORES = f"{SERVER_CORE},{LOAD_CORE}"
SLACK = {"TIMER_SLACK_NS": "1"}
# Putting a source into calloop's table looks at each that is there: a square of their number.
SQUARE = ("calloop",)

ROWS = [
    Micro("block_on", "block_on", 300_000, 3, ["`block_on` of a ready future"]),
    Micro("spawn_one", "spawn@1", 50_000, 3, ["spawn one task, join it"]),
    Micro("spawn_10k", "spawn@10000", 10_000, 5, ["spawn 10,000 tasks, then join them, each"]),
    Micro("spawn_100k", "spawn@100000", 100_000, 3, ["spawn 100,000 tasks, then join them, each"]),
    Micro("yield_1", "yield@1", 100_000, 3, ["yield, one task"]),
    Micro("yield_1000", "yield@1000", 300_000, 3, ["yield, 1,000 tasks in turn"]),
    Micro("ping_pong", "ping_pong", 100_000, 3, ["two tasks wake each other, a wake"]),
    Micro("wake_busy", "wake_busy", 500_000, 3, ["wake from another thread, owner busy"],
          cores=BOTH_CORES),
    Micro("wake_answer", "wake_answer", 20_000, 3,
          ["wake from another thread that spins for the answer"], cores=BOTH_CORES,
          take=statistics.median),
    Micro("wake_answer_spin", "wake_answer_spin@50", 20_000, 3,
          ["wake from another thread that spins, the loop spins up to 50 µs too"], cores=BOTH_CORES,
          take=statistics.median),
    Micro("timer_0", "timer@0", 50_000, 3, ["timer made, polled, dropped"]),
    Micro("timer_1k", "timer@1000", 50_000, 3, ["timer among 1,000 others"]),
    Micro("timer_100k", "timer@100000", 50_000, 3, ["timer among 100,000 others"], without=SQUARE),
    Micro("timer_1M", "timer@1000000", 100_000, 2, ["timer among 1,000,000 others"], without=SQUARE),
    Micro("burst", "burst", 100_000, 1,
          ["100,000 timers within a second, CPU time each",
           ("the latest of 100,000 timers is late by", "µs", 1e-3),
           ("too early of 100,000 timers", "", 1)], without=SQUARE),
    Micro("burst_exact", "burst_exact", 100_000, 1,
          ["100,000 timers without ticks, bare, CPU time each",
           ("the latest of them is late by", "µs", 1e-3)]),
    Micro("sleep_1ms", "sleep@1000000", 60, 1, ["late after a sleep of 1 ms, median"],
          unit="µs", scale=1e-3),
    Micro("sleep_50us", "sleep@50000", 300, 1, ["late after a sleep of 50 µs, median"],
          unit="µs", scale=1e-3),
    Micro("sleep_1ms_slack", "sleep@1000000", 60, 1, ["late after 1 ms, with a timer slack of 1 ns"],
          unit="µs", scale=1e-3, environment=SLACK),
    Micro("sleep_50us_slack", "sleep@50000", 300, 1, ["late after 50 µs, with a timer slack of 1 ns"],
          unit="µs", scale=1e-3, environment=SLACK),
    Micro("sleep_timerfd", "sleep_timerfd@50000", 300, 1, ["late after 50 µs by a timerfd, bare"],
          unit="µs", scale=1e-3),
    Micro("signal", "signal", 5_000, 3, ["signal to self until its stream yields"],
          unit="µs", scale=1e-3),
    Micro("process_one", "process@1", 50, 1, ["spawn `true`, await it, one at a time"],
          unit="µs", scale=1e-3),
    Micro("process_200", "process@200", 200, 1, ["spawn `true`, await it, 200 at once, each"],
          unit="µs", scale=1e-3),
    Micro("connect", "connect", 1_000, 2, ["connect + accept + close, both ends in the loop"],
          unit="µs", scale=1e-3),
]

NOTES = """\
Wall time on one core, but for the rows about another thread (both cores) and those that say CPU time. A
program does a row a few times and says the least; the peers take turns in random order, and the figure is the
least over the rounds, because whatever else the machine does makes it longer. (How soon another thread is
answered is a matter of luck, whether the loop had gone to sleep: there it is the median.) `bare` is the least
that does the job: an executor of boxes and a queue of numbers without joining or other threads, a wheel of
millisecond ticks, a pure spin for what other threads ask, `epoll_pwait2`, a signalfd, a pidfd. tokio and
monoio round timers up to a millisecond, the others do not. calloop's timers are put in by looking at each that
is there, so that it is left out where there are many. monoio's wakers may not leave their thread unless it is
built with a feature that makes all of them dearer."""


def run_once(peer, micro):
    """The values of one run, or None if the peer has no such row."""
    if not has(peer, "micro") or peer.name in micro.without:
        return None
    program = BIN / f"micro_{peer.name}"
    command = ["taskset", "-c", micro.cores, program, micro.program, str(micro.n), str(micro.repeats)]
    if not tool("taskset"):
        command = command[3:]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120,
                              env={**os.environ, **micro.environment})
    except subprocess.TimeoutExpired:
        say(f"{program.name} {micro.program} does not end")
        return None
    if done.returncode != 0:
        if "there is no row" not in done.stderr:
            say(f"{program.name} {micro.program}: {done.stderr.strip()}")
        return None
    return [float(value) for value in done.stdout.split()]


def measure_row(micro, peers, rounds):
    """The lines of one row."""
    say(f"micro: {micro.id}")
    runs = {peer.name: [] for peer in peers}
    lacking = set()
    for _ in range(rounds):
        for peer in random.sample(peers, len(peers)):
            values = None if peer.name in lacking else run_once(peer, micro)
            if values is None:
                lacking.add(peer.name)
            else:
                runs[peer.name].append(values)
    lines = []
    for i, value in enumerate(micro.values):
        title, unit, scale = (value, micro.unit, micro.scale) if isinstance(value, str) else value
        row = Row(micro.id, title, unit)
        for name, all_values in runs.items():
            if all_values and name not in lacking:
                row.values[name] = micro.take(values[i] * scale for values in all_values)
        lines.append(row)
    return lines


def calls(command):
    """The system calls that a command makes, all threads."""
    with tempfile.NamedTemporaryFile("r") as out:
        subprocess.run(["strace", "-f", "-c", "-o", out.name, *command], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        total = re.search(r"^\s*100\.00.*?(\d+)(?:\s+\d+)? total$", out.read(), re.MULTILINE)
        return int(total.group(1))


def yield_calls(peers):
    """System calls per yield: the difference of two runs."""
    row = Row("yield_calls", "system calls per yield, one task", "")
    if not tool("strace"):
        say("strace is not installed: no system calls are counted")
        return row
    for peer in peers:
        if has(peer, "micro"):
            say(f"micro: system calls per yield, {peer.name}")
            program = BIN / f"micro_{peer.name}"
            less, more = (calls([program, "yield@1", n]) for n in ("5000", "15000"))
            row.values[peer.name] = (more - less) / 10_000
    return row


def measure(wanted, peers, rounds):
    """The table of those rows that are wanted."""
    rows = []
    for micro in ROWS:
        if wanted(micro.id):
            rows += measure_row(micro, peers, rounds)
        if micro.id == "yield_1000" and wanted("yield_calls"):
            rows.append(yield_calls(peers))
    return Table("Small operations", NOTES, rows)


IDS = [micro.id for micro in ROWS] + ["yield_calls"]
