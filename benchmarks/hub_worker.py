"""A worker for ``benchmarks.hub``: downloads that move without a network, written as a real manager writes them.

    python -m benchmarks.hub_worker STATE COUNT HZ [--redis URL] [--states]

It prints ``ready`` and goes on until its standard input is closed. With ``--states`` every download also leaves and
enters its state twice a second, as one on a bad network does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from recovery.clock import SystemClock
from recovery.journal import OperationSpec
from recovery.owner import new_owner
from recovery.records import Change
from recovery.states import State
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.manager import DownloadManager
from resumable.rows import DownloadRow
from resumable.standing import Standing

SIZE = 10_000_000_000


async def begin(
    manager: DownloadManager, owner: str, number: int, told: Callable[[Standing, Any], None]
) -> tuple[Standing, int]:
    """Enter one download into the state file as running here; return it and its generation."""
    name = f"bench{number:06}"
    now = time.time()
    await manager._store.put(  # noqa: SLF001 - as a manager does, without a network
        DownloadRow(
            download_id=name,
            directory="/data/models",
            filename=f"{name}.safetensors",
            named_by="caller",
            request={"url": f"https://origin.example/models/{name}.safetensors?sig=***", "has_secrets": False},
            representation=None,
            chunk_size=None,
        )
    )
    spec = OperationSpec(kind="download", key=f"/data/models/{name}", operation_id=name, project="bench", title=name)
    _, generation = await manager.journal.begin_and_claim(spec, owner=owner, ttl_s=3600.0, now=now)
    assert generation is not None
    view = DownloadView(
        download_id=name,
        project_id="bench",
        url=f"https://origin.example/models/{name}.safetensors?sig=***",
        dest=f"/data/models/{name}.safetensors",
        filename=f"{name}.safetensors",
        state=State.RUNNING,
        bytes_total=SIZE,
        attempt=1,
        attempts=1,
        max_attempts=50,
        max_no_progress=3,
        owner=owner,
        created_at=now,
        updated_at=now,
    )
    standing = Standing(view, clock=SystemClock(), told=told)
    standing.generation = generation
    standing.tell(EventName.STARTED)
    return standing, generation


async def run(given: argparse.Namespace) -> None:
    """Move everything until there is nobody who looks."""
    relay = None
    if given.redis:
        from resumable_ui.relay import RedisRelay

        relay = RedisRelay(given.redis)

    def hear(event: DownloadEvent) -> None:
        if relay is not None:
            relay(event)

    async with DownloadManager(state=Path(given.state), on_event=hear) as manager:
        owner = new_owner()
        begun = [await begin(manager, owner, number, manager._told) for number in range(given.count)]  # noqa: SLF001
        print("ready", flush=True)
        gone = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        turn = 0
        while not gone.done():
            turn += 1
            for number, (standing, generation) in enumerate(begun):
                done = turn * 100_000 + number
                standing.view = replace(
                    standing.view, bytes_done=done, bytes_received=done, speed=1e6 + turn, eta=(SIZE - done) / 1e6
                )
                if given.states and turn % given.hz == number % given.hz:
                    state = State.WAITING if standing.view.state is State.RUNNING else State.RUNNING
                    await manager.journal.record(
                        standing.view.download_id, generation, Change(state=state, now=time.time())
                    )
                    standing.view = replace(standing.view, state=state, attempts=1)
                    standing.tell(EventName.WAITING if state is State.WAITING else EventName.STARTED)
                else:
                    standing.tell(EventName.PROGRESS)
            await asyncio.sleep(1 / given.hz)
    if relay is not None:
        await relay.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state")
    parser.add_argument("count", type=int)
    parser.add_argument("hz", type=int)
    parser.add_argument("--redis")
    parser.add_argument("--states", action="store_true")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
