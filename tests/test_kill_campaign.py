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
from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass
class Campaign:
    """Downloads that are killed again and again, and what that cost."""

    origin: Origin
    folder: Path
    draw: random.Random
    twice: list[int] = field(default_factory=list)
    """Per kill, the bytes that the origin's kernel took and no row vouches for: those in flight count too."""
    wrong: int = 0

    def download(self, number: int) -> None:
        """Kill one download several times, then let it end."""
        folder, path = self.folder / str(number), f"/{number}.bin"
        folder.mkdir()
        content = Content(24 * MIB + self.draw.randrange(MIB), seed=number + 1)
        self.origin.put(path, content, Behaviour(rate=RATE))
        url = self.origin.url(path)
        command = ["get", url, "-o", "out.bin", "--state", "state.db", "--json", "-c", str(CONNECTIONS)]
        for _ in range(KILLS_EACH):
            self.kill(path, command, folder)
        self.origin.behave(path, Behaviour())
        ended = finish(start(*command, cwd=folder))
        assert ended.code == 0, ended
        self.wrong += hashlib.sha256((folder / "out.bin").read_bytes()).hexdigest() != content.sha256()
        (folder / "out.bin").unlink()

    def kill(self, path: str, command: list[str], folder: Path) -> None:
        """Start it, and kill it up to 0.9 s after its first bytes have come."""
        state = folder / "state.db"
        sent_before, claimed_before = self.origin.body_bytes_sent(path), claimed(state) if state.exists() else 0
        process = start(*command, cwd=folder)
        self.origin.wait_for(lambda: self.origin.body_bytes_sent(path) > sent_before + 200_000, 60)
        time.sleep(self.draw.uniform(0.0, 0.9))
        process.send_signal(signal.SIGKILL)
        ended = finish(process)
        assert ended.code == -signal.SIGKILL, ended
        time.sleep(0.05)
        sent = self.origin.body_bytes_sent(path) - sent_before
        self.twice.append(sent - (claimed(state) - claimed_before))

    def twice_ms(self, figure: Callable[[list[int]], float]) -> float:
        """Return a figure of what was fetched twice, in milliseconds of all connections' traffic."""
        return figure(self.twice) / (CONNECTIONS * RATE) * 1000


def test_no_kill_leaves_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four connections, throttled, SIGKILL at a random instant again and again, then one run to the end."""
    with Origin() as origin:
        campaign = Campaign(origin, tmp_path, random.Random(20_261_123))
        for number in range(DOWNLOADS):
            campaign.download(number)
    median_ms = campaign.twice_ms(statistics.median)
    with capsys.disabled():
        print(
            f"\n{len(campaign.twice)} kills over {DOWNLOADS} downloads: {campaign.wrong} wrong files; fetched twice per"
            f" kill: median {median_ms:.0f} ms of traffic, worst {campaign.twice_ms(max):.0f} ms"
        )
    assert campaign.wrong == 0
    assert median_ms <= 400
