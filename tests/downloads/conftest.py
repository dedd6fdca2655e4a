"""A real manager over a real origin and a real state file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.managing import Rig
from tests.origin import Origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)
