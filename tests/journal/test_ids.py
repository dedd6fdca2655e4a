"""Ids of operations: short, readable, and nobody else's."""

from __future__ import annotations

import re
import subprocess
import sys

from recovery.transactions import new_id

FORKING = """
import os
from recovery.transactions import new_id
new_id()
for _ in range(3):
    if os.fork() == 0:
        print(new_id(), flush=True)
        os._exit(0)
    os.wait()
print(new_id())
"""


def test_ids_are_short_and_never_the_same() -> None:
    """Ten characters that are easy to type; ten thousand of them are ten thousand."""
    ids = {new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert [name for name in ids if re.fullmatch("[a-z2-7]{10}", name) is None] == []


def test_children_that_were_forked_give_others() -> None:
    """They begin with their parent's memory, and must not go on with its numbers."""
    printed = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(printed)) == 4, printed
