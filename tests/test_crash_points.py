"""``kill -9`` at every store write of an operation: it goes on at once, never twice at once, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash_points import LEASE_S, Where

LONG = os.environ.get("RESUMABLE_LONG") == "1"
PLACES = list(Where) if LONG else [Where.OPEN, Where.AFTER]
"""Dying before a write leaves the file as dying after the one before it does: for the long form."""
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_killed_at_every_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At each write of claim, steps, failure, gate, wait, renewal and end the process dies, and two are started in its
    place: one of them goes on, without waiting for the dead one's lease and without doing a remembered step again.
    """
    command = [sys.executable, "-m", "tests.crash_points", str(tmp_path), *(place.name for place in PLACES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["wrong"] == []
    assert figures["points"] >= 12 * len(PLACES)
    assert figures["slowest_s"] < LEASE_S / 10
    if LONG:
        with capsys.disabled():
            print(f"\n{figures['points']} crash points; slowest to go on: {figures['slowest_s'] * 1000:.0f} ms")
