"""Handles: awaiting, pausing, resuming, cancelling, retrying, and reading what happens."""

from __future__ import annotations

import asyncio

import pytest

from recovery.states import State
from resumable import (
    DownloadCancelled,
    DownloadEvent,
    DownloadHandle,
    DownloadPaused,
    EventName,
    Options,
    StatusError,
    download,
)
from tests.managing import MIB, PATIENT, SLOW, Rig, content, in_state, only, received, row, whole
from tests.origin import Behaviour, Origin


async def collected(handle: DownloadHandle) -> list[DownloadEvent]:
    """Return all events until they end."""
    return [event async for event in handle.events()]


async def test_awaiting_a_handle_gives_the_result(rig: Rig, origin: Origin) -> None:
    """Also several times, and also after the end."""
    origin.put("/f", content())
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file(), sha256=content().sha256())
        first, second = await asyncio.gather(handle, handle)
        third = await handle
    assert first == second == third
    assert (first.path, first.size, first.sha256) == (rig.file(), content().size, content().sha256())
    assert (first.bytes_received, first.bytes_resumed, first.attempts) == (content().size, 0, 1)
    assert whole(content()) == rig.file().read_bytes()
    assert not rig.part().exists()


async def test_one_call_downloads_one_file(rig: Rig, origin: Origin) -> None:
    """The README's ``download``; asked again it transfers nothing."""
    origin.put("/f", content())
    first = await download(origin.url("/f"), rig.file(), state=rig.state)
    second = await download(origin.url("/f"), rig.file(), state=rig.state)
    assert (first.path, first.bytes_received) == (rig.file(), content().size)
    assert (second.path, second.bytes_received, second.bytes_resumed) == (rig.file(), 0, content().size)


async def test_what_was_begun_anew_is_kept_over_a_pause(rig: Rig, origin: Origin) -> None:
    """``restart`` gives up what a former process left, once: not what came since, each time it goes on."""
    origin.put("/f", content(), Behaviour(rate=4 * MIB))
    options = Options(restart=True, connections=1, checkpoint_interval_s=0.05)
    async with rig.manager(options=options) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB)
        await handle.pause()
        kept = handle.view.bytes_done
        await handle.resume()
        result = await handle
    assert (result.bytes_resumed, result.bytes_received) == (kept, content().size - kept)


async def test_pausing_keeps_every_byte_and_resuming_fetches_the_rest(rig: Rig, origin: Origin) -> None:
    """Whoever awaits the handle sleeps through the pause; nothing is received twice."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        waiting = asyncio.ensure_future(handle)
        await received(handle, MIB // 2)
        await handle.pause()
        paused = handle.view
        assert (paused.state, handle.done, handle.ended, waiting.done()) == (State.PAUSED, True, False, False)
        assert paused.bytes_done == paused.bytes_received > 0
        assert [action.value for action in paused.actions] == ["resume", "cancel"]
        requests = len(origin.requests)
        await asyncio.sleep(0.1)
        assert requests == len(origin.requests), "a paused download is silent"
        await handle.pause()  # once more changes nothing
        origin.behave("/f", Behaviour())
        await handle.resume()
        await handle.resume()  # it runs already
        result = await waiting
    assert (result.bytes_resumed, result.bytes_received) == (paused.bytes_done, content().size - paused.bytes_done)
    assert whole(content()) == rig.file().read_bytes()


async def test_going_on_after_a_pause_is_another_attempt_and_no_retry(rig: Rig, origin: Origin) -> None:
    """Nothing had failed: a page that says "1 retry" then would lie. What did fail is counted, here and elsewhere."""
    origin.put("/f", content(), SLOW, script=[Behaviour(status=500)])
    async with rig.manager(policy=PATIENT) as manager, rig.manager(on_event=None) as other:
        handle = manager.start(origin.url("/f"), rig.file())
        await in_state(handle, State.WAITING)
        assert handle.view.retries == 0
        handle.retry_now()
        await received(handle, MIB // 2)
        assert (handle.view.attempt, handle.view.retries) == (2, 1)
        await handle.pause()
        await handle.resume()
        await received(handle, MIB)
        assert (handle.view.attempt, handle.view.retries) == (3, 1)
        await handle.pause()
        assert (await other.find(handle.download_id)).retries == 1
    async with rig.manager() as manager:
        origin.behave("/f", Behaviour(status=404))
        handle = manager.start(origin.url("/f"), rig.file())
        with pytest.raises(StatusError):
            await handle
        assert (handle.view.attempt, handle.view.retries) == (4, 1)
        origin.behave("/f", Behaviour())
        handle.retry_now()
        await handle
        assert (handle.view.attempt, handle.view.retries) == (5, 2)


async def test_events_go_on_over_a_pause_and_end_with_the_download(rig: Rig, origin: Origin) -> None:
    """A page that reads them sees paused, then started again, then completed, and its loop ends."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        reading = asyncio.create_task(collected(handle))
        await received(handle, MIB // 2)
        await handle.pause()
        origin.behave("/f", Behaviour())
        await handle.resume()
        await handle
        events = await asyncio.wait_for(reading, 5)
    states = [event.event.value for event in events if event.event is not EventName.PROGRESS]
    assert states[0] == "queued"
    assert states[-1] == "completed"
    assert states[states.index("paused") :][:4] == ["paused", "queued", "started", "resumed"]
    revs = [event.view.rev for event in events]
    assert revs == sorted(set(revs)), "rev grows with every event, also over the pause"


async def test_whoever_reads_events_too_late_hears_how_it_ended(rig: Rig, origin: Origin) -> None:
    """And does not wait for ever."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await handle
        events = await asyncio.wait_for(collected(handle), 5)
    assert [event.event.value for event in events] == ["completed"]


async def test_a_reader_that_turns_away_is_forgotten(rig: Rig, origin: Origin) -> None:
    """Nothing is kept for it."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        reading = handle.events()
        assert (await anext(reading)).event is EventName.QUEUED
        await reading.aclose()  # type: ignore[attr-defined]
        assert handle._run.standing._mailboxes == []


async def test_cancelling_ends_it_and_keeps_the_part_file(rig: Rig, origin: Origin) -> None:
    """Awaiting raises DownloadCancelled; the same request later continues."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        await handle.cancel()
        with pytest.raises(DownloadCancelled) as caught:
            await handle
        kept = handle.view.bytes_done
        assert (caught.value.code, handle.view.state, rig.part().exists()) == ("cancelled", State.CANCELLED, True)
        origin.behave("/f", Behaviour())
        again = manager.start(origin.url("/f"), rig.file())
        assert again is not handle
        result = await again
    assert (result.bytes_resumed, result.bytes_received) == (kept, content().size - kept)


async def test_cancelling_can_delete_the_part_file(rig: Rig, origin: Origin) -> None:
    """What is left is the row that says so."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        await handle.cancel(delete_part=True)
        assert not rig.part().exists()
        assert (handle.view.bytes_done, handle.view.breaks) == (0, ())
        assert only(await manager.downloads()) == handle.view
        assert handle.view.state is State.CANCELLED


async def test_a_paused_download_can_be_cancelled(rig: Rig, origin: Origin) -> None:
    """Whoever awaits it learns of it, the row says so, and its readers come to an end."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        reading = asyncio.create_task(collected(handle))
        waiting = asyncio.ensure_future(handle)
        await received(handle, MIB // 2)
        await handle.pause()
        await handle.cancel(delete_part=True)
        with pytest.raises(DownloadCancelled):
            await waiting
        assert (await asyncio.wait_for(reading, 5))[-1].event is EventName.CANCELLED
        assert only(await manager.downloads()).state is State.CANCELLED
    assert not rig.part().exists()
    assert row(rig.state, "SELECT state FROM operations") == ("cancelled",)


@pytest.mark.parametrize("how", ["start", "start with a digest", "recover", "retry"])
async def test_whoever_asks_again_for_what_is_paused_here_gets_it(how: str, rig: Rig, origin: Origin) -> None:
    """It goes on; awaiting it would else last for ever."""
    origin.put("/f", content(2), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 4)
        await handle.pause()
        assert await manager.recover() == [], "a person has paused it"
        origin.behave("/f", Behaviour())
        if how.startswith("start"):
            again = manager.start(origin.url("/f"), rig.file(), sha256=content(2).sha256() if "digest" in how else None)
        elif how == "recover":
            (again,) = await manager.recover([handle.download_id])
        else:
            await manager.retry(handle.download_id)
            again = handle
        results = await asyncio.wait_for(asyncio.gather(again, handle), 10)
    assert [result.size for result in results] == [content(2).size] * 2


async def test_a_cancelled_download_can_be_resumed(rig: Rig, origin: Origin) -> None:
    """The button is there, so it works."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        await handle.pause()
        await handle.cancel()
        origin.behave("/f", Behaviour())
        await handle.resume()
        assert (await handle).size == content().size


async def test_cancelling_a_finished_download_changes_nothing(rig: Rig, origin: Origin) -> None:
    """Neither does pausing, resuming or retrying it."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await handle
        view = handle.view
        await handle.pause()
        await handle.resume()
        await handle.cancel(delete_part=True)
        handle.retry_now()
        assert (await handle).path == rig.file()
        assert view == handle.view
    assert rig.file().exists()


async def test_cancelling_the_waiter_does_not_stop_the_download(rig: Rig, origin: Origin) -> None:
    """Only whoever waited is cancelled."""
    origin.put("/f", content(2), Behaviour(rate=4 * MIB))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        waiter = asyncio.ensure_future(handle)
        await received(handle, MIB // 4)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not handle.done
        assert (await handle).size == content(2).size


async def test_retry_now_ends_a_wait(rig: Rig, origin: Origin) -> None:
    """In place of the up to a minute that the policy would wait."""
    origin.put("/f", content(1), script=[Behaviour(status=500)])
    async with rig.manager(policy=PATIENT) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await in_state(handle, State.WAITING)
        view = handle.view
        assert view.retry_at is not None
        assert (view.no_progress, view.max_no_progress, view.error.code if view.error else "") == (1, 3, "server-error")
        assert [action.value for action in view.actions][:1] == ["retry_now"]
        handle.retry_now()
        result = await asyncio.wait_for(handle, 10)
    assert result.attempts == 2
    assert handle.view.retry_at is None


async def test_retry_now_begins_a_failed_download_again(rig: Rig, origin: Origin) -> None:
    """Awaiting the same handle then gives the result."""
    origin.put("/f", content(1), Behaviour(status=404))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        with pytest.raises(StatusError) as caught:
            await handle
        assert (caught.value.status, caught.value.attempts, handle.view.state) == (404, 1, State.FAILED)
        assert caught.value.verdict is not None
        assert caught.value.verdict.code == "not-found"
        origin.behave("/f", Behaviour())
        handle.retry_now()
        assert (await handle).size == MIB


async def test_leaving_the_manager_keeps_what_runs(rig: Rig, origin: Origin) -> None:
    """Awaiting raises DownloadPaused, not a cancellation that nobody asked for; the next manager continues."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        reading = asyncio.create_task(collected(handle))
        waiting = asyncio.ensure_future(handle)
        await received(handle, MIB // 2)
    with pytest.raises(DownloadPaused):
        await waiting
    assert (await asyncio.wait_for(reading, 5))[-1].event is EventName.PAUSED
    kept = handle.view.bytes_done
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        (again,) = await manager.recover()
        result = await again
    assert (result.bytes_resumed, result.bytes_received) == (kept, content().size - kept)


async def test_leaving_the_manager_wakes_who_waits_for_a_paused_download(rig: Rig, origin: Origin) -> None:
    """Nobody can resume it any more."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        reading = asyncio.create_task(collected(handle))
        waiting = asyncio.ensure_future(handle)
        await received(handle, MIB // 2)
        await handle.pause()
    with pytest.raises(DownloadPaused):
        await asyncio.wait_for(waiting, 5)
    await asyncio.wait_for(reading, 5)


async def test_an_observer_that_raises_harms_nothing(
    rig: Rig, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the download goes on."""

    def broken(event: DownloadEvent) -> None:
        raise ZeroDivisionError(event.event)

    origin.put("/f", content(1))
    async with rig.manager(on_event=broken) as manager:
        assert (await manager.start(origin.url("/f"), rig.file())).size == MIB
    assert "observer-failed" in caplog.text


@pytest.mark.parametrize("mib", [1, 4], ids=["one chunk", "several"])
async def test_the_record_of_an_attempt_says_what_it_gained(mib: int, rig: Rig, origin: Origin) -> None:
    """Also where it was done before the first checkpoint; of the one that resumes, what it has added."""
    origin.put("/f", content(mib))
    rare = Options(checkpoint_interval_s=60.0, connections=2)
    async with rig.manager(options=rare) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await handle
        (made,) = await manager.history(handle.download_id)
        operation = await manager.journal.get(handle.download_id)
    assert (made.progress_from, made.progress_to) == (0, content(mib).size)
    assert operation is not None
    assert (operation.progress_done, operation.progress_total) == (content(mib).size, content(mib).size)


async def test_the_record_of_the_attempt_that_resumes_says_what_it_has_added(rig: Rig, origin: Origin) -> None:
    """What a former attempt had is not counted twice."""
    origin.put("/f", content(), script=[Behaviour(cut_at=2 * MIB), Behaviour(status=503)])
    async with rig.manager(options=Options(checkpoint_interval_s=60.0, connections=1)) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await handle
        first, second = await manager.history(handle.download_id)
    assert first.progress_from == 0
    assert first.progress_to == second.progress_from >= MIB
    assert second.progress_to == content().size
