"""What binds a session to one representation: a former run's books, or the first usable answer; and what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from resumable.completion import Published
from resumable.errors import DestinationError, DigestMismatch, LengthUnverified
from resumable.events import EventName
from resumable.filename import name_from
from resumable.ledger import Ledger
from resumable.lengthless import CHUNK_SIZE, MOST_READS, Spooled, framed, spool
from resumable.model import Checkpoint, Saved, There
from resumable.plan import ChunkGrid, chunk_size_for
from resumable.ports import Response
from resumable.ranges import Span
from resumable.recognition import recognised
from resumable.response import Accept
from resumable.session import Adapters, Mode, Session
from resumable.validators import elsewhere, has_validator, weakened

__all__ = ["Binding", "Unclobbered"]

_DIGEST_SIZE: Final = 32


class Unclobbered(Exception):  # noqa: N818 - names what is there
    """Ends an attempt whose answer has named a file that is there already."""

    def __init__(self, there: There) -> None:
        """Keep what is there."""
        super().__init__(str(there.path))
        self.there = there


class Binding:
    """Sets up ledger, part file and digest of a session."""

    def __init__(self, session: Session, adapters: Adapters) -> None:
        """Prepare; nothing is opened yet."""
        self._session = session
        self._adapters = adapters

    # -- before the first answer -------------------------------------------------------------------------------------

    async def load(self) -> Published | None:
        """Take up what former runs left, once; what they claim is still to be audited.

        Returns what a former process had published and did not live to record.

        Raises LocalError where the part file cannot be opened, or what is missing does not fit.
        """
        session = self._session
        if session.loaded:
            return None
        saved = None
        looked, session.looked = session.looked, None
        if not session.request.options.restart:
            saved = looked[0] if looked is not None else await self._adapters.store.load(session.download_id)
        if saved is not None and not session.is_same_file(saved):
            session.kept_for_another, saved = bool(saved.checkpoints), None
        published = None if saved is None else await recognised(session, self._adapters, saved)
        if published is not None:
            return published
        if session.dest is not None:
            await self._open_part(session.dest)
        if saved is not None and session.part is not None:
            await self._continue(saved)
        session.loaded = True
        return None

    async def _continue(self, saved: Saved) -> None:
        """Take up a former run's claims, if there are any, and the identity that they belong to."""
        session, length = self._session, saved.representation.complete_length
        if length is None or session.part is None:
            return
        grid = ChunkGrid(length, saved.chunk_size)
        claims = {
            index: claim
            for index, claim in saved.checkpoints.items()
            if 0 <= index < grid.count and len(claim.digest) == _DIGEST_SIZE
        }
        if not claims:
            return  # nothing is kept that another identity could contradict
        await session.part.reserve(length)
        session.begun = True
        session.claims = claims
        session.ledger = Ledger(grid, claims)
        session.kept = {index: claim.length for index, claim in claims.items()}
        self._bind_to(saved)
        session.source.ranges_proved = False
        session.mode = self.mode()
        self._follow()
        self._adapters.notify(EventName.RESUMED, f"a former run left {sum(session.kept.values())} bytes")

    def _bind_to(self, saved: Saved) -> None:
        session = self._session
        session.representation = saved.representation
        session.bound_index = bound = session.bound_by(saved.link)
        links = {source.link for source in session.sources}
        session.query_is_new = bool(saved.link) and links.isdisjoint({saved.link, *saved.equals})
        if bound >= 0:
            session.sources[bound].representation = saved.representation
            if session.expected_digest is None:
                session.source_index = bound  # nothing would prove another one equal
        if session.source_index != bound:
            session.leave_identity()

    async def _open_part(self, dest: Path) -> None:
        session = self._session
        if session.part is None:
            session.part = await self._adapters.open_part(dest.with_name(dest.name + ".part"))

    def mode(self) -> Mode:
        """Return how the source in use may be asked, by what is known of it."""
        session = self._session
        if session.mode is Mode.SEQUENTIAL:
            return Mode.SEQUENTIAL
        known = session.representation
        if session.changes_seen or session.doubtful or known is None or not has_validator(known):
            return Mode.SINGLE
        return Mode.PARALLEL

    # -- the first answer ----------------------------------------------------------------------------------------------

    async def adopt(self, accept: Accept, response: Response) -> None:
        """Bind the session to what the first usable answer says: identity, size, name, ranges.

        Raises DigestMismatch where it contradicts the caller; LocalError where the file has no place; Unclobbered where
        one of its name counts as done.
        """
        session = self._session
        representation = weakened(accept.representation) if session.doubtful else accept.representation
        self._refuse_contradiction(representation.sha256, representation.sha256_source)
        length = accept.complete_length
        if session.filename is None:
            await self._name(name_from(response.url, response.headers), length)
        elif session.dest is not None:
            await self._open_part(session.dest)
        written: Sequence[Span] = ()
        if length is not None:
            self._refuse_size(length)
            # Before anything is bound: the next attempt begins with the same question, and is refused as early.
            written = await session.open_part.reserve(length)
        session.representation = session.source.representation = representation
        session.bound_index = session.source_index
        if session.kept_for_another:
            # Only now: had the link not answered, the other one could still go on with it.
            session.kept_for_another = False
            session.restarted = (
                "changed: it is asked for from another link, and nothing proves that the file is the same"
            )
            self._adapters.notify(EventName.RESTARTED, session.restarted)
        if not accept.ranged and length != 0:
            session.mode = Mode.SEQUENTIAL
            session.can_resume = False
        else:
            session.mode = self.mode()
            session.can_resume = accept.ranged
        if length is None:
            return
        chunk_size = session.request.options.chunk_size or chunk_size_for(length)
        session.ledger = Ledger(ChunkGrid(length, chunk_size), {})
        self._follow()
        self._take_over(written)
        self._adapters.notify(EventName.PROGRESS, "")

    async def _name(self, suggested: str, length: int | None) -> None:
        """Take a name that nobody has, and open its part file, with room for ``length`` bytes if that many may come.

        Raises Unclobbered where a file of the name counts as done.
        """
        session = self._session
        if session.part is None:
            there = None if self._adapters.unclobbered is None else await self._adapters.unclobbered(suggested)
            if there is not None:
                raise Unclobbered(there)
            session.part = await self._adapters.open_new(suggested, None if self._too_large(length) else length)
        name = session.part.path.name.removesuffix(".part")
        await self._adapters.store.named(session.download_id, session.generation, session.request.directory / name)
        session.filename = name
        session.name_is_new = True
        if name != suggested:
            self._adapters.notify(EventName.WARNING, await self._why_not(suggested, name))

    async def _why_not(self, suggested: str, name: str) -> str:
        """Say why the file is not called what it might be."""
        stands = self._adapters.stands
        if stands is None or not await stands(self._session.request.directory / suggested):
            return f"{suggested} is the name of another download: this file is called {name}"
        replaced = "" if self._session.request.options.no_clobber else "; with -o it would be replaced"
        return f"{suggested} is there already and stays as it is: this file is called {name}{replaced}"

    def _refuse_size(self, length: int) -> None:
        if self._too_large(length):
            most = self._session.request.options.max_bytes
            raise DestinationError(f"the file has {length} bytes, more than the {most} allowed")

    def _too_large(self, length: int | None) -> bool:
        most = self._session.request.options.max_bytes
        return most is not None and length is not None and length > most

    def _refuse_contradiction(self, stated: str | None, source: str | None) -> None:
        """Fail before 40 GB are fetched when the origin states another digest than the caller expects."""
        wanted = self._session.request.sha256
        if wanted is not None and stated is not None and stated != wanted:
            raise DigestMismatch(
                expected=wanted,
                actual=stated,
                source=f"the caller (the origin states {source})",
                url=self._session.source.shown,
            )

    def _follow(self) -> None:
        session = self._session
        if session.expected_digest is None or session.ledger is None or session.part is None:
            return
        if session.ledger.grid.count > 1 and session.whole is None:
            session.whole = self._adapters.follow(session.part)

    def _take_over(self, written: Sequence[Span]) -> None:
        """Claim what is in a part file without checkpoints, where a whole digest will tell whether it belongs there.

        The state file was lost, or another program began this file (aria2#1116, xet-core#321).
        """
        session = self._session
        if not written or session.mode is Mode.SEQUENTIAL or session.request.options.restart:
            return
        ledger = session.bound_ledger
        grid = ledger.grid
        if session.expected_digest is None:
            if session.restarted is None:  # else it is our own, and has been told to be given up
                self._adapters.notify(
                    EventName.WARNING, "a part file is there that nothing vouches for: it is fetched from the start"
                )
            return
        found = [i for i in range(grid.count) if any(one.covers(grid.span(i)) for one in written)]
        session.claims = {i: Checkpoint(i, grid.span(i).length, b"") for i in found}
        session.kept = {i: grid.span(i).length for i in found}
        session.adopted = set(found)
        session.source.ranges_proved = not found
        for index in found:
            ledger.plan.claim(index)

    async def spool(self, response: Response, again: Callable[[], AbstractAsyncContextManager[Response]]) -> None:
        """Take a body without a length; see ``lengthless.py`` for why it may be read more than once.

        Raises LengthUnverified where reads differ, and what ``lengthless.spool`` raises.
        """
        session = self._session
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
        if representation is None:
            raise RuntimeError("a body is spooled after its answer was adopted")
        session.representation = replace(representation, complete_length=first.length)
        grid = ChunkGrid(first.length, CHUNK_SIZE)
        ledger = Ledger(grid, {})
        for index, digest in enumerate(first.digests):
            ledger.wrote(index, grid.span(index).length, digest)
        session.ledger = ledger
        self._follow()

    async def _spool_once(self, response: Response) -> Spooled:
        session = self._session
        most = session.request.options.max_bytes
        spooled = await spool(
            response,
            session.open_part,
            received=session.add_received,
            throttle=self._adapters.throttle,
            most_bytes=most,
        )
        if spooled is None:
            raise DestinationError(f"the file has more than the {most} bytes allowed")
        return spooled

    # -- another representation, or another source ---------------------------------------------------------------------

    async def restart(self, reason: str) -> None:
        """Give up what is kept, for a reason that is said; the next answer binds the download to what it now is."""
        session = self._session
        self.forget()
        session.claims = {}
        session.kept = {}
        session.adopted = set()
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
        session.compared = session.tag_was_missing = session.query_is_new = False
        # An origin that changes under our hands is read in one piece: several ranges could be of several versions.
        if session.mode is not Mode.SEQUENTIAL:
            session.mode = Mode.SINGLE if session.changes_seen or session.doubtful else Mode.PARALLEL
        self._adapters.notify(EventName.RESTARTED, reason)

    def forget(self) -> None:
        """Be bound to nothing any more."""
        session = self._session
        session.ledger = None
        session.representation = None
        session.begun = False

    def turn_to(self, index: int) -> None:
        """Ask another source from now on; what is kept has to be proved against it by size, overlap and digest."""
        session = self._session
        kept = session.representation if session.durable else None
        session.source_index = index
        session.doubtful = False
        if session.mode is Mode.SEQUENTIAL:
            session.mode = Mode.PARALLEL
        if kept is None:
            self.forget()
        elif index == session.bound_index:
            session.representation = session.source.representation
        else:
            session.representation = elsewhere(kept)
        session.mode = self.mode() if session.ledger is not None else Mode.PARALLEL
