"""Following a state file: what changes is told once, whoever changes it, and silence is noticed."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time

import pytest

from recovery.owner import new_owner
from recovery.rowcrc import sealed
from recovery.states import State
from resumable import DownloadView
from resumable.tail import News, Tail
from tests.managing import MIB, PATIENT, SLOW, Damage, Rig, content, in_state, only, received, until
from tests.origin import Behaviour, Origin


async def look(tail: Tail, seconds: float = 1.0) -> list[DownloadView]:
    """Look ten times a second for a while; return everything that was told."""
    told: list[DownloadView] = []
    for _ in range(int(seconds * 10)):
        told += (await tail.news()).changed
        await asyncio.sleep(0.1)
    return told


async def test_the_first_look_is_at_everything_and_the_next_at_what_is_new(rig: Rig, origin: Origin) -> None:
    """While nothing happens there is no news."""
    origin.put("/f", content(1))
    async with rig.manager(on_event=None) as other:
        assert await other.tail().news() == News()
        async with rig.manager() as manager:
            await manager.start(origin.url("/f"), rig.file("a"))
        tail = other.tail()
        (first,) = (await tail.news()).changed
        assert (first.filename, first.state) == ("a", State.COMPLETE)
        assert await tail.news() == News()
        async with rig.manager() as manager:
            await manager.start(origin.url("/f"), rig.file("b"))
        (second,) = (await tail.news()).changed
        assert second.filename == "b"
        assert [view.filename for view in (await other.tail().news()).changed] == ["b", "a"], "newest first"


async def test_a_running_download_is_followed_from_another_process(rig: Rig, origin: Origin) -> None:
    """Some four times a second, rev ever growing, every state on the way."""
    origin.put("/f", content(), SLOW, script=[Behaviour(status=500)])
    async with rig.manager(policy=PATIENT) as owner, rig.manager(on_event=None) as other:
        tail = other.tail()
        handle = owner.start(origin.url("/f"), rig.file())
        await in_state(handle, State.WAITING)
        told = await look(tail, 0.4)
        waiting = told[-1]
        assert waiting == handle.view
        assert (waiting.error.code if waiting.error else "", waiting.retry_at is not None) == ("server-error", True)
        handle.retry_now()
        moving = await look(tail, 1.5)
        assert 3 <= len(moving) <= 14
        assert sorted(view.bytes_done for view in moving) == [view.bytes_done for view in moving]
        await handle.pause()
        (paused,) = (await tail.news()).changed
        assert paused == handle.view
        told += moving
        revs = [view.rev for view in told]
        assert revs == sorted(set(revs))


async def test_our_own_downloads_are_told_as_we_have_them(rig: Rig, origin: Origin) -> None:
    """Newer than what is written already."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        tail = manager.tail()
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB)
        view = only(list((await tail.news()).changed))
        assert view == handle.view


async def test_what_is_forgotten_is_told(rig: Rig, origin: Origin) -> None:
    """Pruned by anybody; what is begun in the same moment is told, too."""
    origin.put("/f", content(1))
    async with rig.manager() as manager, rig.manager(on_event=None) as other:
        await manager.start(origin.url("/f"), rig.file("old"))
        tail = other.tail()
        (old,) = (await tail.news()).changed
        await manager.prune(older_than_s=-1)
        assert await tail.news() == News((), (old.download_id,))
        await manager.start(origin.url("/f"), rig.file("a"))
        await tail.news()
        await manager.prune(older_than_s=-1)
        await manager.start(origin.url("/f"), rig.file("b"))
        await asyncio.sleep(0.3)
        news = await tail.news()
        assert ([view.filename for view in news.changed], len(news.forgotten)) == (["b"], 1)


async def test_a_state_file_that_is_begun_anew_is_read_anew(rig: Rig, origin: Origin) -> None:
    """Damaged and set aside: what was in it is forgotten, what comes is told."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file("a"))
        tail = manager.tail()
        (before,) = (await tail.news()).changed
        await manager._database.write(Damage())
        assert await tail.news() == News((), (before.download_id,), anew=True)
        await manager.start(origin.url("/f"), rig.file("b"))
        await asyncio.sleep(0.3)
        assert [view.filename for view in (await tail.news()).changed] == ["b"]


@pytest.mark.blocking
async def test_the_death_of_an_owner_is_told_at_once(rig: Rig, origin: Origin) -> None:
    """Nobody writes it anywhere; the process is looked for. What can be done about it is on the view."""
    origin.put("/f", content(), SLOW)
    process = rig.get(origin.url("/f"))
    async with rig.manager() as manager:
        tail = manager.tail()
        await origin.until(lambda: origin.body_bytes_sent("/f") > MIB)
        before = (await look(tail, 0.5))[-1]
        assert (before.state, before.stale) == (State.RUNNING, False)
        process.kill()
        process.communicate()
        after = only(await look(tail, 0.5))
        assert (after.state, after.stale, after.speed, after.eta) == (State.RUNNING, True, 0.0, None)
        assert [action.value for action in after.actions] == ["resume", "cancel"]
        assert after.rev > before.rev
        assert (await manager.cancel(after.download_id)).state is State.CANCELLED
        assert only(list((await tail.news()).changed)).state is State.CANCELLED


@pytest.mark.blocking
async def test_silence_is_told_after_ten_seconds(rig: Rig, origin: Origin) -> None:
    """A process that is stopped is not dead; it is said that it does not answer, and taken back when it does."""
    origin.put("/f", content(20), Behaviour(rate=MIB // 2))
    process = rig.get(origin.url("/f"))
    try:
        async with rig.manager() as manager:
            tail = manager.tail()
            await origin.until(lambda: origin.body_bytes_sent("/f") > MIB)
            await look(tail, 0.5)
            process.send_signal(19)  # SIGSTOP
            stopped = time.monotonic()
            silent = await told_stale(tail)
            assert 8 < time.monotonic() - stopped < 13
            assert silent.state is State.RUNNING
            process.send_signal(18)  # SIGCONT
            back = (await look(tail, 1.5))[-1]
            assert (back.stale, back.rev > silent.rev) == (False, True)
    finally:
        process.kill()
        process.communicate()


async def told_stale(tail: Tail) -> DownloadView:
    """Look until a stale view is told."""
    async with asyncio.timeout(20):
        while True:
            for view in (await tail.news()).changed:
                if view.stale:
                    return view
            await asyncio.sleep(0.1)


async def test_what_a_former_owner_still_writes_is_dropped(rig: Rig, origin: Origin) -> None:
    """A view is its owner's to write, and only while it is the owner."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as owner, rig.manager(on_event=None) as other:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, MIB)
        # As if another process had taken over.
        conn = sqlite3.connect(rig.state)
        names = [column[1] for column in conn.execute("PRAGMA table_info(operations)")]
        cells = dict(zip(names, conn.execute("SELECT * FROM operations").fetchone(), strict=True))
        cells |= {"owner": new_owner(), "generation": cells["generation"] + 1, "lease_until": time.time() + 60}
        conn.execute(
            f"INSERT OR REPLACE INTO operations VALUES ({', '.join('?' * len(names))})",
            sealed(tuple(value for name, value in cells.items() if name != "crc")),
        )
        conn.commit()
        conn.close()
        seen = only(await other.downloads())
        await until(lambda: "another process" in " ".join(event.message for event in rig.events), "it steps back")
        assert only(await other.downloads()).bytes_done == seen.bytes_done


async def test_a_look_costs_little_while_nothing_changes(rig: Rig, origin: Origin) -> None:
    """However many downloads there are: no row is read again. (Counted, not timed.)"""
    origin.put("/f", content(1))
    async with rig.manager(max_concurrent=8) as manager:
        await asyncio.gather(*(manager.start(origin.url("/f"), rig.file(str(n))) for n in range(20)))
        await asyncio.sleep(0.4)
        tail = manager.tail()
        assert len((await tail.news()).changed) == 20
        steps: list[str] = []
        await manager._database.read(lambda conn: conn.set_trace_callback(steps.append))
        assert await tail.news() == News()
        await manager._database.read(lambda conn: conn.set_trace_callback(None))
    assert len(steps) <= 12
    assert not [step for step in steps if "FROM download_views WHERE" in step]


def test_the_command_used_here_is_the_real_one(rig: Rig, origin: Origin) -> None:
    """``rig.get`` starts ``resumable get``."""
    origin.put("/f", content(1))
    process = rig.get(origin.url("/f"))
    assert isinstance(process, subprocess.Popen)
    process.communicate()
    assert process.returncode == 0
