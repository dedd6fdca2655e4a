"""One attempt of one download: load what is kept, fetch what is missing, prove it, publish it.

It neither retries nor sleeps between attempts, and it never says whether a failure is worth another try: it raises
typed facts.
The same ``Engine`` is used for all attempts in one process, so that only the first one loads and audits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from resumable.crew import Crew
from resumable.errors import (
    DestinationError,
    DigestMismatch,
    DownloadError,
    LengthUnverified,
    OriginError,
    RepresentationChanged,
)
from resumable.events import EventName
from resumable.filename import name_from
from resumable.ledger import Ledger
from resumable.lengthless import CHUNK_SIZE, MOST_READS, Spooled, framed, spool
from resumable.model import Checkpoint, Finished
from resumable.plan import ChunkGrid, chunk_size_for
from resumable.ports import Response
from resumable.response import Accept
from resumable.session import Adapters, Mode, Session
from resumable.validators import has_validator, proof

_MOST_REPAIRS = 2


@dataclass(frozen=True, slots=True)
class Published:
    """What an attempt that succeeded leaves: the file, its size in bytes, its digest where known, and what proves
    it.
    """

    path: Path
    size: int
    sha256: str | None
    verified_by: str


class Engine:
    """Makes attempts for one session."""

    def __init__(self, session: Session, adapters: Adapters) -> None:
        """Prepare; nothing is opened before the first attempt."""
        self.session = session
        self._adapters = adapters

    async def attempt(self, generation: int, progress: Callable[[int], None]) -> Published:
        """Make one pass over what is missing; publish when nothing is.

        ``generation`` is the lease's fencing number, ``progress`` is told the durable bytes after each checkpoint.
        Raises a
        DownloadError subclass with the facts. Cancelling it keeps every byte received: they are written and
        checkpointed first.
        """
        session = self.session
        session.generation = generation
        try:
            await self._load()
            if session.pending_restart is not None:
                await self._restart(session.pending_restart)
            return await self._from_any_source(progress)
        except RepresentationChanged as error:
            session.pending_restart = f"changed: {error.reason}"
            session.changes_seen += 1
            raise

    async def _from_any_source(self, progress: Callable[[int], None]) -> Published:
        """Try the source in use, then its mirrors, each at most once; raises what the last one raised."""
        session = self.session
        tried = 1
        while True:
            try:
                return await self._fetch_and_publish(progress)
            except (OriginError, DigestMismatch) as error:
                primary_changed = isinstance(error, RepresentationChanged) and session.source_index == 0
                if primary_changed or tried >= len(session.sources) or not await self._switch_source(error):
                    raise
                tried += 1

    async def _fetch_and_publish(self, progress: Callable[[int], None]) -> Published:
        await self._load()
        while True:
            crew = Crew(self.session, self._adapters, adopt=self._adopt, spool=self._spool, progress=progress)
            await crew.run()
            digest = await self._verify()
            if digest is not None:
                return await self._publish(digest or None)

    async def _switch_source(self, error: DownloadError) -> bool:
        """Turn to the next source; False where that would mix two sources that nothing proves equal."""
        session = self.session
        kept = session.representation if session.durable else None
        if kept is not None and self._expected_digest() is None:
            return False
        session.source_index = (session.source_index + 1) % len(session.sources)
        if kept is None:
            session.ledger = None
            session.representation = None
            session.begun = False
        else:
            # Validators of two origins say nothing about each other: size, overlap and the whole digest have to.
            session.representation = replace(kept, etag=None, last_modified=None, last_modified_strong=False)
            session.mode = Mode.SINGLE
        self._adapters.notify(EventName.WARNING, f"{error}; going on with {session.source.shown}")
        return True

    async def close(self) -> None:
        """Release the part file; everything stays on disk."""
        session = self.session
        if session.whole is not None:
            await session.whole.close()
            session.whole = None
        if session.part is not None:
            await session.part.close()
            session.part = None

    # -- before the first byte ---------------------------------------------------------------------------------------

    async def _load(self) -> None:
        session = self.session
        if session.loaded:
            return
        saved = None
        if not session.request.options.restart:
            saved = await self._adapters.store.load(session.download_id)
        if session.dest is not None:
            await self._open_part(session.dest)
        session.loaded = True
        length = saved.representation.complete_length if saved is not None else None
        if saved is None or length is None or session.part is None:
            return
        session.representation = session.source.representation = saved.representation
        session.begun = True
        session.claims = dict(saved.checkpoints)
        session.ledger = Ledger(ChunkGrid(length, saved.chunk_size), session.claims)
        session.mode = self._mode()
        await session.part.reserve(length)
        self._follow()
        self._adapters.notify(
            EventName.RESUMED, f"a former run left {sum(c.length for c in saved.checkpoints.values())} bytes"
        )

    async def _open_part(self, dest: Path) -> None:
        session = self.session
        if session.part is None:
            session.part = await self._adapters.open_part(dest.with_name(dest.name + ".part"))

    async def _restart(self, reason: str) -> None:
        """Give up what is kept, for a reason that is said; the next answer binds the download to what it now is."""
        session = self.session
        session.ledger = None
        session.representation = None
        session.claims = {}
        session.begun = False
        for source in session.sources:
            source.representation = None
            source.resolved = None
        if session.whole is not None:
            await session.whole.close()
            session.whole = None
        if session.part is not None:
            await session.part.truncate(0)
        session.pending_restart = None
        session.restarted = reason
        # An origin that changes under our hands is read in one piece: several ranges could be of several versions.
        session.mode = Mode.SINGLE if session.mode is not Mode.SEQUENTIAL else Mode.SEQUENTIAL
        self._adapters.notify(EventName.RESTARTED, reason)

    def _mode(self) -> Mode:
        session = self.session
        if session.mode is Mode.SEQUENTIAL:
            return Mode.SEQUENTIAL
        representation = session.representation
        if session.changes_seen or representation is None or not has_validator(representation):
            return Mode.SINGLE
        return Mode.PARALLEL

    # -- the first answer ----------------------------------------------------------------------------------------------

    async def _adopt(self, accept: Accept, response: Response) -> None:
        """Bind the session to what the first usable answer says: identity, size, name, ranges."""
        session = self.session
        representation = accept.representation
        self._refuse_contradiction(representation.sha256, representation.sha256_source)
        session.representation = session.source.representation = representation
        if session.filename is None:
            session.filename = await self._adapters.choose_name(name_from(response.url, response.headers))
            await self._adapters.store.named(
                session.download_id, session.generation, session.request.directory / session.filename
            )
        dest = session.request.directory / session.filename
        await self._open_part(dest)
        if not accept.ranged and accept.complete_length != 0:
            session.mode = Mode.SEQUENTIAL
            session.can_resume = False
        else:
            session.mode = self._mode()
            session.can_resume = accept.ranged
        length = accept.complete_length
        if length is None:
            return
        most = session.request.options.max_bytes
        if most is not None and length > most:
            raise DestinationError(f"the file has {length} bytes, more than the {most} allowed")
        chunk_size = session.request.options.chunk_size or chunk_size_for(length)
        session.ledger = Ledger(ChunkGrid(length, chunk_size), {})
        if session.part is not None:
            await session.part.reserve(length)
        self._follow()
        self._adapters.notify(EventName.PROGRESS, "")

    def _refuse_contradiction(self, stated: str | None, source: str | None) -> None:
        """Fail before 40 GB are fetched when the origin states another digest than the caller expects."""
        wanted = self.session.request.sha256
        if wanted is not None and stated is not None and stated != wanted:
            raise DigestMismatch(
                expected=wanted,
                actual=stated,
                source=f"the caller (the origin states {source})",
                url=self.session.source.shown,
            )

    def _follow(self) -> None:
        session = self.session
        if self._expected_digest() is None or session.ledger is None or session.part is None:
            return
        if session.ledger.grid.count > 1 and session.whole is None:
            session.whole = self._adapters.follow(session.part)

    async def _spool(self, response: Response, again: Callable[[], AbstractAsyncContextManager[Response]]) -> None:
        """Take a body without a length; see ``lengthless.py`` for why it may be read more than once."""
        session = self.session
        first = await self._spool_once(response)
        if not framed(response):
            for _ in range(MOST_READS - 1):
                async with again() as response_again:
                    second = await self._spool_once(response_again)
                if second == first:
                    break
                first = second
            else:
                raise LengthUnverified(
                    "the server states no length and repeated reads differ, so the file cannot be told from a broken one",
                    url=session.source.shown,
                )
        representation = session.representation
        if representation is None or session.part is None:
            raise RuntimeError("a body is spooled after its answer was adopted")
        session.representation = replace(representation, complete_length=first.length)
        grid = ChunkGrid(first.length, CHUNK_SIZE)
        ledger = Ledger(grid, {})
        for index, digest in enumerate(first.digests):
            ledger.wrote(index, grid.span(index).length, digest)
        session.ledger = ledger
        await session.part.truncate(first.length)
        self._follow()

    async def _spool_once(self, response: Response) -> Spooled:
        session = self.session
        if session.part is None:
            raise RuntimeError("a body is spooled after its part file was opened")
        most = session.request.options.max_bytes
        spooled = await spool(
            response, session.part, received=session.add_received, throttle=self._adapters.throttle, most_bytes=most
        )
        if spooled is None:
            raise DestinationError(f"the file has more than the {most} bytes allowed")
        return spooled

    # -- proof and publication
    # -------------------------------------------------------------------------------------------

    def _expected_digest(self) -> tuple[str, str] | None:
        session = self.session
        if session.request.sha256 is not None:
            return session.request.sha256, "the caller"
        representation = session.representation
        if representation is not None and representation.sha256 is not None:
            return representation.sha256, representation.sha256_source or "the origin"
        return None

    async def _verify(self) -> str | None:
        """Return the file's digest in hex, "" where none is known, None when damage was found and must be fetched
        again.
        """
        session = self.session
        ledger = session.ledger
        if ledger is None or session.part is None:
            raise RuntimeError("nothing was fetched")
        self._adapters.notify(EventName.VERIFYING, "")
        await session.part.truncate(ledger.grid.complete_length)
        expected = self._expected_digest()
        if ledger.grid.count == 1:
            actual = ledger.digests[0].hex()
        elif expected is None:
            return ""
        else:
            actual = await self._whole_digest(ledger)
        if expected is None or actual == expected[0]:
            return actual
        if session.repairs < _MOST_REPAIRS and await self._repair(ledger):
            return None
        raise await self._set_aside(expected, actual)

    async def _whole_digest(self, ledger: Ledger) -> str:
        session = self.session
        if ledger.grid.count == 0:
            return "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        if session.whole is None:
            if session.part is None:
                raise RuntimeError("the part file is open while it is verified")
            session.whole = self._adapters.follow(session.part)
        length = ledger.grid.complete_length
        session.whole.advance(length)
        return await session.whole.finish(length)

    async def _repair(self, ledger: Ledger) -> bool:
        """After a wrong whole digest: find chunks that are not on disk as they were received; True if there were
        any.
        """
        session = self.session
        session.repairs += 1
        if session.part is None:
            return False
        claims = {
            index: Checkpoint(index, ledger.grid.span(index).length, digest) for index, digest in ledger.digests.items()
        }
        damaged = [
            audited.checkpoint.index
            async for audited in self._adapters.audit(
                session.part, claims, ledger.grid.chunk_size, ledger.grid.complete_length
            )
            if not audited.ok
        ]
        for index in damaged:
            ledger.damaged(index)
            if session.whole is not None:
                session.whole.rewind(ledger.grid.span(index).start)
        if damaged:
            await self._adapters.store.forget(session.download_id, session.generation, damaged)
            self._adapters.notify(EventName.REPAIRED, f"{len(damaged)} chunk(s) rotted on disk and are fetched again")
        return bool(damaged)

    async def _set_aside(self, expected: tuple[str, str], actual: str) -> DigestMismatch:
        """The bytes on disk are what the origin sent, and they are not what was promised: keep them out of the way."""
        session = self.session
        dest, ledger = session.dest, session.ledger
        if dest is None or session.part is None or ledger is None:
            raise RuntimeError("the part file is open while it is verified")
        suspect = dest.with_name(dest.name + ".suspect")
        await self._adapters.store.forget(session.download_id, session.generation, list(ledger.digests))
        await session.part.set_aside(suspect)
        await self.close()
        session.ledger = None
        session.representation = None
        session.loaded = False
        return DigestMismatch(
            expected=expected[0], actual=actual, source=expected[1], url=session.source.shown, kept=suspect.name
        )

    async def _publish(self, digest: str | None) -> Published:
        """Publish and record it; once begun it is finished, cancelled or not, so that a rename is not left without
        its row.
        """
        finishing = asyncio.ensure_future(self._publish_now(digest))
        try:
            return await asyncio.shield(finishing)
        except asyncio.CancelledError:
            if not finishing.done():
                await asyncio.wait({finishing})
            raise

    async def _publish_now(self, digest: str | None) -> Published:
        session = self.session
        ledger, representation, dest = session.ledger, session.representation, session.dest
        if ledger is None or representation is None or dest is None or session.part is None:
            raise RuntimeError("only a complete download is published")
        path = await session.part.publish(dest, replace=session.request.filename is not None)
        proved = "digest" if self._expected_digest() is not None else proof(representation)
        finished = Finished(
            path=path,
            size=ledger.grid.complete_length,
            sha256=digest,
            representation=representation,
            chunk_size=ledger.grid.chunk_size,
            digests=b"".join(ledger.digests[index] for index in range(ledger.grid.count)),
            verified_by=proved,
            bytes_received=session.received,
        )
        await self._adapters.store.finish(session.download_id, session.generation, finished)
        await self.close()
        return Published(path, finished.size, digest, proved)
