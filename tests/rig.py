"""An engine among fakes, for tests: one download, whose attempts, processes and disk the test controls."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recovery.clock import Clock, SystemClock
from resumable.audit import audit
from resumable.engine import Engine, Published
from resumable.errors import DownloadError, Interrupted, StatusError
from resumable.events import EventName
from resumable.hashing import FollowBehind
from resumable.identity import link_of
from resumable.model import DownloadRequest, Options
from resumable.ports import PartFile
from resumable.session import Adapters, Session, WholeDigest
from resumable.source import Source
from resumable.testing import MemoryCheckpoints, MemoryFolder, MemoryPartFile, Reply, ScriptedTransport

KIB = 1 << 10
CHUNK = 64 * KIB
CONTENT = random.Random(7).randbytes(40 * CHUNK + 123)
OTHER = random.Random(8).randbytes(len(CONTENT))
URL = "https://origin.test/model.bin"

Damage = Callable[[bytearray], None]
"""Does something to the bytes of a part file."""


class Rig:
    """A download with fakes all around; ``run`` makes attempts until one succeeds or raises what is not expected."""

    def __init__(
        self,
        transport: Any,
        *,
        connections: int = 3,
        sha256: str | None = None,
        mirrors: tuple[str, ...] = (),
        url: str = URL,
        filename: str | None = "model.bin",
        follow: Callable[[PartFile], WholeDigest] = FollowBehind,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.transport = transport
        self.store = MemoryCheckpoints()
        self.folder = MemoryFolder()
        self.told: list[tuple[EventName, str]] = []
        self.durable = 0
        self.prepare: Callable[[MemoryPartFile], None] = lambda part: None
        """Given every part file that is opened from now on, to hold up or to make fail."""
        self._follow = follow
        self._clock = clock or SystemClock()
        settings = {"chunk_size": CHUNK, "checkpoint_interval_s": 0.002, **options}
        self.request = DownloadRequest(
            url=url,
            directory=Path("/d"),
            filename=filename,
            sha256=sha256,
            mirrors=mirrors,
            options=Options(connections=connections, **settings),
        )
        self.new_session()

    def new_session(self) -> None:
        """Begin as a new process would."""
        sources = [Source(link, {}, link=link_of(link)) for link in (self.request.url, *self.request.mirrors)]
        self.session = Session("d1", self.request, sources, self.request.filename)
        self.engine = Engine(
            self.session,
            Adapters(
                transport=self.transport,
                store=self.store,
                clock=self._clock,
                open_part=self._open,
                audit=lambda part, claims, size, length: audit(
                    part, claims, chunk_size=size, complete_length=length, run_length=size
                ),
                follow=self._follow,
                open_new=lambda suggested, _room: self._open(self.request.directory / f"{suggested}.part"),
                throttle=None,
                notify=lambda name, message: self.told.append((name, message)),
                open_finished=self.folder.open_finished,
            ),
        )

    async def _open(self, path: Path) -> MemoryPartFile:
        part = await self.folder.open(path)
        self.prepare(part)
        return part

    async def attempt(self) -> Published:
        """Make one attempt."""

        def progress(durable: int) -> None:
            self.durable = durable

        return await self.engine.attempt(1, progress)

    async def run(
        self, expected: type[DownloadError] | tuple[type[DownloadError], ...] = Interrupted, most: int = 60
    ) -> Published:
        """Make attempts until one succeeds."""
        for _ in range(most):
            try:
                return await self.attempt()
            except expected:
                continue
        raise AssertionError("no attempt succeeded")

    @property
    def part(self) -> bytearray:
        """The part file's bytes."""
        return self.folder.files[Path("/d/model.bin.part")]

    @property
    def open_part(self) -> MemoryPartFile:
        """The open part file, to hold up, to make fail, and to damage."""
        part = self.session.open_part
        assert isinstance(part, MemoryPartFile)
        return part

    @property
    def published(self) -> bytes:
        """The finished file's bytes."""
        return bytes(self.folder.files[Path("/d/model.bin")])

    def names(self) -> list[EventName]:
        """Return the names of what was told."""
        return [name for name, _ in self.told]

    def messages(self, name: EventName) -> list[str]:
        """Return the words of every event of this name."""
        return [message for told, message in self.told if told is name]

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the rest run until ``condition`` holds."""
        while not condition():
            await asyncio.sleep(0.001)


async def half_done(transport: ScriptedTransport, *, chunks: int = 10, connections: int = 1, **options: Any) -> Rig:
    """Return a rig whose first process left the first ``chunks`` chunks, before anything of the second process."""
    transport.script.extend([Reply(cut_after=chunks * CHUNK), *[Reply(status=503)] * 4])
    rig = Rig(transport, connections=connections, **options)
    with contextlib.suppress(StatusError):
        await rig.attempt()
    assert rig.session.durable == chunks * CHUNK
    await rig.engine.close()
    transport.script.clear()
    transport.requests.clear()
    transport.body_bytes = 0
    rig.told.clear()
    rig.new_session()
    return rig
