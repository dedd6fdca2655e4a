"""How long does one file from far away take: 80 ms of latency, without loss and with 1 % of the packets lost?

    python -m benchmarks.far_away [--size-mib 256] [--rounds 5] [--quick] [--json]

Latency is made by a relay that holds every byte back for 40 ms in each direction (this kernel has no ``tc netem``). The
loss needs root: nginx runs in a network namespace of our own, and nftables drops one packet in a hundred on the way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.large_file import make_file
from benchmarks.nginx import free_port, serving
from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.samples import Leniency, Samples, figures, interleave, ratio_bar
from benchmarks.tools import PEERS, Tool, installed, missing, ours, run

QUESTION = "How long does one file from far away take?"
DELAY_S = 0.04
PATIENCE_S = 120.0
"""A peer that needs longer for one file is stopped, and the report says so."""


@contextlib.contextmanager
def delayed(port: int) -> Iterator[int]:
    """Relay to ``port`` with 40 ms in each direction; yields the port to use. A process of its own."""
    mine = free_port()
    relay = subprocess.Popen([sys.executable, "-m", "benchmarks.relay", str(mine), str(port), str(DELAY_S)])
    try:
        time.sleep(1.0)
        yield mine
    finally:
        relay.terminate()
        relay.wait(10)


def _once(tool: Tool, url: str, out: Path, digest: str) -> float:
    for stale in out.parent.iterdir():
        stale.unlink()
    cost = run(tool.line(url, out), most_s=None if tool.name == "resumable" else PATIENCE_S)
    with open(out, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise RuntimeError(f"{tool.name} left a wrong file")
    return cost.wall_s


def contest(url: str, folder: Path, digest: str, rounds: int, notes: list[str]) -> dict[str, Samples]:
    """Let ours, curl and aria2c fetch it in turn; ``notes`` hears of a peer that failed."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    tools = [ours(folder / "s.db"), *installed([PEERS[0], PEERS[3]])]
    runs: dict[str, Callable[[], float]] = {
        tool.name: partial(_once, tool, url, out / "big.bin", digest) for tool in tools
    }
    leniency = Leniency(frozenset(runs) - {"resumable"}, notes)
    return interleave(runs, rounds, leniency=leniency)


@contextlib.contextmanager
def lossy_namespace() -> Iterator[tuple[str, str]]:
    """Make a network namespace joined by a veth pair that loses 1 % of what it sends; yields its name and address.

    Raises RuntimeError where that cannot be done.
    """
    name, here = f"far{os.getpid()}", f"v{os.getpid() % 100000}"
    address, gateway = "10.213.77.2", "10.213.77.1"
    steps = [
        f"ip netns add {name}",
        f"ip link add {here} type veth peer name {here}p netns {name}",
        f"ip addr add {gateway}/30 dev {here}",
        f"ip link set {here} up",
        f"ip -n {name} addr add {address}/30 dev {here}p",
        f"ip -n {name} link set {here}p up",
        f"ip -n {name} link set lo up",
        f"ip netns exec {name} nft add table inet loss",
        f"ip netns exec {name} nft add chain inet loss out {{ type filter hook output priority 0 ; }}",
        f"ip netns exec {name} nft add rule inet loss out meta l4proto tcp numgen random mod 100 == 0 drop",
    ]
    try:
        for step in steps:
            done = subprocess.run(step.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{step}: {done.stderr.strip()}")
        yield name, address
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _rows(part: str, size_mib: int, found: dict[str, Samples]) -> list[dict[str, Cell]]:
    return [
        {
            "part": part,
            "tool": one.name,
            **figures(one),
            "MiB/s": size_mib / one.median,
        }
        for one in sorted(found.values(), key=lambda one: one.median)
    ]


def _bar(name: str, found: dict[str, Samples]) -> list[Bar]:
    rival = found.get("aria2c -x8")
    if rival is None:
        return []
    return [ratio_bar(f"{name}, to aria2c -x8", found["resumable"], rival, limit=1.0)]


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(256, 16), rounds=(5, 2))
    rows: list[dict[str, Cell]] = []
    bars: list[Bar] = []
    caveats = ["the relay is one process that copies every byte: it bounds the speed of all alike"]
    with tempfile.TemporaryDirectory(prefix="bench-far-") as name:
        folder = Path(name)
        (folder / "root").mkdir()
        digest = make_file(folder / "root" / "big.bin", given.size_mib)
        say("80 ms:")
        with serving(folder / "root") as base, delayed(int(base.rpartition(":")[2])) as port:
            far = contest(f"http://127.0.0.1:{port}/big.bin", folder, digest, given.rounds, caveats)
        rows += _rows("80 ms", given.size_mib, far)
        bars += _bar("80 ms of latency", far)
        if os.geteuid() == 0 and shutil.which("ip") and shutil.which("nft"):
            say("1 % loss:")
            try:
                with (
                    lossy_namespace() as (space, address),
                    serving(folder / "root", space=space, address=address) as base,
                ):
                    lossy = contest(f"{base}/big.bin", folder, digest, given.rounds, caveats)
                rows += _rows("1 % loss", given.size_mib, lossy)
                bars += _bar("1 % loss", lossy)
            except RuntimeError as error:
                caveats.append(f"no figures with loss: {error}")
        else:
            caveats.append("no figures with loss: they need root, iproute2 and nftables")
    caveats += [f"not installed: {name}" for name in missing([PEERS[0], PEERS[3]])]
    return answer(
        "far_away",
        QUESTION,
        given,
        rows=rows,
        bars=bars,
        caveats=caveats,
    )


if __name__ == "__main__":
    raise SystemExit(main())
