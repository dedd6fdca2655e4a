"""What a manager that lives for weeks remembers of downloads that have ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recovery.journal import Journal
from recovery.records import Operation, OperationSpec
from resumable import DownloadManager
from resumable.checkpoints import SqliteCheckpoints
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


@pytest.mark.parametrize(("fails", "looks"), [(False, 0), (True, 1)])
async def test_what_was_read_for_a_lease_that_came_to_nothing_is_not_believed(
    fails: bool, looks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim fails, another process runs the download for a moment, and then it is claimed: it is looked at anew."""
    claim, look, failed = Journal.begin_and_claim, SqliteCheckpoints.look, [not fails]
    looked: list[str] = []

    async def claim_late(
        self: Journal,
        spec: OperationSpec,
        *,
        also: Callable[[sqlite3.Connection, int], None] | None = None,
        **more: Any,
    ) -> tuple[Operation, int | None]:
        if failed[0]:
            return await claim(self, spec, also=also, **more)
        failed[0] = True
        assert also is not None
        await self._database.read(lambda conn: also(conn, 1))
        await claim(self, spec, **{**more, "owner": "another", "ttl_s": 0.0})
        raise sqlite3.OperationalError("disk I/O error")

    async def noted(self: SqliteCheckpoints, download_id: str) -> Any:
        looked.append(download_id)
        return await look(self, download_id)

    monkeypatch.setattr(Journal, "begin_and_claim", claim_late)
    monkeypatch.setattr(SqliteCheckpoints, "look", noted)
    with Origin() as origin:
        origin.put("/file", b"x")
        async with DownloadManager(state=tmp_path / "state.db") as manager:
            result = await manager.start(origin.url("/file"), tmp_path / "f.bin")
    assert result.path.read_bytes() == b"x"
    assert len(looked) == looks
