"""Every exception gets exactly one verdict: the error taxonomy row by row, and the traps on the way."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import Any

import aiohttp
import aiohttp.client_exceptions
import aiohttp.http_exceptions
import pytest
from multidict import CIMultiDict

from recovery.classify import Action, Category, Classifier, Condition, UserAction, Verdict, offline_verdict, severity
from recovery.gate import HostGateOpen
from recovery.taxonomy import machine, network, origin
from recovery.verdict import Rule
from tests.failures import CONTROL_FLOW, ROWS, Row, caused, connector, declared, foreign, numbered

CLASSIFIER = Classifier()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_example_of_the_taxonomy_gets_its_verdict(row: Row) -> None:
    """Category, action, limit and condition are those of the row."""
    verdict = CLASSIFIER.classify(row.exc)
    expected = (row.category, row.action, row.limit, row.condition)
    assert expected == (verdict.category, verdict.action, verdict.limit, verdict.condition)


# ---- order --------------------------------------------------------------------------------------------------------


class OursError(Exception):
    """An exception of the user's program."""


def test_what_an_exception_says_of_itself_beats_the_users_rules() -> None:
    """``recovery_hint`` comes before rules."""
    exc = declared(machine.DIGEST)
    assert machine.DIGEST is Classifier([lambda _: machine.VALIDATION]).classify(exc)


def test_the_users_rules_beat_ours_and_the_first_with_an_opinion_wins() -> None:
    """A rule may turn a timeout into a failure; rules without an opinion are passed over."""
    rules: list[Rule] = [lambda _: None, lambda _: machine.VALIDATION, lambda _: machine.UNKNOWN]
    assert machine.VALIDATION is Classifier(rules).classify(TimeoutError())


@pytest.mark.parametrize("exc", [row.exc for row in CONTROL_FLOW[:12]], ids=[row.name for row in CONTROL_FLOW[:12]])
def test_no_rule_and_no_hint_can_turn_control_flow_into_a_retry(exc: BaseException) -> None:
    """tenacity#529: a predicate that retries a cancellation makes a program that cannot be stopped."""
    assert machine.CONTROL is Classifier([lambda _: network.TIMEOUT]).classify(exc)


def test_a_rule_that_raises_has_no_opinion() -> None:
    """Judging a failure never becomes a second one."""

    def broken(exc: BaseException) -> Verdict | None:
        raise ZeroDivisionError

    assert network.TIMEOUT is Classifier([broken]).classify(TimeoutError())


def test_a_rule_that_returns_something_else_has_no_opinion() -> None:
    """True, a string, an Action: none of them is a verdict."""
    nonsense: Any = lambda _: Action.RETRY  # noqa: E731
    assert network.TIMEOUT is Classifier([nonsense]).classify(TimeoutError())


def test_a_hint_that_raises_or_is_nonsense_is_passed_over() -> None:
    """urllib's HTTPError without a body raises KeyError for every attribute it has not."""

    class OddError(TimeoutError):
        @property
        def recovery_hint(self) -> Verdict:
            raise KeyError("file")

    assert network.TIMEOUT.code == CLASSIFIER.classify(OddError()).code
    assert network.TIMEOUT.code == CLASSIFIER.classify(foreign("x.Y", bases=(TimeoutError,), recovery_hint=7)).code


def test_a_status_says_more_than_a_builtin_parent() -> None:
    """An ApiError(ValueError) with status 503 is the server's fault, not a bug."""
    exc = foreign("theirs.ApiError", bases=(ValueError,), status=503, retry_after_s=9)
    assert (CLASSIFIER.classify(exc).category, CLASSIFIER.classify(exc).retry_after_s) == (Category.THROTTLED, 9.0)


@pytest.mark.parametrize(
    "facts",
    [
        {"status": 410},
        {"status_code": 410},
        {"response": SimpleNamespace(status=410)},
        {"response": SimpleNamespace(status_code=410)},
        {"response": {"ResponseMetadata": {"HTTPStatusCode": 410}}},
        {"status": "closed", "status_code": 410},
        {"status": True, "response": SimpleNamespace(status_code=410)},
    ],
    ids=str,
)
def test_a_status_is_found_wherever_libraries_put_it(facts: dict[str, Any]) -> None:
    """On the exception or its response, under either name; what cannot be a status is not taken for one."""
    assert Category.GONE is CLASSIFIER.classify(foreign("theirs.HttpError", **facts)).category


@pytest.mark.parametrize(
    "facts",
    [{"status": 99}, {"status": 600}, {"status": "503"}, {"response": {}}, {"response": {"ResponseMetadata": None}}],
    ids=str,
)
def test_what_is_no_status_says_nothing(facts: dict[str, Any]) -> None:
    """Such an exception is as unknown as one without attributes."""
    assert machine.UNKNOWN is CLASSIFIER.classify(foreign("theirs.HttpError", **facts))


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:29:30 GMT"
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"retry_after_s": 3.5}, 3.5),
        ({"retry_after_s": 0}, 0.0),
        ({"retry_after_s": float("inf")}, 1e9),
        ({"headers": {"Retry-After": "7"}}, 7.0),
        ({"headers": {"retry-after": "7"}}, 7.0),
        ({"headers": {"Retry-After": LATER, "Date": DATE}}, 90.0),
        ({"headers": {"Retry-After": LONG_AGO}}, 0.0),
        ({"response": SimpleNamespace(headers=CIMultiDict({"RETRY-AFTER": "8"}))}, 8.0),
        ({"response": {"ResponseMetadata": {"HTTPHeaders": {"retry-after": "9"}}}}, 9.0),
        ({"retry_after_s": -1, "headers": {"Retry-After": "4"}}, 4.0),
        ({"retry_after_s": float("nan")}, None),
        ({"headers": {"Retry-After": 7}}, None),
        ({"headers": {"Retry-After": "soon"}}, None),
        ({"headers": ["Retry-After"]}, None),
        ({}, None),
    ],
    ids=str,
)
def test_retry_after_is_found_wherever_libraries_put_it(facts: dict[str, Any], expected: float | None) -> None:
    """A number on the exception comes first, then headers in any spelling; a date counts from the server's own Date."""
    assert expected == CLASSIFIER.classify(foreign("theirs.HttpError", status=429, **facts)).retry_after_s


def retry_of_celery() -> Exception:
    """Return celery's Retry, which is control flow although it is an Exception."""
    exc = foreign("celery.exceptions.Retry")
    assert isinstance(exc, Exception)
    return exc


# ---- causes and groups --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (caused(OursError(), TimeoutError()), network.TIMEOUT),
        (caused(OursError(), caused(OursError(), caused(OursError(), numbered(errno.ENOSPC)))), machine.DISK_FULL),
        (OursError("could not", numbered(errno.ENOSPC)), machine.DISK_FULL),
        (foreign("theirs.Wrapped", reason=numbered(errno.EIO)), machine.DEVICE),
        (caused(OursError(), asyncio.CancelledError()), machine.STOPPED_INSIDE),
        (caused(OursError(), caused(OursError(), asyncio.CancelledError())), machine.STOPPED_INSIDE),
        (caused(OursError(), foreign("billiard.exceptions.SoftTimeLimitExceeded")), machine.STOPPED_INSIDE),
        (caused(ValueError(), TimeoutError()), machine.VALIDATION),
        (caused(OSError("x"), numbered(errno.ENOSPC)), machine.DISK_FULL),
        (caused(OursError(), declared(machine.DIGEST)), machine.DIGEST),
        (caused(OursError(), connector(numbered(errno.EACCES))), network.FIREWALLED),
    ],
    ids=[
        "cause",
        "third cause",
        "argument",
        "reason",
        "cancel",
        "cancel within",
        "time limit",
        "own type first",
        "errnoless",
        "hint",
        "envelope",
    ],
)
def test_what_an_unknown_exception_was_raised_from_decides(exc: BaseException, expected: Verdict) -> None:
    """A wrapper says nothing; what it wraps does. A failure raised from control flow is not tried again either, but it
    is a failure.
    """
    assert expected is CLASSIFIER.classify(exc)


def test_what_was_handled_at_the_time_does_not_decide() -> None:
    """``__context__`` may be anything, for instance the cancellation that a clean-up was answering."""
    exc = OursError()
    exc.__context__ = asyncio.CancelledError()
    assert machine.UNKNOWN is CLASSIFIER.classify(exc)


def test_cyclic_causes_come_to_an_end() -> None:
    """a from b from a is unknown; if one of them says something, that counts."""
    first, second = OursError(), OursError()
    first.__cause__, second.__cause__ = second, first
    assert machine.UNKNOWN is CLASSIFIER.classify(first)
    second.args = (TimeoutError(),)
    assert network.TIMEOUT is CLASSIFIER.classify(first)


def test_an_endless_chain_of_causes_comes_to_an_end() -> None:
    """After 64 exceptions nobody looks further, so the stack cannot overflow."""
    exc: BaseException = TimeoutError()
    for _ in range(100_000):
        exc = caused(OursError(), exc)
    assert machine.UNKNOWN is CLASSIFIER.classify(exc)
    while exc.__cause__ is not None:  # taken apart one by one: CPython would free it recursively
        exc = exc.__cause__


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([TimeoutError(), numbered(errno.ENOSPC)], machine.DISK_FULL),
        ([numbered(errno.ENOSPC), ValueError()], machine.VALIDATION),
        ([TimeoutError(), PermissionError()], machine.PERMISSION),
        ([TimeoutError(), OursError()], machine.UNKNOWN),
        ([ValueError(), retry_of_celery()], machine.CONTROL),
        (
            [ValueError(), ExceptionGroup("inner", [TimeoutError(), retry_of_celery()])],
            machine.CONTROL,
        ),
        (
            [ExceptionGroup("inner", [TimeoutError(), ConnectionResetError()]), numbered(errno.EFBIG)],
            machine.FILE_TOO_LARGE,
        ),
        ([caused(OursError(), ValueError()), TimeoutError()], machine.VALIDATION),
        ([aiohttp.ServerDisconnectedError(), TimeoutError()], network.TIMEOUT),
    ],
    ids=["park", "bug", "ask", "unknown", "control", "control inside", "nested", "cause of a leaf", "fresh is mildest"],
)
def test_the_gravest_leaf_of_a_group_decides(leaves: list[Exception], expected: Verdict) -> None:
    """Control flow first, then what cannot be retried, then what asks for more; in either order of the leaves."""
    assert expected is CLASSIFIER.classify(ExceptionGroup("x", leaves))
    assert expected is CLASSIFIER.classify(ExceptionGroup("x", leaves[::-1]))
    inside = machine.STOPPED_INSIDE if expected is machine.CONTROL else expected
    assert inside is CLASSIFIER.classify(caused(OursError(), ExceptionGroup("x", leaves)))


def test_a_cancellation_in_a_group_beats_the_groups_own_hint() -> None:
    """However many failures there are, a program that was told to stop stops."""
    group = BaseExceptionGroup("x", [*(TimeoutError() for _ in range(500)), asyncio.CancelledError()])
    group.recovery_hint = network.TIMEOUT  # type: ignore[attr-defined]
    assert machine.CONTROL is Classifier([lambda _: network.TIMEOUT]).classify(group)


def test_a_group_may_declare_itself() -> None:
    """The hint of the group is asked before its leaves."""
    group = ExceptionGroup("x", [TimeoutError()])
    group.recovery_hint = machine.DIGEST  # type: ignore[attr-defined]
    assert machine.DIGEST is CLASSIFIER.classify(group)


def test_a_huge_group_of_one_kind_is_of_that_kind() -> None:
    """Leaves beyond the bound, and one that appears twice, do not turn a timeout into something unknown."""
    once = TimeoutError()
    assert network.TIMEOUT is CLASSIFIER.classify(
        ExceptionGroup("x", [once, once, *(TimeoutError() for _ in range(200))])
    )


def test_a_group_whose_leaves_were_all_seen_says_nothing_new() -> None:
    """An exception whose cause is a group of that exception alone stays unknown."""
    exc = OursError()
    exc.__cause__ = ExceptionGroup("x", [exc])
    assert machine.UNKNOWN is CLASSIFIER.classify(exc)


def test_the_longest_wait_and_the_smallest_limit_are_the_gravest_of_their_action() -> None:
    """Two servers ask to wait: the longer wait serves both."""
    short, long = (HostGateOpen("x", seconds).recovery_hint for seconds in (1.0, 60.0))
    assert [short, long] == sorted([long, short], key=severity)
    assert sorted([machine.UNKNOWN, network.TIMEOUT, origin.SERVER_ERROR], key=severity) == [
        network.TIMEOUT,
        origin.SERVER_ERROR,
        machine.UNKNOWN,
    ]


# ---- offline ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        ([network.NAME_NOT_FOUND, network.NAME_NOT_FOUND], network.OFFLINE),
        ([network.NAME_NOT_FOUND, network.DNS, network.NETWORK_UNREACHABLE], network.OFFLINE),
        ([network.NAME_NOT_FOUND], None),
        ([network.NETWORK_UNREACHABLE], network.OFFLINE),
        ([network.OFFLINE, network.NAME_NOT_FOUND], network.OFFLINE),
        ([network.NAME_NOT_FOUND, origin.NOT_FOUND], None),
        ([network.CONNECTION], None),
        ([], None),
    ],
    ids=[
        "all unknown",
        "all unreachable",
        "one mistyped name",
        "one without a way",
        "offline already",
        "one answers",
        "refused",
        "none",
    ],
)
def test_only_all_hosts_together_show_that_the_computer_is_offline(
    newest: list[Verdict], expected: Verdict | None
) -> None:
    """EAI_NONAME is a mistyped name or a laptop without network; the other hosts tell."""
    assert expected is offline_verdict(iter(newest))


# ---- verdicts -----------------------------------------------------------------------------------------------------

NAMED = {
    name: value
    for module in (machine, network, origin)
    for name, value in vars(module).items()
    if isinstance(value, Verdict)
}


def test_every_category_has_a_verdict_and_every_code_is_unique() -> None:
    """No category is a dead word, and a code names one verdict."""
    assert set(Category) == {verdict.category for verdict in NAMED.values()}
    assert len(NAMED) == len({verdict.code for verdict in NAMED.values()})


def test_every_action_is_used() -> None:
    """No action is a dead word."""
    assert set(Action) == {verdict.action for verdict in NAMED.values()}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_message_is_a_sentence_for_people(name: str) -> None:
    """Whole sentences, no code, no jargon of exceptions, and a button wherever there is something to decide."""
    verdict = NAMED[name]
    assert verdict.message[0].isupper()
    assert verdict.message.endswith(".")
    assert not {"errno", "exception", "traceback", "None", "_"} & set(verdict.message.replace("_", " _ ").split())
    assert verdict.user_actions or verdict.category is Category.LOST_RACE
    assert verdict.code == verdict.code.lower().replace("_", "-").replace(" ", "-")


def test_nobody_is_offered_to_trust_a_server_that_cannot_prove_itself() -> None:
    """There is no "insecure" button, and no action that would retry past a bad certificate by itself."""
    assert network.TLS_PERMANENT.user_actions == (UserAction.RETRY_NOW, UserAction.CANCEL)
    assert Action.FAIL is network.TLS_PERMANENT.action


@pytest.mark.parametrize(
    "facts",
    [
        {"action": Action.PARK},
        {"action": Action.RETRY, "condition": Condition.NETWORK},
        {"action": Action.RETRY, "limit": -1},
        {"action": Action.AFTER, "retry_after_s": -0.1},
        {"action": Action.AFTER, "retry_after_s": float("inf")},
        {"action": Action.AFTER, "retry_after_s": float("nan")},
    ],
    ids=str,
)
def test_a_verdict_nobody_could_act_upon_cannot_be_made(facts: dict[str, Any]) -> None:
    """PARK without a condition, a negative limit, an endless wait: ValueError where it is made, not later."""
    with pytest.raises(ValueError, match=r"PARK|limit|retry_after_s"):
        Verdict(category=Category.UNKNOWN, code="x", message="X.", **facts)
