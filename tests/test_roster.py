"""What a manager that lives for weeks remembers of downloads that have ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from resumable import DownloadManager, roster
from tests.origin import Origin


async def test_handles_of_ended_downloads_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has downloaded many files holds the newest of them only; all are still known."""
    monkeypatch.setattr(roster, "_ENDED_KEPT", 10)
    with Origin() as origin:
        origin.put("/file", b"x")
        async with DownloadManager(state=tmp_path / "state.db") as manager:
            names = []
            for number in range(30):
                handle = manager.start(origin.url("/file"), tmp_path / f"{number}.bin")
                await handle
                names.append(handle.download_id)
            held = [name for name in names if manager.handle(name) is not None]
            assert len(held) <= 20
            assert held == names[-len(held) :]
            assert len(await manager.downloads()) == 30
