"""What do downloaders do with a hostile origin: which ones publish wrong bytes, hang, give up, or get it right?

    python -m benchmarks.scoreboard [--rows N] [--tools NAME,...] [--quick] [--json]

20 scenarios of one 32 MiB file. A cell says how it ended and how many MiB the origin sent. Ours must be right in every
row that can be, say so loudly in the others, and fetch at most one chunk twice per fault. Ours plays alone; the peers
play eight bouts at once, each in a process with an origin of its own, since they mostly wait.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path

from benchmarks.hostile import PATIENCE_S, SCENARIOS, Bout, Ending, Outcome
from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.tools import LIBRARIES, Tool, installed, missing, version
from tests.origin import Origin

QUESTION = "What do downloaders do with a hostile origin?"
AT_ONCE = 8
LOUD = {"a page in place of later ranges", "disk full at 20 MiB"}
"""Rows in which no tool can have the file: the right outcome is an error."""

_PYPDL = (
    "import sys; from pypdl import Pypdl; d = Pypdl(); r = d.start(sys.argv[1], sys.argv[2], segments=4, retries=4,"
    " display=False, overwrite=False); sys.exit(0 if r else 1)"
)
_PARFIVE = (
    "import sys; from parfive import Downloader; d = Downloader(progress=False, max_splits=4);"
    " d.enqueue_file(sys.argv[1], path=sys.argv[2], filename='out.bin', overwrite=True);"
    " sys.exit(bool(d.download().errors))"
)
_OURS = ("get", "{url}", "-o", "{out}", "--state", "{folder}/state.db", "-q", "--stall-timeout", "5", "--no-wait")
_ARIA = ("aria2c", "-q", "-c", "-x4", "-s4", "-k1M", "--max-tries=5", "--timeout=5", "--retry-wait=1", "-d", "{folder}")

TOOLS: tuple[Tool, ...] = (
    Tool("resumable", (sys.executable, "-m", "resumable", *_OURS)),
    Tool("aria2c", (*_ARIA, "-o", "{name}", "{url}")),
    Tool("curl", ("curl", "-fsSL", "-C", "-", "--retry", "5", "-y", "5", "-o", "{out}", "{url}")),
    Tool("wget", ("wget", "-q", "-c", "-t", "5", "-T", "5", "-O", "{out}", "{url}")),
    Tool("wget2", ("wget2", "-q", "-c", "--tries=5", "-T", "5", "-O", "{out}", "{url}")),
    Tool("axel", ("axel", "-q", "-n4", "-T", "5", "-o", "{out}", "{url}")),
    Tool("rclone", ("rclone", "copyurl", "-q", "--retries", "5", "--timeout", "5s", "{url}", "{out}")),
)
MODULES: Mapping[str, Tool] = {
    "pypdl": Tool("pypdl", (sys.executable, "-c", _PYPDL, "{url}", "{out}")),
    "parfive": Tool("parfive", (sys.executable, "-c", _PARFIVE, "{url}", "{folder}")),
    **{tool.module: tool for tool in LIBRARIES if tool.module not in {"pypdl", "parfive"}},
}


def contestants(names: Sequence[str]) -> list[Tool]:
    """Return the tools that are here, or those of them that were named."""
    found = [*installed(TOOLS), *(tool for module, tool in MODULES.items() if find_spec(module) is not None)]
    return [tool for tool in found if not names or tool.name in names]


def bout(tool: Tool, number: int) -> Outcome:
    """Play one scenario with one tool, in a folder and at an origin of their own."""
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as name, Origin() as origin:
        return SCENARIOS[number].play(Bout(tool, origin, Path(name)))


def play(tools: Sequence[Tool], rows: Sequence[int], *, at_once: int) -> dict[tuple[int, str], Outcome]:
    """Play the scenarios with these numbers, so many bouts at once; returns the outcomes by number and tool.

    The processes are new ones, not forked: this one has threads.
    """
    found: dict[tuple[int, str], Outcome] = {}
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        playing = {pool.submit(bout, tool, number): (number, tool) for number in rows for tool in tools}
        for done in as_completed(playing):
            number, tool = playing[done]
            found[number, tool.name] = done.result()
            say(f"  {len(found)} of {len(playing)}: {SCENARIOS[number].name}: {tool.name} {done.result()}")
    return found


def in_order(scenario: str, outcome: Outcome) -> bool:
    """Whether ours did what is right in this row."""
    return outcome.ending is (Ending.ERROR if scenario in LOUD else Ending.RIGHT)


def main() -> int:
    """Run and report."""
    given = options(__doc__, words=("tools",), rows=(len(SCENARIOS), len(SCENARIOS)))
    tools = contestants(["resumable"] if given.quick else [name for name in given.tools.split(",") if name])
    mine, peers = [tool for tool in tools if tool.name == "resumable"], [t for t in tools if t.name != "resumable"]
    wanted = list(enumerate(SCENARIOS[: given.rows]))
    scenarios = [(number, one) for number, one in wanted if os.geteuid() == 0 or not one.needs_root]
    numbers = [number for number, _ in scenarios]
    found = play(mine, numbers, at_once=1) | play(peers, numbers, at_once=AT_ONCE)
    rows: list[dict[str, Cell]] = [
        {"scenario": scenario.name, **{tool.name: str(found[number, tool.name]) for tool in tools}}
        for number, scenario in scenarios
    ]
    endings = [(scenario.name, found[number, tool.name]) for number, scenario in scenarios for tool in mine]
    wrong = sum(not in_order(*ending) for ending in endings)
    versions = [
        f"{tool.name}: {version(tool.binary)}"
        for tool in tools
        if shutil.which(tool.binary) and tool.binary != sys.executable
    ]
    absent = [name for name in MODULES if find_spec(name) is None]
    return answer(
        "scoreboard",
        QUESTION,
        given,
        rows=rows,
        bars=[Bar(name="rows in which ours is not right", value=wrong, limit=0, unit="rows", promise=True)],
        caveats=[
            "4 connections and about 5 tries where a tool has such options; the number is the MiB the origin sent",
            f"killed after {PATIENCE_S:.0f} s or 40 times the file: {Ending.HANGS.value}",
            f"the peers play {AT_ONCE} bouts at once",
            *(f"not played, as it needs root: {one.name}" for number, one in wanted if number not in numbers),
            *versions,
            *(f"not installed: {name}" for name in [*missing(TOOLS), *absent]),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
