"""The outage of ``benchmarks/outage.py`` in a small form: real supervisors in virtual time, with a gate and without."""

from __future__ import annotations

import pytest

from benchmarks.outage import WAYS, simulate

GATED, PLAIN = WAYS[0], WAYS[2]
OPERATIONS = 100
OUTAGE_S = 60.0


@pytest.mark.parametrize("seed", [1, 2])
async def test_an_origin_that_was_down_is_not_stormed(seed: int) -> None:
    """Five processes with a hundred operations: few requests while it is down, a gentle return, and all are done."""
    outcome = await simulate(GATED, operations=OPERATIONS, outage_s=OUTAGE_S, seed=seed)
    assert outcome.done == OPERATIONS
    assert outcome.during <= 50
    assert outcome.peak <= 30


async def test_without_the_gate_it_is() -> None:
    """The same operations with plain exponential backoff ask many times as often, and all together when it is back."""
    outcome = await simulate(PLAIN, operations=OPERATIONS, outage_s=OUTAGE_S, seed=1)
    assert outcome.done == OPERATIONS
    assert outcome.during >= 5 * OPERATIONS
    assert outcome.peak >= 50
