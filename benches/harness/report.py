"""The page of results, and what it says of the machine."""

import os
import re
import subprocess
import time
from pathlib import Path

from harness import charts, growth
from harness.peers import WORKSPACE, tool
from harness.table import curve_markdown, markdown, number

CRATES = ["tokio", "mio", "async-executor", "async-io", "async-process", "async-signal", "polling",
          "monoio", "calloop", "futures", "compio", "io-uring", "libc"]

HEAD = """\
# selio beside others

Written by `benches/run` on {date}; nothing here was written by hand. Less is better in every row. `bare` is what a
program does that is written for the one purpose, on epoll and the C library alone: the practical limit.
"best of epoll" is the best of the other runtimes that wait by epoll, or not at all: io_uring is a different kernel
interface, and callbacks are no futures; they stand beside, for whom they matter.

{verdict}

## Repeat it

`benches/run` builds everything and writes this page anew, in less than half an hour on two cores; `benches/run --quick`
compares fewer, in less than three minutes, and `benches/run --list` tells the names of rows, any of which can be
measured by themselves. It needs a Rust toolchain and python3; without `strace` or `valgrind` their rows are missing, and
without `taskset` nothing is kept to a core. The programs are in `benches/peers`, a package for each peer, so that each is
built with the features it is used with and no others, with fat link-time optimisation and one codegen unit. The peers
take turns in random order, round after round, so that a machine that becomes slower or faster meanwhile does so for
all; what belongs together is compared within a round. Figures in nanoseconds depend on the machine, ratios less; how many
instructions and system calls a request takes depends only on how many requests a wait finds. {quiet}

{machine}
"""


def command(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def versions():
    lock = (WORKSPACE / "Cargo.lock").read_text()
    found = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    return ", ".join(f"{name} {found[name]}" for name in CRATES if name in found)


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    commit = command("git", "-C", str(WORKSPACE), "rev-parse", "--short", "HEAD")
    missing = [name for name in ("taskset", "strace", "valgrind") if not tool(name)]
    facts = [
        ("Processor", f"{cpu.group(1) if cpu else 'unknown'}, {os.cpu_count()} cores"
                      f"{', a virtual machine' if virtual else ''}"),
        ("Kernel", f"Linux {os.uname().release}"),
        ("Compiler", command("rustc", "--version")),
        ("selio", f"commit {commit}"),
        ("Others", versions()),
    ]
    if missing:
        facts.append(("Not installed", ", ".join(missing)))
    lines = [f"| {name} | {what} |" for name, what in facts]
    return "\n".join(["| the machine and the crates | |", "| --- | --- |", *lines])


def quiet(load):
    """Whether something else was at work, by the load when the run began."""
    if load < 0.5:
        return "The machine did nothing else."
    return (f"**The machine did something else, too** (load {load:.1f} when the run began): "
            "times are longer than they need be, and ratios less exact.")


def verdict(tables, peers):
    """In how many rows selio is ahead, and in which it is not, by how much."""
    ahead, equal, behind = 0, [], []
    for table in tables:
        for row in table.rows:
            best, who = row.best(peers)
            ratio = row.ratio("selio", who.name) if who else None
            if ratio is None:
                continue
            name = f"{row.title.split(' (')[0]}: {number(ratio)} of {who.name}'s"
            if ratio > 1.02:
                behind.append(name)
            elif ratio > 0.98:
                equal.append(name)
            else:
                ahead += 1
    lines = [f"Of the rows that can be compared, selio is ahead of the best of epoll in {ahead}, within 2 % of it in "
             f"{len(equal)}, and behind in {len(behind)}."]
    for what, those in (("Behind", behind), ("Within 2 %", equal)):
        if those:
            lines.append(f"\n{what}:\n\n" + "\n".join(f"- {name}" for name in those))
    return "\n".join(lines)


def broken(peers):
    lines = [f"- {peer.title} cannot be built here: {peer.broken}" for peer in peers if peer.broken]
    return "\n".join(["", *lines, ""]) if lines else ""


def page(tables, curves, peers, load, with_charts):
    parts = [HEAD.format(date=time.strftime("%Y-%m-%d"), verdict=verdict(tables, peers),
                         quiet=quiet(load), machine=machine()) + broken(peers)]
    pictures = {"Echo server": "echo", "Small operations": "operations"}
    for table in tables:
        if not table.rows:
            continue
        text = markdown(table, peers)
        if with_charts and table.title in pictures:
            text = text.replace("\n\n", f"\n\n![{table.title}](charts/{pictures[table.title]}.svg)\n\n", 1)
        parts.append(text)
    if curves:
        parts.append("## Growth\n")
        if with_charts:
            parts.append("![Growth](charts/growth.svg)\n")
        parts += [curve_markdown(curve) for curve in curves]
        parts.append(growth.notes() + "\n")
    return "\n".join(parts)


ECHO_BARS = ("echo_1", "echo_50", "echo_1000", "echo_4k", "echo_instructions_20", "echo_calls_50")
OPERATION_BARS = ("spawn_one", "spawn_100k", "yield_1000", "ping_pong", "timer_1k", "memory_connections")


def write_charts(tables, curves, peers, folder):
    folder.mkdir(exist_ok=True)
    rows = [row for table in tables for row in table.rows]
    shown = [peer for peer in peers if peer.kind != "callbacks" and peer.name != "tokio-local"]

    def first(id):
        return [row for row in rows if row.id == id][:1]

    for name, ids in (("echo", ECHO_BARS), ("operations", OPERATION_BARS)):
        chosen = [row for id in ids for row in first(id)]
        if chosen:
            (folder / f"{name}.svg").write_text(charts.bars(chosen, shown))
    if curves:
        (folder / "growth.svg").write_text(charts.lines(curves))
