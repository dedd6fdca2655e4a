"""A publication that its process did not live to record: recognised by its chunks, and recorded, not repeated.

Between the renaming of the part file and the receipt a process may die. Then every chunk is claimed, no part file is
there, and a file of the right size stands at the destination.
"""

from __future__ import annotations

import hashlib

from resumable.completion import Published
from resumable.model import Finished, Saved
from resumable.ports import Readable
from resumable.session import Adapters, Session
from resumable.validators import proof

__all__ = ["recognised"]


async def recognised(session: Session, adapters: Adapters, saved: Saved) -> Published | None:
    """Return the publication that only lacks its receipt, which is written; None where there is none.

    Raises DeviceError where the file cannot be read, LeaseLost where another process has the download.
    """
    dest, length = session.dest, saved.representation.complete_length
    if dest is None or length is None or adapters.open_finished is None or not _complete(saved, length):
        return None
    file = await adapters.open_finished(dest, length)
    if file is None:
        return None
    session.representation = saved.representation
    try:
        if not await _holds(file, adapters, saved, length):
            return None
        digest, expected = None, session.expected_digest
        if expected is not None:
            whole = hashlib.sha256()
            await file.hash_span(0, length, whole)
            digest = whole.hexdigest()
            if digest != expected[0]:
                return None
    finally:
        session.representation = None
        await file.close()
    claims = saved.checkpoints
    verified_by = "digest" if expected is not None else proof(saved.representation)
    finished = Finished(
        path=dest,
        size=length,
        sha256=digest,
        representation=saved.representation,
        chunk_size=saved.chunk_size,
        digests=b"".join(claims[index].digest for index in sorted(claims)),
        verified_by=verified_by,
        bytes_received=session.received,
        links=session.links,
    )
    await adapters.store.finish(session.download_id, session.generation, finished)
    session.representation = saved.representation
    return Published(dest, length, digest, verified_by)


def _complete(saved: Saved, length: int) -> bool:
    count = -(-length // saved.chunk_size)
    claimed = sum(claim.length for claim in saved.checkpoints.values())
    return count > 0 and set(saved.checkpoints) == set(range(count)) and claimed == length


async def _holds(file: Readable, adapters: Adapters, saved: Saved, length: int) -> bool:
    """Whether the file has every chunk as it is claimed."""
    verdicts = adapters.audit(file, saved.checkpoints, saved.chunk_size, length)
    return all([audited.ok async for audited in verdicts])
