"""What a manager that lives for weeks remembers of downloads that have ended."""

from __future__ import annotations

from pathlib import Path

from resumable import DownloadManager
from tests.origin import Origin


async def test_handles_of_ended_downloads_do_not_pile_up(tmp_path: Path) -> None:
    """A worker that has downloaded many files holds none of them; all are still known."""
    with Origin() as origin:
        origin.put("/file", b"x")
        async with DownloadManager(state=tmp_path / "state.db") as manager:
            names = []
            for number in range(30):
                handle = manager.start(origin.url("/file"), tmp_path / f"{number}.bin")
                await handle
                names.append(handle.download_id)
            assert [name for name in names if manager.handle(name) is not None] == []
            assert not manager._roster._handles
            assert len(await manager.downloads()) == 30
