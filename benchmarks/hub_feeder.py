"""For ``benchmarks.hub``: a process whose own downloads move, with a hub over them or without.

    python -m benchmarks.hub_feeder COUNT HZ SECONDS [--hub]

It prints the hub's address (an empty line without one).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from benchmarks.hub import TOKEN
from recovery.states import State
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.manager import DownloadManager
from resumable_ui.access import Access
from resumable_ui.hub import Hub


async def feed(count: int, hz: int, seconds: float, hear: Callable[[DownloadEvent], None]) -> None:
    """Make ``count * hz`` events a second, evenly, as downloads do that began at different times."""
    views = [
        DownloadView(
            download_id=f"own{number:06}",
            project_id="bench",
            url=f"https://origin.example/models/{number:06}.safetensors?sig=***",
            dest=f"/data/models/{number:06}.safetensors",
            filename=f"{number:06}.safetensors",
            state=State.RUNNING,
            bytes_total=10_000_000_000,
            attempt=1,
            attempts=1,
            owner="host:1:a",
            created_at=time.time(),
        )
        for number in range(count)
    ]
    slices = 20
    until, turn = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        turn += 1
        now = time.time()
        for number in range(turn % slices, count, slices):
            view = views[number] = replace(
                views[number],
                bytes_done=turn * 1000,
                bytes_received=turn * 1000,
                speed=1e6 + turn,
                updated_at=now,
                rev=turn,
            )
            hear(DownloadEvent(event=EventName.PROGRESS, view=view, ts=now))
        await asyncio.sleep(1 / (hz * slices))


async def run(given: argparse.Namespace) -> None:
    """Feed a hub, or nobody."""
    if not given.hub:
        print(flush=True)
        await feed(given.count, given.hz, given.seconds, lambda _event: None)
        return
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as name:
        async with DownloadManager(state=Path(name) / "state.db") as manager:
            hub = Hub(manager, access=Access(token=TOKEN), root=name)
            app = web.Application()
            hub.attach(app)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            print(f"http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
            await feed(given.count, given.hz, given.seconds, hub.hear)
            await runner.cleanup()


def main() -> None:
    """Read the command line; uvloop as the command has it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("hz", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--hub", action="store_true")
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as loop:
        loop.run(run(parser.parse_args()))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
