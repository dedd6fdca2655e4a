"""An origin is down for two minutes and 500 operations want it: what does it get to bear, and are all done afterwards?

    python -m benchmarks.outage [--operations 500] [--outage 120] [--seeds 3] [--quick] [--json]

A simulation in virtual time with the real ``Supervisor`` and the real gates: only the origin and the clock are made up.
Five processes share the work and, through their journal, the gate; each makes as many attempts at once as a download
manager does. The origin refuses while it is down; then it serves twenty requests a second and turns the rest away with
503. Beside the gate: the same supervisors without it, with plain exponential backoff and with full jitter.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from benchmarks.report import Bar, Cell, answer, options, say
from recovery.classify import status_verdict
from recovery.control import Attempt
from recovery.hostgates import JournalGates
from recovery.policy import RetryPolicy
from recovery.records import OperationSpec
from recovery.supervisor import Supervisor
from recovery.testing import FakeClock, MemoryJournal

QUESTION = "What does an origin bear that was down while 500 operations wanted it?"
HOST = "https://origin.example"
PROCESSES = 5
AT_ONCE = 4
CAPACITY = 20
REFUSED_S = 0.02
SERVED_S = 0.05
PATIENT = RetryPolicy(max_no_progress=10_000, max_attempts=10_000, deadline_s=None, cap=30.0)


class UnavailableError(Exception):
    """A 503 without a word on when to come again."""

    recovery_hint = status_verdict(503)


@dataclass
class Origin:
    """It is down, then it serves so many requests in each second and refuses the rest."""

    clock: FakeClock
    outage_s: float
    requests: list[float] = field(default_factory=list)
    served: Counter[int] = field(default_factory=Counter)

    async def request(self, _: Attempt) -> None:
        """Answer or fail, after a moment."""
        now = self.clock.monotonic()
        self.requests.append(now)
        if now < self.outage_s:
            await self.clock.sleep(REFUSED_S)
            raise ConnectionRefusedError
        self.served[int(now)] += 1
        await self.clock.sleep(SERVED_S)
        if self.served[int(now)] > CAPACITY:
            raise UnavailableError

    @property
    def during(self) -> int:
        """Requests while it was down."""
        return sum(moment < self.outage_s for moment in self.requests)

    @property
    def peak(self) -> int:
        """The most requests in any second after that."""
        return max(Counter(int(moment) for moment in self.requests if moment >= self.outage_s).values(), default=0)


@dataclass(frozen=True)
class Way:
    """How the operations are run."""

    name: str
    policy: RetryPolicy
    gated: bool
    jitter: bool
    at_once: int | None = AT_ONCE


WAYS = (
    Way("host gate, three retries", RetryPolicy(), gated=True, jitter=True),
    Way("host gate, all 500 at once", RetryPolicy(), gated=True, jitter=True, at_once=None),
    Way("exponential backoff", PATIENT, gated=False, jitter=False),
    Way("exponential backoff, full jitter", PATIENT, gated=False, jitter=True),
    Way("three retries, full jitter", RetryPolicy(), gated=False, jitter=True),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one run of the simulation."""

    during: int
    peak: int
    done: int
    drained_s: float
    """From the end of the outage to the last success."""


async def simulate(way: Way, *, operations: int, outage_s: float, seed: int) -> Outcome:
    """Run it once."""
    clock, rng = FakeClock(auto=True), random.Random(seed)
    draw: Callable[[], float] = rng.random if way.jitter else lambda: 1.0
    origin, table = Origin(clock, outage_s), MemoryJournal(clock=clock)
    processes = [
        Supervisor(
            clock=clock,
            draw=draw,
            gates=JournalGates(table, clock=clock, draw=rng.random) if way.gated else None,
            max_concurrent=way.at_once,
            watchers={},
        )
        for _ in range(PROCESSES)
    ]
    ended: list[float] = []

    async def run(number: int) -> bool:
        spec = OperationSpec(kind="download", key=str(number), policy=way.policy)
        try:
            await processes[number % PROCESSES].run(spec, origin.request, host=HOST)
        except (ConnectionRefusedError, UnavailableError):
            return False
        ended.append(clock.monotonic())
        return True

    done = await asyncio.gather(*(run(number) for number in range(operations)))
    return Outcome(origin.during, origin.peak, sum(done), max(ended, default=outage_s) - outage_s)


def _one(way: Way, operations: int, outage_s: float, seed: int) -> Outcome:
    return asyncio.run(simulate(way, operations=operations, outage_s=outage_s, seed=seed))


def _simulated(operations: int, outage_s: float, seeds: int) -> Iterator[tuple[Way, list[Outcome]]]:
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        playing = [(way, [pool.submit(_one, way, operations, outage_s, seed) for seed in range(seeds)]) for way in WAYS]
        for way, each in playing:
            say(f"{way.name} ...")
            yield way, [one.result() for one in each]


def measure(operations: int, outage_s: float, seeds: int) -> tuple[list[dict[str, Cell]], dict[str, list[Outcome]]]:
    """Simulate every way with every seed; rows show the worst of each figure."""
    rows: list[dict[str, Cell]] = []
    outcomes: dict[str, list[Outcome]] = {}
    for way, each in _simulated(operations, outage_s, seeds):
        outcomes[way.name] = each
        rows.append(
            {
                "way": way.name,
                "requests while down": max(one.during for one in each),
                "peak per second after": max(one.peak for one in each),
                "done": min(one.done for one in each),
                "of": operations,
                "all done after s": round(max(one.drained_s for one in each), 1),
            }
        )
    return rows, outcomes


def main() -> int:
    """Measure and report."""
    chosen = options(__doc__, operations=(500, 100), outage=(120, 60), seeds=(3, 1))
    rows, outcomes = measure(chosen.operations, float(chosen.outage), chosen.seeds)
    gated = outcomes[WAYS[0].name]
    return answer(
        "outage",
        QUESTION,
        chosen,
        rows=rows,
        bars=[
            Bar(name="while the origin is down", value=max(one.during for one in gated), limit=50, unit="requests"),
            Bar(name="peak after it is up", value=max(one.peak for one in gated), limit=30, unit="requests/s"),
            Bar(
                name="done",
                value=min(one.done for one in gated),
                limit=chosen.operations,
                unit="operations",
                at_least=True,
            ),
        ],
        caveats=[
            "Simulated: virtual time, an origin that fails in 20 ms; supervisors, policy and gates are the real ones.",
            "The first requests of all processes go out before anybody knows of the outage: at most 4 in each of 5.",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
