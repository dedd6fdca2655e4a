"""The scenarios of the scoreboard: what an origin, a disk or a process does to one transfer of 32 MiB (cases.md,
part A).

Correctness only: what a tool publishes, whether it says so, how much it makes the origin send. Each scenario is the
same for every tool; the origin is the one of our tests, on a socket of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from benchmarks.tools import Tool
from tests.origin import Behaviour, Content, Framing, Gzip, Origin, Ranges

__all__ = ["PATIENCE_S", "SCENARIOS", "Bout", "Ending", "Outcome", "Scenario"]

MIB = 1 << 20
SIZE = 32 * MIB
CONTENT = Content(SIZE, seed=1)
OTHER = Content(SIZE, seed=2)
PATIENCE_S = 60.0
FAR_TOO_MUCH = 40 * SIZE
RATE = 8 * MIB
"""Bytes per second and connection where a transfer has to last long enough to be disturbed."""


class Ending(StrEnum):
    """How a tool fared, worst first."""

    WRONG = "WRONG BYTES"  # exit status 0, and a file that no origin ever had
    HANGS = "hangs"  # or asks for ever; it was killed
    NO_FILE = "no file"  # exit status 0, and nothing there
    ERROR = "error"  # it says so by its exit status
    RIGHT = "ok"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An ending, and the MiB of body the origin had to send for it."""

    ending: Ending
    sent_mib: float

    def __str__(self) -> str:
        """Return a cell of the scoreboard."""
        return f"{self.ending.value} {self.sent_mib:.0f}"


@dataclass(slots=True)
class Bout:
    """One tool in one scenario: the origin it talks to, and where it writes."""

    tool: Tool
    origin: Origin
    folder: Path
    path: str = "/file.bin"
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """The file it is to leave."""
        return self.folder / "out.bin"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the tool."""
        command = self.tool.line(self.origin.url(self.path), self.out)
        process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return the exit status, None where it had to be killed."""
        until = time.monotonic() + PATIENCE_S
        while process.poll() is None:
            if time.monotonic() > until or self.origin.body_bytes_sent() > FAR_TOO_MUCH:
                self.kill(process)
                return None
            time.sleep(0.02)
        return process.returncode

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End it and what it started with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def once(self) -> int | None:
        """Run the tool to its end."""
        return self.finish(self.start())

    def interrupted(self) -> None:
        """Run it slowly and kill it once the origin has sent half."""
        self.origin.put("/file.bin", CONTENT, Behaviour(rate=RATE))
        process = self.start()
        with contextlib.suppress(TimeoutError, AssertionError):
            self.origin.wait_for(lambda: self.origin.body_bytes_sent() >= SIZE // 2, timeout_s=PATIENCE_S)
        self.kill(process)
        self.origin.behave("/file.bin", Behaviour())

    def judge(self, status: int | None, *right: Content) -> Outcome:
        """Compare what is there with what would be right."""
        sent = self.origin.body_bytes_sent() / MIB
        if status is None:
            return Outcome(Ending.HANGS, sent)
        if status:
            return Outcome(Ending.ERROR, sent)
        if not self.out.exists():
            return Outcome(Ending.NO_FILE, sent)
        with open(self.out, "rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        good = actual in {content.sha256() for content in right or (CONTENT,)}
        return Outcome(Ending.RIGHT if good else Ending.WRONG, sent)

    def partial(self) -> Path | None:
        """Return the largest file it has left: the part file, whatever its name."""
        files = [path for path in self.folder.iterdir() if path.is_file() and "state" not in path.name]
        return max(files, key=lambda path: path.stat().st_size, default=None)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row: a name, and what is done to a bout."""

    name: str
    play: Callable[[Bout], Outcome]
    needs_root: bool = False


def _served(behaviour: Behaviour, script: Sequence[Behaviour] = ()) -> Callable[[Bout], Outcome]:
    def play(bout: Bout) -> Outcome:
        bout.origin.put("/file.bin", CONTENT, behaviour, script=script)
        return bout.judge(bout.once())

    return play


def _replaced(bout: Bout) -> Outcome:
    bout.origin.put("/file.bin", CONTENT, Behaviour(rate=RATE, cut_at=6 * MIB))

    def replace() -> None:
        with contextlib.suppress(TimeoutError, AssertionError):
            bout.origin.wait_for(lambda: bout.origin.body_bytes_sent() > 8 * MIB)
        bout.origin.replace("/file.bin", OTHER)

    swap = threading.Thread(target=replace)
    swap.start()
    status = bout.once()
    swap.join()
    return bout.judge(status, CONTENT, OTHER)


def _short_lived_link(bout: Bout) -> Outcome:
    bout.origin.put("/blob", CONTENT, Behaviour(signed=True, cut_at=3 * MIB, rate=4 * MIB))
    bout.origin.put("/file.bin", b"", Behaviour(location="/blob", location_ttl_s=2))
    return bout.judge(bout.once())


def _killed(bout: Bout) -> Outcome:
    bout.interrupted()
    return bout.judge(bout.once())


def _killed_and_flipped(bout: Bout) -> Outcome:
    bout.interrupted()
    part = bout.partial()
    if part is not None and part.stat().st_size > 2 * MIB:
        with open(part, "r+b") as file:
            file.seek(MIB + 4096)
            block = file.read(4096)
            file.seek(MIB + 4096)
            file.write(bytes(255 - byte for byte in block))
    return bout.judge(bout.once())


def _killed_and_replaced(bout: Bout) -> Outcome:
    bout.interrupted()
    bout.origin.replace("/file.bin", OTHER)
    return bout.judge(bout.once(), OTHER)


def _killed_and_signed_anew(bout: Bout) -> Outcome:
    bout.interrupted()
    bout.path = "/file.bin?X-Amz-Signature=new&X-Amz-Expires=60"
    return bout.judge(bout.once())


def _two_processes(bout: Bout) -> Outcome:
    bout.origin.put("/file.bin", CONTENT, Behaviour(rate=RATE))
    processes = [bout.start(), bout.start()]
    statuses = [bout.finish(process) for process in processes]
    worst = None if None in statuses else min(abs(status) for status in statuses if status is not None)
    return bout.judge(worst)


def _disk_full(bout: Bout) -> Outcome:
    with _small_disk(bout.folder / "small") as small:
        bout.origin.put("/file.bin", CONTENT, Behaviour())
        full = Bout(bout.tool, bout.origin, small)
        return full.judge(full.once())


@contextlib.contextmanager
def _small_disk(where: Path) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


_RETRY_AFTER = (Behaviour(status=503, retry_after=2),) * 2
_SLOW_DOWN = (Behaviour(status=429, retry_after=2),) * 2
_CHUNKED = Behaviour(framing=Framing.CHUNKED, ranges=Ranges.IGNORED)
_ENDLESS = Behaviour(framing=Framing.CLOSE, ranges=Ranges.IGNORED)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("plain", _served(Behaviour())),
    Scenario("every response cut at 6 MiB", _served(Behaviour(cut_at=6 * MIB))),
    Scenario("every response cut at 14 MiB", _served(Behaviour(cut_at=14 * MIB))),
    Scenario("Range ignored after a good probe", _served(Behaviour(ranges=Ranges.IGNORED), [Behaviour()])),
    Scenario("206 with a wrong Content-Range", _served(Behaviour(ranges=Ranges.SHIFTED), [Behaviour()])),
    Scenario("replaced in mid-transfer, same size", _replaced),
    Scenario("signed redirect with 2 s life", _short_lived_link),
    Scenario("503 + Retry-After twice", _served(Behaviour(), _RETRY_AFTER)),
    Scenario("429 + Retry-After twice", _served(Behaviour(), _SLOW_DOWN)),
    Scenario("stall on the second request", _served(Behaviour(), [Behaviour(), Behaviour(stall_at=100_000)])),
    Scenario("a page in place of later ranges", _served(Behaviour(html=True), [Behaviour(cut_at=5 * MIB)] * 2)),
    Scenario("gzips, then ignores Range", _served(Behaviour(gzip=Gzip.UNLESS_IDENTITY))),
    Scenario(
        "chunked, truncated once",
        _served(_CHUNKED, [Behaviour(framing=Framing.CHUNKED, ranges=Ranges.IGNORED, cut_at=9 * MIB)]),
    ),
    Scenario(
        "no length, truncated once",
        _served(_ENDLESS, [Behaviour(framing=Framing.CLOSE, ranges=Ranges.IGNORED, cut_at=9 * MIB)]),
    ),
    Scenario("kill -9, resume", _killed),
    Scenario("kill -9, a block flipped, resume", _killed_and_flipped),
    Scenario("kill -9, replaced, resume", _killed_and_replaced),
    Scenario("kill -9, URL re-signed, resume", _killed_and_signed_anew),
    Scenario("two processes, one target", _two_processes),
    Scenario("disk full at 20 MiB", _disk_full, needs_root=True),
)
