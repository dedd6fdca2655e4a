"""What the hub relies on inside python-socketio and python-engineio; a release that changes it must fail here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import socketio
from aiohttp import web

from resumable_ui.sockets import Sockets, event_message
from tests.hubs import until

pytestmark = pytest.mark.blocking


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Sockets, str, list[str]]]:
    """Run bare sockets; yield them, their address and the ids of who connects."""
    sockets = Sockets("aiohttp")
    sids: list[str] = []

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        sids.append(sid)

    async def echo(sid: str, data: Any) -> Any:
        return data

    sockets.on("connect", connect)
    sockets.on("echo", echo)
    app = web.Application()
    app.router.add_route("*", "/socket.io/", sockets.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield sockets, f"http://127.0.0.1:{runner.addresses[0][1]}", sids
    finally:
        await sockets.close()
        await runner.cleanup()


async def reading_nothing(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect by hand, over a small buffer, and never read again."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    request = (
        f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(request.encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"40")
    await writer.drain()
    return reader, writer


async def test_one_encoded_message_reaches_everybody_it_is_sent_to() -> None:
    """And nobody else; ids of nobody are passed over."""
    async with serving() as (sockets, url, sids):
        clients = [socketio.AsyncClient() for _ in range(3)]
        heard: list[tuple[int, Any]] = []
        for n, client in enumerate(clients):
            client.on("news", lambda data, n=n: heard.append((n, data)))
            await client.connect(url, transports=["websocket"])
        sockets.send([sids[0], sids[2], "nobody"], event_message("news", '{"é":"漢 🚀"}'))
        await until(lambda: len(heard) == 2)
        assert sorted(n for n, _ in heard) == [0, 2]
        assert heard[0][1] == {"é": "漢 🚀"}
        assert sockets.count() == 3
        assert [sockets.backlog(sid) for sid in sids] == [(0, 0)] * 3, "what was read does not count any more"
        assert all(sockets.connected(sid) for sid in sids)
        for client in clients:
            await client.disconnect()
        await until(lambda: sockets.count() == 0)
        assert sockets.backlog(sids[0]) == (0, 0)


async def test_the_queue_of_a_client_that_reads_nothing_is_seen() -> None:
    """Packets and characters; dropping it frees both at once and tells the handler."""
    async with serving() as (sockets, url, sids):
        gone: list[str] = []

        async def disconnect(sid: str, reason: str) -> None:
            gone.append(sid)

        sockets.on("disconnect", disconnect)
        _, writer = await reading_nothing(url)
        await until(lambda: sids)
        message = event_message("news", json.dumps("x" * 100_000))
        for _ in range(100):
            sockets.send(sids, message)
            await asyncio.sleep(0)
        await until(lambda: sockets.backlog(sids[0])[0] > 0, "it stalls")
        for _ in range(50):
            sockets.send(sids, message)
        packets, size = sockets.backlog(sids[0])
        assert packets >= 50
        assert size >= packets * 100_000
        await sockets.drop(sids[0])
        assert (gone, sockets.backlog(sids[0])) == ([sids[0]], (0, 0))
        sockets.send(sids, message)
        await until(lambda: sockets.count() == 0, "the connection is closed")
        writer.close()


async def test_closing_takes_no_time_with_clients_connected() -> None:
    """A graceful end would wait for every one of them."""
    async with serving() as (sockets, url, _):
        client = socketio.AsyncClient(reconnection=False)
        await client.connect(url, transports=["websocket"])
        _, writer = await reading_nothing(url)
        async with asyncio.timeout(2):
            await sockets.close()
            await client.wait()
        writer.close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_acknowledgements_and_pings_work_over_both_transports(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official clients begin with polling and upgrade; some proxies allow nothing else."""
    monkeypatch.setattr("resumable_ui.sockets.PING_INTERVAL_S", 1)
    monkeypatch.setattr("resumable_ui.sockets.PING_TIMEOUT_S", 1)
    async with serving() as (_, url, _sids):
        client = socketio.AsyncClient()
        await client.connect(url, transports=[transport])
        value = {"a": "é 漢 \u0000 🚀", "n": [1, None, 2.5]}
        assert await client.call("echo", value) == value
        await asyncio.sleep(2.5)
        assert await client.call("echo", value) == value
        await client.disconnect()


async def test_no_compression_is_offered() -> None:
    """It would cost more time for each client than the bytes do."""
    async with serving() as (_, url, _sids), aiohttp.ClientSession() as session:
        address = f"{url}/socket.io/?EIO=4&transport=websocket".replace("http", "ws")
        async with session.ws_connect(address, compress=15) as raw:
            assert raw.compress == 0
