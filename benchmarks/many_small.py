"""How long do many small files take: against aria2c and curl with as many connections?

    python -m benchmarks.many_small [--files 10000] [--rounds 5] [--quick] [--json]

Files of 4 KiB from nginx on loopback, 16 at once. Every one of ours ends with a durable row in the state file, which
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
from benchmarks.report import Bar, Cell, answer, options
from benchmarks.samples import interleave, spread
from benchmarks.tools import Tool, installed, missing, run

QUESTION = "How long do many files of 4 KiB take, 16 at a time?"
SIZE = 4096
AT_ONCE = 16

PEERS = (
    Tool("aria2c -j16", ("aria2c", "-q", f"-j{AT_ONCE}", "-x1", "-i", "{folder}/../list", "-d", "{folder}")),
    Tool("curl -Z", ("curl", "-sS", "-Z", "--parallel-max", str(AT_ONCE), "-K", "{folder}/../curl")),
)


class Contest:
    """Fetches all files with one tool after another; a missing or wrong file ends it."""

    def __init__(self, home: Path, contents: dict[str, bytes]) -> None:
        """Use ``home/out`` for what is fetched."""
        self._home = home
        self._contents = contents
        self._cpu: dict[str, list[float]] = {}

    def once(self, tool: Tool) -> float:
        """Return the wall seconds of one run."""
        out = self._home / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for stale in self._home.glob("state.db*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        cost = run(tool.line("", out / "x"))
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
    """Make the files; return what each holds by name."""
    (home / "root").mkdir()
    contents = {f"f{i:05}.bin": os.urandom(SIZE) for i in range(files)}
    for name, content in contents.items():
        (home / "root" / name).write_bytes(content)
    return contents


def main() -> int:
    """Run and report."""
    given = options(__doc__, files=(10_000, 500), rounds=(5, 2))
    with tempfile.TemporaryDirectory(prefix="bench-small-") as name:
        home = Path(name)
        contents = prepare(home, given.files)
        with serving(home / "root") as base:
            (home / "list").write_text("".join(f"{base}/{name}\n" for name in contents))
            lines = (f'url = "{base}/{name}"\noutput = "{home}/out/{name}"\n' for name in contents)
            (home / "curl").write_text("".join(lines))
            contest = Contest(home, contents)
            tools = [_ours(home), *installed(PEERS)]
            runs: dict[str, Callable[[], float]] = {tool.name: partial(contest.once, tool) for tool in tools}
            samples = interleave(runs, given.rounds)
    rows: list[dict[str, Cell]] = [
        {
            "tool": one.name,
            "median s": one.median,
            "spread": f"{spread(one.values):.0%}",
            "files/s": given.files / one.median,
            "CPU ms/file": contest.cpu_ms(one.name),
        }
        for one in sorted(samples.values(), key=lambda one: one.median)
    ]
    mine = samples["resumable"]
    bars = [
        Bar(
            name=f"{len(contents)} files, to {peer.name}",
            value=round(statistics.median(mine.ratios(samples[peer.name])), 2),
            limit=1.0,
            unit="x",
        )
        for peer in PEERS
        if peer.name in samples
    ]
    return answer(
        "many_small",
        QUESTION,
        given,
        rows=rows,
        bars=bars,
        caveats=[
            "the peers neither hash nor remember anything",
            *(f"not installed: {name}" for name in missing(PEERS)),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
