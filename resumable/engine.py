"""One attempt of one download: load what is kept, fetch what is missing, prove it, publish it.

It neither retries nor sleeps between attempts, and it never says whether a failure is worth another try: it raises
typed facts. The same ``Engine`` is used for all attempts in one process, so that only the first one loads and audits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from resumable.binding import Binding, Unclobbered
from resumable.completion import Completion, Published
from resumable.crew import Crew
from resumable.errors import DigestMismatch, OriginError, RepresentationChanged, StatusError
from resumable.events import EventName
from resumable.session import Adapters, Session

__all__ = ["Engine", "Published"]

_GONE: Final = frozenset({404, 410})


class Engine:
    """Makes attempts for one session."""

    def __init__(self, session: Session, adapters: Adapters) -> None:
        """Prepare; nothing is opened before the first attempt."""
        self.session = session
        self._adapters = adapters
        self._binding = Binding(session, adapters)

    async def attempt(self, generation: int, progress: Callable[[int], None]) -> Published:
        """Make one pass over what is missing; publish when nothing is.

        ``generation`` is the lease's fencing number, ``progress`` is told the durable bytes after each checkpoint.
        Raises a DownloadError subclass with the facts. Cancelling it keeps every byte received: they are written and
        checkpointed first.
        """
        session = self.session
        session.generation = generation
        try:
            published = await self._binding.load()
            if published is not None:
                return published
            if session.pending_restart is not None:
                await self._binding.restart(session.pending_restart)
            return await self._beyond_doubt(progress)
        except RepresentationChanged as error:
            session.pending_restart = f"changed: {error.reason}"
            if session.received:  # else it changed since a former run, and not under our hands
                session.changes_seen += 1
            raise
        except Unclobbered as found:
            there = found.there
            return Published(there.path, there.size, there.sha256, there.verified_by, there.note)

    async def close(self, *, keep_empty: bool = True) -> None:
        """Release the part file; everything stays on disk, but for one without a byte where not ``keep_empty``."""
        await self.session.close(keep_empty=keep_empty)

    @property
    def closed(self) -> bool:
        """Whether there is nothing to release."""
        return self.session.part is None and self.session.whole is None

    async def _beyond_doubt(self, progress: Callable[[int], None]) -> Published:
        """Begin again, in this attempt and once, where the origin's validators have come to contradict each other.

        Nobody may be to blame for that (nodes that disagree), so it uses up no try.
        """
        session = self.session
        doubtful = session.doubtful
        try:
            return await self._from_any_source(progress)
        except RepresentationChanged as error:
            if doubtful or not session.doubtful:
                raise
            await self._binding.restart(f"doubtful: {error.reason}")
            return await self._from_any_source(progress)

    async def _from_any_source(self, progress: Callable[[int], None]) -> Published:
        """Try the source in use, then the others, each at most once; raises what the first one raised.

        A mirror that serves another file is no reason to give up anything: it is not asked again.
        """
        session = self.session
        first: OriginError | DigestMismatch | None = None
        for _ in session.sources:
            try:
                return await self._fetch_and_publish(progress)
            except (OriginError, DigestMismatch) as error:
                if isinstance(error, RepresentationChanged):
                    if session.bound_index in {session.source_index, -1}:
                        raise
                    session.source.unfit = True
                else:
                    first = first or error
                newest = error
            if not await self._turn_to_next(newest):
                # From nothing: that would take its own cause away, by which a failure is judged.
                raise first or newest
        assert first is not None, "every source but the bound one was unfit"
        raise first

    async def _turn_to_next(self, error: Exception) -> bool:
        """Turn to the next source; False where there is none, or where nothing would prove it equal to this one.

        Where this one no longer has the file, what came from it is given up instead: it will never be completed.
        """
        session = self.session
        count = len(session.sources)
        following = [(session.source_index + step) % count for step in range(1, count)]
        fit = [index for index in following if not session.sources[index].unfit]
        if not fit:
            return False
        if session.durable and session.expected_digest is None:
            if not isinstance(error, StatusError) or error.status not in _GONE:
                return False
            await self._binding.restart(f"{error}, and nothing proves that another source has the same file")
        self._binding.turn_to(fit[0])
        self._adapters.notify(EventName.WARNING, f"{error}; going on with {session.source.shown}")
        return True

    async def _fetch_and_publish(self, progress: Callable[[int], None]) -> Published:
        binding = self._binding
        await binding.load()
        completion = Completion(self.session, self._adapters)
        while True:
            crew = Crew(self.session, self._adapters, adopt=binding.adopt, spool=binding.spool, progress=progress)
            await crew.run()
            digest = await completion.verify()
            published = None if digest is None else await completion.publish(digest or None)
            if published is not None:
                return published
