"""Repetitions that can be compared on a noisy machine: interleaved, in an order that changes, judged by medians and
spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import say

__all__ = ["Samples", "interleave", "spread"]


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


def interleave(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Samples]:
    """Run every contestant once a round, each round beginning with another one; returns their samples by name.

    A contestant returns what it measured, so that it can leave its own preparation out.
    """
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            values[name].append(contestants[name]())
            say(f"  round {number + 1} of {rounds}: {name} {values[name][-1]:.3f}")
    return {name: Samples(name, tuple(measured)) for name, measured in values.items()}
