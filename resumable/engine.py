"""One attempt of one download: load what is kept, fetch what is missing, prove it, publish it.

It neither retries nor sleeps between attempts, and it never says whether a failure is worth another try: it raises
typed facts. The same ``Engine`` is used for all attempts in one process, so that only the first one loads and audits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from resumable.completion import Completion, Published
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
from resumable.plan import ChunkGrid, chunk_size_for
from resumable.ports import Response
from resumable.response import Accept
from resumable.session import Adapters, Mode, Session
from resumable.validators import has_validator

__all__ = ["Engine", "Published"]


class Engine:
    """Makes attempts for one session."""

    def __init__(self, session: Session, adapters: Adapters) -> None:
        """Prepare; nothing is opened before the first attempt."""
        self.session = session
        self._adapters = adapters

    async def attempt(self, generation: int, progress: Callable[[int], None]) -> Published:
        """Make one pass over what is missing; publish when nothing is.

        ``generation`` is the lease's fencing number, ``progress`` is told the durable bytes after each checkpoint.
        Raises a DownloadError subclass with the facts. Cancelling it keeps every byte received: they are written and
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
        completion = Completion(self.session, self._adapters)
        while True:
            crew = Crew(self.session, self._adapters, adopt=self._adopt, spool=self._spool, progress=progress)
            await crew.run()
            digest = await completion.verify()
            if digest is not None:
                return await completion.publish(digest or None)

    async def _switch_source(self, error: DownloadError) -> bool:
        """Turn to the next source; False where that would mix two sources that nothing proves equal."""
        session = self.session
        kept = session.representation if session.durable else None
        if kept is not None and self.session.expected_digest is None:
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
        await self.session.close()

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
        grid = ChunkGrid(length, saved.chunk_size)
        session.claims = {index: claim for index, claim in saved.checkpoints.items() if 0 <= index < grid.count}
        session.ledger = Ledger(grid, session.claims)
        session.kept = {index: claim.length for index, claim in session.claims.items()}
        session.source.ranges_proved = not session.claims
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
        session.kept = {}
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
        if self.session.expected_digest is None or session.ledger is None or session.part is None:
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
                    "the server states no length and repeated reads differ: whole and broken files look the same here",
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
