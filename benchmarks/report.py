"""What every benchmark reports, in one shape: rows of figures, bars that are met or missed, and what to mind.

A benchmark is a module with a ``main`` that takes ``--json`` and ``--quick``. With ``--json`` it prints one ``Report``
as the last line on stdout, which is all that the runner (``python -m benchmarks``) needs of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["Bar", "Report", "answer", "options", "say", "table"]

Cell = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A figure and its limit. ``value`` was measured in this run; it is never a constant."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False
    """Whether more is better."""
    promise: bool = False
    """Whether the user was promised it; the others are our own, tighter ones."""
    spread: float = 0.0
    """How far the rounds lie apart, as ``samples.spread`` has it; 0 where the figure is no median of rounds."""

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        """Return one line for people."""
        verdict, relation = "met    " if self.met else "NOT MET", ">=" if self.at_least else "<="
        return f"{verdict}  {self.name}: {self.value:g} {self.unit} ({relation} {self.limit:g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One benchmark's answer to its question."""

    benchmark: str
    question: str
    rows: Sequence[Mapping[str, Cell]] = ()
    bars: Sequence[Bar] = ()
    caveats: Sequence[str] = ()
    quick: bool = False
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What a picture is drawn from: series of numbers."""

    def to_json(self) -> str:
        """Return it as one line."""
        values = asdict(self)
        for bar, shown in zip(self.bars, values["bars"], strict=True):
            shown["met"] = bar.met
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what ``to_json`` wrote; raises ValueError for anything else."""
        values = json.loads(line)
        if not isinstance(values, dict) or "benchmark" not in values:
            raise ValueError("no report")
        for bar in values["bars"]:
            bar.pop("met", None)
        values["bars"] = [Bar(**bar) for bar in values["bars"]]
        return cls(**values)


def options(doc: str | None, *, words: Sequence[str] = (), **numbers: tuple[int, int]) -> argparse.Namespace:
    """Parse the command line: ``--json``, ``--quick``, a whole-number option a name, ``(usual, quick)`` by default, and
    ``words``, which are empty by default. From here on the time counts (``started``).
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON line on stdout")
    parser.add_argument("--quick", action="store_true", help="a smaller form, to see that it works")
    for name, (usual, quick) in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default {usual}, quick {quick}")
    for name in words:
        parser.add_argument(f"--{name.replace('_', '-')}", default="", help="names, separated by commas")
    given = parser.parse_args()
    for name, (usual, quick) in numbers.items():
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else usual)
    given.started = time.perf_counter()
    return given


def say(text: str) -> None:
    """Tell a person how far it is; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Return rows as aligned text, the columns in the order of the first row."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def answer(
    benchmark: str,
    question: str,
    given: argparse.Namespace,
    *,
    rows: Sequence[Mapping[str, Cell]],
    bars: Sequence[Bar],
    caveats: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Report what was found by the ``options`` given; return the exit status, 1 where a bar is missed and the run was
    not a quick one.
    """
    report = Report(
        benchmark=benchmark,
        question=question,
        rows=rows,
        bars=bars,
        caveats=caveats,
        quick=given.quick,
        seconds=round(time.perf_counter() - given.started, 1),
        extra=extra or {},
    )
    if given.json:
        print(report.to_json())
    else:
        print(f"{report.question}\n")
        print(table(report.rows))
        for bar in report.bars:
            print(bar)
        for caveat in report.caveats:
            print(f"note: {caveat}")
    return 0 if report.quick or all(bar.met for bar in report.bars) else 1
