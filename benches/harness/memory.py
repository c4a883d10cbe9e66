"""Bytes that are kept for idle things: `memory_PEER ROW N`."""

import subprocess

from harness.peers import BIN, has, say
from harness.table import Row, Table

ROWS = [
    ("memory_tasks", "tasks", 10_000, "a task that waits"),
    ("memory_timers", "timers", 10_000, "a timer that waits, itself included"),
    ("memory_connections", "connections", 1_000, "a connection that waits to read, its buffer apart"),
]

NOTES = """\
For each of 10,000 tasks and timers, and of 1,000 connections with a task for each. Bytes that are in use
afterwards and were not before, by an allocator that counts what it is asked for: not
the kernel's, nor what the C library's allocator adds to each. Tables that double are counted as they are, so
that the figures depend on the number a little."""


def bytes_each(peer, row, n):
    """What one program says, or None if it has no such row."""
    if not has(peer, "memory"):
        return None
    done = subprocess.run([BIN / f"memory_{peer.name}", row, str(n)], capture_output=True, text=True,
                          timeout=300)
    if done.returncode != 0:
        if "there is no row" not in done.stderr:
            say(f"memory_{peer.name} {row}: {done.stderr.strip()}")
        return None
    return float(done.stdout)


def measure(wanted, peers, _rounds):
    rows = []
    for id, program, n, title in ROWS:
        if wanted(id):
            say(f"memory: {program}")
            row = Row(id, title, "B")
            for peer in peers:
                value = bytes_each(peer, program, n)
                if value is not None:
                    row.values[peer.name] = value
            rows.append(row)
    return Table("Memory", NOTES, rows)


IDS = [id for id, *_ in ROWS]
