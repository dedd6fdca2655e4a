"""Two runs of the benchmarks side by side: which figures agree, and how much wider the spread is where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.record import Run
from benchmarks.report import Bar, Cell, Report

__all__ = ["CLOSE", "Move", "bar_moves", "compared", "difference", "moved", "row_moves", "widened", "widened_rows"]

CLOSE = 0.15
"""Two runs of one figure that differ by less than this share agree (issue 6)."""
SPREAD = "spread"
_LABELS = ("part", "files", "tool", "what", "download", "", "task", "way", "scenario", "part file MiB")
_GIVEN = frozenset({"count", "samples", "runs", "of"})
"""Columns that say how something was measured: no figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One figure of two runs."""

    what: str
    first: float
    second: float
    unit: str = ""
    spread: float = 0.0
    """That of the second run, widened where the two do not agree."""

    @property
    def agrees(self) -> bool:
        """Whether they differ by less than ``CLOSE``."""
        return difference(self.first, self.second) <= CLOSE

    @property
    def share(self) -> str:
        """How far the second is from the first, in per cent of the first."""
        if self.first == self.second:
            return "0 %"
        return "-" if not self.first else f"{self.second / self.first - 1:+.0%}".replace("%", " %")

    def __str__(self) -> str:
        """Return one line for people."""
        figures = f"{self.what}: {self.first:.4g} -> {self.second:.4g} {self.unit}".rstrip()
        verdict = "agrees" if self.agrees else f"differs, spread widened to {self.spread:.0%}"
        return f"{figures} ({self.share}; {verdict})"


def difference(first: float, second: float) -> float:
    """Return by which share the larger of two figures is above the smaller one; infinite where only one is zero."""
    if first == second:
        return 0.0
    low, high = sorted((abs(first), abs(second)))
    return high / low - 1 if low and first * second > 0 else float("inf")


def widened(spread: float, first: float, second: float) -> float:
    """Return the spread of the second figure; where the two do not agree, wide enough to reach the first one."""
    if difference(first, second) <= CLOSE or not second:
        return spread
    return max(spread, abs(first - second) / abs(second))


def bar_moves(first: Run, second: Run) -> dict[tuple[str, Bar], Move]:
    """Return what became of every bar of the second run that the first one has too."""
    before = {(name, bar.name, bar.promise): bar for name, bar in first.bars()}
    moves = {}
    for name, bar in second.bars():
        old = before.get((name, bar.name, bar.promise))
        if old is not None:
            spread = widened(max(old.spread, bar.spread), old.value, bar.value)
            about = {"what": f"{name}: {bar.name}", "unit": bar.unit}
            moves[name, bar] = Move(**about, first=old.value, second=bar.value, spread=spread)
    return moves


def row_moves(first: Run, second: Run) -> list[Move]:
    """Return what became of every figure in the rows."""
    before = {report.benchmark: report for report in first.reports}
    return [
        Move(
            what=f"{report.benchmark}: {', '.join((*label, column))}",
            first=old,
            second=new,
            spread=widened(0.0, old, new),
        )
        for report in second.reports
        if report.benchmark in before
        for label, column, old, new in _common(before[report.benchmark], report)
    ]


def widened_rows(report: Report, first: Report | None) -> list[dict[str, Cell]]:
    """Return the rows, each spread wide enough to reach the figure of the first run where the two do not agree.

    A spread is that of the column before it.
    """
    old_rows = {} if first is None else {_label(row): row for row in first.rows}
    return [_widened_row(row, old_rows.get(_label(row))) for row in report.rows]


def compared(first: Run, second: Run) -> list[str]:
    """Return a line for every figure, the bars first, and how many agree."""
    moves = [*bar_moves(first, second).values(), *row_moves(first, second)]
    count = sum(move.agrees for move in moves)
    return [*(str(move) for move in moves), f"{count} of {len(moves)} figures agree within {CLOSE:.0%}"]


def _widened_row(row: Mapping[str, Cell], old: Mapping[str, Cell] | None) -> dict[str, Cell]:
    new, before = dict(row), ""
    for column in row:
        if column == SPREAD and old is not None:
            first, second, spread = _number(old.get(before)), _number(row[before]), _per_cent(row[SPREAD])
            if first is not None and second is not None and spread is not None:
                wide = widened(spread, first, second)
                new[SPREAD] = row[SPREAD] if wide == spread else f"{wide:.0%} (two runs)"
        before = column
    return new


def _common(old: Report, new: Report) -> Iterator[tuple[tuple[str, ...], str, float, float]]:
    before = {_label(row): row for row in old.rows}
    for row in new.rows:
        label = _label(row)
        for column, cell in row.items():
            first, second = _number(before.get(label, {}).get(column)), _number(cell)
            if first is not None and second is not None and column not in {*_LABELS, *_GIVEN}:
                yield label, column, first, second


def _label(row: Mapping[str, Cell]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _LABELS if name in row)


def _number(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None


def _per_cent(cell: Cell) -> float | None:
    text = str(cell)
    return float(text[:-1]) / 100 if text.endswith("%") else None


def moved(moves: Sequence[Move]) -> list[Move]:
    """Return those that do not agree, the largest difference first."""
    return sorted((move for move in moves if not move.agrees), key=lambda m: -difference(m.first, m.second))
