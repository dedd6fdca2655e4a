"""A whole run of the benchmarks: what it found, and what is kept of it."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.report import Bar, Report

__all__ = ["Run", "machine"]


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
        "commit": _commit(),
        "load when it began": f"{os.getloadavg()[0]:.2f}",
    }


def _commit() -> str:
    """Return what was measured: the commit, and whether the tree differs from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []
