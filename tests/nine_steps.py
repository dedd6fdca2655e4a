"""An import of nine steps, as a program that can be killed: ``python -m tests.nine_steps STATE LOG [options]``.

Every step writes a line to LOG and syncs it; so does every undo. ``--die-in NAME`` kills this process with SIGKILL in
the middle of that step or undo, ``--fail-in NAME`` makes a step raise. Prints the result, or the exception's name.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable

from recovery import RetryPolicy, current_operation, current_sync_operation, recoverable

STEPS = [f"step {number}" for number in range(1, 10)]

options = argparse.ArgumentParser()
options.add_argument("state")
options.add_argument("log")
options.add_argument("--die-in", default="")
options.add_argument("--fail-in", default="")
options.add_argument("--undo", action="store_true")
options.add_argument("--blocking", action="store_true")
given = options.parse_args()

POLICY = RetryPolicy(max_no_progress=1, base=0.0)


def write(line: str) -> str:
    """Do the work of a step; die in its middle if that was asked for."""
    with open(given.log, "a", encoding="utf-8") as log:
        log.write(f"{line} begins\n")
        log.flush()
        os.fsync(log.fileno())
        if line == given.die_in:
            os.kill(os.getpid(), signal.SIGKILL)
        if line == given.fail_in:
            raise ConnectionResetError(line)
        log.write(f"{line} done\n")
        log.flush()
        os.fsync(log.fileno())
    return line.upper()


def step(name: str) -> Callable[[], str]:
    """Return the work of one step."""
    return lambda: write(name)


def undo(result: str) -> None:
    """Take a step back."""
    write(f"undo {result.lower()}")


UNDO = undo if given.undo else None


@recoverable(journal=given.state, key="import:{name}", kind="nine", policy=POLICY)
async def import_all(name: str) -> str:
    """Import, awaiting."""
    op = current_operation()
    results = [await op.step(each, step(each), undo=UNDO) for each in STEPS]
    return f"{name}: {len(results)} steps, restored {len(op.restored)}, attempt {op.attempt}"


@recoverable(journal=given.state, key="import:{name}", kind="nine", policy=POLICY)
def import_all_blocking(name: str) -> str:
    """Import, blocking."""
    op = current_sync_operation()
    results = [op.step(each, step(each), undo=UNDO) for each in STEPS]
    return f"{name}: {len(results)} steps, restored {len(op.restored)}, attempt {op.attempt}"


if __name__ == "__main__":
    try:
        print(import_all_blocking("flux") if given.blocking else asyncio.run(import_all("flux")))
    except Exception as exc:  # noqa: BLE001 - the edge of the program
        print(f"{type(exc).__name__}: {exc}", *getattr(exc, "__notes__", ()), sep="\n")
        sys.exit(1)
