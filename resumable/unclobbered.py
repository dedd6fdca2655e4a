"""What ``no_clobber`` leaves alone where the origin names the file: what stands under a name that it would take."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from pathlib import Path

from resumable.filename import name_from
from resumable.model import DownloadRequest, There
from resumable.rows import FileRow
from resumable.verify import kept, peek

__all__ = ["asks", "before_answer", "under_name"]


def asks(request: DownloadRequest) -> bool:
    """Whether a file counts as done though nobody has said what it is called."""
    return request.options.no_clobber and request.filename is None


async def before_answer(request: DownloadRequest, receipt: FileRow | None, brought: Container[Path]) -> There | None:
    """Return the file that counts as done before the origin is asked: the one that a former run has brought, or what
    has the name that the link gives. None where there is none.

    What is among ``brought`` was not there: another link of the same name has only just come to stand there.

    Raises DigestMismatch where it is not the file that was promised.
    """
    if receipt is not None and receipt.path.parent == request.directory:
        there = await _regular(request, receipt.path)
        if there is not None:
            return there
    return await under_name(request, name_from(request.url, {}), brought)


async def under_name(request: DownloadRequest, name: str, brought: Container[Path]) -> There | None:
    """Return the file that counts as done under a name that the link or an answer gives; else as ``before_answer``."""
    path = request.directory / name
    return None if path in brought else await _regular(request, path)


async def _regular(request: DownloadRequest, path: Path) -> There | None:
    found = await asyncio.to_thread(peek, path)
    return None if found is None else await kept(request, path, found[0])
