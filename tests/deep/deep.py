"""What the deep steps share: tools that are asked for, programs that are built, run, started and ended.

Whatever hangs fails: `limit` sets a time for the step as a whole, and each command has one of its own.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# The status of a step that is not tried.
PASSED_OVER = 77
# Loopback is nobody's proxy's business.
LOCAL = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def need(*tools):
    """Passes the step over if a tool is missing."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        print(f"{os.path.basename(sys.argv[0])} needs {', '.join(missing)}")
        sys.exit(PASSED_OVER)


def limit(seconds):
    """Fails the step, wherever it is, when the time is up."""

    def time_is_up(_signal, _frame):
        raise TimeoutError(f"not done after {seconds} s")

    signal.signal(signal.SIGALRM, time_is_up)
    signal.alarm(seconds)


def build(kind, name, package="."):
    """Builds a program as a release, and returns its path."""
    manifest = os.path.join(ROOT, package, "Cargo.toml")
    command = ["cargo", "build", "--quiet", "--release", "--manifest-path", manifest, f"--{kind}", name]
    command += ["--message-format", "json"] + ([] if package == "." else ["--locked"])
    built = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=1200, text=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return next(it["executable"] for it in messages if it.get("executable"))


def example(name):
    return build("example", name)


def ecosystem(name):
    return build("bin", name, "examples/ecosystem")


def run(*command, seconds=60, **options):
    """Runs a command to its end, which must be a good one, and returns what it prints."""
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds, env=LOCAL, **options)
    check(ended.returncode == 0, f"{command[0]} ends with 0, not {ended.returncode}")
    return ended.stdout


def start(*command, **options):
    """Starts a command, with pipes to its input and output."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=LOCAL, **options)


def end(process, how=signal.SIGTERM, seconds=15):
    """Asks a process to end, waits for it, and returns its status."""
    process.send_signal(how)
    return process.wait(timeout=seconds)


@contextlib.contextmanager
def running(process):
    """Ends a process with the block, whatever happens."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    end(process, seconds=3)
                process.kill()


def told(process, pattern):
    """Waits for a line that matches, and returns what its group holds."""
    for line in iter(process.stdout.readline, b""):
        if match := re.search(pattern, line.decode()):
            return match[1]
    raise AssertionError(f"{process.args[0]} has ended without a word like {pattern!r}")


@contextlib.contextmanager
def server(*command):
    """A running server and its address."""
    with running(start(*command)) as process:
        yield process, told(process, r"^listening on (\S+)$")


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory(prefix="selio-deep-") as place:
        yield place


def check(holds, what):
    if not holds:
        raise AssertionError(f"this does not hold: {what}")


def port(address):
    return int(address.rsplit(":", 1)[1])
