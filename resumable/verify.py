"""Looks at a file that stands at its final name: is it what was downloaded, is it what is asked for, has it rotted?"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from resumable.digests import parse_sha256
from resumable.errors import DestinationError, DigestMismatch, OriginError
from resumable.hops import Hops, io_executor
from resumable.identity import identities, share_link
from resumable.model import DownloadRequest, Result, There
from resumable.ports import Transport
from resumable.ranges import Span, parse_content_range, parse_unsatisfied_range
from resumable.response import content_length
from resumable.rows import FileRow
from resumable.settling import ended, until_done
from resumable.source import Source
from resumable.validators import Representation, differs

FileSize: TypeAlias = tuple[int, int]
"""Bytes, and the time of the last change in ns."""

_PER_HOP: Final = 8 << 20
"""Bytes read, or hashed, in one thread hop: some hundredths of a second, with a slow disk a few tenths."""


class VerifyReport(Struct, frozen=True, kw_only=True):
    """What reading a finished file again found."""

    path: Path
    size: int
    sha256: str
    """Of the file as it is now, hex."""
    ok: bool
    damaged: tuple[Span, ...] = ()
    """Spans whose chunks are not what was downloaded; known only where the download's receipt is."""
    source: str
    """What it was compared with: ``--sha256`` (``caller``) or the ``receipt`` of the download."""


async def verify_file(path: Path, receipt: FileRow | None, *, sha256: str | None) -> VerifyReport:
    """Read the whole file and compare. Raises LookupError with nothing to compare with, DestinationError if it is no
    file.
    """
    wanted = None if sha256 is None else parse_sha256(sha256)
    if wanted is None and receipt is None:
        if not await asyncio.to_thread(path.exists):
            raise DestinationError(f"cannot read {path}: there is no such file")
        raise LookupError(f"nothing is known of {path}: give --sha256, or the state file of its download")
    return await _verify(path, receipt, wanted)


async def as_promised(result: Result, sha256: str | None, *, url: str) -> Result:
    """Return the result of whoever ran the download if it is what somebody who joined was promised.

    The file is read where its digest is not known. Raises DigestMismatch; the file stays, for it is the other's.
    """
    if sha256 is None or (result.sha256 == sha256 and result.verified_by == "digest"):
        return result
    actual = result.sha256
    if actual != sha256:
        actual = (await verify_file(result.path, None, sha256=sha256)).sha256
    if actual != sha256:
        raise DigestMismatch(expected=sha256, actual=actual or "", source="the caller", url=url)
    return replace(result, sha256=sha256, verified_by="digest")


async def _verify(path: Path, receipt: FileRow | None, wanted: str | None) -> VerifyReport:
    reading = _Reading(0 if receipt is None else receipt.chunk_size)
    try:
        await _read(path, reading)
    except OSError as error:
        raise DestinationError(f"cannot read {path}: {error.strerror}") from error
    actual, size = reading.whole.hexdigest(), reading.size
    damaged = _damaged(receipt, reading.digests(), size) if receipt is not None else ()
    ok = actual == wanted if wanted is not None else receipt is not None and not damaged and size == receipt.size
    return VerifyReport(
        path=path,
        size=size,
        sha256=actual,
        ok=ok,
        damaged=damaged,
        source="caller" if wanted is not None else "receipt",
    )


async def _read(path: Path, reading: _Reading) -> None:
    """Read a whole file; a cancellation waits for the piece that is under way, and for the file to be closed."""
    stop = asyncio.Event()
    task = asyncio.create_task(_feed(path, reading, stop))
    try:
        await ended(task)
    except asyncio.CancelledError:
        stop.set()
        await until_done(task)
        task.exception()  # looked at: the cancellation is what is told
        raise
    task.result()


async def _feed(path: Path, reading: _Reading, stop: asyncio.Event) -> None:
    import aiofiles  # few downloads need it: 2 ms of start-up

    hops, buffer = Hops(), memoryview(bytearray(_PER_HOP))
    async with aiofiles.open(path, "rb", buffering=0, opener=_regular, executor=io_executor()) as file:
        while not stop.is_set() and (count := await file.readinto(buffer)):
            await hops.run(partial(reading.update, buffer[:count]))


def _regular(path: str, flags: int) -> int:
    # O_NONBLOCK: nobody may ever write to a FIFO of that name.
    fd = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DestinationError(f"{path} is not a regular file")
    return fd


class _Reading:
    """What one reading of a file has found: its digest and, where ``chunk_size`` is not 0, its chunks'."""

    def __init__(self, chunk_size: int) -> None:
        self.whole = hashlib.sha256()
        self.size = 0
        self._chunk_size = chunk_size
        self._chunk = hashlib.sha256()
        self._chunks: list[bytes] = []

    def update(self, block: memoryview) -> None:
        """Take the next bytes; keeps a processor busy."""
        self.whole.update(block)
        chunk_size = self._chunk_size
        while block:
            piece = block[: chunk_size - self.size % chunk_size] if chunk_size else block
            block = block[len(piece) :]
            self.size += len(piece)
            if chunk_size:
                self._chunk.update(piece)
                if self.size % chunk_size == 0:
                    self._chunks.append(self._chunk.digest())
                    self._chunk = hashlib.sha256()

    def digests(self) -> list[bytes]:
        """Return the chunks' digests; the last chunk may be short."""
        short = self._chunk_size and self.size % self._chunk_size
        return [*self._chunks, self._chunk.digest()] if short else self._chunks


def _damaged(receipt: FileRow, chunks: list[bytes], size: int) -> tuple[Span, ...]:
    recorded = [receipt.digests[i : i + 32] for i in range(0, len(receipt.digests), 32)]
    spans: list[Span] = []
    for index, digest in enumerate(recorded):
        if index < len(chunks) and chunks[index] == digest:
            continue
        start = index * receipt.chunk_size
        stop = min(start + receipt.chunk_size, receipt.size)
        if spans and spans[-1].stop == start:
            spans[-1] = Span(spans[-1].start, stop)
        else:
            spans.append(Span(start, stop))
    if size > receipt.size:
        spans.append(Span(receipt.size, size))
    return tuple(spans)


def peek(path: Path) -> FileSize | None:
    """Return size and time of what seems to be a file; None where a closer look has to tell. Blocking."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def has_place(request: DownloadRequest, receipt: FileRow | None) -> bool:
    """Return whether ``already_there`` has somewhere to look: a name that was given, or that a former run has found."""
    return not request.options.restart and _place(request, receipt) is not None


def _place(request: DownloadRequest, receipt: FileRow | None) -> Path | None:
    return request.dest or (receipt.path if receipt is not None and receipt.path.parent == request.directory else None)


async def already_there(
    request: DownloadRequest,
    receipt: FileRow | None,
    transport: Transport,
    *,
    peeked: Awaitable[FileSize | None] | None = None,
) -> There | None:
    """Return the file that makes a transfer needless, None where there is none. At most one conditional request is
    made. ``peeked`` is a look at the destination that was begun before: it counts if it agrees with the receipt.

    Raises DestinationError where a folder or something else that is no file stands in the way; DigestMismatch where a
    file does that is to be kept and is not the one promised.
    """
    if request.options.restart:
        return None
    dest = _place(request, receipt)
    found = None if peeked is None or receipt is None or receipt.path != dest else await peeked
    if dest is not None and (found is None or receipt is None or found != (receipt.size, receipt.mtime_ns)):
        found = await asyncio.to_thread(_stat, dest)
    if dest is None or found is None:
        return None
    size, mtime_ns = found
    if request.options.no_clobber and request.dest is not None:
        return await kept(request, dest, size)
    intact = receipt is not None and (receipt.size, receipt.mtime_ns, receipt.path) == (size, mtime_ns, dest)
    if request.sha256 is not None:
        known = receipt.sha256 if receipt is not None and intact else None
        if known is None and (receipt is None or not intact or receipt.size == size):
            known = (await _verify(dest, None, request.sha256)).sha256
        if known == request.sha256:
            return There(
                path=dest, size=size, sha256=known, verified_by="digest", note="the file is there and has the digest"
            )
        return None
    if receipt is None or not intact or not share_link(receipt.links, identities(request)):
        return None  # another link's file, whatever validators say: they are about one resource (RFC 9110 8.8)
    if not await _unchanged(request, receipt, transport):
        return None
    return There(
        path=dest,
        size=size,
        sha256=receipt.sha256,
        verified_by=receipt.verified_by,
        note="the file is there, unchanged",
    )


async def kept(request: DownloadRequest, dest: Path, size: int) -> There:
    """Return the file that is not to be replaced; raises DigestMismatch where it is not the one that was promised."""
    wanted = request.sha256
    actual = None if wanted is None else (await _verify(dest, None, wanted)).sha256
    if wanted is not None and actual != wanted:
        raise DigestMismatch(
            expected=wanted, actual=actual or "", source="the caller", url=Source(request.url, {}).shown
        )
    return There(
        path=dest,
        size=size,
        sha256=actual,
        verified_by="exists" if actual is None else "digest",
        note="the file exists and is kept (no clobber)",
    )


def _stat(path: Path) -> FileSize | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DestinationError(f"cannot look at {path}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise DestinationError(f"{path} is a folder; give a file name, or the folder with a slash at its end")
    if not stat.S_ISREG(found.st_mode):
        raise DestinationError(f"{path} is not a regular file and is not replaced")
    return found.st_size, found.st_mtime_ns


async def _unchanged(request: DownloadRequest, receipt: FileRow, transport: Transport) -> bool:
    """Ask once whether the origin still serves what the receipt describes; an origin that cannot say does not undo
    the file: it is the same link that it came from.
    """
    known = receipt.representation
    condition = {}  # without a validator: the size, and a digest that the origin states, still tell
    if known.etag is not None:
        condition["if-none-match"] = str(known.etag)
    elif known.last_modified is not None:
        condition["if-modified-since"] = known.last_modified
    headers = {"accept-encoding": "identity", "range": "bytes=0-0", **condition}
    source = Source(request.url, request.headers)
    try:
        async with transport.fetch(source.request(headers, request.options)) as response:
            if response.status not in {200, 206, 416}:
                return True
            length = _stated_length(response.status, response.headers)
            stated = {} if response.status == 416 else response.headers  # those of an error page name another thing
            return differs(known, Representation.from_headers(stated, length)) is None
    except OriginError:
        return True


def _stated_length(status: int, headers: Mapping[str, str]) -> int | None:
    """Return how many bytes an answer to ``bytes=0-0`` says the whole file has; None where it does not say."""
    if status == 200:
        return content_length(headers)[0]
    value = headers.get("content-range", "")
    if status == 416:
        return parse_unsatisfied_range(value)  # its other fields speak of the error
    enclosed = parse_content_range(value)
    return None if enclosed is None else enclosed.complete_length
