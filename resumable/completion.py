"""What happens once nothing is missing: the whole digest, healing what rotted, publication, or setting aside.

Nothing reaches the final name before every chunk's digest is known and the whole digest, where somebody states one, is
right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from resumable.errors import DestinationError, DigestMismatch
from resumable.events import EventName
from resumable.ledger import Ledger
from resumable.model import Checkpoint, Finished
from resumable.ports import Readable
from resumable.session import Adapters, Mode, Session
from resumable.settling import until_done

__all__ = ["Completion", "Published"]

_MOST_REPAIRS: Final = 4
_EMPTY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


class Published(Struct, frozen=True):
    """What an attempt that succeeded leaves: the file, its size in bytes, its digest, and what proves it."""

    path: Path
    size: int
    sha256: str | None
    """In hex; None where nobody asked for it."""
    verified_by: str
    note: str = ""
    """Why it needed no transfer, where that is so."""


class Completion:
    """Proves and publishes what a session has fetched."""

    def __init__(self, session: Session, adapters: Adapters) -> None:
        """Prepare."""
        self._session = session
        self._adapters = adapters

    async def verify(self) -> str | None:
        """Return the file's digest in hex, "" where none is known, None when damage was found and must be fetched
        again.

        Raises DigestMismatch: what came is not what was promised; the file is kept as ``.suspect``.
        """
        session = self._session
        ledger = session.bound_ledger
        self._adapters.notify(EventName.VERIFYING, "")
        length, expected = ledger.grid.complete_length, session.expected_digest
        if ledger.grid.count != 1 and not await session.open_part.truncate(length) and await self._heal(ledger):
            return None
        if ledger.grid.count == 1:
            actual = ledger.digests[0].hex()
        elif expected is None:
            return ""
        else:
            actual = await self._whole_digest(ledger)
        if expected is None or actual == expected[0]:
            return actual
        if ledger.grid.count == 1 and not await session.open_part.truncate(length) and await self._heal(ledger):
            return None
        if session.repairs < _MOST_REPAIRS and (await self._repair(ledger) or await self._read_again(ledger)):
            return None
        raise await self._set_aside(expected, actual)

    async def _heal(self, ledger: Ledger) -> bool:
        """Find what is missing of a part file that another program has cut or written to; True if there was anything.

        Raises DestinationError where that happens again and again.
        """
        session = self._session
        if not await self._repair(ledger):
            return False
        if session.repairs > _MOST_REPAIRS:
            raise DestinationError(f"{session.open_part.path} is changed again and again by another program")
        return True

    async def _whole_digest(self, ledger: Ledger) -> str:
        session = self._session
        if ledger.grid.count == 0:
            return _EMPTY
        if session.whole is None:
            session.whole = self._adapters.follow(session.open_part)
        length = ledger.grid.complete_length
        session.whole.advance(length)
        return await session.whole.finish(length)

    async def _repair(self, ledger: Ledger) -> bool:
        """Find chunks that are not on disk as they were received, after a wrong whole digest or where another program
        seems to have changed the file; True if there were any.
        """
        session = self._session
        session.repairs += 1
        damaged = await self._damaged(session.open_part, ledger)
        if damaged:
            await self._take_back(ledger, damaged)
            self._adapters.notify(
                EventName.REPAIRED, f"{len(damaged)} chunk(s) were damaged on disk: they are fetched again"
            )
        return bool(damaged)

    async def _damaged(self, file: Readable, ledger: Ledger) -> list[int]:
        """Return which chunks ``file`` does not have as they were received."""
        grid = ledger.grid
        claims = {index: Checkpoint(index, grid.span(index).length, digest) for index, digest in ledger.digests.items()}
        verdicts = self._adapters.audit(file, claims, grid.chunk_size, grid.complete_length)
        return [audited.checkpoint.index async for audited in verdicts if not audited.ok]

    async def _read_again(self, ledger: Ledger) -> bool:
        """The disk holds what came, and that is wrong: True where reading again may tell what the way has damaged.

        The first time everything is read again, then only the chunks that two readings disagree on. Two readings that
        agree are what the origin has (ollama#8105: a new wrong digest each time, and 42 GB thrown away each time).
        """
        session = self._session
        if session.adopted:
            # Nobody has seen these come: they are to blame before anything else is.
            adopted, session.adopted = sorted(session.adopted), set()
            what = f"the {len(adopted)} chunk(s) of the part file that nothing vouched for"
            self._adapters.notify(EventName.REPAIRED, f"the SHA-256 is wrong: fetching {what}")
            await self._take_back(ledger, adopted)
            return True
        if not self._worth_reading_again():
            return False
        former, session.former_reading = session.former_reading, dict(ledger.digests)
        wrong = [i for i in ledger.digests if former is None or ledger.digests[i] != former.get(i)]
        if not wrong:
            return False
        what = "the file" if former is None else f"{len(wrong)} chunk(s) that came differently"
        self._adapters.notify(EventName.REPAIRED, f"the SHA-256 is wrong: reading {what} again")
        await self._take_back(ledger, wrong)
        if not session.breaks:
            session.mode = Mode.SEQUENTIAL  # in one piece, for it may be the ranges that are wrong
        return True

    def _worth_reading_again(self) -> bool:
        """Whether the way is to blame, rather than whoever stated the digest.

        TLS protects the way; then only an origin that contradicts its own digest, or whose validators are in doubt, can
        have sent something else. Where there is a mirror it is asked instead.
        """
        session = self._session
        source = session.source
        plain = (source.resolved or source.url).lower().startswith("http://")
        return len(session.sources) == 1 and (plain or session.doubtful or session.request.sha256 is None)

    async def _take_back(self, ledger: Ledger, indexes: Sequence[int]) -> None:
        session = self._session
        for index in indexes:
            ledger.damaged(index)
        if session.whole is not None:
            session.whole.rewind(ledger.grid.span(min(indexes)).start)
        await self._adapters.store.forget(session.download_id, session.generation, indexes)

    async def _set_aside(self, expected: tuple[str, str], actual: str) -> DigestMismatch:
        """The bytes on disk are what the origin sent, and they are not what was promised: keep them out of the way."""
        session = self._session
        dest, ledger, part = session.dest, session.bound_ledger, session.open_part
        if dest is None:
            raise RuntimeError("a file that is verified has a name")
        suspect = dest.with_name(dest.name + ".suspect")
        await self._adapters.store.forget(session.download_id, session.generation, list(ledger.digests))
        await part.set_aside(suspect)
        await session.close()
        session.ledger = None
        session.representation = None
        session.former_reading = None
        session.loaded = False
        return DigestMismatch(
            expected=expected[0], actual=actual, source=expected[1], url=session.source.shown, kept=suspect.name
        )

    async def publish(self, digest: str | None) -> Published | None:
        """Publish and record it, or return None when damage was found and must be fetched again.

        Once begun it is finished, cancelled or not, so that a rename is not left without its row. A cancellation comes
        too late then: done is done, and that is what the caller hears.
        """
        self._adapters.publishing()
        finishing = asyncio.ensure_future(self._publish(digest))
        held_back = await until_done(finishing)
        if held_back is not None and (finishing.exception() is not None or finishing.result() is None):
            raise held_back
        return finishing.result()

    async def _published_before(self, dest: Path, ledger: Ledger) -> bool:
        """Whether a former run has published this very file under the name that it had taken, and did not live to
        record it: of a small file there was nothing yet by which the next run could have told.
        """
        session = self._session
        if session.request.filename is not None or session.name_is_new or self._adapters.open_finished is None:
            return False
        file = await self._adapters.open_finished(dest, ledger.grid.complete_length)
        if file is None:
            return False
        try:
            return not await self._damaged(file, ledger)
        finally:
            await file.close()

    async def _publish(self, digest: str | None) -> Published | None:
        session = self._session
        ledger, representation, dest = session.bound_ledger, session.representation, session.dest
        if representation is None or dest is None:
            raise RuntimeError("only a complete download is published")
        # Without clobbering: a file that has come to stand there meanwhile stays, and this one gets a number.
        replace = session.request.filename is not None and not session.request.options.no_clobber
        # Of one chunk, only now: a small file should not cost a hop more. What is larger has been read at its length.
        length = ledger.grid.complete_length if ledger.grid.count == 1 else None
        path = dest if await self._published_before(dest, ledger) else None
        if path is not None:
            await session.open_part.abandon()
        while path is None:
            path = await session.open_part.publish(dest, replace=replace, length=length)
            if path is None and await self._heal(ledger):
                return None
        if path != dest:
            stays = f"{dest.name} has come to be there meanwhile and stays as it is"
            self._adapters.notify(EventName.WARNING, f"{stays}: this file is called {path.name}")
        finished = Finished(
            path=path,
            size=ledger.grid.complete_length,
            sha256=digest,
            representation=representation,
            chunk_size=ledger.grid.chunk_size,
            digests=b"".join(ledger.digests[index] for index in range(ledger.grid.count)),
            verified_by=session.proof,
            bytes_received=session.received,
            links=session.links,
        )
        await self._adapters.store.finish(session.download_id, session.generation, finished)
        await session.close()
        return Published(path, finished.size, digest, session.proof)
