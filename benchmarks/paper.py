"""A whole run of the benchmarks: what it found, what is kept of it, and how it reads as Markdown and against another
run.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.report import Bar, Report

__all__ = ["Run", "as_markdown", "compared", "machine"]

_CLOSE = 0.15
"""Two runs of one bar that differ by less than this share agree (issue 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Every report of one run, and the benchmarks that gave none."""

    machine: Mapping[str, str]
    date: float
    command: str
    quick: bool
    reports: Sequence[Report]
    failures: Mapping[str, str]

    @property
    def kept(self) -> bool:
        """Whether all benchmarks ran and no promise to the user is broken; a quick run judges nothing."""
        broken = any(bar.promise and not bar.met for report in self.reports for bar in report.bars)
        return not self.failures and (self.quick or not broken)

    def bars(self) -> Iterator[tuple[str, Bar]]:
        """Yield every bar with its benchmark, the promises first."""
        pairs = [(report.benchmark, bar) for report in self.reports for bar in report.bars]
        yield from sorted(pairs, key=lambda pair: not pair[1].promise)

    def verdicts(self) -> list[str]:
        """Return a line a bar, and one a failure."""
        lines = [f"{'promise' if bar.promise else 'own bar'}  {bar}  [{name}]" for name, bar in self.bars()]
        return [*lines, *(f"FAILED   {name}: {why}" for name, why in self.failures.items())]

    def to_json(self) -> str:
        """Return it as one JSON object."""
        return json.dumps(
            {
                "machine": dict(self.machine),
                "date": self.date,
                "command": self.command,
                "quick": self.quick,
                "reports": [json.loads(report.to_json()) for report in self.reports],
                "failures": dict(self.failures),
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote; raises ValueError for anything else."""
        values = json.loads(text)
        values["reports"] = [Report.from_json(json.dumps(report)) for report in values["reports"]]
        return cls(**values)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "?"
    )
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "memory": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load when it began": f"{os.getloadavg()[0]:.2f}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []


def as_markdown(run: Run, other: Run | None = None) -> str:
    """Return the report for people who read it in a terminal or on a forge."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.date))
    parts = [f"# Benchmarks of {when}", f"`{run.command}`", _grid(("", ""), run.machine.items())]
    if run.quick:
        parts.append("A quick run: small forms that show that everything works. Its figures judge nothing.")
    verdicts = [
        (
            "met" if bar.met else "**not met**",
            "promise" if bar.promise else "own bar",
            f"{name}: {bar.name}",
            _judged(bar),
        )
        for name, bar in run.bars()
    ]
    parts += ["## Promises and bars", _grid(("", "", "what", "figure"), verdicts)]
    if run.failures:
        parts.append("\n".join(f"* **{name} failed**: {why}" for name, why in run.failures.items()))
    if other is not None:
        parts += ["## Against the other run", "\n".join(f"* {line}" for line in compared(run, other))]
    for report in run.reports:
        names = list(dict.fromkeys(name for row in report.rows for name in row))
        rows = [tuple(shown(row.get(name)) for name in names) for row in report.rows]
        parts += [f"## {report.benchmark}", f"{report.question} ({report.seconds:.0f} s)", _grid(tuple(names), rows)]
        parts.append("\n".join(f"* {caveat}" for caveat in report.caveats))
    return "\n\n".join(part for part in parts if part) + "\n"


def compared(run: Run, other: Run) -> list[str]:
    """Return how each bar's figure moved since another run, the largest move first."""
    before = {(name, bar.name): bar for name, bar in other.bars()}
    moves = []
    for name, bar in run.bars():
        old = before.get((name, bar.name))
        if old is not None and old.value:
            moves.append((bar.value / old.value, f"{name}: {bar.name}: {old.value:g} -> {bar.value:g} {bar.unit}"))
    moves.sort(key=lambda move: -abs(move[0] - 1))
    return [f"{text} ({'agrees' if abs(ratio - 1) <= _CLOSE else f'{ratio:.2f} x'})" for ratio, text in moves]


def shown(cell: object) -> str:
    """Return a figure as people read it."""
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _judged(bar: Bar) -> str:
    return f"{bar.value:g} {bar.unit} ({'>=' if bar.at_least else '<='} {bar.limit:g})"


def _grid(head: Sequence[str], rows: object) -> str:
    lines = [tuple(str(cell).replace("|", "\\|") for cell in row) for row in rows]  # type: ignore[attr-defined]
    if not lines:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in [tuple(head), tuple("---" for _ in head), *lines])
