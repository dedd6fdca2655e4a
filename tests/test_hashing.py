"""The digest that follows a transfer, and the one of a finished file."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from resumable import hashing
from resumable.errors import DeviceError
from resumable.hashing import FollowBehind
from resumable.partfile import DiskPartFile
from resumable.ports import Sink
from resumable.testing import MemoryFolder, MemoryPartFile

STEP = 16
CONTENT = bytes(range(250)) * 4


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps and distances between copies small, so that few bytes exercise them."""
    monkeypatch.setattr(hashing, "_STEP", STEP)
    monkeypatch.setattr(hashing, "_FIRST_SPACING", 2 * STEP)
    monkeypatch.setattr(hashing, "_MOST_MARKS", 4)


class Watched(MemoryPartFile):
    """A part file that tells what was read of it, and holds a reading while ``go`` is cleared."""

    def __init__(self, content: bytes) -> None:
        path = Path("/x.part")
        super().__init__(MemoryFolder(files={path: bytearray(content)}), path)
        self.reads: list[tuple[int, int]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Remember the span."""
        self.reads.append((offset, length))
        count = await super().hash_span(offset, length, digest)
        await self.go.wait()
        return count


def sha256(content: bytes) -> str:
    """Return the digest in hex."""
    return hashlib.sha256(content).hexdigest()


async def settle() -> None:
    """Let background tasks run until they wait."""
    for _ in range(1000):
        await asyncio.sleep(0)


@pytest.mark.parametrize("advances", [[], [1000], [5, 15, 16, 17, 40, 900], list(range(0, 1001, 7))])
async def test_the_digest_is_that_of_the_file(advances: list[int]) -> None:
    """However the prefix grows, the result is the digest of all, and every byte was read once."""
    part = Watched(CONTENT)
    whole = FollowBehind(part)
    for upto in advances:
        whole.advance(upto)
        await asyncio.sleep(0)
    assert sha256(CONTENT) == await whole.finish(1000)
    assert list(range(0, 1000, STEP)) == [offset for offset, _ in part.reads]
    await whole.close()


async def test_it_keeps_up_while_bytes_arrive() -> None:
    """Whole steps are read as soon as they are final; nothing beyond is touched, and the rest waits for the end."""
    part = Watched(CONTENT)
    whole = FollowBehind(part)
    whole.advance(STEP - 1)
    await settle()
    assert (whole.position, part.reads) == (0, [])
    whole.advance(5 * STEP + 3)
    whole.advance(2)
    await settle()
    assert whole.position == 5 * STEP
    await whole.close()


async def test_an_empty_file_has_a_digest_too() -> None:
    """Nothing is read for it."""
    part = Watched(b"")
    assert sha256(b"") == await FollowBehind(part).finish(0)
    assert part.reads == []


@pytest.mark.parametrize("to", [999, 500, 33, 32, 31, 1, 0])
async def test_bytes_taken_back_are_read_again(to: int) -> None:
    """Whatever was repaired counts in the end, and only what lies behind the nearest copy is read again."""
    part = Watched(CONTENT)
    whole = FollowBehind(part)
    assert sha256(CONTENT) == await whole.finish(1000)
    part.content[to:] = bytes(1000 - to)
    part.reads.clear()
    whole.rewind(to)
    whole.advance(1000)
    assert sha256(CONTENT[:to] + bytes(1000 - to)) == await whole.finish(1000)
    first = part.reads[0][0]
    assert first <= to
    assert to - first < 512  # four copies over 1000 bytes
    await whole.close()


async def test_copies_stay_few_and_spread() -> None:
    """Memory is bounded whatever the length; the distance between copies doubles as the file grows."""
    whole = FollowBehind(Watched(CONTENT))
    await whole.finish(1000)
    positions = [position for position, _ in whole._marks]
    assert len(positions) <= 4
    assert positions[0] == 0
    assert positions[-1] >= 500


async def test_bytes_taken_back_while_they_are_read_do_not_count() -> None:
    """A hop that is under way reads bytes that are not final any more: what it fed is dropped."""
    part = Watched(CONTENT)
    whole = FollowBehind(part)
    part.go.clear()
    whole.advance(100)
    await settle()
    whole.rewind(STEP - 1)
    part.content[:] = bytes(1000)
    whole.advance(1000)
    part.go.set()
    assert sha256(bytes(1000)) == await whole.finish(1000)
    await whole.close()


async def test_taking_back_what_was_not_read_costs_nothing() -> None:
    """Only the goal moves."""
    part = Watched(CONTENT)
    whole = FollowBehind(part)
    whole.advance(2 * STEP)
    await settle()
    whole.rewind(2 * STEP)
    assert whole.position == 2 * STEP
    assert sha256(CONTENT) == await whole.finish(1000)
    assert len(part.reads) == 63
    await whole.close()


async def test_a_shorter_goal_than_what_was_read() -> None:
    """A file that turns out shorter than announced gets the digest of what it is."""
    whole = FollowBehind(Watched(CONTENT))
    await whole.finish(1000)
    assert sha256(CONTENT[:77]) == await whole.finish(77)
    await whole.close()


async def test_a_file_that_was_cut_is_told() -> None:
    """Bytes that were final and are gone mean that somebody else was at the file; once they are back, it goes on."""
    part = Watched(CONTENT[:100])
    whole = FollowBehind(part)
    whole.advance(200)
    await settle()
    whole.advance(300)
    with pytest.raises(DeviceError, match="shorter than what was written"):
        await whole.finish(1000)
    part.content[:] = CONTENT
    assert sha256(CONTENT) == await whole.finish(1000)
    await whole.close()


@pytest.mark.parametrize("asked", [True, False])
async def test_a_failing_disk_is_told_when_the_digest_is_asked_for(asked: bool) -> None:
    """In the background it is kept, neither raised nor retried; once told, reading begins anew where it is sure."""
    part = Watched(CONTENT)
    part.faults["hash_span"] = [DeviceError("no")]
    whole = FollowBehind(part)
    if not asked:
        whole.advance(500)
        await settle()
        whole.advance(900)
        await settle()
        assert (whole.position, len(part.reads)) == (0, 1)
    with pytest.raises(DeviceError, match="no"):
        await whole.finish(1000)
    assert sha256(CONTENT) == await whole.finish(1000)
    await whole.close()


async def test_finishing_can_be_cancelled_and_repeated() -> None:
    """Cancelling the one who waits does not stop the reading, and nothing is read twice."""
    part = Watched(CONTENT)
    part.go.clear()
    whole = FollowBehind(part)
    finishing = asyncio.create_task(whole.finish(1000))
    await settle()
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    part.go.set()
    assert sha256(CONTENT) == await whole.finish(1000)
    assert len(part.reads) == 63
    await whole.close()


async def test_bytes_taken_back_while_finishing_are_a_mistake() -> None:
    """It ends with an error instead of waiting for bytes nobody promises."""
    part = Watched(CONTENT)
    part.go.clear()
    whole = FollowBehind(part)
    finishing = asyncio.create_task(whole.finish(1000))
    await settle()
    whole.rewind(0)
    part.go.set()
    with pytest.raises(RuntimeError, match="taken back"):
        await finishing
    await whole.close()


async def test_closing_stops_reading_at_once() -> None:
    """Nothing is read after it; advancing then is harmless, asking for the digest a mistake."""
    part = Watched(CONTENT)
    part.go.clear()
    whole = FollowBehind(part)
    whole.advance(1000)
    await settle()
    await whole.close()
    await whole.close()
    whole.advance(1000)
    await settle()
    assert len(part.reads) == 1
    with pytest.raises(ValueError, match="closed"):
        await whole.finish(1000)


async def test_closing_what_never_read_is_harmless() -> None:
    """A download may end before anything was final."""
    await FollowBehind(Watched(CONTENT)).close()


async def test_closing_is_not_cut_short() -> None:
    """The part file is closed next, so a cancelled closing still waits for the thread to let go."""
    part = Watched(CONTENT)
    let_go = asyncio.Event()

    async def stubborn() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()
        return True

    part.go.wait = stubborn  # type: ignore[method-assign, assignment]
    whole = FollowBehind(part)
    whole.advance(1000)
    await settle()
    closing = asyncio.create_task(whole.close())
    await settle()
    closing.cancel()
    await settle()
    assert not closing.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_it_follows_a_file_on_disk(tmp_path: Path) -> None:
    """The same over a real part file that grows meanwhile."""
    part = await DiskPartFile.open(tmp_path / "x.part")
    whole = FollowBehind(part)
    for offset in range(0, 1000, 100):
        await part.write(offset, [CONTENT[offset : offset + 100]], hashlib.sha256())
        whole.advance(offset + 100)
    assert sha256(CONTENT) == await whole.finish(1000)
    await whole.close()
    await part.close()
