"""What an operation costs, and a thing takes, when there are more and more of them."""

import statistics

from harness import echo, memory
from harness.micro import Micro, run_once
from harness.peers import has, say
from harness.table import Curve

PEERS = ("bare", "selio", "tokio", "smol", "monoio")
CONNECTIONS = [1, 10, 100, 1_000, 5_000, 10_000]
THINGS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
MANY = [1_000, 10_000, 100_000, 1_000_000]

NOTES = """\
Connections: CPU time of an echo of 64 B, each server by itself with a load of its own, because so many
connections to all of them are more than one process may have; the limit of descriptors is raised to {limit}.
Pauses: a task makes things, {chunk} at a time, and lets the loop turn; the longest time between two of its
polls, the least of {repeats} runs (whatever else runs on the machine makes pauses too)."""
PAUSE_REPEATS = 5


def connections(peers, rounds):
    """In several passes, in which the servers take turns."""
    curve = Curve("growth_connections", "CPU of an echo by connections", "µs", CONNECTIONS)
    seen = {peer.name: [[] for _ in CONNECTIONS] for peer in peers}
    for _ in range(min(rounds, 3)):
        for i, count in enumerate(CONNECTIONS):
            for peer in peers:
                say(f"growth: {count} connections, {peer.name}")
                server = echo.Server(peer)
                try:
                    visits = echo.slices({peer.name: server}, count, 64, 1, 6)[peer.name]
                    seen[peer.name][i] += [cpu / 1000 for cpu, _ in visits]
                except RuntimeError as error:
                    say(f"growth: {count} connections are too many here: {error}")
                finally:
                    server.stop()
    for name, counts in seen.items():
        curve.series[name] = [statistics.median(values) if values else None for values in counts]
    return curve


def operations(id, title, peers, micro_of, numbers, unit="ns", scale=1.0):
    """A row of `micro_PEER` for each number."""
    curve = Curve(id, title, unit, numbers)
    for peer in peers:
        values = []
        for number in numbers:
            say(f"growth: {title}, {number}, {peer.name}")
            value = run_once(peer, micro_of(number))
            values.append(value[0] * scale if value else None)
        if any(value is not None for value in values):
            curve.series[peer.name] = values
    return curve


def bytes_of(id, title, peers, row):
    curve = Curve(id, title, "B", MANY)
    for peer in peers:
        say(f"growth: {title}, {peer.name}")
        curve.series[peer.name] = [memory.bytes_each(peer, row, number) for number in MANY]
    return curve


def spawning(number):
    return Micro("", f"spawn@{number}", max(number, 20_000), 3, [])


def timing(number):
    return Micro("", f"timer@{number}", 50_000, 2, [])


def pausing(row):
    return lambda number: Micro("", row, number, PAUSE_REPEATS, [])


def measure(wanted, peers, rounds):
    peers = [peer for peer in peers if peer.name in PEERS and has(peer, "micro")]
    curves = []
    if wanted("growth_connections"):
        echo.raise_descriptor_limit()
        curves.append(connections(peers, rounds))
    if wanted("growth_spawn"):
        curves.append(operations("growth_spawn", "spawn and join, by tasks at once", peers, spawning,
                                 THINGS))
    if wanted("growth_timer"):
        curves.append(operations("growth_timer", "timer made, polled, dropped, by timers there are",
                                 peers, timing, THINGS))
    if wanted("growth_memory"):
        curves.append(bytes_of("growth_memory", "bytes of a waiting task, by tasks", peers, "tasks"))
        curves.append(bytes_of("growth_memory", "bytes of a waiting timer, by timers", peers, "timers"))
    if wanted("growth_pause"):
        curves.append(operations("growth_pause", "longest pause while tasks are spawned", peers,
                                 pausing("pause_tasks"), MANY, "µs", 1e-3))
        curves.append(operations("growth_pause", "longest pause while timers are made", peers,
                                 pausing("pause_timers"), MANY, "µs", 1e-3))
    return curves


def notes():
    return NOTES.format(limit=f"{echo.raise_descriptor_limit():,}", chunk=50, repeats=PAUSE_REPEATS)


IDS = ["growth_connections", "growth_spawn", "growth_timer", "growth_memory", "growth_pause"]
