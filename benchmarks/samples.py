"""Repetitions that can be compared on a noisy machine: interleaved, in an order that changes, judged by medians and
spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.report import Bar, Cell, say

__all__ = ["Leniency", "Samples", "TooSlowError", "figures", "interleave", "ratio_bar", "spread"]

_TRIES = 3


class TooSlowError(RuntimeError):
    """A contestant was stopped because it took too long; it is not tried again."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What one contestant needed, run by run, in seconds (or another unit; all of one set alike)."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def ratio(self, other: Samples) -> float:
        """Return the median of this by that of another; below 1 is faster."""
        return self.median / other.median

    def ratios(self, other: Samples) -> list[float]:
        """Return the ratio of each round: what the two did side by side."""
        return [mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)]


def spread(values: Sequence[float]) -> float:
    """Return half the distance of the quartiles by the median: how far a typical run lies from the middle one."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / statistics.median(values)


def ratio_bar(name: str, mine: Samples, theirs: Samples, *, limit: float, unit: str = "x") -> Bar:
    """Judge one against another by the median of each round's ratio; its spread is that of the rounds."""
    ratios = mine.ratios(theirs)
    return Bar(
        name=name, value=round(statistics.median(ratios), 3), limit=limit, unit=unit, spread=round(spread(ratios), 3)
    )


def figures(one: Samples) -> dict[str, Cell]:
    """Return the cells of a row of seconds: the median, how far the rounds lie apart, and how many there were."""
    return {"median s": one.median, "spread": f"{spread(one.values):.0%}", "runs": len(one.values)}


@dataclass(slots=True)
class Leniency:
    """Which contestants may fail without ending the benchmark, and what they did; a crash is news of that peer."""

    peers: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def measured(self, name: str, once: Callable[[], float]) -> float | None:
        """Return what one run gave; None where a peer failed three times in a row or took too long."""
        for number in range(_TRIES):
            try:
                return once()
            except RuntimeError as error:
                if name not in self.peers:
                    raise
                say(f"  {name} failed: {error}")
                self.notes.append(f"{name}, run again after: {error}")
                if isinstance(error, TooSlowError) or number == _TRIES - 1:
                    self.notes[-1] = f"no figures of {name}: {error}"
                    return None
        return None


def interleave(
    contestants: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    fewer: Mapping[str, int] | None = None,
    leniency: Leniency | None = None,
) -> dict[str, Samples]:
    """Run every contestant once a round, each round beginning with another one; returns their samples by name.

    A contestant returns what it measured, so that it can leave its own preparation out. ``fewer`` names those that run
    in so many of the first rounds only. One that ``leniency`` lets fail is left out altogether if it does.
    """
    names, lenient = list(contestants), leniency or Leniency()
    most = {name: min(rounds, (fewer or {}).get(name, rounds)) for name in names}
    values: dict[str, list[float]] = {name: [] for name in names}
    out: set[str] = set()
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if name in out or number >= most[name]:
                continue
            measured = lenient.measured(name, contestants[name])
            if measured is None:
                out.add(name)
                continue
            values[name].append(measured)
            say(f"  round {number + 1} of {most[name]}: {name} {measured:.3f}")
    return {name: Samples(name, tuple(values[name])) for name in names if name not in out}
