"""How long do many small files take: against aria2c and curl with as many connections?

    python -m benchmarks.many_small [--files 1000] [--rounds 5] [--whole 10000] [--quick] [--json]

Files of 4 KiB from nginx on loopback, 16 at once: first some of them in interleaved rounds, then all in one round,
which shows what becomes of the ratio with many more. Every one of ours ends with a durable row in the state file, which
is counted.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.nginx import serving
from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.samples import Leniency, Samples, figures, interleave, ratio_bar
from benchmarks.tools import Tool, installed, missing, run

QUESTION = "How long do many files of 4 KiB take, 16 at a time?"
SIZE = 4096
AT_ONCE = 16
PATIENCE_S = 400.0
"""A peer that needs longer is stopped, and the report says so."""

PEERS = (
    Tool("aria2c -j16", ("aria2c", "-q", f"-j{AT_ONCE}", "-x1", "-i", "{folder}/../list", "-d", "{folder}")),
    Tool("curl -Z", ("curl", "-sS", "-Z", "--parallel-max", str(AT_ONCE), "-K", "{folder}/../curl")),
)


class Contest:
    """Fetches all files with one tool after another; a missing or wrong file ends it."""

    def __init__(self, home: Path, base: str, contents: dict[str, bytes]) -> None:
        """Fetch ``contents`` from ``base`` into ``home/out``; the folder is made."""
        home.mkdir(exist_ok=True)
        self._home = home
        self._contents = contents
        self._cpu: dict[str, list[float]] = {}
        (home / "list").write_text("".join(f"{base}/{name}\n" for name in contents))
        lines = (f'url = "{base}/{name}"\noutput = "{home}/out/{name}"\n' for name in contents)
        (home / "curl").write_text("".join(lines))

    def run(self, rounds: int, notes: list[str]) -> dict[str, Samples]:
        """Let ours and the peers fetch them in turn; ``notes`` hears of a peer that failed."""
        say(f"{len(self._contents)} files:")
        tools = [_ours(self._home), *installed(PEERS)]
        runs: dict[str, Callable[[], float]] = {tool.name: partial(self.once, tool) for tool in tools}
        return interleave(runs, rounds, leniency=Leniency(frozenset(runs) - {"resumable"}, notes))

    def rows(self, found: dict[str, Samples]) -> list[dict[str, Cell]]:
        """Return the figures, the fastest first."""
        count = len(self._contents)
        return [
            {
                "files": count,
                "tool": one.name,
                **figures(one),
                "files/s": count / one.median,
                "CPU ms/file": self.cpu_ms(one.name),
            }
            for one in sorted(found.values(), key=lambda one: one.median)
        ]

    def bars(self, found: dict[str, Samples]) -> list[Bar]:
        """Judge ours against each peer."""
        mine, count = found["resumable"], len(self._contents)
        return [
            ratio_bar(f"{count} files, to {peer.name}", mine, found[peer.name], limit=1.0)
            for peer in PEERS
            if peer.name in found
        ]

    def once(self, tool: Tool) -> float:
        """Return the wall seconds of one run."""
        out = self._home / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for stale in self._home.glob("state.db*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        cost = run(tool.line("", out / "x"), most_s=None if tool.name == "resumable" else PATIENCE_S)
        self._check(out)
        if tool.name == "resumable":
            self._count_rows()
        self._cpu.setdefault(tool.name, []).append(cost.cpu_s)
        return cost.wall_s

    def cpu_ms(self, name: str) -> float:
        """Return the median processor milliseconds a file."""
        return statistics.median(self._cpu[name]) * 1000 / len(self._contents)

    def _check(self, out: Path) -> None:
        for name, content in self._contents.items():
            if (out / name).read_bytes() != content:
                raise RuntimeError(f"{name} is wrong")

    def _count_rows(self) -> None:
        conn = sqlite3.connect(self._home / "state.db")
        try:
            (rows,) = conn.execute("SELECT count(*) FROM download_files").fetchone()
        finally:
            conn.close()
        if rows != len(self._contents):
            raise RuntimeError(f"{rows} durable rows for {len(self._contents)} files")


def _ours(home: Path) -> Tool:
    words = (
        "get",
        "-i",
        str(home / "list"),
        "-d",
        "{folder}",
        "-j",
        str(AT_ONCE),
        "--state",
        str(home / "state.db"),
        "-q",
    )
    return Tool("resumable", (sys.executable, "-m", "resumable", *words))


def prepare(home: Path, files: int) -> dict[str, bytes]:
    """Make the files in ``home/root``; return what each holds by name."""
    (home / "root").mkdir()
    contents = {f"f{i:05}.bin": os.urandom(SIZE) for i in range(files)}
    for name, content in contents.items():
        (home / "root" / name).write_bytes(content)
    return contents


def main() -> int:
    """Run and report."""
    given = options(__doc__, files=(1_000, 100), rounds=(5, 2), whole=(10_000, 500))
    caveats = [
        f"{given.files} files in {given.rounds} interleaved rounds, {given.whole} in one; the peers remember nothing",
        *(f"not installed: {name}" for name in missing(PEERS)),
    ]
    rows: list[dict[str, Cell]] = []
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory(prefix="bench-small-") as name:
        home = Path(name)
        contents = prepare(home, max(given.files, given.whole))
        with serving(home / "root") as base:
            for count, rounds in ((given.files, given.rounds), (given.whole, 1)):
                contest = Contest(home / str(count), base, dict(list(contents.items())[:count]))
                found = contest.run(rounds, caveats)
                rows += contest.rows(found)
                bars += contest.bars(found)
    return answer("many_small", QUESTION, given, rows=rows, bars=bars, caveats=caveats)


if __name__ == "__main__":
    raise SystemExit(main())
