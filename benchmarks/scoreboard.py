"""What do downloaders do with a hostile origin: which ones publish wrong bytes, hang, give up, or get it right?

    python -m benchmarks.scoreboard [--rows N] [--tools NAME,...] [--quick] [--json]

20 scenarios of one 32 MiB file. A cell says how it ended and how many MiB the origin sent. Ours must be right in every
row that can be, say so loudly in the others, and fetch at most one chunk twice per fault.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.hostile import SCENARIOS, Bout, Ending, Outcome, Scenario
from benchmarks.report import Bar, Cell, Report, finish, say
from benchmarks.tools import Tool, installed, missing, version
from tests.origin import Origin

QUESTION = "What do downloaders do with a hostile origin?"
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
}


def contestants(names: Sequence[str]) -> list[Tool]:
    """Return the tools that are here, or those of them that were named."""
    found = [*installed(TOOLS), *(tool for module, tool in MODULES.items() if find_spec(module) is not None)]
    return [tool for tool in found if not names or tool.name in names]


def bout(tool: Tool, scenario: Scenario) -> Outcome:
    """Play one scenario with one tool, in a folder and at an origin of their own."""
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as name, Origin() as origin:
        return scenario.play(Bout(tool, origin, Path(name)))


def in_order(scenario: str, outcome: Outcome) -> bool:
    """Whether ours did what is right in this row."""
    return outcome.ending is (Ending.ERROR if scenario in LOUD else Ending.RIGHT)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON line on stdout")
    parser.add_argument("--quick", action="store_true", help="ours alone")
    parser.add_argument("--rows", type=int, default=len(SCENARIOS), help="only the first so many scenarios")
    parser.add_argument("--tools", default="", help="only these, separated by commas")
    return parser.parse_args()


def main() -> int:
    """Run and report."""
    given = _parsed()
    started = time.perf_counter()
    tools = contestants(["resumable"] if given.quick else [name for name in given.tools.split(",") if name])
    rows: list[dict[str, Cell]] = []
    wrong = 0
    for scenario in SCENARIOS[: given.rows]:
        row: dict[str, Cell] = {"scenario": scenario.name}
        for tool in tools:
            outcome = bout(tool, scenario)
            say(f"  {scenario.name}: {tool.name} {outcome}")
            row[tool.name] = str(outcome)
            wrong += tool.name == "resumable" and not in_order(scenario.name, outcome)
        rows.append(row)
    versions = [
        f"{tool.name}: {version(tool.binary)}"
        for tool in tools
        if shutil.which(tool.binary) and tool.binary != sys.executable
    ]
    report = Report(
        benchmark="scoreboard",
        question=QUESTION,
        rows=rows,
        bars=[Bar(name="rows in which ours is not right", value=wrong, limit=0, unit="rows", promise=True)],
        caveats=[
            "4 connections and about 5 tries where a tool has such options; the number is the MiB the origin sent",
            f"killed after a minute or 40 times the file: {Ending.HANGS.value}",
            *versions,
            *(f"not installed: {name}" for name in missing(TOOLS)),
        ],
        quick=given.quick,
        seconds=round(time.perf_counter() - started, 1),
    )
    return finish(report, as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
