"""Real file systems of small size for tests: a full disk, one that is read-only, one that cannot allocate."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(kind: str, where: Path, options: str = "defaults", *, source: str = "none") -> Iterator[Path]:
    """Mount a file system of this kind at ``where``, which is made; skips the test where mounting is not allowed.

    On CI as root it must be possible: a skipped test would look like a passed one there.
    """
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", kind, "-o", options, source, str(where)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        reason = f"cannot mount a {kind}: {made.stderr.strip()}"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def remount(where: Path, options: str) -> None:
    """Change the options of what is mounted at ``where``."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(where)], check=True)
