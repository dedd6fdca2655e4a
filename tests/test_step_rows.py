"""Steps in the journal: saved under the lease, counted as progress, forgotten when taken back or done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recovery.journal import Fenced
from recovery.records import Change
from recovery.states import State
from recovery.testing import FakeClock
from tests.supervising import AnyJournal, journal_of, spec

ME, RIVAL = "me", "rival"


@pytest.fixture(params=["memory", "file"])
async def journal(request: pytest.FixtureRequest, state_path: Path) -> AsyncIterator[AnyJournal]:
    """Both journals follow the same rules."""
    async with journal_of(request.param, state_path, FakeClock()) as opened:
        yield opened


async def claim(journal: AnyJournal, owner: str = ME, *, now: float = 100.0) -> tuple[str, int]:
    """Begin or take over the operation; a lease lasts 10 s."""
    row, generation = await journal.begin_and_claim(spec(operation_id="op"), owner=owner, ttl_s=10.0, now=now)
    assert generation is not None
    return row.operation_id, generation


async def test_a_step_is_kept_with_the_progress_it_means(journal: AnyJournal) -> None:
    """One transaction: whoever finds the step finds the progress."""
    operation = await claim(journal)
    await journal.save_step(*operation, "fetch", {"data": [1, None, "ü"]}, progress=(1, 9))
    row = await journal.get("op")
    assert row is not None
    assert (
        await journal.steps("op"),
        row.progress_done,
        row.progress_total,
    ) == ({"fetch": {"data": [1, None, "ü"]}}, 1, 9)


async def test_a_step_without_progress_leaves_the_row_alone(journal: AnyJournal) -> None:
    """A page that follows ``rev`` is not woken for nothing."""
    operation = await claim(journal)
    before = await journal.get("op")
    await journal.save_step(*operation, "fetch", 1)
    assert before == await journal.get("op")


async def test_owners_that_die_after_each_step_are_no_crash_loop(journal: AnyJournal) -> None:
    """Five deaths, each after one more step: none of them counts."""
    for number in range(1, 6):
        operation = await claim(journal, f"owner {number}", now=100.0 * number)
        await journal.save_step(*operation, f"step {number}", None, progress=(number, None))
    await claim(journal, "the last", now=1_000.0)
    row = await journal.get("op")
    assert row is not None
    assert row.deaths == 1  # the last one, about whose progress nothing is known yet


async def test_a_stale_owner_can_neither_save_nor_forget(journal: AnyJournal) -> None:
    """Its lease was taken over: it changes nothing."""
    operation_id, stale = await claim(journal)
    _, generation = await claim(journal, RIVAL, now=200.0)
    await journal.save_step(operation_id, generation, "fetch", "theirs")
    with pytest.raises(Fenced):
        await journal.save_step(operation_id, stale, "fetch", "mine", progress=(1, None))
    with pytest.raises(Fenced):
        await journal.forget_steps(operation_id, stale)
    with pytest.raises(Fenced):
        await journal.save_step("nothing", 1, "fetch", "mine")
    assert await journal.steps(operation_id) == {"fetch": "theirs"}


async def test_steps_are_forgotten_by_name_or_all(journal: AnyJournal) -> None:
    """By name what was taken back; a name that is not there is no error."""
    operation = await claim(journal)
    for name in ("a", "b", "c"):
        await journal.save_step(*operation, name, name)
    await journal.forget_steps(*operation, ["b", "nothing"])
    assert await journal.steps("op") == {"a": "a", "c": "c"}
    await journal.forget_steps(*operation)
    assert await journal.steps("op") == {}


@pytest.mark.parametrize(
    ("state", "kept"), [(State.COMPLETE, False), (State.FAILED, True), (State.PAUSED, True), (State.CANCELLED, True)]
)
async def test_only_what_is_complete_begins_anew(journal: AnyJournal, state: State, *, kept: bool) -> None:
    """Done again means from the start; after any other end the steps that were done need not be done again."""
    operation = await claim(journal)
    await journal.save_step(*operation, "fetch", "there")
    await journal.record(*operation, Change(state=state, now=101.0))
    assert ({"fetch": "there"} if kept else {}) == await journal.steps("op")


@pytest.mark.parametrize("data", [float("nan"), {1, 2}, "x" * 70_000], ids=["nan", "set", "long"])
async def test_what_is_no_json_or_too_long_is_refused(journal: AnyJournal, data: object) -> None:
    """Before anything is changed."""
    operation = await claim(journal)
    with pytest.raises(ValueError, match="JSON"):
        await journal.save_step(*operation, "fetch", data, progress=(1, None))  # type: ignore[arg-type]
    row = await journal.get("op")
    assert row is not None
    assert (await journal.steps("op"), row.progress_done) == ({}, 0)
