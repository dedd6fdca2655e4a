"""Host gates remembered between asking and telling: one process, or all that share a journal, across restarts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from recovery.database import Database
from recovery.events import GateEvent
from recovery.gate import Admit, GatePhase, GateSettings, Wait
from recovery.hostgates import JournalGates, MemoryGates
from recovery.journal import JOURNAL, Journal
from recovery.owner import new_owner
from recovery.taxonomy import machine, network, origin
from recovery.testing import FakeClock, MemoryJournal

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = GateSettings(threshold=3, spread_s=1.0)
DOWN = network.CONNECTION
Gates = MemoryGates | JournalGates
Make = Callable[..., Gates]


@pytest.fixture(params=["memory", "journal in memory", "journal in a file"])
async def make(request: pytest.FixtureRequest, state_path: Path, clock: FakeClock) -> AsyncIterator[Make]:
    """Return what makes the gates of a process; with a journal, all that it makes share them."""

    def gates(table: Any, **more: Any) -> Gates:
        more = {"clock": clock, "draw": lambda: 0.5, "settings": SETTINGS, **more}
        return MemoryGates(**more) if table is None else JournalGates(table, **more)

    if request.param == "memory":
        yield lambda **more: gates(None, **more)
    elif request.param == "journal in memory":
        table = MemoryJournal(clock=clock)
        yield lambda **more: gates(table, **more)
    else:
        async with await Database.open(state_path, [JOURNAL]) as database:
            journal = Journal(database, clock=clock)
            yield lambda **more: gates(journal, **more)


async def fell(gates: Gates, host: str = "h") -> None:
    """Let the host fail until its gate opens."""
    for number in range(SETTINGS.threshold):
        assert await gates.admit(host, f"a{number}") == Admit()
        await gates.failed(host, f"a{number}", DOWN)


async def test_a_gate_lives_through_an_outage(make: Make, clock: FakeClock) -> None:
    """Closed, open, one probe, open again, one probe, reopening, closed: told by events, host by host."""
    events: list[GateEvent] = []
    gates = make(on_event=events.append)
    await fell(gates)
    first = await gates.admit("h", "b")
    assert isinstance(first, Wait)
    assert await gates.admit("other", "b") == Admit(), "nobody else's trouble"
    await clock.advance(first.until - clock.time())
    assert await gates.admit("h", "b") == Admit(probe=True)
    assert isinstance(await gates.admit("h", "c"), Wait), "one probe at a time"
    await gates.failed("h", "b", DOWN)
    second = await gates.admit("h", "b")
    assert isinstance(second, Wait)
    await clock.advance(second.until - clock.time())
    assert await gates.admit("h", "b") == Admit(probe=True)
    await gates.released("h", "b")
    assert await gates.admit("h", "c") == Admit(probe=True), "given back unused, it is free at once"
    await gates.succeeded("h", "c")
    await clock.advance(SETTINGS.quiet_s + 1.0)
    assert await gates.admit("h", "d") == Admit()
    assert [event.state for event in events] == [
        "open", "half_open", "open", "half_open", "open", "half_open", "reopening", "closed",
    ]  # fmt: skip
    assert {event.host for event in events} == {"h"}
    assert events[0].failures == SETTINGS.threshold
    assert [event.until is None for event in events[-2:]] == [True, True]


async def test_an_answer_is_no_failure(make: Make) -> None:
    """What the host answered, or what is our own trouble, opens nothing."""
    gates = make()
    for number in range(10):
        assert await gates.admit("h", f"a{number}") == Admit()
        await gates.failed("h", f"a{number}", [origin.NOT_FOUND, machine.DISK_FULL][number % 2])
    assert (await gates.state("h")).phase is GatePhase.CLOSED


async def test_a_probe_that_is_not_heard_of_expires(make: Make, clock: FakeClock) -> None:
    """Its owner was killed: after its lease the next may try."""
    gates = make()
    await fell(gates)
    wait = await gates.admit("h", "b")
    assert isinstance(wait, Wait)
    await clock.advance(wait.until - clock.time())
    assert await gates.admit("h", "killed") == Admit(probe=True)
    await clock.advance(SETTINGS.probe_lease_s - 0.1)
    assert isinstance(await gates.admit("h", "c"), Wait)
    await clock.advance(0.2)
    assert await gates.admit("h", "c") == Admit(probe=True)
    await gates.succeeded("h", "killed")
    assert (await gates.state("h")).phase is GatePhase.HALF_OPEN, "too late to count"


async def test_the_probe_of_a_dead_process_is_free_at_once(state_path: Path, clock: FakeClock) -> None:
    """Whose process was killed cannot report; it is known to be dead, and its lease is waited for by nobody."""
    code = "from recovery.owner import new_owner; print(new_owner())"
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    async with await Database.open(state_path, [JOURNAL]) as database:
        gates = JournalGates(Journal(database, clock=clock), clock=clock, draw=lambda: 0.5, settings=SETTINGS)
        await fell(gates)
        await clock.advance(SETTINGS.probe_cap_s + 1)
        assert await gates.admit("h", f"{died.stdout.strip()}/op/1") == Admit(probe=True)
        assert await gates.admit("h", f"{await asyncio.to_thread(new_owner)}/op/2") == Admit(probe=True)
        assert isinstance(await gates.admit("h", "third"), Wait), "that one lives"


async def test_the_gates_of_many_hosts_are_bounded(clock: FakeClock) -> None:
    """In memory the one that was used longest ago is forgotten."""
    gates = MemoryGates(clock=clock)
    for number in range(4097):
        await gates.failed(f"h{number}", "a", DOWN)
    assert (await gates.state("h0")).failures == 0
    assert (await gates.state("h4096")).failures == 1


async def test_a_host_that_is_well_costs_no_write(clock: FakeClock) -> None:
    """Neither asking nor success is written, and no more than two looks a second are made."""
    table = MemoryJournal(clock=clock)
    gates = JournalGates(table, clock=clock)
    for number in range(20):
        assert await gates.admit("h", f"a{number}") == Admit()
        await gates.succeeded("h", f"a{number}")
    assert table.writes == []
    await gates.failed("h", "a", DOWN)
    await gates.succeeded("h", "b")
    assert table.writes == ["gate", "gate"]
    assert await table.gates() == {}, "well again, it is forgotten"


async def test_another_process_learns_of_it_soon(state_path: Path, clock: FakeClock) -> None:
    """Through the file, within half a second; and a restart does not forget."""

    def gates(database: Database) -> JournalGates:
        return JournalGates(Journal(database, clock=clock), clock=clock, draw=lambda: 0.5, settings=SETTINGS)

    async with await Database.open(state_path, [JOURNAL]) as one, await Database.open(state_path, [JOURNAL]) as two:
        first, second = gates(one), gates(two)
        assert await second.admit("h", "x") == Admit()
        await fell(first)
        await clock.advance(0.5)
        held = await second.admit("h", "x")
        assert isinstance(held, Wait)
    async with await Database.open(state_path, [JOURNAL]) as three:
        third = gates(three)
        assert isinstance(await third.admit("h", "y"), Wait)
        await clock.advance(held.until - clock.time())
        assert await third.admit("h", "y") == Admit(probe=True)


PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from recovery.database import Database
from recovery.gate import Admit
from recovery.hostgates import JournalGates
from recovery.journal import JOURNAL, Journal
from recovery.owner import new_owner
from tests.journal.test_hostgates import DOWN, SETTINGS

async def main():
    async with await Database.open(Path(sys.argv[1]), [JOURNAL]) as database:
        gates = JournalGates(Journal(database), settings=SETTINGS)
        print("ready", flush=True)
        for line in sys.stdin:
            await asyncio.sleep(0.6)  # longer than what was seen last is believed
            if line == "fail\\n":
                for number in range(SETTINGS.threshold):
                    await gates.failed("h", f"{number}", DOWN)
            answer = await gates.admit("h", sys.argv[2])
            print(json.dumps(type(answer).__name__), flush=True)

asyncio.run(main())
"""


def test_two_processes_share_a_gate(state_path: Path) -> None:
    """Real ones: what the first suffers, the second is spared."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(state_path), name],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip

    def ask(process: subprocess.Popen[str], line: str) -> object:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        assert ask(processes[1], "ask") == "Admit"
        assert ask(processes[0], "fail") == "Wait"
        assert ask(processes[1], "ask") == "Wait"
    finally:
        for process in processes:
            process.communicate()
    assert [process.returncode for process in processes] == [0, 0]


async def test_two_supervisors_ask_for_one_probe(state_path: Path, clock: FakeClock) -> None:
    """However many ask at once, over however many connections: one goes, the others wait."""
    async with await Database.open(state_path, [JOURNAL]) as one, await Database.open(state_path, [JOURNAL]) as two:
        gates = [
            JournalGates(Journal(each, clock=clock), clock=clock, draw=lambda: 0.5, settings=SETTINGS)
            for each in (one, two)
        ]
        await fell(gates[0])
        await clock.advance(60.0)
        answers = await asyncio.gather(*(gates[n % 2].admit("h", f"x{n}") for n in range(20)))
        assert [answer for answer in answers if isinstance(answer, Admit)] == [Admit(probe=True)]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"phase": "shut"},
        {"phase": "closed", "failures": 2, "mood": "new in version 9"},
    ],
    ids=["empty", "an unknown phase", "an unknown field"],
)
async def test_what_a_newer_program_notes_is_no_error(record: dict[str, Any], clock: FakeClock) -> None:
    """It shares the file: what is not understood counts as nothing noted."""
    table = MemoryJournal(clock=clock)
    await table.change_gate("h", lambda _: (record, None))
    gates = JournalGates(table, clock=clock)
    assert await gates.admit("h", "a") == Admit()
    assert (await gates.state("h")).failures == record.get("failures", 0)
