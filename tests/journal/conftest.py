"""A journal in a file of its own for each test, with a clock that only moves when told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
async def database(state_path: Path) -> AsyncIterator[Database]:
    """Open the state file with the journal's tables."""
    async with await Database.open(state_path, [JOURNAL]) as opened:
        yield opened


@pytest.fixture
async def journal(database: Database, clock: FakeClock) -> Journal:
    """Return the journal in that file."""
    return Journal(database, clock=clock)
