"""A canary in every place where a secret may stand: no log, event, row, exception or title ever has it."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from recovery.states import State
from resumable import DownloadError, EventName
from tests.managing import MIB, Rig, content, in_state, only, received
from tests.origin import Behaviour, Origin

CANARY = "c4n4ry"


async def test_a_secret_is_nowhere_but_where_it_is_kept(
    rig: Rig, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a redirect to a signed link, a broken connection, a busy server, a wait, and a refusal in the end."""
    caplog.set_level(logging.DEBUG)
    origin.put(
        "/f", content(), script=[Behaviour(location=f"/signed?token={CANARY}")] * 2, behaviour=Behaviour(status=403)
    )
    origin.put(
        "/signed",
        content(),
        script=[Behaviour(cut_at=MIB), Behaviour(status=503, body=CANARY.encode())],
        behaviour=Behaviour(status=403, body=CANARY.encode()),
    )
    url = origin.url(f"/f?sig={CANARY}&key={CANARY}", login=f"user:{CANARY}")
    headers = {"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Cookie": f"session={CANARY}"}
    told: list[str] = []
    async with rig.manager(on_health=lambda event: told.append(repr(event))) as manager:
        tail = manager.tail()
        handle = manager.start(url, rig.file(), headers=headers, mirrors=[origin.url(f"/gone?token={CANARY}")])
        with pytest.raises(DownloadError) as caught:
            await handle
        told += [repr(handle), repr(handle.view), repr(manager), repr(await tail.news())]
        told += [repr(view) for view in await manager.downloads()]
        told += [repr(attempt) for attempt in await manager.history(handle.download_id)]
        told += traceback.format_exception(caught.value)
        told += [repr(event) + repr(event.to_wire()) for event in rig.events]
        kept = {path: path.read_bytes() for path in rig.folder.rglob("*") if path.is_file()}
    told += [record.getMessage() + str(record.__dict__) for record in caplog.records if is_ours(record)]
    assert any(CANARY in value for one in origin.requests for value in one.headers.values()), "it was sent"
    assert [text[:500] for text in told if CANARY in text] == []
    assert [path.parent.name for path, data in kept.items() if CANARY.encode() in data] == ["state.db.links"]


def is_ours(record: logging.LogRecord) -> bool:
    """Whether a log record is of this project; what asyncio's debug mode prints is not."""
    return record.name.partition(".")[0] in {"resumable", "recovery", "resumable_ui"}


async def test_what_has_ended_for_good_leaves_no_secret(rig: Rig, origin: Origin) -> None:
    """Cancelled while it ran, cancelled while it was paused, complete, found, and pruned after a failure."""
    secret: dict[str, Any] = {"headers": {"Authorization": f"Bearer {CANARY}"}}
    origin.put("/slow", content(), Behaviour(rate=MIB))
    origin.put("/gone", content(), Behaviour(status=404))
    origin.put("/f", content(1))
    kept = rig.folder / "state.db.links"
    async with rig.manager() as manager:
        running, paused = (manager.start(origin.url(f"/slow?sig={CANARY}"), rig.file(n), **secret) for n in "ab")
        for handle in (running, paused):
            await received(handle, 1)
        assert len(list(kept.iterdir())) == 2
        await running.cancel(delete_part=True)
        await paused.pause()
        await paused.cancel()
        for _ in range(2):
            await manager.start(origin.url(f"/f?sig={CANARY}"), rig.file("c"), **secret)
        with pytest.raises(DownloadError):
            await manager.start(origin.url(f"/gone?sig={CANARY}"), rig.file("d"), **secret)
        assert len(list(kept.iterdir())) == 1, "what failed can be tried again"
        assert await manager.prune(older_than_s=-1) == 4
        assert list(kept.iterdir()) == []


async def test_a_resume_is_not_taken_for_speed(rig: Rig, origin: Origin) -> None:
    """What was there before is no transfer: speed, time left and received bytes tell of this run only."""
    origin.put("/f", content(), Behaviour(rate=2 * MIB))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        while handle.view.bytes_done < 2 * MIB:
            await rig.until(EventName.PROGRESS, len(rig.told(EventName.PROGRESS)) + 1)
    kept = handle.view.bytes_done
    rig.events.clear()
    async with rig.manager() as manager:
        (handle,) = await manager.recover()
        await handle
    views = [event.view for event in rig.events]
    assert [view.bytes_done for view in views if view.bytes_done < kept] == [], "never below what was there"
    running = [view for view in views if view.state is State.RUNNING]
    assert max(view.speed for view in running) < 3 * 2 * MIB
    assert max(view.bytes_received for view in views) == content().size - kept
    assert {view.bytes_total for view in views} == {content().size}


async def test_the_state_file_is_its_users_alone(rig: Rig, origin: Origin) -> None:
    """Modes, also of the lock and of the write-ahead log."""
    origin.put("/f", content(1))
    state = rig.folder / "new" / "state.db"
    async with rig.manager(state=state) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await in_state(handle, State.COMPLETE)
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in state.parent.iterdir()}
        assert set(modes.values()) == {"0o600"}, modes
        assert oct(state.parent.stat().st_mode & 0o777) == "0o700"
        assert only(await manager.downloads()).state is State.COMPLETE
    assert Path(rig.file()).stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
