"""kill -9 at random instants: never a wrong file, and little is fetched twice.

The short form runs always; ``RESUMABLE_LONG=1`` runs 200 kills over 50 downloads and prints the figures.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import statistics
import time
from pathlib import Path

import pytest

from tests.command import finish, start
from tests.origin import Behaviour, Content, Origin

MIB = 1 << 20
LONG = os.environ.get("RESUMABLE_LONG") == "1"
DOWNLOADS, KILLS_EACH = (50, 4) if LONG else (4, 3)
CONNECTIONS = 4
RATE = 1_500_000
"""Bytes per second of each connection."""

pytestmark = [pytest.mark.blocking, pytest.mark.campaign, pytest.mark.timeout(1800 if LONG else 180)]


def claimed(state: Path) -> int:
    """Return the bytes that the rows vouch for."""
    with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as database:
        (total,) = database.execute("SELECT COALESCE(SUM(length), 0) FROM download_chunks").fetchone()
    database.close()
    return int(total)


def test_no_kill_leaves_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four connections, throttled, SIGKILL at a random instant again and again, then one run to the end."""
    draw = random.Random(20_261_123)
    twice: list[int] = []
    wrong = 0
    with Origin() as origin:
        for number in range(DOWNLOADS):
            folder = tmp_path / str(number)
            folder.mkdir()
            content = Content(24 * MIB + draw.randrange(MIB), seed=number + 1)
            path = f"/{number}.bin"
            origin.put(path, content, Behaviour(rate=RATE))
            command = [
                "get",
                origin.url(path),
                "-o",
                "out.bin",
                "--state",
                "state.db",
                "--json",
                "-c",
                str(CONNECTIONS),
            ]
            state = folder / "state.db"
            for _ in range(KILLS_EACH):
                sent_before = origin.body_bytes_sent(path)
                claimed_before = claimed(state) if state.exists() else 0
                process = start(*command, cwd=folder)
                origin.wait_for(lambda path=path, sent=sent_before: origin.body_bytes_sent(path) > sent + 200_000)
                time.sleep(draw.uniform(0.0, 0.9))
                process.send_signal(signal.SIGKILL)
                ended = finish(process)
                assert ended.code == -signal.SIGKILL, ended
                time.sleep(0.05)
                sent = origin.body_bytes_sent(path) - sent_before
                twice.append(sent - (claimed(state) - claimed_before))
            origin.behave(path, Behaviour())
            ended = finish(start(*command, cwd=folder))
            assert ended.code == 0, ended
            if hashlib.sha256((folder / "out.bin").read_bytes()).hexdigest() != content.sha256():
                wrong += 1
            (folder / "out.bin").unlink()
    median_ms = statistics.median(twice) / (CONNECTIONS * RATE) * 1000
    with capsys.disabled():
        print(
            f"\n{len(twice)} kills over {DOWNLOADS} downloads: {wrong} wrong files; fetched twice per kill: median {median_ms:.0f} ms"
            f" of traffic, worst {max(twice) / (CONNECTIONS * RATE) * 1000:.0f} ms"
        )
    assert wrong == 0
    # Counts what the origin's kernel took, so also what was in flight when the process died.
    assert median_ms <= 400
