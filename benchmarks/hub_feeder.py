"""For ``benchmarks.hub``: a process whose own downloads move, with a hub over them or without.

    python -m benchmarks.hub_feeder COUNT HZ SECONDS [--hub]

The downloads are in the state file and their events go where a manager's go; only the network is missing. It prints the
hub's address (an empty line without one).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from benchmarks.hub_process import TOKEN
from benchmarks.hub_worker import SIZE, begin
from recovery.owner import new_owner
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.manager import DownloadManager
from resumable.standing import Standing
from resumable_ui.access import Access
from resumable_ui.hub import Hub


class Held:
    """A download's handle, as far as a hub looks at it."""

    done = ended = False

    def __init__(self, standing: Standing) -> None:
        """It runs."""
        self._standing = standing

    @property
    def view(self) -> DownloadView:
        """How it stands."""
        return self._standing.view

    async def stop(self) -> None:
        """There is no network to stop."""


SLICES = 20
"""Of an interval: downloads do not all move at the same moment."""


async def feed(standings: Sequence[Standing], hz: int, seconds: float) -> None:
    """Make ``hz`` events a second of each download, evenly, as those do that began at different times."""
    begun, turn = time.monotonic(), 0
    while (now := time.monotonic()) < begun + seconds:
        turn += 1
        for standing in standings[turn % SLICES :: SLICES]:
            done = turn * 1000
            standing.view = replace(
                standing.view, bytes_done=done, bytes_received=done, speed=1e6 + turn, eta=(SIZE - done) / 1e6
            )
            standing.tell(EventName.PROGRESS)
        await asyncio.sleep(max(0.0, begun + turn / (hz * SLICES) - now))


async def run(given: argparse.Namespace) -> None:
    """Feed a hub, or nobody."""
    hubs: list[Hub] = []

    def hear(event: DownloadEvent) -> None:
        for hub in hubs:
            hub.hear(event)

    with tempfile.TemporaryDirectory(prefix="bench-hub-") as name:
        async with DownloadManager(state=Path(name) / "state.db", on_event=hear) as manager:
            owner, told = new_owner(), manager._told  # noqa: SLF001 - as a manager tells, without a network
            standings = [(await begin(manager, owner, number, told))[0] for number in range(given.count)]
            for standing in standings:
                held: Any = Held(standing)
                manager._roster._handles[standing.view.download_id] = held  # noqa: SLF001
            if not given.hub:
                print(flush=True)
                await feed(standings, given.hz, given.seconds)
                return
            hubs.append(Hub(manager, access=Access(token=TOKEN), root=name))
            app = web.Application()
            hubs[0].attach(app)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            print(f"http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
            await feed(standings, given.hz, given.seconds)
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
