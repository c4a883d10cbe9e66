"""What a clean release build of the echo server takes, and makes."""

import os
import resource
import shutil
import subprocess

from harness.peers import ROOT, SERVER_CORE, TARGET, WORKSPACE, say
from harness.table import Row, Table

MANIFEST = """\
[package]
name = "echo"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
{depends}

[features]
local = []
spin = []
uring = []

[profile.release]
strip = true
"""

OURS = {
    "bare": f'common = {{ path = "{WORKSPACE / "common"}" }}',
    "selio": f'selio = {{ path = "{ROOT}" }}',
}
# Peers whose program is another's, with a feature.
SOURCES = {"tokio-local": ("tokio", "local"), "monoio-uring": ("monoio", "uring")}

NOTES = """\
A package that has nothing but the echo server and what it depends on, with the features it uses, built from
nothing (downloads apart): CPU time of cargo and all it runs, the less of {builds}; crates besides the server's
own, those that only help to build included; bytes on disk after stripping. The release profile as cargo has
it, so without the link-time optimisation that all else here is built with. bare counts libc only."""


def package(peer):
    """Makes the package and gives its folder, and the feature to build it with."""
    name, feature = SOURCES.get(peer.name, (peer.name, None))
    place = TARGET / "size" / peer.name
    shutil.rmtree(place, ignore_errors=True)
    (place / "src").mkdir(parents=True)
    source = WORKSPACE / name / "src" / "bin" / f"echo_{name}.rs"
    shutil.copy(source, place / "src" / "main.rs")
    shutil.copy(WORKSPACE / "Cargo.lock", place / "Cargo.lock")
    depends = OURS.get(peer.name, peer.depends)
    (place / "Cargo.toml").write_text(MANIFEST.format(depends=depends))
    return place, ["--features", feature] if feature else []


def cargo(place, *arguments):
    environment = {**os.environ, "CARGO_INCREMENTAL": "0", "CARGO_TARGET_DIR": str(place / "target")}
    return subprocess.run(["cargo", *arguments, "--offline"], cwd=place, env=environment, check=True,
                          capture_output=True, text=True).stdout


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(place, feature):
    """Builds from nothing and gives the CPU time."""
    shutil.rmtree(place / "target", ignore_errors=True)
    before = cpu_of_children()
    cargo(place, "build", "--release", "--quiet", *feature)
    return cpu_of_children() - before


def crates(place, feature):
    tree = cargo(place, "tree", "--edges", "normal,build", "--prefix", "none", *feature)
    names = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    return sum(1 for name, _ in names if name not in ("echo", "common"))


def measure(wanted, peers, rounds):
    time = Row("build_cpu", "CPU time of the build", "s")
    count = Row("build_crates", "crates", "")
    size = Row("build_size", "size, stripped", "KiB")
    builds = 2 if rounds > 2 else 1
    for peer in peers:
        if peer.broken or not peer.depends or not wanted("build"):
            continue
        say(f"size: {peer.name}")
        place, feature = package(peer)
        try:
            time.values[peer.name] = min(build(place, feature) for _ in range(builds))
            count.values[peer.name] = crates(place, feature)
            size.values[peer.name] = (place / "target" / "release" / "echo").stat().st_size / 1024
        except subprocess.CalledProcessError as error:
            say(f"size: {peer.name} cannot be built: {error.stderr}")
        shutil.rmtree(place, ignore_errors=True)
    rows = [row for row in (time, count, size) if row.values]
    return Table("Building the echo server", NOTES.format(builds=builds), rows)


IDS = ["build"]
