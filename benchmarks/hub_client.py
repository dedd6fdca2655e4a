"""For ``benchmarks.hub``: a browser's end of the websocket, and when what it is told was true."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.hub_process import TOKEN


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
