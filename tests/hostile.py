"""The real command against the test origin: the file it fetches, how it is called, and how it is killed half way."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path

from tests.command import Ended, finish, run, start
from tests.origin import Behaviour, Content, Origin

MIB = 1 << 20
SIZE = 32 * MIB
CHUNK = 1 * MIB
CONTENT = Content(SIZE, seed=1)
OTHER = Content(SIZE, seed=2)
SHA = CONTENT.sha256()
OTHER_SHA = OTHER.sha256()
IN_SOCKETS = 4 * MIB
"""What the kernel may have taken from the origin on a connection that is then closed; not a refetch, but not
received either.
"""
RATE = 4 * MIB
"""Bytes per second of each of the four connections of a download that is killed."""


def get(origin: Origin, tmp_path: Path, *more: str, path: str = "/file.bin", timeout_s: float = 60.0) -> Ended:
    return run(*arguments(origin, path), *more, cwd=tmp_path, timeout_s=timeout_s)


def arguments(origin: Origin, path: str = "/file.bin") -> list[str]:
    return ["get", origin.url(path), "-o", "out.bin", "--state", "state.db", "--json", "--stall-timeout", "2"]


def right(tmp_path: Path, sha256: str = SHA) -> bool:
    out = tmp_path / "out.bin"
    return out.exists() and hashlib.sha256(out.read_bytes()).hexdigest() == sha256


def interrupted(origin: Origin, tmp_path: Path, behaviour: Behaviour | None = None, *, kept: int = 16 * MIB) -> None:
    """Kill -9 a download once the origin has sent ``kept`` bytes; then it behaves without a rate."""
    normal = behaviour or Behaviour()
    origin.put("/file.bin", CONTENT, replace(normal, rate=RATE))
    process = start(*arguments(origin), cwd=tmp_path)
    origin.wait_for(lambda: origin.body_bytes_sent("/file.bin") >= kept)
    process.send_signal(signal.SIGKILL)
    assert finish(process).code == -signal.SIGKILL
    origin.behave("/file.bin", normal)


def claims(state: Path) -> dict[int, tuple[int, bytes]]:
    """Return length and digest of every chunk that the rows of a killed download claim."""
    with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as database:
        rows = list(database.execute("SELECT idx, length, digest FROM download_chunks"))
    database.close()
    return {index: (length, digest) for index, length, digest in rows}
