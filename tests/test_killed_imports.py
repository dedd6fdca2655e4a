"""An import of nine steps is killed with SIGKILL at every step, and at every undo: the next process goes on there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.states import State

ROOT = Path(__file__).resolve().parent.parent
STEPS = [f"step {number}" for number in range(1, 10)]


class Program:
    """The child process, its state file and its log."""

    def __init__(self, folder: Path, style: str = "awaiting") -> None:
        """Everything in ``folder``."""
        self.state = folder / "imports.db"
        self.log = folder / "log"
        self.style = ["--blocking"] if style == "blocking" else []

    def run(self, *words: str, killed: bool = False) -> str:
        """Run it to its end; returns what it printed."""
        command = [sys.executable, "-m", "tests.nine_steps", str(self.state), str(self.log), *self.style, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert ("", killed) == (done.stderr, done.returncode == -signal.SIGKILL)
        return done.stdout.strip()

    def lines(self, ending: str = "done") -> list[str]:
        """Return whatever was begun, or done, in order."""
        lines = self.log.read_text("utf-8").splitlines()
        return [line.removesuffix(f" {ending}") for line in lines if line.endswith(ending)]

    async def state_of_the_row(self) -> tuple[State, int]:
        """Return the operation's state, and how many steps are in the journal."""
        async with await Database.open(self.state, [JOURNAL]) as database:
            journal = Journal(database)
            row = await journal.find("nine", "import:flux")
            assert row is not None
            return row.state, len(await journal.steps(row.operation_id))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program that awaits; ``BOTH`` makes it one that blocks, too."""
    return Program(tmp_path)


BOTH = pytest.mark.parametrize("style", ["awaiting", "blocking"])


@BOTH
async def test_killed_in_step_seven_it_resumes_at_step_seven(tmp_path: Path, style: str) -> None:
    """Six steps are not done again; the seventh, which was interrupted, is."""
    program = Program(tmp_path, style)
    assert program.run("--die-in", "step 7", killed=True) == ""
    assert STEPS[:6] == program.lines()
    assert program.run() == "flux: 9 steps, restored 6, attempt 1"
    assert program.lines() == STEPS
    assert [*STEPS[:7], *STEPS[6:]] == program.lines("begins")
    assert await program.state_of_the_row() == (State.COMPLETE, 0)


async def test_killed_in_every_step_it_still_arrives(program: Program) -> None:
    """Five deaths, each after some more steps, are no crash loop."""
    for name in STEPS[::2]:
        program.run("--die-in", name, killed=True)
    assert program.run() == "flux: 9 steps, restored 8, attempt 1"
    assert program.lines() == STEPS


async def test_killed_in_the_same_step_again_and_again_it_is_stopped(program: Program) -> None:
    """Three deaths without progress: the program is not started into a fourth, until a person says so."""
    for _ in range(3):
        program.run("--die-in", "step 2", killed=True)
    assert program.run().startswith("CrashLooping:")
    assert (await program.state_of_the_row())[0] is State.FAILED
    async with await Database.open(program.state, [JOURNAL]) as database:
        journal = Journal(database)
        row = await journal.find("nine", "import:flux")
        assert row is not None
        await journal.set_idle_state(row.operation_id, State.QUEUED, now=time.time())
    assert program.run() == "flux: 9 steps, restored 1, attempt 1"


async def test_done_once_it_is_done_again_from_the_start(program: Program) -> None:
    """What is complete leaves no steps behind that the next call would skip."""
    program.run()
    assert program.run() == "flux: 9 steps, restored 0, attempt 2"
    assert [*STEPS, *STEPS] == program.lines()


async def test_after_a_failure_the_next_call_goes_on(program: Program) -> None:
    """Without undo nothing is taken back, and nothing is done twice."""
    assert program.run("--fail-in", "step 4") == "ConnectionResetError: step 4"
    assert await program.state_of_the_row() == (State.FAILED, 3)
    assert program.run() == "flux: 9 steps, restored 3, attempt 4"
    assert program.lines() == STEPS


async def test_given_up_everything_is_taken_back_newest_first(program: Program) -> None:
    """And the next call starts over."""
    assert program.run("--undo", "--fail-in", "step 4") == "ConnectionResetError: step 4"
    undone = [f"undo {name}" for name in reversed(STEPS[:3])]
    assert [*STEPS[:3], *undone] == program.lines()
    assert await program.state_of_the_row() == (State.FAILED, 0)
    assert program.run("--undo") == "flux: 9 steps, restored 0, attempt 4"


@BOTH
async def test_killed_in_an_undo_it_goes_on_undoing(tmp_path: Path, style: str) -> None:
    """The new process learns from the code how to undo what is left, does no new step, and says what happened."""
    program, number = Program(tmp_path, style), 2
    dying = f"undo step {number}"
    program.run("--undo", "--fail-in", "step 4", "--die-in", dying, killed=True)
    said = program.run("--undo")
    assert said == "GaveUp: given up earlier: ConnectionResetError: step 4"
    undone = [f"undo {name}" for name in reversed(STEPS[:3])]
    assert [*STEPS[:3], *undone] == program.lines()
    assert await program.state_of_the_row() == (State.FAILED, 0)
    assert program.run("--undo").startswith("flux: 9 steps, restored 0")


async def test_killed_in_every_undo_all_is_undone_in_the_end(program: Program) -> None:
    """Three more deaths, each after one undo; every undo is done, and once."""
    program.run("--undo", "--fail-in", "step 4", "--die-in", "undo step 3", killed=True)
    program.run("--undo", "--die-in", "undo step 2", killed=True)
    program.run("--undo", "--die-in", "undo step 1", killed=True)
    assert program.run("--undo").startswith("GaveUp")
    assert [*STEPS[:3], *(f"undo {name}" for name in reversed(STEPS[:3]))] == program.lines()
