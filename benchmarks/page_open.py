"""Does the engine slow down while somebody looks at its page?

    python -m benchmarks.page_open [--size-mib 1024] [--rounds 5] [--quick] [--json]

The worst case: ``resumable serve`` runs the download itself, so that engine and hub share one event loop. One file from
nginx on loopback, with nobody looking and with a websocket client that watches everything; in turn, timed by the
engine (``elapsed``). Beside it the same download by ``resumable get``, seen by a hub that only reads the state file.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.hub_client import connected
from benchmarks.hub_process import TOKEN, serving
from benchmarks.large_file import make_file
from benchmarks.nginx import serving as origin_serving
from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.samples import figures, interleave, ratio_bar
from benchmarks.tools import ours, run

QUESTION = "Does the engine slow down while somebody looks at its page?"


async def _listen(url: str, until: asyncio.Event) -> int:
    """Read packets as a browser does; returns how many there were."""
    packets = 0
    async with connected(url) as raw:
        while not until.is_set():
            message = await raw.receive()
            if message.data == "2":
                await raw.send_str("3")
            packets += 1
    return packets


async def _through_the_hub(hub_url: str, link: str, *, watched: bool) -> float:
    """Have the hub fetch the link; return the engine's seconds."""
    ended = asyncio.Event()
    page = asyncio.create_task(_listen(hub_url, ended)) if watched else None
    await asyncio.sleep(0.3)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(hub_url, headers=headers) as session:
        async with session.post("api/downloads", json={"url": link}) as answer:
            name = (await answer.json())["download_id"]
        while True:
            await asyncio.sleep(0.5)
            async with session.get(f"api/downloads/{name}") as answer:
                view = await answer.json()
            if view["state"] == "complete":
                break
            if view["state"] in {"failed", "cancelled"}:
                raise RuntimeError(f"the download ended as {view['state']}")
    ended.set()
    if page is not None:
        page.cancel()
        await asyncio.wait({page})
    return float(view["elapsed"])


def _in_the_hub(link: str, *, watched: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name, serving(Path(name)) as hub:
        os.sync()
        return asyncio.run(_through_the_hub(hub.url, link, watched=watched))


async def _run_watched(folder: Path, link: str, hub_url: str | None) -> float:
    ended = asyncio.Event()
    page = None if hub_url is None else asyncio.create_task(_listen(hub_url, ended))
    await asyncio.sleep(0.3)
    cost = await asyncio.to_thread(run, ours(folder / "state.db").line(link, folder / "big.bin"))
    if page is not None:
        page.cancel()
        await asyncio.wait({page})
    return cost.wall_s


def _elsewhere(link: str, *, watched: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name:
        folder = Path(name)
        os.sync()
        with serving(folder) as hub:
            return asyncio.run(_run_watched(folder, link, hub.url if watched else None))


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(1024, 128), rounds=(5, 2))
    rows: list[dict[str, Cell]] = []
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory(prefix="bench-page-root-") as name:
        root = Path(name)
        make_file(root / "big.bin", given.size_mib)
        os.chmod(root, 0o755)
        with origin_serving(root) as base:
            for where, once in (("in the hub's process", _in_the_hub), ("in another process", _elsewhere)):
                say(f"{where}:")
                contestants: dict[str, Callable[[], float]] = {
                    "nobody looks": partial(once, f"{base}/big.bin", watched=False),
                    "a page is open": partial(once, f"{base}/big.bin", watched=True),
                }
                found = interleave(contestants, given.rounds)
                rows += [
                    {
                        "download": where,
                        "": samples.name,
                        **figures(samples),
                        "least s": min(samples.values),
                    }
                    for samples in found.values()
                ]
                watched, alone = found["a page is open"], found["nobody looks"]
                bars.append(ratio_bar(f"{where}, page open to not", watched, alone, limit=1.03, unit="times"))
    return answer(
        "page_open",
        QUESTION,
        given,
        rows=rows,
        bars=bars,
        caveats=["the ratio is the median of each round's; with a spread above 3 % it says little"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
