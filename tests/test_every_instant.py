"""An attempt stopped at every instant there is: cancelled at every await, killed after every change of the world."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest

from resumable.model import Checkpoint, Saved
from resumable.testing import MemoryFolder, MemoryPartFile, Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, Rig

SIZE = 6 * CHUNK + 77
DATA = CONTENT[:SIZE]
SHA = hashlib.sha256(DATA).hexdigest()
DEST, PART = Path("/d/model.bin"), Path("/d/model.bin.part")


def transport() -> ScriptedTransport:
    """Return an origin one of whose first answers breaks."""
    return ScriptedTransport(DATA, script=[Reply(), Reply(cut_after=CHUNK + 5)], block_size=20_000)


def make(connections: int, sha256: str | None) -> Rig:
    """Return a rig for the small file."""
    return Rig(transport(), connections=connections, sha256=sha256, checkpoint_interval_s=0.0)


def overclaimed(rig: Rig) -> list[int]:
    """Return the chunks whose rows say what neither the part file nor the finished one holds."""
    files = rig.folder.files
    content = files[PART] if PART in files else files.get(DEST, bytearray())
    return [
        index
        for index, claim in rig.store.claims.items()
        if hashlib.sha256(content[index * CHUNK : index * CHUNK + claim.length]).digest() != claim.digest
        or DATA[index * CHUNK : index * CHUNK + claim.length] != content[index * CHUNK : index * CHUNK + claim.length]
    ]


async def steps(rig: Rig, count: int) -> bool:
    """Cancel an attempt after ``count`` turns of the loop; return whether it had ended by then."""
    attempt = asyncio.create_task(rig.attempt())
    for _ in range(count):
        if attempt.done():
            break
        await asyncio.sleep(0)
    ended = attempt.done()
    attempt.cancel()
    await asyncio.wait({attempt})
    return ended


@pytest.mark.parametrize(("connections", "sha256"), [(1, None), (3, SHA)], ids=["one", "three, digest"])
async def test_cancelled_at_every_turn_nothing_is_lost_or_fetched_twice(connections: int, sha256: str | None) -> None:
    """Whatever was received is claimed when the attempt has ended, and the next process receives exactly the rest."""
    count, ended = 0, False
    while not ended:
        rig = make(connections, sha256)
        ended = await steps(rig, count)
        received = rig.session.received
        await rig.engine.close()
        assert overclaimed(rig) == []
        if rig.store.finished is None:
            kept = sum(claim.length for claim in rig.store.claims.values())
            assert received in {kept, SIZE}, count
            rig.new_session()
            await rig.run()
            assert kept + rig.session.received == SIZE, count
        assert rig.published == DATA
        assert not rig.folder.locked
        count += 1 if count < 150 else 5
    assert count > 40


class World:
    """Takes a picture of files and rows after every change to either, as a power cut would leave them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.pictures: list[tuple[dict[Path, bytearray], dict[int, Checkpoint], Any, int]] = []
        for name in ("begin", "commit", "forget", "finish"):
            setattr(rig.store, name, self._seen(getattr(rig.store, name)))
        rig.prepare = self._prepare

    def _prepare(self, part: MemoryPartFile) -> None:
        for name in ("write", "truncate", "reserve", "publish", "set_aside"):
            setattr(part, name, self._seen(getattr(part, name)))

    def _seen(self, method: Any) -> Any:
        async def called(*arguments: Any, **named: Any) -> Any:
            result = await method(*arguments, **named)
            store = self.rig.store
            self.pictures.append(
                (copy.deepcopy(self.rig.folder.files), dict(store.claims), store.representation, store.chunk_size)
            )
            return result

        return called


def restored(rig: Rig, picture: tuple[dict[Path, bytearray], dict[int, Checkpoint], Any, int]) -> Rig:
    """Return a rig that finds the world as it is in a picture."""
    files, claims, representation, chunk_size = picture
    again = Rig(ScriptedTransport(DATA), connections=2, sha256=rig.request.sha256)
    again.folder = MemoryFolder(files=copy.deepcopy(files))
    again.store.claims, again.store.representation = dict(claims), representation
    again.store.chunk_size = chunk_size
    again.new_session()
    return again


@pytest.mark.parametrize("sha256", [None, SHA], ids=["no digest", "digest"])
async def test_killed_after_every_change_no_row_claims_too_much(sha256: str | None) -> None:
    """From each of these states the next process ends with the right file, and fetches no more than is not claimed."""
    rig = make(3, sha256)
    world = World(rig)
    await rig.run()
    assert len(world.pictures) > 20
    for number, picture in enumerate(world.pictures):
        again = restored(rig, picture)
        assert overclaimed(again) == [], number
        claimed = sum(claim.length for claim in picture[1].values())
        if DEST in picture[0] and not picture[1]:
            continue  # the receipt is written: the manager finds the file there
        await again.run()
        assert again.published == DATA, number
        assert again.session.received <= SIZE - claimed, number


async def published_without_a_receipt(*, sha256: str | None = None) -> Rig:
    """Return a rig as a process leaves it that dies between the renaming and the receipt."""
    rig = make(1, sha256)
    world = World(rig)
    await rig.run()
    files = next(one for one in world.pictures if DEST in one[0])
    return restored(rig, files)


@pytest.mark.parametrize("sha256", [None, SHA], ids=["no digest", "digest"])
async def test_a_publication_nobody_recorded_is_recognised(sha256: str | None) -> None:
    """Not a byte is fetched, no part file is made, and the receipt is written (reliability C4)."""
    rig = await published_without_a_receipt(sha256=sha256)
    published = await rig.attempt()
    assert (DEST, SIZE, sha256) == (published.path, published.size, published.sha256)
    assert published.verified_by == ("etag" if sha256 is None else "digest")
    assert rig.transport.requests == []
    assert rig.store.finished is not None
    assert rig.store.finished.digests[:32] == hashlib.sha256(DATA[:CHUNK]).digest()
    assert set(rig.folder.files) == {DEST}


@pytest.mark.parametrize(
    "change", ["one bit", "another size", "another digest wanted", "asked to begin again", "a claim less"]
)
async def test_what_only_looks_like_a_publication_is_not_taken_for_one(change: str) -> None:
    """Somebody has put another file there, or more is wanted of it: everything is fetched."""
    rig = await published_without_a_receipt()
    if change == "one bit":
        rig.folder.files[DEST][5] ^= 1
    elif change == "another size":
        rig.folder.files[DEST].append(0)
    elif change == "a claim less":
        del rig.store.claims[3]
    else:
        options = {"sha256": "0" * 64} if change == "another digest wanted" else {"restart": True}
        rig.request = Rig(rig.transport, connections=1, **options).request
        rig.new_session()
        saved = await rig.store.load("d1")
        assert isinstance(saved, Saved)
    if change == "another digest wanted":
        rig.transport.content = b"x"
        with pytest.raises(Exception, match=r"SHA-256|changed"):
            await rig.attempt()
    else:
        await rig.attempt()
        assert rig.published == DATA
    assert rig.transport.requests
