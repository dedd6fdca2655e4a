"""How downloads fail: the exception, the row and the view say the same, and nothing wrong gets the final name."""

from __future__ import annotations

import sqlite3

import pytest

from recovery.rowcrc import sealed
from recovery.states import State
from recovery.verdict import UserAction
from resumable import (
    ConnectFailed,
    CrashLoop,
    DigestMismatch,
    DownloadDeferred,
    DownloadError,
    OutOfTime,
    PartFileBusy,
    RetryPolicy,
    StatusError,
    WebPage,
)
from resumable.partfile import DiskPartFile
from tests.managing import MIB, QUICK, SLOW, Rig, content, in_state, only, received, until
from tests.origin import Behaviour, Origin
from tests.servers import authority


async def test_a_wrong_digest_leaves_nothing_to_continue(rig: Rig, origin: Origin) -> None:
    """What came is set aside under another name; both digests are told."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        with pytest.raises(DigestMismatch) as caught:
            await manager.start(origin.url("/f"), rig.file(), sha256="0" * 64)
        view = only(await manager.downloads())
    error = caught.value
    assert (error.expected, error.actual, error.kept) == ("0" * 64, content(1).sha256(), "f.bin.suspect")
    assert (view.state, view.bytes_done, error.bytes_kept) == (State.FAILED, 0, 0)
    assert view.error is not None
    assert "0" * 64 in view.error.detail
    assert content(1).sha256() in view.error.detail
    assert not rig.file().exists()
    assert rig.file("f.bin.suspect").exists()


async def test_a_page_in_place_of_the_file_is_refused(rig: Rig, origin: Origin) -> None:
    """Also in the very first answer, and also when nobody has given a name yet: the link's own says what it is."""
    origin.put("/model.safetensors", content(1), Behaviour(html=True))
    async with rig.manager() as manager:
        with pytest.raises(WebPage):
            await manager.start(origin.url("/model.safetensors"), directory=rig.folder)
    assert list(rig.folder.glob("model*")) == []


async def test_a_page_that_was_asked_for_is_a_file_like_any_other(rig: Rig, origin: Origin) -> None:
    """A link that ends in .html, or in nothing that says otherwise."""
    for path in ("/page.html", "/", "/download"):
        origin.put(path, b"<!doctype html><p>hello", Behaviour(headers={"content-type": "text/html"}))
    async with rig.manager() as manager:
        for path in ("/page.html", "/", "/download"):
            assert (await manager.start(origin.url(path), directory=rig.folder)).size == 23


async def test_the_time_is_up(rig: Rig, origin: Origin) -> None:
    """An error of its own, with what is kept; asked again it goes on, with fresh time."""
    origin.put("/f", content(), SLOW)
    async with rig.manager(policy=RetryPolicy(deadline_s=0.6)) as manager:
        with pytest.raises(OutOfTime) as caught:
            await manager.start(origin.url("/f"), rig.file())
        view = only(await manager.downloads())
        assert (view.state, view.error.code if view.error else "") == (State.FAILED, "deadline")
        assert caught.value.bytes_kept == view.bytes_done > 0
        assert caught.value.resumable
        origin.behave("/f", Behaviour())
        assert (await manager.start(origin.url("/f"), rig.file())).bytes_resumed == view.bytes_done


async def test_a_wait_that_does_not_fit_is_named_beside_the_failure(rig: Rig, origin: Origin) -> None:
    """A person who set a limit is told that it was the limit, and not only what went wrong last."""
    origin.put("/f", content(1), Behaviour(status=503, headers={"retry-after": "60"}))
    async with rig.manager(policy=RetryPolicy(deadline_s=20)) as manager:
        with pytest.raises(StatusError):
            await manager.start(origin.url("/f"), rig.file())
        view = only(await manager.downloads())
        detail = view.error.detail if view.error else ""
        assert detail == "the server answered 503; given up: the next try would come after the deadline of 20 s"


async def test_a_program_that_keeps_dying_is_not_started_for_ever(rig: Rig, origin: Origin) -> None:
    """After three deaths without progress a person has to say so."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file(), priority=1)
        await handle.cancel()
    with sqlite3.connect(rig.state) as conn:
        names = [column[1] for column in conn.execute("PRAGMA table_info(operations)")]
        row = dict(zip(names, conn.execute("SELECT * FROM operations").fetchone(), strict=True))
        row |= {"state": "queued", "deaths": 3}
        cells = sealed(tuple(value for name, value in row.items() if name != "crc"))
        conn.execute(f"INSERT OR REPLACE INTO operations VALUES ({', '.join('?' * len(names))})", cells)
    async with rig.manager() as manager:
        (handle,) = await manager.recover()
        with pytest.raises(CrashLoop) as caught:
            await handle
        assert caught.value.code == "crash-loop"
        view = only(await manager.downloads())
        assert (view.state, [action.value for action in view.actions]) == (State.FAILED, ["retry_now", "cancel"])
        handle.retry_now()
        assert (await handle).size == MIB


async def test_a_worker_does_not_sleep_for_long(rig: Rig, origin: Origin) -> None:
    """The next attempt has a time in the store; whoever continues it then waits no longer than that."""
    origin.put("/f", content(1), script=[Behaviour(status=503, retry_after=2)])
    async with rig.manager(longest_wait_s=0.5) as manager:
        with pytest.raises(DownloadDeferred) as caught:
            await manager.start(origin.url("/f"), rig.file())
        view = only(await manager.downloads())
        assert (view.state, view.stale) == (State.WAITING, False)
        assert view.retry_at == pytest.approx(caught.value.next_at)
    async with rig.manager() as manager:
        (handle,) = await manager.recover()
        assert (await handle).size == MIB


async def test_another_program_writes_the_part_file(rig: Rig, origin: Origin) -> None:
    """With a state file of its own it knows nothing of us; the lock on the part file keeps both right."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as one, rig.manager(state=rig.folder / "other.db", on_event=None) as two:
        first = one.start(origin.url("/f"), rig.file())
        await received(first, MIB // 2)
        with pytest.raises(PartFileBusy) as caught:
            await two.start(origin.url("/f"), rig.file())
        assert caught.value.verdict is not None
        assert caught.value.verdict.code == "part-file-busy"
        origin.behave("/f", Behaviour())
        assert (await first).size == content().size


async def test_tries_used_up(rig: Rig, origin: Origin) -> None:
    """Three retries without progress; which attempt it was is on every view on the way."""
    origin.put("/f", content(1))
    origin.refuse()
    async with rig.manager(policy=QUICK) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        with pytest.raises(ConnectFailed) as caught:
            await handle
        assert (caught.value.attempts, handle.view.attempts) == (4, 4)
        await in_state(handle, State.FAILED)
        assert handle.view.actions == (UserAction.RETRY_NOW, UserAction.CANCEL), "what has failed cannot be paused"
        made = await manager.history(handle.download_id)
        assert [(one.number, one.outcome) for one in made] == [
            (1, "waiting"),
            (2, "waiting"),
            (3, "waiting"),
            (4, "failed"),
        ]
        assert "refused" in (made[0].error or "")


async def test_the_transports_reason_survives_the_engine(rig: Rig) -> None:
    """A failure is judged by its cause: a certificate that nobody signed is no bad connection, and not tried again."""
    ca = authority(rig.folder.parent / "elsewhere")
    with Origin(tls=ca.context("127.0.0.1")) as secure:
        secure.put("/f", content(1))
        async with rig.manager() as manager:
            handle = manager.start(secure.url("/f"), rig.file())
            with pytest.raises(ConnectFailed) as caught:
                await handle
            view = handle.view
    assert caught.value.__cause__ is not None
    assert view.error is not None
    assert (view.error.code, view.attempts, view.state) == ("tls-not-trusted", 1, State.FAILED)


@pytest.mark.parametrize("mirrors", [(), ("http://other-host.invalid/f",)], ids=["one link", "and a mirror"])
async def test_a_name_that_nobody_has_is_said_to_be_that(mirrors: tuple[str, ...], rig: Rig) -> None:
    """Also of the first link, where a mirror was tried after it (RFC 6761: .invalid never resolves)."""
    async with rig.manager() as manager:
        handle = manager.start("http://no-such-host.invalid/f", rig.file(), mirrors=mirrors)
        await until(lambda: handle.view.error is not None, "it says what is wrong")
        error = handle.view.error
        await handle.cancel()
    assert error is not None
    assert error.category in {"dns", "offline"}
    assert "no-such-host.invalid" in error.detail


REFUSALS = [Behaviour(status=status) for status in (401, 403, 410, 451, 503)]


@pytest.mark.parametrize("behaviour", [*REFUSALS, None], ids=[*(str(one.status) for one in REFUSALS), "refused"])
async def test_no_empty_part_file_is_left_of_what_failed(behaviour: Behaviour | None, rig: Rig, origin: Origin) -> None:
    """Nothing ever came, so there is nothing to keep; asked again, it is made again."""
    origin.put("/f", content(1), behaviour or Behaviour())
    if behaviour is None:
        origin.refuse()
    async with rig.manager(policy=QUICK) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        with pytest.raises(DownloadError):
            await handle
        assert handle.view.state is State.FAILED
    assert not rig.part().exists()


async def test_nor_of_what_was_cancelled(rig: Rig, origin: Origin) -> None:
    """While it waits for its first byte; paused, it stays, as everything does."""
    origin.put("/f", content(1), Behaviour(latency_s=1.5))
    async with rig.manager() as manager:
        paused, cancelled = (manager.start(origin.url("/f"), rig.file(name)) for name in "pc")
        await until(lambda: rig.part("p").exists() and rig.part("c").exists(), "both have part files")
        await paused.pause()
        await cancelled.cancel()
        assert (rig.part("p").exists(), rig.part("c").exists()) == (True, False)


async def test_a_part_file_with_bytes_or_of_another_one_stays(rig: Rig, origin: Origin) -> None:
    """What somebody else holds is not ours to take away, empty or not; bytes are kept, whoever vouches for them."""
    origin.put("/f", content(1), Behaviour(status=404))
    rig.part("held").touch()
    rig.part("bytes").write_bytes(b"x")
    holder = await DiskPartFile.open(rig.part("held"))
    try:
        async with rig.manager() as manager:
            for name in ("held", "bytes"):
                with pytest.raises(DownloadError):
                    await manager.start(origin.url("/f"), rig.file(name))
        assert (rig.part("held").exists(), rig.part("bytes").read_bytes()) == (True, b"x")
    finally:
        await holder.close()
