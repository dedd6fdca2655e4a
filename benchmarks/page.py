"""The report as one HTML file: tables, and a plot for every series that a benchmark gives; nothing is loaded from
elsewhere.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping, Sequence

from benchmarks.pair import bar_moves, compared, widened_rows
from benchmarks.paper import shown
from benchmarks.record import Run
from benchmarks.report import Report

__all__ = ["as_html", "plot"]

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e8eb); --quiet: light-dark(#5b6570, #9aa4af);
  --line: light-dark(#d9dee3, #353c44); --good: light-dark(#12703a, #5fd38d); --bad: light-dark(#a3261c, #ff8a7a); }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top:
1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; display: block; overflow-x:
auto }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--quiet); font-weight: 500 } .met { color: var(--good) } .missed { color: var(--bad); font-weight: 600 }
.note { color: var(--quiet); font-size: .9rem } svg { max-width: 100%; height: auto } svg text { fill: var(--quiet);
font-size: 12px }
"""
_COLOURS = ("#3b76d0", "#d0663b", "#3b9c6d", "#8a5bd0", "#b0913a", "#c2477f", "#4aa3b5", "#777")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 280, 60, 40


def as_html(run: Run, other: Run | None = None) -> str:
    """Return the page."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.date))
    parts = [f"<h1>Benchmarks of {when}</h1>", f"<p><code>{html.escape(run.command)}</code></p>"]
    parts.append(_table(("", ""), run.machine.items()))
    if run.quick:
        parts.append("<p><strong>A quick run</strong>: it shows that everything works; its figures judge nothing.</p>")
    parts += ["<h2>Promises and bars</h2>", _verdicts(run, other)]
    parts += [
        f'<p class="missed">{html.escape(name)} failed: {html.escape(why)}</p>' for name, why in run.failures.items()
    ]
    if other is not None:
        moves = "".join(f"<li>{html.escape(line)}</li>" for line in compared(other, run))
        parts.append(f"<h2>Two runs</h2><details><summary>every figure of both</summary><ul>{moves}</ul></details>")
    old = {} if other is None else {report.benchmark: report for report in other.reports}
    parts += [_section(report, old.get(report.benchmark)) for report in run.reports]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Benchmarks</title>'
    return f'<!doctype html><html lang="en">{head}<style>{_STYLE}</style><body>{"".join(parts)}</body></html>\n'


def _verdicts(run: Run, other: Run | None) -> str:
    moves = {} if other is None else bar_moves(other, run)
    rows = []
    for name, bar in run.bars():
        move = moves.get((name, bar))
        before, spread = ("-", bar.spread) if move is None else (f"{move.first:g} ({move.share})", move.spread)
        rows.append(
            f'<tr><td class="{"met" if bar.met else "missed"}">{"met" if bar.met else "not met"}</td>'
            f"<td>{'promise' if bar.promise else 'own bar'}</td><td>{html.escape(f'{name}: {bar.name}')}</td>"
            f"<td>{bar.value:g} {html.escape(bar.unit)}</td>"
            f"<td>{'at least' if bar.at_least else 'at most'} {bar.limit:g}</td>"
            f"<td>{f'{spread:.0%}' if spread else '-'}</td><td>{before}</td></tr>"
        )
    head = "<tr><th></th><th></th><th>what</th><th>figure</th><th>limit</th><th>spread</th><th>other run</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _section(report: Report, other: Report | None) -> str:
    widened = widened_rows(report, other)
    names = list(dict.fromkeys(name for row in widened for name in row))
    rows = [tuple(shown(row.get(name)) for name in names) for row in widened]
    notes = "".join(f"<li>{html.escape(caveat)}</li>" for caveat in report.caveats)
    plots = "".join(plot(title, **series) for title, series in report.extra.get("plots", {}).items())
    question = f"<p>{html.escape(report.question)} <span class=note>({report.seconds:.0f} s)</span></p>"
    return (
        f'<h2>{html.escape(report.benchmark)}</h2>{question}{_table(names, rows)}{plots}<ul class="note">{notes}</ul>'
    )


def _table(head: Sequence[str], rows: object) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows  # type: ignore[attr-defined]
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def plot(title: str, *, x: str, y: str, series: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return an SVG of lines over two logarithmic axes; ``series`` holds ``(x, y)`` pairs, all above zero."""
    points = [(px, py) for line in series.values() for px, py in line if px > 0 and py > 0]
    if not points:
        return ""
    left, right = _decades([px for px, _ in points])
    low, high = _decades([py for _, py in points])

    def at(px: float, py: float) -> tuple[float, float]:
        across = (math.log10(px) - left) / (right - left) * (_WIDTH - _LEFT - 140)
        up = (math.log10(py) - low) / (high - low) * (_HEIGHT - _BOTTOM - 20)
        return _LEFT + across, _HEIGHT - _BOTTOM - up

    marks = []
    for power in range(left, right + 1):
        px, _ = at(10.0**power, 10.0**low)
        marks.append(f'<text x="{px:.0f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{10.0**power:g}</text>')
    for power in range(low, high + 1):
        px, py = at(10.0**left, 10.0**power)
        marks.append(f'<text x="{px - 6:.0f}" y="{py + 4:.0f}" text-anchor="end">{10.0**power:g}</text>')
        marks.append(f'<path d="M{px:.0f} {py:.0f}H{_WIDTH - 140}" stroke="#8884" fill="none"/>')
    for number, (name, line) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{'ML'[i > 0]}{at(px, py)[0]:.1f} {at(px, py)[1]:.1f}" for i, (px, py) in enumerate(line))
        marks.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        marks += [
            f'<circle cx="{at(px, py)[0]:.1f}" cy="{at(px, py)[1]:.1f}" r="3" fill="{colour}"/>' for px, py in line
        ]
        px, py = at(*line[-1])
        marks.append(f'<text x="{px + 8:.0f}" y="{py + 4:.0f}" style="fill:{colour}">{html.escape(name)}</text>')
    marks.append(f'<text x="{(_WIDTH - 80) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">{html.escape(x)}</text>')
    label = html.escape(f"{title}: {y}")
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}"'
    return f"<figure><figcaption>{label}</figcaption><svg {view}>{''.join(marks)}</svg></figure>"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)
