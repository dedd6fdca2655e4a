"""A run of the benchmarks as Markdown, by itself or as the second of two: the report, and BENCHMARKS.md."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.pair import CLOSE, Move, bar_moves, moved, row_moves, widened_rows
from benchmarks.record import Run
from benchmarks.report import Bar, Report

__all__ = ["as_markdown", "published", "shown"]

_LOSSES = Path(__file__).with_name("losses.md")
"""What people have to say about the figures; the only part of BENCHMARKS.md that is written by hand."""
_REPRODUCE = """`python -m benchmarks` on one small machine, with the figures that we lose left in. To reproduce them:
`pip install -e '.[cli,web,celery,redis,speed,bench,test]'`, the tools of `.ci/run`, `pip install pypdl parfive obstore
huggingface_hub` for the Python peers, then

    python -m benchmarks --out first
    python -m benchmarks --out second --compare first/report.json
    python -m benchmarks --publish first/report.json second/report.json > BENCHMARKS.md

The last line made this file."""


def published(first: Run | None, run: Run) -> str:
    """Return BENCHMARKS.md: of two runs, or of one."""
    return as_markdown(run, first, before=_REPRODUCE, after=_LOSSES.read_text("utf-8").strip())


def as_markdown(run: Run, first: Run | None = None, *, before: str = "", after: str = "") -> str:
    """Return the report for people who read it in a terminal or on a forge.

    ``first`` is an earlier run to set this one against. ``before`` comes ahead of the figures, ``after`` behind the
    bars.
    """
    parts = [f"# Benchmarks of {_when(run)}", before, _machines(run, first)]
    if run.quick:
        parts.append("A quick run: small forms that show that everything works. Its figures judge nothing.")
    parts += ["## Promises and bars", _bars(run, first)]
    runs = {"": run} if first is None else {"first run, ": first, "this run, ": run}
    failures = [
        f"* **{which}{name} failed**: {why}" for which, one in runs.items() for name, why in one.failures.items()
    ]
    parts += ["\n".join(failures), after]
    old = {} if first is None else {report.benchmark: report for report in first.reports}
    new = {report.benchmark: report for report in run.reports}
    for name in {**old, **new}:
        parts += _section(new.get(name) or old[name], old.get(name) if name in new else None, alone=name not in new)
    if first is not None:
        parts += ["## Figures that the two runs do not agree on", _moved(row_moves(first, run))]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(cell: object) -> str:
    """Return a figure as people read it."""
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _when(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.date))


def _machines(run: Run, first: Run | None) -> str:
    names = [*run.machine, *(name for name in (first.machine if first else ()) if name not in run.machine)]
    if first is None:
        return _grid(("", ""), [("command", f"`{run.command}`"), *run.machine.items()])
    rows = [(name, first.machine.get(name, "-"), run.machine.get(name, "-")) for name in names]
    commands = ("command", f"`{first.command}`", f"`{run.command}`")
    return _grid(("", "first run", "this run"), [("began", _when(first), _when(run)), commands, *rows])


def _bars(run: Run, first: Run | None) -> str:
    if first is None:
        rows = [(*_verdict(name, bar), _figure(bar), _limit(bar), _spread(bar.spread)) for name, bar in run.bars()]
        return _grid(("", "", "what", "figure", "limit", "spread"), rows)
    moves, lines = bar_moves(first, run), []
    for name, bar in run.bars():
        move, verdict = moves.get((name, bar)), list(_verdict(name, bar))
        if move is None:
            lines.append((*verdict, "-", _figure(bar), _limit(bar), "-", _spread(bar.spread)))
            continue
        if Bar(name="", value=move.first, limit=bar.limit, unit="", at_least=bar.at_least).met != bar.met:
            verdict[0] = "**met in one of two**"
        wide = _spread(move.spread) + ("" if move.agrees else ", widened")
        lines.append((*verdict, f"{move.first:g}", _figure(bar), _limit(bar), move.share, wide))
    here = {(name, bar.name) for name, bar in run.bars()}
    for name, bar in first.bars():
        if (name, bar.name) not in here:
            lines.append((*_verdict(name, bar), _figure(bar), "-", _limit(bar), "-", _spread(bar.spread)))
    agree = sum(move.agrees for move in moves.values())
    head = ("", "", "what", "first run", "this run", "limit", "difference", "spread")
    said = f"{agree} of {len(moves)} agree within {CLOSE:.0%}"
    return (
        f"{_grid(head, lines)}\n\n{said}; where they do not, the spread is widened: it reaches from one to the other."
    )


def _section(report: Report, first: Report | None, *, alone: bool) -> list[str]:
    rows = widened_rows(report, first)
    names = list(dict.fromkeys(name for row in rows for name in row))
    took = f"{report.seconds:.0f} s" + (", the first run's" if alone else "")
    return [
        f"## {report.benchmark}",
        f"{report.question} ({took})",
        _grid(tuple(names), [tuple(shown(row.get(name)) for name in names) for row in rows]),
        "\n".join(f"* {caveat}" for caveat in report.caveats),
    ]


def _moved(moves: Sequence[Move]) -> str:
    far = moved(moves)
    said = f"{len(moves) - len(far)} of the {len(moves)} figures in the tables above agree within {CLOSE:.0%}."
    rows = [(move.what, f"{move.first:.4g}", f"{move.second:.4g}", move.share) for move in far]
    return "\n\n".join(part for part in (said, _grid(("what", "first run", "this run", "difference"), rows)) if part)


def _verdict(name: str, bar: Bar) -> tuple[str, str, str]:
    return "met" if bar.met else "**not met**", "promise" if bar.promise else "own bar", f"{name}: {bar.name}"


def _figure(bar: Bar) -> str:
    return f"{bar.value:g} {bar.unit}"


def _limit(bar: Bar) -> str:
    return f"{'>=' if bar.at_least else '<='} {bar.limit:g}"


def _spread(share: float) -> str:
    return f"{share:.0%}" if share else "-"


def _grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [tuple(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    if not lines:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in [tuple(head), tuple("---" for _ in head), *lines])
