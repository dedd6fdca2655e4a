"""Judges exceptions: every exception gets exactly one verdict. What the verdicts are is data in ``recovery.taxonomy``.

The order is the law: control flow, then what the exception says of itself (``recovery_hint``), then the user's rules,
then its type and those it inherits from, then the numbers it carries (status, errno, EAI, SQLite), then what it was
raised from or wraps, and in the end UNKNOWN, which is tried once more and then fails. Texts are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from recovery.taxonomy import machine
from recovery.taxonomy.codes import file_verdict, socket_verdict
from recovery.taxonomy.exceptions import CONTROL_TYPES, TYPES, Entry, Inside, type_key
from recovery.taxonomy.network import offline_verdict
from recovery.taxonomy.responses import answer_verdict
from recovery.taxonomy.statuses import parse_retry_after, status_verdict
from recovery.verdict import Action, Category, Condition, Rule, UserAction, Verdict

__all__ = [
    "Action",
    "Category",
    "Classifier",
    "Condition",
    "Rule",
    "UserAction",
    "Verdict",
    "offline_verdict",
    "parse_retry_after",
    "severity",
    "status_verdict",
]

_MOST_VISITED = 64
"""Exceptions looked at for one verdict; cause chains may be cyclic, and groups huge."""

_MOST_TYPES = 4096
"""Types remembered; a program that makes exception types at run time must not grow us without bound."""

_MOST_SEVERE_FIRST = (
    Action.PROPAGATE,
    Action.FAIL,
    Action.ASK,
    Action.RESTART,
    Action.REFRESH,
    Action.DEGRADE,
    Action.PARK,
    Action.RESYNC,
    Action.AFTER,
    Action.RETRY,
    Action.RETRY_FRESH,
)
_SEVERITY = {action: rank for rank, action in enumerate(reversed(_MOST_SEVERE_FIRST))}


def severity(verdict: Verdict) -> tuple[int, int, float]:
    """Return a key that sorts verdicts by gravity; of one action, fewer retries and longer waits are graver."""
    fewest = -verdict.limit if verdict.limit is not None else -(1 << 30)
    return _SEVERITY[verdict.action], fewest, verdict.retry_after_s or 0.0


class _Plan(Struct, frozen=True):
    """What an exception's type alone says."""

    control: bool
    settled: Verdict | None
    """The verdict, where no look at the instance can change it."""
    near: tuple[Entry, ...]
    """Rows of library types it is or inherits from, the nearest first."""
    far: tuple[Entry, ...]
    """Rows of Python's own types it inherits from: a status on the instance says more than these."""
    plain: bool
    """It is one of Python's own types, so it carries no status."""


class Classifier:
    """Gives every exception one verdict; never raises. ``rules`` are asked first, in order, and may return None."""

    __slots__ = ("_plans", "_rules")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        """Keep the user's rules; a rule that raises is taken to have no opinion."""
        self._rules = tuple(rules)
        self._plans: dict[type[BaseException], _Plan] = {}

    def classify(self, exc: BaseException) -> Verdict:
        """Return the verdict on ``exc``."""
        return self._judge(exc, set(), of_socket=False) or machine.UNKNOWN

    def _judge(self, exc: BaseException, seen: set[int], *, of_socket: bool) -> Verdict | None:
        """Judge one exception and what it holds, None if nothing about it is known."""
        if id(exc) in seen or len(seen) >= _MOST_VISITED:
            return None
        seen.add(id(exc))
        plan = self._plan(type(exc))
        if plan.control or (isinstance(exc, BaseExceptionGroup) and self._holds_control(exc)):
            return machine.CONTROL
        verdict = _opinion(_declared, exc)
        for rule in self._rules:
            verdict = verdict or _opinion(rule, exc)
        if verdict is not None or plan.settled is not None:
            return verdict or plan.settled
        if isinstance(exc, BaseExceptionGroup):
            return self._worst_leaf(exc, seen, of_socket=of_socket)
        return (
            self._by_rows(plan.near, exc, seen, of_socket=of_socket)
            or (None if plan.plain else _opinion(answer_verdict, exc))
            or self._by_rows(plan.far, exc, seen, of_socket=of_socket)
            or self._inside(exc, seen, of_socket=of_socket)
        )

    def _by_rows(
        self, rows: tuple[Entry, ...], exc: BaseException, seen: set[int], *, of_socket: bool
    ) -> Verdict | None:
        for row in rows:
            if isinstance(row, Verdict):
                return row
            if isinstance(row, Inside):
                return self._inside(exc, seen, of_socket=True) or row.otherwise
            verdict = _opinion(socket_verdict if of_socket and row is file_verdict else row, exc)
            if verdict is not None:
                return verdict
        return None

    def _inside(self, exc: BaseException, seen: set[int], *, of_socket: bool) -> Verdict | None:
        """Judge what ``exc`` was raised from or wraps; the first about which something is known decides."""
        for inner in _enclosed(exc):
            verdict = self._judge(inner, seen, of_socket=of_socket)
            if verdict is not None:
                return machine.STOPPED_INSIDE if verdict.category is Category.CONTROL else verdict
        return None

    def _worst_leaf(
        self, group: BaseExceptionGroup[BaseException], seen: set[int], *, of_socket: bool
    ) -> Verdict | None:
        verdicts = [
            self._judge(leaf, seen, of_socket=of_socket) or machine.UNKNOWN
            for leaf in group.exceptions
            if id(leaf) not in seen and len(seen) < _MOST_VISITED
        ]
        return max(verdicts, key=severity, default=None)

    def _holds_control(self, group: BaseExceptionGroup[BaseException]) -> bool:
        """Say if any leaf is control flow; all are looked at, for one cancellation outweighs any number of failures."""
        pending: list[BaseException] = [group]
        while pending:
            exc = pending.pop()
            if isinstance(exc, BaseExceptionGroup):
                pending.extend(exc.exceptions)
            elif self._plan(type(exc)).control:
                return True
        return False

    def _plan(self, cls: type[BaseException]) -> _Plan:
        plan = self._plans.get(cls)
        if plan is None:
            if len(self._plans) >= _MOST_TYPES:
                self._plans.clear()
            plan = self._plans[cls] = _plan_of(cls)
        return plan


def _plan_of(cls: type[BaseException]) -> _Plan:
    keys = [type_key(parent) for parent in cls.__mro__]
    foreign = not issubclass(cls, Exception | BaseExceptionGroup)
    near = tuple(TYPES[key] for key in keys if key in TYPES and not key.startswith("builtins."))
    far = tuple(TYPES[key] for key in keys if key in TYPES and key.startswith("builtins."))
    plain = cls.__module__ == "builtins"
    first = next(iter(near or (far if plain else ())), None)
    return _Plan(
        control=foreign or any(key in CONTROL_TYPES for key in keys),
        settled=first if isinstance(first, Verdict) else None,
        near=near,
        far=far,
        plain=plain,
    )


def _declared(exc: BaseException) -> Verdict | None:
    hint: Verdict | None = getattr(exc, "recovery_hint", None)
    return hint


def _opinion(ask: Rule, exc: BaseException) -> Verdict | None:
    """Return what ``ask`` says; what raises or says anything but a Verdict has no opinion."""
    try:
        verdict = ask(exc)
    except Exception:  # noqa: BLE001 - a stranger's code: judging a failure must not become a second one
        return None
    return verdict if isinstance(verdict, Verdict) else None


def _enclosed(exc: BaseException) -> Iterator[BaseException]:
    """Yield what an exception wraps, the most telling first.

    ``__context__`` is left out: it is whatever happened to be handled at the time, a cancellation for instance.
    """
    places = [_attribute(exc, name) for name in ("os_error", "__cause__", "reason")]
    places.extend(exc.args[:3])
    keywords = _attribute(exc, "kwargs")  # botocore keeps the original error there
    if isinstance(keywords, Mapping):
        places.append(keywords.get("error"))
    for place in places:
        if isinstance(place, BaseException):
            yield place


def _attribute(exc: BaseException, name: str) -> object:
    try:
        value: object = getattr(exc, name, None)
    except Exception:  # noqa: BLE001 - urllib's HTTPError raises KeyError for attributes it has not
        return None
    return value
