"""Several processes, or several managers, over one state file: joining, steering, following, taking over."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.rows import operations, put_operation
from recovery.states import State
from resumable import (
    DestinationError,
    DigestMismatch,
    DownloadCancelled,
    DownloadElsewhere,
    DownloadError,
    DownloadPaused,
    EventName,
    FailedElsewhere,
    NeedsLink,
    PartFileBusy,
)
from resumable.catalog import Catalog
from resumable_ui.exitcodes import UNFINISHED, exit_code
from tests.command import environment, finish, start
from tests.managing import MIB, PATIENT, SLOW, Rig, content, in_state, only, received, row, until, whole
from tests.origin import Behaviour, Origin

SCRIPT = """
import asyncio, json, sys
from resumable import DownloadManager
async def main(state, url, dest):
    async with DownloadManager(state=state) as manager:
        result = await manager.start(url, dest)
        print(json.dumps([str(result.path), result.size, result.bytes_received, result.verified_by]))
asyncio.run(main(*sys.argv[1:]))
"""


def another(rig: Rig, url: str, name: str = "f.bin") -> subprocess.Popen[str]:
    """Start a Python process that downloads with a manager of its own."""
    words = [sys.executable, "-c", SCRIPT, str(rig.state), url, str(rig.file(name))]
    return subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def ended(process: subprocess.Popen[str]) -> Any:
    """Wait for it; return what it printed, as JSON."""
    done = await asyncio.to_thread(finish, process)
    assert done.code == 0, done
    return json.loads(done.out)


# -- joining -----------------------------------------------------------------------------------------------------------


@pytest.mark.blocking
async def test_two_processes_one_destination_one_transfer(rig: Rig, origin: Origin) -> None:
    """The second joins: same result, and the origin's log shows that every byte went over the wire once."""
    origin.put("/f", content(), Behaviour(rate=MIB // 4))
    first = another(rig, origin.url("/f"))
    await origin.until(lambda: origin.body_bytes_sent("/f") > MIB // 8)
    second = another(rig, origin.url("/f"))
    path, size, received_by_first, proof = await ended(first)
    assert [path, size, 0, proof] == await ended(second)
    assert (path, size, received_by_first) == (str(rig.file()), content().size, content().size)
    # What a connection that gives its work to a faster one had in its socket buffer is all that may be sent twice.
    assert origin.body_bytes_sent("/f") <= content().size + MIB // 4
    assert whole(content()) == rig.file().read_bytes()


async def test_a_joined_download_shows_the_numbers_of_its_owner(rig: Rig, origin: Origin) -> None:
    """Speed, bytes and attempt are the other's; the first event says whose download it is."""
    origin.put("/f", content(), SLOW)
    async with rig.manager(on_event=None) as owner, rig.manager() as joiner:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, MIB)
        joined = joiner.start(origin.url("/f"), rig.file())
        assert "another process" in (await rig.until(EventName.WARNING)).message
        await until(lambda: joined.view.speed > 0, "a speed")
        assert joined.view.owner == handle.view.owner
        assert joined.view.bytes_received > MIB // 2
        origin.behave("/f", Behaviour())
        results = await asyncio.gather(handle, joined)
        views = await owner.downloads(), await joiner.downloads()
    assert (results[1].bytes_received, results[1].path) == (0, results[0].path)
    assert views[0] == views[1]
    revs = [event.view.rev for event in rig.events]
    assert revs == sorted(set(revs))
    assert origin.body_bytes_sent("/f") <= content().size + MIB // 4


@pytest.mark.parametrize(
    ("command", "error", "state"),
    [("pause", DownloadPaused, State.PAUSED), ("cancel", DownloadCancelled, State.CANCELLED)],
)
async def test_stopping_a_joined_download_stops_it_where_it_runs(
    command: str, error: type[DownloadError], state: State, rig: Rig, origin: Origin
) -> None:
    """There is one download, whichever window the button is in; both end the same."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as owner, rig.manager() as joiner:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        joined = joiner.start(origin.url("/f"), rig.file())
        await rig.until(EventName.WARNING)
        waiting = asyncio.ensure_future(joined)
        await getattr(joined, command)()
        assert (joined.view.state, handle.view.state) == (state, state)
        with pytest.raises(error):
            await handle
        if command == "cancel":
            with pytest.raises(error):
                await waiting
        else:
            assert not waiting.done()
            origin.behave("/f", Behaviour())
            await joined.resume()
            assert (await waiting).size == content().size


async def test_a_joined_download_ends_as_its_owner_does(rig: Rig, origin: Origin) -> None:
    """Paused or failed there is paused or failed here, with the reason; nobody begins it behind a person's back."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as owner, rig.manager() as joiner:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        joined = joiner.start(origin.url("/f"), rig.file())
        await rig.until(EventName.WARNING)
        await handle.pause()
        with pytest.raises(DownloadPaused):
            await joined
        assert joined.view.state is State.PAUSED
        await handle.resume()
        await received(handle, MIB)
        again = joiner.start(origin.url("/f"), rig.file())
        await rig.until(EventName.WARNING, 2)
        origin.behave("/f", Behaviour(status=404))
        origin.drop()
        with pytest.raises(FailedElsewhere) as caught:
            await again
        assert caught.value.verdict is not None
        assert (caught.value.verdict.code, again.view.state) == ("not-found", State.FAILED)
        assert caught.value.bytes_kept == again.view.bytes_done > 0


async def test_when_the_owner_stops_for_another_reason_the_joiner_goes_on(rig: Rig, origin: Origin) -> None:
    """Its process ends, as with Ctrl-C: nothing is fetched again."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as joiner:
        async with rig.manager(on_event=None) as owner:
            handle = owner.start(origin.url("/f"), rig.file())
            await received(handle, MIB)
            joined = joiner.start(origin.url("/f"), rig.file())
            await rig.until(EventName.WARNING)
        kept = handle.view.bytes_done
        origin.behave("/f", Behaviour())
        result = await joined
    assert (result.bytes_resumed, result.bytes_received) == (kept, content().size - kept)
    assert whole(content()) == rig.file().read_bytes()


@pytest.mark.blocking
async def test_when_the_owner_is_killed_the_joiner_takes_over_at_once(rig: Rig, origin: Origin) -> None:
    """It need not wait for the lease of a process that is known to be dead."""
    origin.put("/f", content(), SLOW)
    process = another(rig, origin.url("/f"))
    await origin.until(lambda: origin.body_bytes_sent("/f") > 2 * MIB)
    async with rig.manager() as joiner:
        joined = joiner.start(origin.url("/f"), rig.file())
        await rig.until(EventName.WARNING)
        process.kill()
        process.communicate()
        killed = time.monotonic()
        origin.behave("/f", Behaviour())
        result = await joined
        assert time.monotonic() - killed < 8
    assert result.bytes_resumed > MIB
    assert whole(content()) == rig.file().read_bytes()


@pytest.mark.parametrize("where", ["same process", "another process"])
async def test_two_links_into_one_file_are_refused(where: str, rig: Rig, origin: Origin) -> None:
    """Whoever asks for B must not be handed A; the same link signed anew is the same link."""
    origin.put("/a", content(), SLOW)
    origin.put("/b", content(seed=2))
    async with rig.manager() as owner, rig.manager(on_event=None) as other:
        handle = owner.start(origin.url("/a?id=1&X-Amz-Signature=1"), rig.file())
        await received(handle, 1)
        manager = owner if where == "same process" else other
        for url in (origin.url("/b"), origin.url("/a?id=2")):
            with pytest.raises(DestinationError, match=f"another link, .*resumable cancel {handle.download_id}"):
                await manager.start(url, rig.file())
        joined = manager.start(origin.url("/a?id=1&X-Amz-Signature=2"), rig.file())
        origin.behave("/a", Behaviour())
        assert (await joined).path == (await handle).path
    assert whole(content()) == rig.file().read_bytes()


@pytest.mark.parametrize("where", ["same process", "another process"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
async def test_whoever_joins_gets_what_the_digest_promises(where: str, right: bool, rig: Rig, origin: Origin) -> None:
    """Although the one that downloads it was not given any."""
    origin.put("/f", content(), SLOW)
    digest = content().sha256() if right else "0" * 64
    async with rig.manager() as owner, rig.manager() as other:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, 1)
        joined = (owner if where == "same process" else other).start(origin.url("/f"), rig.file(), sha256=digest)
        if where == "another process":
            await rig.until(EventName.WARNING)
        origin.behave("/f", Behaviour())
        if right:
            assert ((await joined).sha256, (await joined).verified_by) == (digest, "digest")
        else:
            with pytest.raises(DigestMismatch):
                await joined


async def test_two_digests_for_one_file_are_refused(rig: Rig, origin: Origin) -> None:
    """One of the two must be wrong; nobody guesses which."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file(), sha256="1" * 64)
        with pytest.raises(DestinationError, match="with another digest"):
            manager.start(origin.url("/f"), rig.file(), sha256="2" * 64)
        await handle.cancel()


async def test_another_link_for_what_was_left_is_never_mixed(rig: Rig, origin: Origin) -> None:
    """Same size, same ETag, same date, other content: servers make tags of size and time, so that happens."""
    same = Behaviour(etag='"1000-5f3"', headers={"last-modified": "Tue, 01 Jul 2025 00:00:00 GMT"})
    origin.put("/a", content(seed=1), dataclasses.replace(same, rate=MIB))
    origin.put("/b", content(seed=2), same)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/a"), rig.file())
        await received(handle, MIB)
    async with rig.manager() as manager:
        await manager.start(origin.url("/b"), rig.file())
    assert whole(content(seed=2)) == rig.file().read_bytes()
    assert rig.told(EventName.RESTARTED)[0].view.restarted


async def test_a_worker_may_refuse_to_follow(rig: Rig, origin: Origin) -> None:
    """``follow=False``: an error of its own, at once."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as owner, rig.manager(follow=False) as worker:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, 1)
        with pytest.raises(DownloadElsewhere) as caught:
            await worker.start(origin.url("/f"), rig.file())
        assert caught.value.download_id == handle.download_id


async def test_what_another_has_finished_meanwhile_is_not_done_again(rig: Rig, origin: Origin) -> None:
    """One waits for a slot while the other downloads the very file: it gets the result."""
    origin.put("/f", content(1))
    origin.put("/slow", content(), SLOW)
    async with rig.manager() as one, rig.manager(max_concurrent=1) as two:
        busy = two.start(origin.url("/slow"), rig.file("slow"))
        await received(busy, 1)
        queued = two.start(origin.url("/f"), rig.file())
        await until(lambda: row(rig.state, "SELECT count(*) FROM operations") == (2,), "both rows")
        await one.start(origin.url("/f"), rig.file())
        await busy.cancel()
        assert (await queued).bytes_received == 0
    assert origin.body_bytes_sent("/f") == MIB


async def test_a_queued_download_that_is_paused_elsewhere_stays_so(rig: Rig, origin: Origin) -> None:
    """When its slot comes it does not begin."""
    origin.put("/f", content(1))
    origin.put("/slow", content(), SLOW)
    async with rig.manager(max_concurrent=1) as one, rig.manager(on_event=None) as two:
        busy = one.start(origin.url("/slow"), rig.file("slow"))
        await received(busy, 1)
        queued = one.start(origin.url("/f"), rig.file())
        await until(lambda: row(rig.state, "SELECT count(*) FROM operations") == (2,), "both rows")
        assert (await two.pause(queued.download_id)).state is State.PAUSED
        await busy.cancel()
        with pytest.raises(DownloadPaused):
            await queued
    assert origin.seen("/f") == []


async def test_a_download_that_runs_elsewhere_is_not_relinked(rig: Rig, origin: Origin) -> None:
    """Its process has the link it has: it is said what to do, and it is not the network's fault (exit code 7)."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as owner, rig.manager(on_event=None) as other:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, 1)
        with pytest.raises(DownloadElsewhere, match=r"running in another process.*pause it first") as caught:
            await other.relink(handle.download_id, origin.url("/new"))
        assert (caught.value.download_id, exit_code(caught.value)) == (handle.download_id, UNFINISHED)
        await handle.cancel()


async def test_of_several_all_go_on_or_none(rig: Rig, origin: Origin) -> None:
    """The link of one is lost: the others are not started behind the back of whoever asked for all of them."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handles = [manager.start(origin.url("/f?k=1"), rig.file(name)) for name in "abc"]
        for handle in handles:
            await received(handle, 1)
    ids = [handle.download_id for handle in handles]
    (rig.folder / "state.db.links" / f"{ids[1]}.json").unlink()
    origin.clear()
    async with rig.manager() as manager:
        with pytest.raises(NeedsLink, match=ids[1]):
            await manager.recover(ids)
        assert [manager.handle(name) for name in ids] == [None, None, None]
        assert len(await manager.recover([ids[0], ids[2]])) == 2


# -- steering from elsewhere -------------------------------------------------------------------------------------------


async def test_another_process_sees_what_the_owner_sees(rig: Rig, origin: Origin) -> None:
    """Field for field: the view is the owner's, not a guess from the rows."""
    origin.put("/f", content(), SLOW, script=[Behaviour(cut_at=MIB)])
    async with rig.manager() as owner, rig.manager(on_event=None) as other:
        handle = owner.start(origin.url("/f"), rig.file(), project="sdxl")
        await received(handle, 2 * MIB)
        seen = only(await other.downloads())
        assert seen.rev <= handle.view.rev
        same = next(event.view for event in rig.events if event.view.rev == seen.rev)
        assert same == seen
        assert (seen.project_id, seen.state, seen.stale) == ("sdxl", State.RUNNING, False)
        assert seen.speed > 0
        assert seen.eta is not None
        assert seen.can_resume is True
        assert await other.downloads(project="another") == []
        assert (await other.find(handle.download_id[:5])).download_id == handle.download_id
        for path in (str(rig.file()), f"{rig.file().parent}/elsewhere/../{rig.file().name}"):
            assert (await other.find(path)).download_id == handle.download_id
        await handle.pause()
        assert only(await other.downloads()) == handle.view


async def test_pause_resume_and_cancel_reach_the_other_process(rig: Rig, origin: Origin) -> None:
    """Within half a second or so; what is idle is changed here."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as owner, rig.manager(on_event=None) as other:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        await other.pause(handle.download_id)
        with pytest.raises(DownloadPaused):
            await handle
        assert only(await other.downloads()).state is State.PAUSED
        assert (await other.pause(handle.download_id)).state is State.PAUSED
        assert only(await other.downloads()).bytes_done > 0
        cancelled = await other.cancel(handle.download_id, delete_part=True)
        assert (cancelled.state, cancelled.bytes_done) == (State.CANCELLED, 0)
        assert not rig.part().exists()
        assert (await other.cancel(handle.download_id)).state is State.CANCELLED
        with pytest.raises(DownloadError, match="nothing to pause"):
            await other.pause(handle.download_id)
        assert (await other.retry(handle.download_id)).state is State.QUEUED
        for call in (other.pause("nobody"), other.cancel("nobody"), other.retry("nobody"), other.find("nobody")):
            with pytest.raises(LookupError, match="no download"):
                await call


async def test_the_part_file_of_a_process_that_does_not_obey_stays(
    rig: Rig, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and may still write: deleting under it, or saying that nothing is there, would be a lie."""
    monkeypatch.setattr("resumable.catalog._SETTLE_S", 0.2)
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB)
    async with rig.manager(on_event=None) as other:
        name = handle.download_id
        await other.retry(name)
        assert await other.journal.claim(name, owner="elsewhere", ttl_s=1e6, now=time.time()) is not None
        asked = await other.cancel(name, delete_part=True)
        assert asked.state is not State.CANCELLED
        assert asked.bytes_done > 0
        assert rig.part().exists()
        assert [one.name for one in await other.journal.take_commands([name])] == ["cancel"]


@pytest.mark.blocking
async def test_what_was_done_before_its_process_was_told_keeps_its_bytes(
    rig: Rig, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel and delete come too late: it is complete, and so it is shown."""
    origin.put("/f", content(2), SLOW)

    async def command(_catalog: Catalog, _download_id: str, _name: str) -> None:
        await until(lambda: row(rig.state, "SELECT state FROM operations") == ("complete",), "its end")

    monkeypatch.setattr(Catalog, "command", command)
    async with rig.manager() as one, rig.manager(on_event=None) as two:
        owner = one.start(origin.url("/f"), rig.file())
        await received(owner, 1)
        view = await two.cancel(owner.download_id, delete_part=True)
        assert (view.state, view.bytes_done) == (State.COMPLETE, 2 * MIB)
        await owner
    assert rig.file().stat().st_size == 2 * MIB


async def test_retry_wakes_what_waits_in_another_process(rig: Rig, origin: Origin) -> None:
    """In place of the minute it would wait."""
    origin.put("/f", content(1), script=[Behaviour(status=500)])
    async with rig.manager(policy=PATIENT) as owner, rig.manager(on_event=None) as other:
        handle = owner.start(origin.url("/f"), rig.file())
        await in_state(handle, State.WAITING)
        assert only(await other.downloads()).retry_at == handle.view.retry_at
        await other.retry(handle.download_id)
        assert (await asyncio.wait_for(handle, 10)).attempts == 2


async def test_what_was_done_is_not_cancelled(rig: Rig, origin: Origin) -> None:
    """And several that begin alike are not guessed at."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        for name in "ab":
            await manager.start(origin.url("/f"), rig.file(name))
    async with rig.manager() as manager:
        views = await manager.downloads()
        with pytest.raises(DownloadError, match="nothing to cancel"):
            await manager.cancel(views[0].download_id)
        with pytest.raises(LookupError, match="fits 2 downloads"):
            await manager.find("d")


# -- recovering --------------------------------------------------------------------------------------------------------


@pytest.mark.blocking
async def test_recover_continues_what_a_killed_process_left(rig: Rig, origin: Origin) -> None:
    """Running and queued ones; it is known at once that their process is dead."""
    origin.put("/f", content(), SLOW)
    process = start("get", "-j", "1", "-d", rig.folder, "--state", rig.state, "-i", "list", cwd=listed(rig, origin))
    await origin.until(lambda: origin.body_bytes_sent("/f") > MIB)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        before = {view.filename: (view.state, view.stale) for view in await manager.downloads()}
        assert before == {"a": (State.RUNNING, True), "b": (State.QUEUED, True), "c": (State.QUEUED, True)}
        handles = await manager.recover()
        results = await asyncio.gather(*handles)
        assert await manager.recover() == []
    assert sorted(result.path.name for result in results) == ["a", "b", "c"]
    assert sum(result.bytes_received for result in results) < 3 * content().size
    for name in "abc":
        assert whole(content()) == rig.file(name).read_bytes()


def listed(rig: Rig, origin: Origin) -> Path:
    """Write a list of three downloads; return its folder."""
    rig.file("list").write_text("".join(f"{origin.url('/f')}\n out={name}\n" for name in "abc"))
    return rig.folder


async def test_recover_leaves_alone_what_a_person_paused(rig: Rig, origin: Origin) -> None:
    """Unless it is named, or paused ones are asked for."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, 1)
        await handle.pause()
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        assert await manager.recover() == []
        assert only(await manager.downloads()).state is State.PAUSED
        (named,) = await manager.recover([handle.download_id])
        await named
        assert await manager.recover(states={State.PAUSED}) == []


async def test_a_recovered_download_keeps_its_settings(rig: Rig, origin: Origin) -> None:
    """Priority, limit, digest, mirrors and project are part of what was asked for."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        options = replace(manager._options, limit_rate=MIB, max_bytes=10 * MIB)
        request = {"priority": 7, "project": "p", "mirrors": [origin.url("/mirror")], "sha256": content().sha256()}
        handle = manager.start(origin.url("/f"), rig.file(), options=options, **request)  # type: ignore[arg-type]
        await received(handle, 1)
    async with rig.manager() as manager:
        (handle,) = await manager.recover()
        again = handle._run.request
        assert handle._run.priority == 7
        assert (again.options.limit_rate, again.options.max_bytes) == (MIB, 10 * MIB)
        assert (again.project, again.mirrors, again.sha256) == ("p", (origin.url("/mirror"),), content().sha256())


async def test_a_secret_link_is_kept_beside_the_state_file_and_dropped_in_the_end(rig: Rig, origin: Origin) -> None:
    """Only its owner can read it; the database, the views and the events never have it."""
    origin.put("/f", content(), SLOW)
    secret = "hunter2"
    headers = {"Authorization": f"Bearer {secret}"}
    links = rig.folder / "state.db.links"
    async with rig.manager() as manager:
        handle = manager.start(origin.url(f"/f?sig={secret}"), rig.file(), headers=headers)
        await received(handle, MIB // 4)
    (kept,) = links.iterdir()
    assert (links.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    assert secret in kept.read_text()
    assert not any(secret.encode() in path.read_bytes() for path in rig.folder.glob("state.db*") if path.is_file())
    assert not any(secret in repr(event) for event in rig.events)
    origin.behave("/f", Behaviour(login=headers["Authorization"]))
    async with rig.manager() as manager:
        (handle,) = await manager.recover()
        await handle
    assert list(links.iterdir()) == []
    assert not any(secret in repr(event) for event in rig.events)


async def test_relink_brings_back_a_download_whose_link_is_lost(rig: Rig, origin: Origin) -> None:
    """Without the secret half it cannot be continued; a fresh link can, and keeps the bytes."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f?sig=1"), rig.file())
        await received(handle, MIB // 2)
    kept = handle.view.bytes_done
    for path in (rig.folder / "state.db.links").iterdir():
        path.unlink()
    origin.put("/new", content())
    async with rig.manager() as manager:
        assert await manager.recover() == []
        with pytest.raises(NeedsLink, match="resumable relink"):
            await manager.recover([handle.download_id])
        with pytest.raises(ValueError, match="not supported"):
            await manager.relink(handle.download_id, "ftp://host/f")
        with pytest.raises(LookupError):
            await manager.relink("nobody", origin.url("/new"))
        view = await manager.relink(handle.download_id, origin.url("/new?sig=2"))
        assert "sig=2" not in view.url
        (again,) = await manager.recover([handle.download_id])
        result = await again
    # Another link may be of another server: bytes on both sides of each gap prove that it has the same file.
    assert result.bytes_resumed == kept
    assert 0 <= result.bytes_received - (content().size - kept) <= 4 * 64 * 1024


async def test_relink_while_it_runs(rig: Rig, origin: Origin) -> None:
    """Here the next request uses it; in another process it has to be paused first, and that is said."""
    origin.put("/old", content(), SLOW)
    origin.put("/new", content())
    async with rig.manager(on_event=None) as owner, rig.manager() as other:
        handle = owner.start(origin.url("/old"), rig.file())
        await received(handle, MIB // 2)
        with pytest.raises(DownloadError, match="pause it first"):
            await other.relink(handle.download_id, origin.url("/new"))
        view = await owner.relink(handle.download_id, origin.url("/new"))
        assert view.url == origin.url("/new")
        origin.behave("/old", Behaviour(status=410))
        origin.drop()
        await handle
    assert origin.seen("/new")


async def test_verify_and_prune(rig: Rig, origin: Origin) -> None:
    """A finished file is read again; what is forgotten is forgotten everywhere, the file stays."""
    origin.put("/f", content(2))
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file())
        assert (await manager.verify(rig.file())).ok
        rig.file("other").write_bytes(b"of somebody")
        with pytest.raises(LookupError, match="nothing is known"):
            await manager.verify(rig.file("other"))
        with pytest.raises(DestinationError, match="no such file"):
            await manager.verify(rig.file("missing"))
        assert len(await manager.history(only(await manager.downloads()).download_id)) == 1
        assert await manager.prune(older_than_s=3600) == 0
        assert await manager.prune(older_than_s=-1) == 1
        assert await manager.downloads() == []
    for table in ("downloads", "download_files", "download_views", "download_chunks", "operations", "attempts"):
        assert row(rig.state, f"SELECT count(*) FROM {table}") == (0,)
    assert rig.file().exists()


@pytest.mark.blocking
async def test_a_process_that_slept_over_its_lease_joins_whoever_took_over(rig: Rig, origin: Origin) -> None:
    """A laptop that is closed for a minute: no byte is written twice, and both have the file in the end."""
    origin.put("/f", content(), SLOW)
    process = another(rig, origin.url("/f"))
    await origin.until(lambda: origin.body_bytes_sent("/f") > MIB)
    async with rig.manager() as other:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            await until(lambda: expired(rig.state), "the lease has run out", 30)
            assert only(await other.downloads()).stale
            origin.behave("/f", Behaviour(rate=MIB))
            # The part file is still locked by the one that sleeps; it is taken over when that wakes and steps back.
            joined = other.start(origin.url("/f"), rig.file())
            await rig.until(EventName.STARTED)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        results = await asyncio.gather(joined, ended(process))
    assert results[0].size == results[1][1] == content().size
    assert whole(content()) == rig.file().read_bytes()


def expired(state: Path) -> bool:
    """Return whether the lease of the one download has run out."""
    return bool(row(state, "SELECT lease_until FROM operations")[0] < time.time())


@pytest.mark.blocking
async def test_a_process_that_slept_goes_on_where_the_other_found_its_file_locked(rig: Rig, origin: Origin) -> None:
    """The lock that the other one gave up for was the sleeper's own: that is no reason for it to give up as well."""
    origin.put("/f", content(), SLOW)
    process = another(rig, origin.url("/f"))
    await origin.until(lambda: origin.body_bytes_sent("/f") > MIB)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        end_lease(rig.state)
        async with rig.manager() as other:
            with pytest.raises(PartFileBusy):
                await other.start(origin.url("/f"), rig.file())
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert (await ended(process))[1] == content().size
    assert whole(content()) == rig.file().read_bytes()


def end_lease(state: Path) -> None:
    """Let every lease have run out long ago."""
    with closing(sqlite3.connect(state)) as conn, conn:
        for operation in list(operations(conn, "WHERE true")):
            put_operation(conn, replace(operation, lease_until=1.0))


@pytest.mark.blocking
async def test_a_wish_for_a_joined_download_that_is_done_by_then(
    rig: Rig, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes too late, and is no failure: the file is there."""
    origin.put("/f", content(2), SLOW)
    late = Catalog.command

    async def command(catalog: Catalog, download_id: str, name: str) -> None:
        await until(lambda: row(rig.state, "SELECT state FROM operations") == ("complete",), "the other one's end")
        await late(catalog, download_id, name)

    monkeypatch.setattr(Catalog, "command", command)
    async with rig.manager() as one, rig.manager() as two:
        owner = one.start(origin.url("/f"), rig.file())
        await received(owner, 1)
        joiner = two.start(origin.url("/f"), rig.file())
        joiner.retry_now()
        assert (await joiner).size == (await owner).size == 2 * MIB
