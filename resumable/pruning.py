"""Which failed downloads still have what a retry would go on from. Asks the disk: blocking."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from resumable.rows import DownloadRow

__all__ = ["with_part"]


def with_part(rows: Iterable[DownloadRow]) -> set[str]:
    """Return the ids of the downloads whose part file has bytes, as far as one can tell."""
    return {row.download_id for row in rows if row.dest is not None and _may_have_bytes(row.dest)}


def _may_have_bytes(dest: Path) -> bool:
    try:
        return os.lstat(dest.with_name(dest.name + ".part")).st_size > 0
    except FileNotFoundError:
        return not dest.parent.is_dir()  # with a folder that is away, as on a disk not plugged in, nothing is known
    except OSError:
        return True
