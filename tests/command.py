"""The real ``resumable`` command as a process of its own, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal it died of), what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    @property
    def last(self) -> dict[str, Any]:
        """The JSON line that ended the (only) download."""
        return [line for line in self.lines if line["event"] in {"completed", "failed", "cancelled", "paused"}][-1]


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment with the checkout importable."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "ui")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error::ResourceWarning", **extra}


def start(*arguments: str | Path, cwd: Path, **extra: str) -> subprocess.Popen[str]:
    """Start ``python -m resumable`` with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "resumable", *map(str, arguments)],
        cwd=cwd,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 60.0) -> Ended:
    """Wait for the command; one that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        out, err = process.communicate(timeout=10)
        raise AssertionError(f"the command hung\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def run(*arguments: str | Path, cwd: Path, timeout_s: float = 60.0, **extra: str) -> Ended:
    """Run the command to its end."""
    return finish(start(*arguments, cwd=cwd, **extra), timeout_s)


async def run_async(*arguments: str | Path, cwd: Path, timeout_s: float = 60.0, **extra: str) -> Ended:
    """Run the command to its end without blocking the loop."""
    return await asyncio.to_thread(run, *arguments, cwd=cwd, timeout_s=timeout_s, **extra)
