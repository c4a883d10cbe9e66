"""The peers: what they are called, how they are built, and on what they are run."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent
WORKSPACE = BENCHES / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers"
BIN = TARGET / "release"

SERVER_CORE, LOAD_CORE = "0", "1"
BEGAN = time.monotonic()


@dataclass
class Peer:
    """One way to do what the rows ask for, and the package that does it."""

    name: str
    title: str
    # `bare` and `selio` are not compared among the peers, `uring` peers wait by io_uring, and
    # `callbacks` are no futures: the best of the others is selio's measure.
    kind: str
    # The crate by which it goes in the lock file.
    crate: str
    # What its echo server depends on, as a manifest says it; empty if it has none.
    depends: str
    broken: str = ""


PEERS = [
    Peer("bare", "bare epoll", "bare", "libc", "common"),
    Peer("selio", "selio", "selio", "selio", "selio"),
    Peer("tokio", "tokio", "epoll", "tokio",
         'tokio = { version = "1", default-features = false, features = ["io-util", "net", "rt"] }'),
    Peer("tokio-local", "tokio, LocalRuntime", "epoll", "tokio",
         'tokio = { version = "1", default-features = false, features = ["io-util", "net", "rt"] }'),
    Peer("smol", "smol", "epoll", "async-io",
         'async-executor = "1"\nasync-io = "2"\nfutures-lite = "2"'),
    Peer("monoio", "monoio", "epoll", "monoio",
         'monoio = { version = "0.2", default-features = false, features = ["bytes", "legacy"] }'),
    Peer("calloop", "calloop", "epoll", "calloop",
         'calloop = { version = "0.14", features = ["executor", "futures-io"] }\n'
         'futures-lite = "2"'),
    Peer("calloop-callbacks", "calloop, callbacks", "callbacks", "calloop", 'calloop = "0.14"'),
    Peer("futures", "futures, LocalPool", "epoll", "futures", ""),
    Peer("monoio-uring", "monoio, io_uring", "uring", "monoio",
         'monoio = { version = "0.2", default-features = false, features = ["bytes", "iouring"] }'),
    Peer("compio", "compio, io_uring", "uring", "compio",
         'compio = { version = "0.19", default-features = false, '
         'features = ["io", "io-uring", "net", "runtime"] }'),
]


def tool(name):
    """Where a tool is, or None if it is not installed."""
    return shutil.which(name)


def build(peers):
    """Builds each package by itself, so that no peer is built with features that another wants."""
    for package in ["load", *(f"peer-{peer.name}" for peer in peers)]:
        say(f"building {package}")
        command = ["cargo", "build", "--quiet", "--release", "-p", package, "--target-dir", TARGET]
        built = subprocess.run(command, cwd=WORKSPACE, capture_output=True, text=True)
        if built.returncode != 0:
            if package in ("load", "peer-bare", "peer-selio"):
                sys.exit(f"{built.stderr}\nbenches/run: {package} cannot be built")
            reason = next((line for line in built.stderr.splitlines() if "error" in line), "")
            say(f"{package} cannot be built here: {reason}")
            next(peer for peer in peers if package == f"peer-{peer.name}").broken = reason


def has(peer, program):
    """Whether the peer has such a program at all, and it could be built."""
    return not peer.broken and (BIN / f"{program}_{peer.name}").exists()


def say(text):
    """Tells whoever waits what is going on."""
    print(f"{time.monotonic() - BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)
