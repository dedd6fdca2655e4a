"""The downloaders that ours is measured against, as command lines, and what a run of one costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.samples import TooSlowError

__all__ = ["LIBRARIES", "PEERS", "SYNCED", "Cost", "Tool", "installed", "missing", "ours", "run", "version"]


@dataclass(frozen=True, slots=True)
class Tool:
    """One way to fetch one file. ``command`` holds ``{url}``, ``{folder}``, ``{name}`` and ``{out}``."""

    name: str
    command: tuple[str, ...]
    module: str = ""
    """The Python package that it needs."""

    @property
    def binary(self) -> str:
        """The program."""
        return self.command[0]

    @property
    def here(self) -> bool:
        """Whether this machine has it."""
        if self.module:
            return find_spec(self.module) is not None
        return shutil.which(self.binary) is not None

    def plus(self, *words: str, name: str = "") -> Tool:
        """Return it with more words on its command line."""
        return Tool(name or self.name, (*self.command, *words), self.module)

    def line(self, url: str, out: Path) -> list[str]:
        """Return the command line that fetches ``url`` to ``out``."""
        values = {"url": url, "out": str(out), "folder": str(out.parent), "name": out.name}
        return [word.format(**values) for word in self.command]


_ARIA = ("aria2c", "-q", "--allow-overwrite=true", "--auto-file-renaming=false", "-d", "{folder}", "-o", "{name}")

PEERS: tuple[Tool, ...] = (
    Tool("curl", ("curl", "-sS", "-o", "{out}", "{url}")),
    Tool("wget", ("wget", "-q", "-O", "{out}", "{url}")),
    Tool("wget2", ("wget2", "-q", "-O", "{out}", "{url}")),
    Tool("aria2c -x8", (*_ARIA, "-x8", "-s8", "{url}")),
    Tool("axel -n8", ("axel", "-q", "-n8", "-o", "{out}", "{url}")),
    Tool("rclone", ("rclone", "copyurl", "-q", "{url}", "{out}")),
)
"""All that download one file over HTTP and hash nothing."""

SYNCED: Final = Tool("curl, then sync", ("sh", "-c", 'curl -sS -o "$1" "$0" && sync "$1"', "{url}", "{out}"))
"""What curl takes where the bytes must be on the disk, as ours are before they get their name."""


def _library(name: str, module: str, script: str) -> Tool:
    return Tool(name, (sys.executable, "-c", script, "{url}", "{out}"), module)


LIBRARIES: tuple[Tool, ...] = (
    _library(
        "requests, chunk by chunk",
        "requests",
        "import sys, requests; url, out = sys.argv[1:]\n"
        "with requests.get(url, stream=True, timeout=30) as r, open(out, 'wb') as f:\n"
        "    r.raise_for_status()\n"
        "    for chunk in r.iter_content(8192): f.write(chunk)",
    ),
    _library(
        "pypdl -8",
        "pypdl",
        "import sys; from pypdl import Pypdl\n"
        "if __name__ == '__main__': sys.exit(not Pypdl().start(sys.argv[1], sys.argv[2], segments=8, display=False))",
    ),
    _library(
        "parfive -8",
        "parfive",
        "import sys, os; from parfive import Downloader; folder, name = os.path.split(sys.argv[2])\n"
        "d = Downloader(progress=False, max_splits=8)\n"
        "d.enqueue_file(sys.argv[1], path=folder, filename=name, overwrite=True); sys.exit(bool(d.download().errors))",
    ),
    _library(
        "huggingface_hub",
        "huggingface_hub",
        "import os, sys; os.environ['HF_HUB_DISABLE_PROGRESS_BARS'] = '1'\n"
        "from huggingface_hub.file_download import http_get\n"
        "with open(sys.argv[2], 'wb') as f: http_get(sys.argv[1], f)",
    ),
    _library(
        "obstore",
        "obstore",
        "import sys, obstore; from obstore.store import HTTPStore; base, _, name = sys.argv[1].rpartition('/')\n"
        "store = HTTPStore.from_url(base, client_options=dict(allow_http=True))\n"
        "with open(sys.argv[2], 'wb') as f:\n"
        "    for chunk in obstore.get(store, name).stream(min_chunk_size=1 << 20): f.write(chunk)",
    ),
)
"""Python packages that download one file, and the loop that many programs write themselves in their place."""


def ours(state: Path, *more: str, name: str = "resumable") -> Tool:
    """Return the command of this checkout; every byte of it is hashed and checkpointed."""
    command = (
        sys.executable,
        "-m",
        "resumable",
        "get",
        "{url}",
        "-o",
        "{out}",
        "--state",
        str(state),
        "-q",
        "--restart",
    )
    return Tool(name, (*command, *more))


def installed(tools: Sequence[Tool]) -> list[Tool]:
    """Return those that this machine has."""
    return [tool for tool in tools if tool.here]


def missing(tools: Sequence[Tool]) -> list[str]:
    """Return the names of those that it lacks, for the report."""
    return [tool.name for tool in tools if not tool.here]


def version(binary: str) -> str:
    """Return the first line of what the program says of its version."""
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=20)
    return (done.stdout or done.stderr).partition("\n")[0].strip()


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall and processor seconds of one process, and its peak resident bytes."""

    wall_s: float
    cpu_s: float
    peak_rss: int


def run(command: Sequence[str], *, env: dict[str, str] | None = None, most_s: float | None = None) -> Cost:
    """Run a command to its end; raises RuntimeError with what it said when it fails, TooSlowError after ``most_s``."""
    # An installed program has its bytecode beside it; without that every run would measure Python's compiler.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**environ, **(env or {})},
        start_new_session=True,
    )
    assert process.stderr is not None
    late = threading.Event()

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def stop_late() -> None:
        late.set()
        stop()

    timer = threading.Timer(most_s or 0, stop_late)
    if most_s is not None:
        timer.start()
    try:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:
            stop()  # interrupted: what it started ends with it
    process.stderr.close()
    if late.is_set():
        raise TooSlowError(f"{Path(command[0]).name} was stopped after {most_s:.0f} s")
    if process.returncode:
        msg = f"{command[0]} ended with {process.returncode}: {said[-500:].decode(errors='replace')}"
        raise RuntimeError(msg)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
