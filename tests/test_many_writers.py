"""Eight processes in one state file: nothing acknowledged is lost, nothing is had twice, and the file stays sound."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.notes import integrity
from tests.writers import SHARED, let_go, started

PROCESSES = 8
ROUNDS = 200 if os.environ.get("RESUMABLE_LONG") == "1" else 8


def keys(path: Path, kind: str) -> Counter[str]:
    """Count the rows of each key."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return Counter(row[0] for row in conn.execute("SELECT key FROM operations WHERE kind = ?", (kind,)))


@pytest.mark.parametrize("killed", [0, 2], ids=["all live", "two are killed"])
def test_many_processes_write_at_once(killed: int, state_path: Path) -> None:
    """Commits, checkpoints and claims of all of them mixed; ``kill -9`` of some in the middle changes nothing for the
    others.
    """
    processes = [started(state_path, str(number), ROUNDS) for number in range(PROCESSES)]
    for process in processes:
        let_go(process)
    lines: list[str] = []
    for process in processes[:killed]:
        assert process.stdout is not None
        lines += [process.stdout.readline() for _ in range(10)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()  # communicate() does not see what these reads have buffered
    for process in processes:
        out, _ = process.communicate(timeout=100)
        lines += out.splitlines(keepends=True)
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * killed + [0] * (PROCESSES - killed)
    said = [line.rstrip("\n") for line in lines if line.endswith("\n")]

    wrote = [line.removeprefix("wrote ") for line in said if line.startswith("wrote ")]
    assert len(wrote) >= (PROCESSES - killed) * ROUNDS * 3
    found = keys(state_path, "own")
    assert set(wrote) <= set(found), "acknowledged, so it is there"
    assert set(found.values()) == {1}
    assert [line for line in said if line.startswith("health")] == ["health ok "] * (PROCESSES - killed)

    claims = Counter(line.split()[1] for line in said if line.startswith("claimed"))
    assert set(claims.values()) == {1}, "one owner each"
    assert len(claims) >= SHARED - killed
    assert keys(state_path, "shared") == Counter(str(number) for number in range(SHARED))
    assert integrity(state_path) == "ok"
