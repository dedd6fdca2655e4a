"""What may happen to an operation's row: pure functions from one row to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.history import History
from recovery.lifecycle import (
    CRASH_LOOP,
    Fenced,
    advanced,
    asked_again,
    begun,
    claimed,
    condemned,
    is_due,
    is_expired,
    recorded,
    renewed,
    requeued,
    set_by_hand,
)
from recovery.policy import RetryPolicy
from recovery.records import Change, Operation, OperationSpec
from recovery.states import IllegalTransition, State
from recovery.taxonomy import machine, network

NOW, TTL = 1000.0, 15.0
WORN = History(attempts=5, no_progress=2, started_at=10.0, category=network.CONNECTION.category, category_run=2)


def row(
    state: State = State.RUNNING, *, owner: str | None = "one", lease: float | None = TTL, **more: Any
) -> Operation:
    """Return an operation in the middle of its life; ``lease`` is how long it has still to run."""
    values: dict[str, Any] = {
        "generation": 3, "history": WORN, "progress_done": 7, "created_at": 1.0, "updated_at": 2.0, "rev": 9, **more
    }  # fmt: skip
    until = None if owner is None or lease is None else NOW + lease
    return Operation(operation_id="a", kind="k", key="key", state=state, owner=owner, lease_until=until, **values)


def spec(**more: Any) -> OperationSpec:
    """Return what asks for that operation."""
    return OperationSpec(kind="k", key="key", **more)


def test_an_operation_begins_queued_and_unheld() -> None:
    """With the limits of its policy, and its deadline from now on."""
    found = begun(spec(policy=RetryPolicy(deadline_s=5.0), args={"x": 1}), "a", NOW)
    assert (found.state, found.owner, found.generation, found.rev) == (State.QUEUED, None, 0, 0)
    assert (found.history, found.deadline_at, found.args) == (History(started_at=NOW), NOW + 5.0, {"x": 1})
    assert begun(spec(policy=RetryPolicy(deadline_s=None)), "a", NOW).deadline_at is None


CLAIMS: list[tuple[State, str | None, float | None, str, int | None]] = [
    # state, owner, seconds its lease has still to run, who asks, deaths counted (None: not to be had)
    (State.QUEUED, None, None, "two", 0),
    (State.WAITING, None, None, "two", 0),
    (State.PARKED, None, None, "two", 0),
    (State.RUNNING, "one", 1.0, "two", None),
    (State.RUNNING, "one", 0.0, "two", 1),
    (State.RUNNING, "one", -1.0, "two", 1),
    (State.VERIFYING, "one", -1.0, "two", 1),
    (State.RUNNING, "one", 1.0, "one", 0),
    (State.RUNNING, "one", -1.0, "one", 0),
    (State.WAITING, "one", 1.0, "two", None),
    (State.WAITING, "one", -1.0, "two", 0),
    (State.PAUSED, None, None, "two", None),
    (State.COMPLETE, None, None, "two", None),
    (State.FAILED, None, None, "two", None),
    (State.CANCELLED, None, None, "two", None),
]


@pytest.mark.parametrize(("state", "owner", "lease", "who", "deaths"), CLAIMS)
def test_claims(state: State, owner: str | None, lease: float | None, who: str, deaths: int | None) -> None:
    """Who gets what: a live lease keeps others out, and only an owner that was running can have died."""
    before = row(state, owner=owner, lease=lease)
    after = claimed(before, who, TTL, NOW)
    if deaths is None:
        assert after is None
        return
    died = {"deaths": 1, "progress_at_death": 7} if deaths else {}
    assert after == replace(
        before, state=State.RUNNING, owner=who, lease_until=NOW + TTL, generation=4, updated_at=NOW, **died
    )


def test_every_state_is_claimable_or_not() -> None:
    """The table above leaves none out."""
    assert {state for state, *_ in CLAIMS} == set(State)


def test_renewing() -> None:
    """Extends the lease, notes progress, changes nothing else."""
    before = row(lease=-100.0)
    assert renewed(before, 3, "one", TTL, NOW, None) == replace(before, lease_until=NOW + TTL, updated_at=NOW)
    assert renewed(before, 3, "one", TTL, NOW, (8, 9)) == replace(
        before, lease_until=NOW + TTL, updated_at=NOW, progress_done=8, progress_total=9
    )


SWEPT = replace(requeued(row(lease=-1.0), NOW), rev=9)


def test_what_was_swept_up_is_taken_back() -> None:
    """A laptop that slept over its lease: its death was none, whether it renews first or has something to say."""
    assert (SWEPT.state, SWEPT.owner, SWEPT.deaths) == (State.QUEUED, None, 1)
    back = renewed(SWEPT, 3, "one", TTL, NOW, None)
    assert (back.state, back.owner, back.deaths, back.lease_until) == (State.RUNNING, "one", 0, NOW + TTL)
    said = recorded(SWEPT, 3, Change(state=State.WAITING, now=NOW, next_at=NOW + 5.0), "one")
    assert (said.state, said.owner, said.deaths, said.next_at) == (State.WAITING, "one", 0, NOW + 5.0)
    done = recorded(SWEPT, 3, Change(state=State.COMPLETE, now=NOW), "one")
    assert (done.state, done.owner) == (State.COMPLETE, None)


def test_who_does_not_say_its_name_may_still_speak_of_what_was_swept_up() -> None:
    """It holds the generation: the step leads from running, whatever the row says."""
    assert recorded(SWEPT, 3, Change(state=State.COMPLETE, now=NOW)).state is State.COMPLETE
    with pytest.raises(Fenced):
        renewed(SWEPT, 3, None, TTL, NOW, None)


@pytest.mark.parametrize("state", [State.PAUSED, State.COMPLETE, State.FAILED, State.CANCELLED, State.WAITING])
def test_what_was_given_up_is_not_taken_back(state: State) -> None:
    """Nobody's by decision."""
    with pytest.raises(Fenced, match="operation a has generation 3, not 3"):
        renewed(row(state, owner=None), 3, "one", TTL, NOW, None)


STALE: dict[str, Callable[[Operation], Operation]] = {
    "renew": lambda before: renewed(before, 2, "one", TTL, NOW, None),
    "record": lambda before: recorded(before, 2, Change(state=State.COMPLETE, now=NOW), "one"),
    "advance": lambda before: advanced(before, 2, (1, 2)),
}


@pytest.mark.parametrize("act", STALE.values(), ids=list(STALE))
def test_a_stale_generation_is_fenced(act: Callable[[Operation], Operation]) -> None:
    """Whoever presents another number than the row's, older or not."""
    with pytest.raises(Fenced) as caught:
        act(row())
    assert (caught.value.operation_id, caught.value.generation, caught.value.found) == ("a", 2, 3)


def test_recording() -> None:
    """What is said is written, and what is not said about the failure is no longer so."""
    verdict = machine.DISK_FULL
    change = Change(
        state=State.PARKED, now=NOW, history=History(attempts=6), verdict=verdict, error="E: x", next_at=NOW + 9.0,
        progress=(8, None),
    )  # fmt: skip
    before = row(deaths=2)
    parked = recorded(before, 3, change)
    assert parked == replace(
        before, state=State.PARKED, history=History(attempts=6), category=verdict.category, code=verdict.code,
        message=verdict.message, condition=verdict.condition, user_actions=verdict.user_actions, error="E: x",
        next_at=NOW + 9.0, progress_done=8, deaths=0, updated_at=NOW,
    )  # fmt: skip
    calm = recorded(parked, 3, Change(state=State.RUNNING, now=NOW + 1.0))
    assert calm == replace(
        parked, state=State.RUNNING, category=None, code=None, message=None, condition=None, user_actions=(),
        error=None, next_at=None, updated_at=NOW + 1.0,
    )  # fmt: skip
    freed = recorded(parked, 3, Change(state=State.PARKED, now=NOW, keep_lease=False))
    assert (freed.owner, freed.lease_until) == (None, None)


@pytest.mark.parametrize("state", [State.COMPLETE, State.FAILED, State.CANCELLED, State.PAUSED, State.QUEUED])
def test_what_stops_holds_no_lease(state: State) -> None:
    """Whatever ``keep_lease`` says."""
    assert recorded(row(), 3, Change(state=state, now=NOW)).owner is None


def test_success_forgets_the_deaths() -> None:
    """The next time it is asked for, it begins with a clean slate; a failure is none."""
    assert recorded(row(deaths=2), 3, Change(state=State.COMPLETE, now=NOW)).deaths == 0
    assert recorded(row(deaths=2), 3, Change(state=State.FAILED, now=NOW)).deaths == 2


def test_an_illegal_step_is_refused() -> None:
    """By the table of states."""
    with pytest.raises(IllegalTransition):
        recorded(row(State.COMPLETE), 3, Change(state=State.RUNNING, now=NOW))


@pytest.mark.parametrize(
    ("deaths", "at_death", "done", "expected"),
    [
        (2, 7, 8, (0, 7)),  # further than where the last one died: no crash loop
        (2, 7, 7, (2, 7)),
        (2, 7, 3, (2, 3)),  # started over: from there on it counts
    ],
)
def test_deaths_count_without_progress_only(deaths: int, at_death: int, done: int, expected: tuple[int, int]) -> None:
    """Progress is measured from where the last owner died."""
    before = row(deaths=deaths, progress_at_death=at_death)
    after = advanced(before, 3, (done, 9))
    assert (after.deaths, after.progress_at_death) == expected
    assert (after.progress_done, after.progress_total) == (done, 9)


def test_nothing_to_note_is_the_same_row() -> None:
    """So that nothing need be written."""
    before = row()
    assert advanced(before, 3, None) is before


@pytest.mark.parametrize("state", [State.COMPLETE, State.FAILED, State.CANCELLED, State.PAUSED])
def test_asking_again_for_what_stopped(state: State) -> None:
    """Eligible, with a fresh budget and no old verdict; the deaths stay."""
    before = row(state, owner=None, deaths=2, code="x", message="m", category=network.DNS.category)
    after = asked_again(before, spec(title="t", project="p"), NOW)
    assert (after.state, after.history, after.deaths) == (State.QUEUED, WORN.fresh_budget(NOW), 2)
    assert (after.code, after.message, after.category) == (None, None, None)
    assert (after.title, after.project, after.updated_at) == ("t", "p", NOW)


def test_asking_again_for_what_goes_on() -> None:
    """Nothing changes but what is asked differently; the deadline counts from the start of the budget."""
    policy = RetryPolicy(max_attempts=9, deadline_s=100.0)
    before = asked_again(row(title="old"), spec(policy=policy), NOW, owner="one")
    assert asked_again(before, spec(policy=policy), NOW + 1.0, owner="one") is before
    assert (before.title, before.max_attempts, before.deadline_at) == ("old", 9, 110.0)
    assert before.history == WORN
    further = asked_again(before, spec(policy=policy, progress_done=8), NOW, owner="one")
    assert (further.progress_done, further.updated_at) == (8, NOW)


@pytest.mark.parametrize(
    ("owner", "lease", "untouched"), [("two", 1.0, True), (None, 1.0, True), ("one", 1.0, False), ("two", 0.0, False)]
)
def test_what_another_runs_stays_as_that_one_asked_for_it(owner: str | None, lease: float, untouched: bool) -> None:
    """Who only asks has no say in a row whose lease is another's: its args name the message to send again."""
    before = row(lease=lease, args={"id": "first"})
    asked = spec(policy=RetryPolicy(max_attempts=9), args={"id": "second"}, progress_done=8, by_hand=True)
    after = asked_again(before, asked, NOW, owner=owner)
    assert (after is before) == untouched
    assert after.args == {"id": "first" if untouched else "second"}


def test_a_person_who_asks_again_forgets_the_dead() -> None:
    """As ``set_by_hand`` does: otherwise the very next death would end it."""
    for state, owner in ((State.FAILED, None), (State.QUEUED, None), (State.RUNNING, "dead")):
        before = row(state, owner=owner, lease=-1.0, deaths=3)
        assert asked_again(before, spec(by_hand=True), NOW, owner="two").deaths == 0
        assert asked_again(before, spec(), NOW, owner="two").deaths == 3


DUE = [
    (State.WAITING, None, -1.0, True),
    (State.PARKED, None, 0.0, True),
    (State.WAITING, None, 1.0, False),
    (State.WAITING, None, None, False),
    (State.WAITING, "one", -1.0, False),
    (State.RUNNING, None, -1.0, False),
    (State.QUEUED, None, -1.0, False),
]


@pytest.mark.parametrize(("state", "owner", "due_in", "expected"), DUE)
def test_due(state: State, owner: str | None, due_in: float | None, *, expected: bool) -> None:
    """Its time has come, and nobody holds it."""
    next_at = None if due_in is None else NOW + due_in
    assert is_due(row(state, owner=owner, next_at=next_at), NOW) is expected


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("lease", [1.0, 0.0, -1.0])
def test_expired(state: State, lease: float) -> None:
    """Said to run, and nobody's lease is live."""
    assert is_expired(row(state, lease=lease), NOW) is (state in {State.RUNNING, State.VERIFYING} and lease <= 0)


@pytest.mark.parametrize(
    ("state", "deaths"), [(State.RUNNING, 1), (State.VERIFYING, 1), (State.WAITING, 0), (State.PARKED, 0)]
)
def test_sweeping(state: State, deaths: int) -> None:
    """Eligible again under the same generation; or, after too many deaths, failed under another one."""
    before = row(state, lease=-1.0)
    died = {"deaths": 1, "progress_at_death": 7} if deaths else {}
    assert requeued(before, NOW) == replace(
        before, state=State.QUEUED, owner=None, lease_until=None, updated_at=NOW, **died
    )
    found = condemned(before, NOW)
    assert (found.state, found.owner, found.generation, found.deaths) == (State.FAILED, None, 4, deaths)
    assert (found.code, found.message, found.user_actions) == (
        CRASH_LOOP.code, CRASH_LOOP.message, CRASH_LOOP.user_actions
    )  # fmt: skip
    assert found.error == f"{deaths} owners were lost without progress"


def test_changing_by_hand() -> None:
    """Whoever let the lease run out is fenced; retry opens a fresh budget and forgives the deaths."""
    before = row(State.WAITING, lease=-1.0, deaths=2, next_at=NOW, code="x", error="e")
    paused = set_by_hand(before, State.PAUSED, NOW)
    assert (paused.state, paused.generation, paused.owner, paused.next_at) == (State.PAUSED, 4, None, None)
    assert (paused.history, paused.deaths, paused.code, paused.error) == (WORN, 2, "x", "e")
    queued = set_by_hand(paused, State.QUEUED, NOW)
    assert (queued.history, queued.deaths, queued.code, queued.error) == (WORN.fresh_budget(NOW), 0, None, None)
    with pytest.raises(IllegalTransition):
        set_by_hand(replace(before, state=State.COMPLETE), State.PAUSED, NOW)


def test_who_only_knows_that_the_lease_was_lost_says_so() -> None:
    """Not "is gone, not None", as the heartbeat's news used to be told."""
    assert str(Fenced("a")) == "operation a was taken over by another owner, or its row is gone"
