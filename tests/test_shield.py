"""Clean-up that comes to its end: shielded from its caller's cancellation, bounded in time, and no way to ignore it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from recovery.shield import to_the_end


class Work:
    """Something that has to be done."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.ended = ""
        self._error = error

    async def __call__(self) -> str:
        """Do it when it may."""
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        if self._error is not None:
            raise self._error
        return "result"


async def begun(work: Awaitable[str]) -> asyncio.Task[str]:
    """Start it in a task and let it wait."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert isinstance(task, asyncio.Task)
    return task


async def test_a_result_is_a_result() -> None:
    """Without a cancellation it is a plain await, for results and errors."""
    work, broken = Work(), Work(error=OSError("full"))
    work.go.set()
    broken.go.set()
    assert await to_the_end(work()) == "result"
    assert await to_the_end(work(), within_s=10.0) == "result"
    with pytest.raises(OSError, match="full"):
        await to_the_end(broken())


async def test_a_cancellation_is_held_back() -> None:
    """The work is done first, whatever comes; then the caller is cancelled, however often it was."""
    work = Work()
    task = await begun(to_the_end(work()))
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    work.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == "done"


async def test_an_error_meanwhile_is_the_cause() -> None:
    """An error of the work does not replace the cancellation, and is not lost."""
    work = Work(error=OSError("full"))
    task = await begun(to_the_end(work()))
    task.cancel()
    await asyncio.sleep(0)
    work.go.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_its_time_is_bounded(cancelled: bool) -> None:
    """When the time is up the work is cancelled, and the caller hears of that, or is cancelled itself."""
    work = Work()
    task = await begun(to_the_end(work(), within_s=0.02))
    if cancelled:
        task.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError) as caught:
        await task
    assert isinstance(caught.value.__cause__ if cancelled else caught.value, TimeoutError)
    await asyncio.sleep(0)
    assert work.ended == "cancelled"


async def test_work_that_is_cancelled_from_inside() -> None:
    """If the work itself is cancelled, so is whoever waits for it, with no cause."""

    async def stops() -> None:
        raise asyncio.CancelledError

    task = await begun(to_the_end(stops()))  # type: ignore[arg-type]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_is_let_go_comes_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """The caller goes on when the time is up; what came of the work then is at most a line in the log."""
    fine, broken = Work(), Work(error=OSError("full"))
    for work in (fine, broken):
        with pytest.raises(TimeoutError):
            await to_the_end(work(), within_s=0.01, let_go=True)
        assert work.ended == ""
        work.go.set()
        await asyncio.sleep(0.01)
        assert work.ended == "done"
    assert [record.message for record in caplog.records] == ["ended-too-late"]
    assert vars(caplog.records[0])["error"] == "OSError: full"
