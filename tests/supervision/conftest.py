"""Fixtures of the supervisor's tests: virtual time, both journals, a recorder of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recovery.supervisor import Supervisor
from recovery.testing import FakeClock
from tests.supervising import AnyJournal, Recorder, journal_of


@pytest.fixture
def clock() -> FakeClock:
    """Return virtual time."""
    return FakeClock()


@pytest.fixture(params=["memory", "file"])
async def journal(request: pytest.FixtureRequest, state_path: Path, clock: FakeClock) -> AsyncIterator[AnyJournal]:
    """Run the test over both journals."""
    async with journal_of(request.param, state_path, clock) as journal:
        yield journal


@pytest.fixture
def events() -> Recorder:
    """Return a recorder of events."""
    return Recorder()


@pytest.fixture
def supervisor(journal: AnyJournal, clock: FakeClock, events: Recorder) -> Supervisor:
    """Return a supervisor over the journal, without jitter."""
    return Supervisor(journal, clock=clock, draw=lambda: 0.5, on_event=events)
