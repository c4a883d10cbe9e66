"""Echo servers: all of them up at once, and one load that visits them in short slices."""

import os
import re
import resource
import statistics
import subprocess
import tempfile
import time

from harness.peers import BIN, LOAD_CORE, SERVER_CORE, has, say, tool
from harness.table import Row, Table

SLICE_MS = 20
# What a slice is like, for the load: connections, bytes of a message, messages under way on each.
SHAPES = [
    ("echo_1", "64 B, 1 connection", 1, 64, 1),
    ("echo_50", "64 B, 50 connections", 50, 64, 1),
    ("echo_1000", "64 B, 1,000 connections", 1000, 64, 1),
    ("echo_4k", "4 KiB, 50 connections", 50, 4096, 1),
    ("echo_pipelined", "64 B, 50 connections, 16 under way on each", 50, 64, 16),
]

NOTES = """\
The first rows are CPU time of the server, all its threads, kernel included, with bare epoll as 1: in each
round the load visits every server for a slice of {slice} ms, in another order each time, and the ratio is
taken within the round; the figure is the median over {rounds} rounds. Servers on core {server}, load on core
{load}. Latency is the time from a request to its answer at one connection, as the load sees it, the median
of each slice and then over the rounds. Instructions are those in user space, the C library's included, by
callgrind, and calls are counted by strace: both are the difference between two runs of different length, so
that neither start nor end counts; there the load sends one request on each connection, waits for all
answers, and pauses, so that the server has gone to sleep before the next. (What traces a server makes it so
slow that it would otherwise find the next request before it sleeps.) valgrind does not work with io_uring."""


class Server:
    """An echo server that runs."""

    def __init__(self, peer, under=(), environment=None):
        command = [*under, BIN / f"echo_{peer.name}"]
        if tool("taskset"):
            command = ["taskset", "-c", SERVER_CORE, *command]
        self.peer = peer
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True, env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        found = re.match(r"listening on (\S+)", line)
        if not found:
            self.process.kill()
            raise RuntimeError(f"echo_{peer.name} does not listen: {line!r}")
        self.address = found.group(1)
        self.pid = self.process.pid

    def stop(self):
        """Ends it by SIGTERM; under strace, which passes no signals on, by that of its child."""
        children = f"/proc/{self.pid}/task/{self.pid}/children"
        with open(children) as file:
            pids = [int(pid) for pid in file.read().split()]
        for pid in pids or [self.pid]:
            try:
                os.kill(pid, 15)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def load(*arguments, timeout=300):
    """Runs the load and gives what it prints."""
    command = [BIN / "echo_load", *map(str, arguments)]
    if tool("taskset"):
        command = ["taskset", "-c", LOAD_CORE, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def raise_descriptor_limit():
    """For a server with many connections; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 40_000), max(hard, 40_000)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def slices(servers, connections, size, in_flight, rounds):
    """For each server, its visits: CPU time of a request, and its latency, in nanoseconds."""
    names = [f"{name}={server.address}={server.pid}" for name, server in servers.items()]
    # The first round warms up.
    out = load("slices", connections, size, in_flight, SLICE_MS, rounds + 1, *names)
    visits = {name: [] for name in servers}
    for line in out.splitlines():
        name, requests, cpu, _wall, latency = line.split()
        visits[name].append((int(cpu) / int(requests), int(latency)))
    return {name: all_visits[1:] for name, all_visits in visits.items()}


def start_all(peers):
    """A server of each peer, by name."""
    servers = {}
    for peer in peers:
        if has(peer, "echo"):
            servers[peer.name] = Server(peer)
            # Where it can wait awake for a while, it is measured a second time like that.
            if b"SELIO_SPIN_US" in (BIN / f"echo_{peer.name}").read_bytes():
                servers[f"{peer.name}+spin"] = Server(peer, environment={"SELIO_SPIN_US": "50"})
    return servers


def cpu_rows(wanted, peers, rounds):
    rows = []
    servers = start_all(peers)
    try:
        for id, title, connections, size, in_flight in SHAPES:
            if not wanted(id):
                continue
            say(f"echo: {title}")
            try:
                visits = slices(servers, connections, size, in_flight, rounds)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                say(f"echo: {title} cannot be measured here: {error}")
                continue
            bare = visits.get("bare", [(1.0, 0)] * rounds)
            absolute = statistics.median(cpu for cpu, _ in bare)
            row = Row(id, f"CPU of a request, {title} (bare: {absolute / 1000:.2f} µs)", "")
            spin = Row(id, "CPU at one connection, spinning up to 50 µs before sleeping", "")
            latency = Row(id, "latency at one connection, median", "µs")
            spun = Row(id, "latency, spinning up to 50 µs before sleeping", "µs")
            for name, those in visits.items():
                ratio = [visit[0] / base[0] for visit, base in zip(those, bare)]
                middle = statistics.median(visit[1] for visit in those) / 1000
                peer, *spins = name.split("+")
                (spin if spins else row).rounds[peer] = ratio
                (spun if spins else latency).values[peer] = middle
            rows.append(row.settle())
            if connections == 1:
                rows += [spin.settle(), latency, spun]
    finally:
        for server in servers.values():
            server.stop()
    return [row for row in rows if row.values]


def counted(peer, under, connections, requests):
    """What `under` says of a server that answers so many requests."""
    with tempfile.NamedTemporaryFile("r") as out:
        server = Server(peer, [part.replace("OUT", out.name) for part in under])
        try:
            load("count", connections, 64, requests, server.address)
        finally:
            server.stop()
        return out.read()


def instructions(peer, connections, requests):
    under = ["valgrind", "--tool=callgrind", "--callgrind-out-file=OUT"]
    found = re.search(r"^(?:summary|totals): (\d+)", counted(peer, under, connections, requests), re.M)
    return int(found.group(1))


def system_calls(peer, connections, requests):
    under = ["strace", "-f", "-c", "-o", "OUT"]
    found = re.search(r"(\d+)(?:\s+\d+)? total$", counted(peer, under, connections, requests), re.M)
    return int(found.group(1))


COUNTS = [
    ("echo_instructions_1", "instructions of a request, 1 connection", instructions, "valgrind", 1, 500),
    ("echo_instructions_20", "instructions of a request, 20 connections", instructions, "valgrind", 20, 2000),
    ("echo_calls_1", "system calls of a request, 1 connection", system_calls, "strace", 1, 300),
    ("echo_calls_50", "system calls of a request, 50 connections", system_calls, "strace", 50, 5000),
    ("echo_calls_1000", "system calls of a request, 1,000 connections", system_calls, "strace", 1000, 10000),
]


def count_row(peers, id, title, count, needs, connections, requests):
    row = Row(id, title, "")
    if not tool(needs):
        say(f"echo: {needs} is not installed: no {title}")
        return row
    for peer in peers:
        # valgrind hands io_uring's calls on, and cannot be ended while it waits in one.
        if not has(peer, "echo") or (needs == "valgrind" and peer.kind == "uring"):
            continue
        say(f"echo: {title}, {peer.name}")
        try:
            less, more = count(peer, connections, requests), count(peer, connections, 2 * requests)
            row.values[peer.name] = (more - less) / requests
        except (RuntimeError, AttributeError, subprocess.TimeoutExpired) as error:
            say(f"echo: {peer.name} cannot be counted by {needs}: {error}")
    return row


def measure(wanted, peers, rounds):
    raise_descriptor_limit()
    rounds *= 12
    rows = []
    if any(wanted(id) for id, *_ in SHAPES):
        rows += cpu_rows(wanted, peers, rounds)
    rows += [count_row(peers, *count) for count in COUNTS if wanted(count[0])]
    notes = NOTES.format(slice=SLICE_MS, rounds=rounds, server=SERVER_CORE, load=LOAD_CORE)
    return Table("Echo server", notes, rows)


IDS = [shape[0] for shape in SHAPES] + [count[0] for count in COUNTS]
