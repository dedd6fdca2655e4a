"""What a journal promises whoever runs operations, kept by the one in a file and by the one in memory alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from recovery.history import History
from recovery.lifecycle import Fenced
from recovery.policy import RetryPolicy
from recovery.records import AttemptRecord, Change, Operation
from recovery.states import IllegalTransition, State
from recovery.taxonomy import network
from recovery.testing import FakeClock
from tests.supervising import AnyJournal, journal_of, spec

VERDICT = network.CONNECTION
TTL = 15.0


@pytest.fixture(params=["memory", "file"])
async def journal(request: pytest.FixtureRequest, state_path: Path, clock: FakeClock) -> AsyncIterator[AnyJournal]:
    """Return one of the two journals."""
    async with journal_of(request.param, state_path, clock) as opened:
        yield opened


async def claim(journal: AnyJournal, clock: FakeClock, owner: str = "one", **more: Any) -> tuple[Operation, int]:
    """Begin and claim an operation that must be free; return its row and the generation."""
    row, generation = await journal.begin_and_claim(spec(**more), owner=owner, ttl_s=TTL, now=clock.time())
    assert generation is not None
    return row, generation


async def test_begin_writes_the_intent_down(journal: AnyJournal, clock: FakeClock) -> None:
    """A queued row that says what is wanted, from when, and how patiently."""
    policy = RetryPolicy(max_no_progress=2, max_attempts=7, deadline_s=60.0)
    row = await journal.begin(spec(policy=policy, project="p", title="t", args={"n": 1}), now=clock.time())
    assert (row.kind, row.key, row.project, row.title, row.args) == ("test", "the import", "p", "t", {"n": 1})
    assert (row.state, row.owner, row.lease_until, row.generation) == (State.QUEUED, None, None, 0)
    assert (row.max_no_progress, row.max_attempts, row.deadline_at) == (2, 7, clock.time() + 60.0)
    assert (row.created_at, row.updated_at) == (clock.time(), clock.time())
    assert await journal.get(row.operation_id) == row


async def test_the_same_work_is_one_live_row(journal: AnyJournal, clock: FakeClock) -> None:
    """Kind and key make it the same operation, whoever asks and however often; asking again changes nothing."""
    first = await journal.begin(spec())
    again = await journal.begin(spec())
    other = await journal.begin(spec("another import"))
    assert first == again
    assert other.operation_id != first.operation_id


@pytest.mark.parametrize("state", [State.FAILED, State.PAUSED, State.WAITING])
async def test_who_gives_up_what_was_done_counts_anew(state: State, journal: AnyJournal, clock: FakeClock) -> None:
    """All three meters, and the record of the attempts; whoever only asks again keeps both."""
    _, generation = await claim(journal, clock, operation_id="mine")
    attempt = AttemptRecord(number=1, started_at=clock.time(), ended_at=clock.time(), outcome=state.value)
    history = History(started_at=clock.time()).after_failure(VERDICT, progressed=False)
    await journal.record("mine", generation, Change(state=state, history=history, attempt=attempt, now=clock.time()))
    again = await journal.begin(spec(operation_id="mine"), now=clock.time())
    assert (again.history.attempts, await journal.attempts("mine")) == (1, [attempt])
    anew = await journal.begin(spec(operation_id="mine", recount=True), now=clock.time() + 60.0)
    assert (anew.history, await journal.attempts("mine")) == (History(started_at=clock.time() + 60.0), [])
    assert anew == await journal.begin(spec(operation_id="mine", recount=True), now=clock.time() + 70.0)


async def test_an_ended_row_stays_and_a_new_one_begins(journal: AnyJournal, clock: FakeClock) -> None:
    """Without a name of the caller's choice, asking again after the end is another operation; find() gives the live
    one.
    """
    row, generation = await claim(journal, clock)
    await journal.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
    ended = await journal.find("test", "the import")
    assert ended is not None
    assert (ended.operation_id, ended.state) == (row.operation_id, State.COMPLETE)
    again = await journal.begin(spec())
    assert again.operation_id != row.operation_id
    assert await journal.find("test", "the import") == again
    assert await journal.find("test", "no import") is None
    assert await journal.get("nobody") is None


async def test_an_ended_row_is_taken_up_again_under_its_name(journal: AnyJournal, clock: FakeClock) -> None:
    """With an id of the caller's choice it is the same operation for ever: eligible again, with a fresh budget."""
    row, generation = await claim(journal, clock, operation_id="mine")
    history = History(attempts=4, no_progress=4, started_at=clock.time())
    await journal.record("mine", generation, Change(state=State.FAILED, history=history, now=clock.time()))
    await clock.advance(100.0)
    again = await journal.begin(spec(operation_id="mine"), now=clock.time())
    assert (row.operation_id, again.operation_id, again.state) == ("mine", "mine", State.QUEUED)
    assert again.history == history.fresh_budget(clock.time())


async def test_what_stopped_after_the_caller_looked_is_left_alone(journal: AnyJournal, clock: FakeClock) -> None:
    """Whoever waited for a slot does not do again what another process has done, nor what a person has stopped."""
    seen = (await journal.begin(spec(operation_id="mine", again=-1))).generation
    _, generation = await claim(journal, clock, "two", operation_id="mine")
    await journal.record("mine", generation, Change(state=State.COMPLETE, now=clock.time()))
    for again in (-1, seen):
        late = spec(operation_id="mine", again=again)
        row, none = await journal.begin_and_claim(late, owner="one", ttl_s=TTL, now=clock.time())
        assert (row.state, none) == (State.COMPLETE, None)
    told = spec(operation_id="mine", again=generation)
    row, new = await journal.begin_and_claim(told, owner="one", ttl_s=TTL, now=clock.time())
    assert (row.state, new) == (State.RUNNING, generation + 1)


async def test_an_id_belongs_to_one_kind_and_key(journal: AnyJournal) -> None:
    """Two different operations under one name would overwrite each other: refused, and nothing changes."""
    row = await journal.begin(spec(operation_id="mine"))
    for begin in (
        journal.begin(spec("another import", operation_id="mine")),
        journal.begin_and_claim(spec("another import", operation_id="mine"), owner="one", ttl_s=TTL, now=0.0),
    ):
        with pytest.raises(ValueError, match="operation mine is test of 'the import', not test of 'another import'"):
            await begin
    assert await journal.get("mine") == row


@pytest.mark.parametrize("args", [{"n": {1}}, {"n": float("nan")}, {"n": "x" * 70_000}], ids=["set", "nan", "long"])
async def test_what_is_no_json_is_refused(args: dict[str, Any], journal: AnyJournal) -> None:
    """Before anything is written, and by a ValueError whatever json itself raises."""
    with pytest.raises(ValueError, match=r"args|JSON|range"):
        await journal.begin(spec(args=args))
    with pytest.raises(ValueError, match=r"args|JSON|range"):
        await journal.begin_and_claim(spec(args=args), owner="one", ttl_s=TTL, now=0.0)
    assert await journal.find("test", "the import") is None


async def test_one_owner_at_a_time(journal: AnyJournal, clock: FakeClock) -> None:
    """A second owner gets the row and no generation while the lease lives; afterwards it gets the next one."""
    row, generation = await claim(journal, clock)
    assert (row.state, row.owner, row.lease_until, generation) == (State.RUNNING, "one", clock.time() + TTL, 1)
    await clock.advance(TTL - 1.0)
    held, none = await journal.begin_and_claim(spec(), owner="two", ttl_s=TTL, now=clock.time())
    assert (held.owner, none) == ("one", None)
    await clock.advance(1.0)
    taken, generation = await claim(journal, clock, "two")
    assert (taken.owner, taken.deaths, generation) == ("two", 1, 2)


async def test_the_owner_itself_may_claim_again(journal: AnyJournal, clock: FakeClock) -> None:
    """Its own lease is in nobody's way; the generation grows, and no death is counted."""
    await claim(journal, clock)
    row, generation = await claim(journal, clock)
    assert (row.owner, row.deaths, generation) == ("one", 0, 2)


async def test_renewing_extends_the_lease_and_notes_progress(journal: AnyJournal, clock: FakeClock) -> None:
    """The heartbeat: nobody may take what is renewed in time."""
    row, generation = await claim(journal, clock)
    for n in range(3):
        await clock.advance(TTL - 1.0)
        assert await journal.renew(row.operation_id, generation, ttl_s=TTL, now=clock.time(), progress=(n, 9))
    _, none = await journal.begin_and_claim(spec(), owner="two", ttl_s=TTL, now=clock.time())
    assert none is None
    found = await journal.get(row.operation_id)
    assert found is not None
    assert (found.progress_done, found.progress_total, found.lease_until) == (2, 9, clock.time() + TTL)


async def test_a_lease_that_ran_out_unnoticed_is_still_its_owners(journal: AnyJournal, clock: FakeClock) -> None:
    """A laptop that slept over its lease goes on as if nothing had happened, if nobody was faster."""
    row, generation = await claim(journal, clock)
    await clock.advance(10 * TTL)
    assert await journal.renew(row.operation_id, generation, ttl_s=TTL, now=clock.time())
    _, none = await journal.begin_and_claim(spec(), owner="two", ttl_s=TTL, now=clock.time())
    assert none is None


WRITES: dict[str, Callable[[AnyJournal, str, int], Any]] = {
    "record": lambda journal, name, generation: journal.record(name, generation, Change(state=State.COMPLETE, now=0.0)),
    "save a step": lambda journal, name, generation: journal.save_step(name, generation, "step", 1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
async def test_a_stale_owner_changes_nothing(
    write: Callable[[AnyJournal, str, int], Any], journal: AnyJournal, clock: FakeClock
) -> None:
    """Whoever lost the lease is told so by the generation it presents, and the row stays the new owner's."""
    row, stale = await claim(journal, clock)
    await clock.advance(TTL)
    _, generation = await claim(journal, clock, "two")
    before = await journal.get(row.operation_id)
    with pytest.raises(Fenced) as caught:
        await write(journal, row.operation_id, stale)
    told = (caught.value.operation_id, caught.value.generation, caught.value.found)
    assert told == (row.operation_id, stale, generation)
    assert not await journal.renew(row.operation_id, stale, ttl_s=TTL, now=clock.time())
    assert await journal.get(row.operation_id) == before
    assert await journal.steps(row.operation_id) == {}
    await write(journal, row.operation_id, generation)


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
async def test_a_row_that_is_not_there_fences(
    write: Callable[[AnyJournal, str, int], Any], journal: AnyJournal
) -> None:
    """Gone is gone: nobody's write makes half a row."""
    with pytest.raises(Fenced, match="operation nobody is gone, not 1") as caught:
        await write(journal, "nobody", 1)
    assert caught.value.found is None
    assert not await journal.renew("nobody", 1, ttl_s=TTL, now=0.0)


async def test_recording_a_failure(journal: AnyJournal, clock: FakeClock) -> None:
    """State, meters, verdict, error, schedule, attempt and progress arrive together."""
    row, generation = await claim(journal, clock)
    now = clock.time()
    attempt = AttemptRecord(
        number=1, started_at=now - 2.0, ended_at=now, progress_to=5, outcome="waiting", category=VERDICT.category,
        error="E: x", delay_s=3.0,
    )  # fmt: skip
    history = History(started_at=now).after_failure(VERDICT, progressed=True)
    found = await journal.record(
        row.operation_id,
        generation,
        Change(
            state=State.WAITING,
            history=history,
            verdict=VERDICT,
            error="E: x",
            next_at=now + 3.0,
            attempt=attempt,
            progress=(5, 10),
            now=now,
        ),
    )
    assert await journal.get(row.operation_id) == found
    assert (found.state, found.history, found.error, found.next_at) == (State.WAITING, history, "E: x", now + 3.0)
    judged = (found.category, found.code, found.message, found.condition, found.user_actions)
    assert judged == (VERDICT.category, VERDICT.code, VERDICT.message, VERDICT.condition, VERDICT.user_actions)
    assert (found.progress_done, found.progress_total, found.owner) == (5, 10, "one")
    assert await journal.attempts(row.operation_id) == [attempt]
    assert await journal.attempts("nobody") == []
    calm = await journal.record(row.operation_id, generation, Change(state=State.RUNNING, now=now))
    assert (calm.category, calm.error, calm.next_at, calm.history) == (None, None, None, history)
    assert (calm.progress_done, calm.progress_total) == (5, 10)


async def test_an_attempt_is_written_again_under_its_number(journal: AnyJournal, clock: FakeClock) -> None:
    """When it began and when it ended is one row; more of them come in the order of their numbers."""
    row, generation = await claim(journal, clock)
    for number, outcome in [(2, ""), (1, ""), (2, "complete")]:
        attempt = AttemptRecord(number=number, started_at=clock.time(), outcome=outcome)
        await journal.record(
            row.operation_id, generation, Change(state=State.RUNNING, attempt=attempt, now=clock.time())
        )
    found = [(each.number, each.outcome) for each in await journal.attempts(row.operation_id)]
    assert found == [(1, ""), (2, "complete")]


@pytest.mark.parametrize("state", [State.COMPLETE, State.FAILED, State.CANCELLED, State.PAUSED, State.QUEUED])
async def test_what_stops_gives_the_lease_back(state: State, journal: AnyJournal, clock: FakeClock) -> None:
    """At once, in the same write: nobody waits for a lease that is not needed."""
    row, generation = await claim(journal, clock)
    found = await journal.record(row.operation_id, generation, Change(state=state, now=clock.time()))
    assert (found.owner, found.lease_until) == (None, None)


async def test_no_illegal_step_is_written(journal: AnyJournal, clock: FakeClock) -> None:
    """The table of states is law; the row stays as it was, attempt included."""
    row, generation = await claim(journal, clock)
    done = await journal.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
    attempt = AttemptRecord(number=1, started_at=0.0)
    with pytest.raises(IllegalTransition):
        await journal.record(
            row.operation_id, generation, Change(state=State.RUNNING, attempt=attempt, now=clock.time())
        )
    assert await journal.get(row.operation_id) == done
    assert await journal.attempts(row.operation_id) == []


async def test_every_change_has_a_newer_rev(journal: AnyJournal, clock: FakeClock) -> None:
    """Over all operations, so that whoever has seen one number can ask for what is newer."""
    row, generation = await claim(journal, clock)
    other = await journal.begin(spec("another import"))
    found = await journal.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
    assert row.rev < other.rev < found.rev


async def test_commands_are_handed_out_once(journal: AnyJournal, clock: FakeClock) -> None:
    """To whoever runs the operation, oldest first; the same request twice is one wish."""
    assert await journal.post_command("a", "pause", request_id="r1")
    assert not await journal.post_command("a", "pause", request_id="r1")
    await clock.advance(1.0)
    assert await journal.post_command("a", "retry_now", {"why": "me"})
    assert await journal.post_command("b", "cancel")
    assert await journal.take_commands([]) == []
    assert await journal.take_commands(["c"]) == []
    taken = await journal.take_commands(["a", "c"])
    assert [(each.operation_id, each.name, each.args) for each in taken] == [
        ("a", "pause", {}),
        ("a", "retry_now", {"why": "me"}),
    ]
    assert await journal.take_commands(["a"]) == []
    assert not await journal.post_command("a", "pause", request_id="r1"), "also after it was taken"
    assert [each.name for each in await journal.take_commands(["a", "b"])] == ["cancel"]


async def test_steps_are_kept_in_order_and_are_copies(journal: AnyJournal, clock: FakeClock) -> None:
    """What a step returned comes back as JSON gives it back; saved again, it is replaced."""
    row, generation = await claim(journal, clock)
    data: dict[str, Any] = {"files": ["a"], "n": 1.5}
    await journal.save_step(row.operation_id, generation, "download", data)
    data["files"].append("b")
    await clock.advance(1.0)
    await journal.save_step(row.operation_id, generation, "convert", None)
    assert list((await journal.steps(row.operation_id)).items()) == [
        ("download", {"files": ["a"], "n": 1.5}),
        ("convert", None),
    ]
    with pytest.raises(ValueError, match="JSON"):
        await journal.save_step(row.operation_id, generation, "convert", b"bytes")
    assert await journal.steps("nobody") == {}


async def test_gates_are_changed_in_one_step(journal: AnyJournal) -> None:
    """Read, change, write; the same object again means nothing changed, None forgets."""
    assert await journal.change_gate("h", lambda old: ({"n": 1}, old)) is None
    assert await journal.change_gate("h", lambda old: ({"n": 2}, old)) == {"n": 1}
    assert await journal.change_gate("h", lambda old: (old, "same")) == "same"
    assert await journal.gates() == {"h": {"n": 2}}
    assert await journal.change_gate("h", lambda old: (None, old)) == {"n": 2}
    assert await journal.change_gate("h", lambda old: (None, old)) is None
    assert await journal.gates() == {}


async def test_asking_differently_while_another_runs_it(journal: AnyJournal, clock: FakeClock) -> None:
    """Nothing of its row changes: it is what the one who runs it has asked for, and not what is run."""
    before, _ = await claim(journal, clock, title="first", args={"id": "T1"})
    asked = spec(title="second", args={"id": "T2"}, policy=RetryPolicy(max_attempts=7), progress_done=8, by_hand=True)
    row, none = await journal.begin_and_claim(asked, owner="two", ttl_s=TTL, now=clock.time())
    assert (row, none) == (before, None)
    assert await journal.begin(asked) == before
    await clock.advance(TTL)
    row, _ = await claim(journal, clock, "two", title="second", args={"id": "T2"})
    assert (row.title, row.args) == ("second", {"id": "T2"})


@pytest.mark.parametrize("state", [State.COMPLETE, State.FAILED, State.CANCELLED, State.PAUSED])
async def test_a_command_ends_with_the_run_it_was_for(state: State, journal: AnyJournal, clock: FakeClock) -> None:
    """One that came too late must not stop the next run, whether it was posted before or after the end."""
    _, generation = await claim(journal, clock, operation_id="mine")
    await journal.post_command("mine", "pause")
    await journal.record("mine", generation, Change(state=state, now=clock.time()))
    await journal.post_command("mine", "cancel")
    await claim(journal, clock, operation_id="mine")
    assert await journal.take_commands(["mine"]) == []
    await journal.post_command("mine", "pause")
    assert [command.name for command in await journal.take_commands(["mine"])] == ["pause"]


@pytest.mark.parametrize("state", [State.WAITING, State.PARKED])
async def test_a_command_outlives_a_wait(state: State, journal: AnyJournal, clock: FakeClock) -> None:
    """And the death of an owner: whoever goes on with the same run obeys it."""
    row, generation = await claim(journal, clock)
    await journal.post_command(row.operation_id, "pause")
    await journal.record(row.operation_id, generation, Change(state=state, now=clock.time()))
    await journal.renew(row.operation_id, generation, ttl_s=0.0, now=clock.time())
    await claim(journal, clock, "two")
    assert [command.name for command in await journal.take_commands([row.operation_id])] == ["pause"]
