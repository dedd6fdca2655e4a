"""Ctrl-C and SIGTERM: a last checkpoint within a second, how to go on, then death by the signal; nothing is fetched
twice.
"""

from __future__ import annotations

import hashlib
import signal
import time
from pathlib import Path

import pytest

from tests.command import finish, run, start
from tests.origin import Behaviour, Content, Origin
from tests.test_kill_campaign import claimed

MIB = 1 << 20
CONTENT = Content(24 * MIB, seed=5)
SOCKETS = 3 * MIB
"""What the kernels may hold between origin and process over all connections when the process stops reading."""

pytestmark = pytest.mark.blocking


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_polite_stop_keeps_every_byte(number: signal.Signals, tmp_path: Path) -> None:
    """The process dies of the signal within a second and says how to continue; the next run receives only the rest."""
    with Origin() as origin:
        origin.put("/file.bin", CONTENT, Behaviour(rate=2 * MIB))
        command = ["get", origin.url("/file.bin"), "-o", "out.bin", "--state", "state.db", "--json"]
        process = start(*command, cwd=tmp_path)
        origin.wait_for(lambda: origin.body_bytes_sent("/file.bin") > 6 * MIB)
        asked = time.monotonic()
        process.send_signal(number)
        ended = finish(process)
        took = time.monotonic() - asked
        assert -number == ended.code, ended
        assert took < 1.5  # 1 s promised; the rest is the interpreter's exit on a busy machine
        assert "resumable resume" in ended.err
        assert ended.last["event"] == "paused"
        received = ended.last["bytes_received"]
        assert received == claimed(tmp_path / "state.db")
        assert origin.body_bytes_sent("/file.bin") - received <= SOCKETS
        origin.behave("/file.bin", Behaviour())
        download_id = ended.last["download_id"]
        again = run("resume", download_id, "--state", "state.db", "--json", cwd=tmp_path)
        assert again.code == 0, again
        assert again.last["bytes_received"] + received == CONTENT.size
        assert CONTENT.sha256() == hashlib.sha256((tmp_path / "out.bin").read_bytes()).hexdigest()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Impatience is respected: two signals, and the process is gone."""
    with Origin() as origin:
        origin.put("/file.bin", CONTENT, Behaviour(rate=1 * MIB))
        process = start("get", origin.url("/file.bin"), "-o", "out.bin", "--state", "state.db", cwd=tmp_path)
        origin.wait_for(lambda: origin.body_bytes_sent("/file.bin") > 2 * MIB)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert finish(process, 5).code in {-signal.SIGINT, 130}
