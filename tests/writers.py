"""A process that writes into a shared journal as fast as it can, for tests with many of them.

    python -m tests.writers PATH NAME COUNT

It says ``ready``, waits for a line, and then says every write on a line of its own once that is committed:
``wrote KEY``, ``claimed KEY GENERATION``, ``step``, and at the end ``health HEALTH REASON``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from recovery.database import Database, StoreLimits
from recovery.journal import JOURNAL, Journal
from recovery.owner import new_owner
from recovery.records import Change, OperationSpec
from recovery.states import State

ROOT = Path(__file__).resolve().parent.parent
SHARED = 5
"""Operations that all want, and one gets."""


def started(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """Start a writer and wait until it has opened the file."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.writers", str(path), name, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def let_go(process: subprocess.Popen[str]) -> None:
    """Let it write."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


async def _write(path: Path, name: str, count: int) -> None:
    limits = StoreLimits(wait_s=60.0, checkpoint_commits=17)  # often, so that checkpoints meet commits
    async with await Database.open(path, [JOURNAL], limits=limits) as database:
        journal, owner = Journal(database), new_owner()
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        for number in range(count):
            await asyncio.gather(*(_one(journal, f"{name} {number} {part}") for part in range(3)))
            shared = OperationSpec(kind="shared", key=str(number % SHARED), operation_id=f"shared-{number % SHARED}")
            row, generation = await journal.begin_and_claim(shared, owner=owner, ttl_s=3600, now=time.time())
            if generation is not None and generation == 1:
                _say(f"claimed {row.key} {generation}")
                await journal.record(row.operation_id, generation, Change(state=State.RUNNING, now=time.time()))
        _say(f"health {database.health} {database.health_reason}")


async def _one(journal: Journal, key: str) -> None:
    await journal.begin(OperationSpec(kind="own", key=key))
    _say(f"wrote {key}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
