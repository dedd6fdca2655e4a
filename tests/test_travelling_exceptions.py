"""Exceptions that leave their process: every public one comes out of a pickle, and out of the JSON of a task queue's
result backend, as the type that went in, with the same sentence.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import Backend
from celery.utils.serialization import get_pickleable_exception

import recovery
import recovery.celery
import resumable
import resumable.celery
from recovery.records import Operation
from recovery.states import State
from recovery.verdict import UserAction
from resumable.errors import Fault
from resumable.validators import Representation

ROW = Operation(operation_id="abc", kind="task", key="ship:7", state=State.FAILED, code="crash-loop", args={"id": "x"})
URL = "https://host/file?sig=..."

MADE_OF: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "AttemptTimedOut": ((2.5,), {}),
    "DigestMismatch": ((), {"expected": "aa", "actual": "bb", "source": "caller", "url": URL, "kept": "/x.suspect"}),
    "DiskFull": (("no room",), {"needed": 3, "free": 2, "path": "/x"}),
    "DownloadDeferred": ((12.0,), {"url": URL}),
    "DownloadElsewhere": (("d1",), {"url": URL}),
    "DownloadFailed": (("the server answered 404", {"code": "not-found", "retryable": False}), {}),
    "Fenced": (("abc", 3, 4), {}),
    "GiveWay": ((12.0, 3.0), {}),
    "IllegalTransition": ((State.FAILED, State.PAUSED), {}),
    "Interrupted": ((5, 9), {"url": URL}),
    "InvalidInput": (
        ("The node is unknown.",),
        {"remedy": "Install it.", "code": "missing-node", "user_actions": [UserAction.CANCEL]},
    ),
    "OperationDeferred": ((ROW, 12.0), {}),
    "ProtocolFault": ((Fault.ENCODED,), {"url": URL, "detail": "gzip"}),
    "RepresentationChanged": (("etag",), {"url": URL, "representation": Representation(last_modified="today")}),
    "Stalled": ((2.0,), {"url": URL}),
    "StatusError": ((503,), {"url": URL, "retry_after_s": 2.0, "reason": "Busy"}),
    "WebPage": ((), {"url": URL}),
}
"""Of what each is made; an operation's endings of its row, and all others of a sentence."""


def public() -> Iterator[type[Exception]]:
    """Return the exceptions that the packages export."""
    modules: list[ModuleType] = [recovery, recovery.celery, resumable, resumable.celery]
    for module in modules:
        for name in module.__all__:
            found = getattr(module, name)
            if isinstance(found, type) and issubclass(found, Exception):
                yield found


def made(kind: type[Exception]) -> Exception:
    """Return one of this type."""
    default: tuple[Any, ...] = (ROW,) if issubclass(kind, recovery.OperationEnded) else ("what happened",)
    args, kwargs = MADE_OF.get(kind.__name__, (default, {}))
    return kind(*args, **kwargs)


CASES = sorted({kind.__name__: kind for kind in public()}.values(), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_every_public_exception_travels(kind: type[Exception]) -> None:
    """Pickled (process pools, Celery's children) it has all its attributes; as JSON what it was made of."""
    error = made(kind)
    if isinstance(error, resumable.DownloadError):
        error.attempts, error.bytes_kept = 3, 700
    pickled = pickle.loads(pickle.dumps(error))
    assert (type(pickled), str(pickled), vars(pickled)) == (kind, str(error), vars(error))
    assert get_pickleable_exception(error) is error

    backend = Backend(Celery("travels", set_as_current=False), serializer="json")
    told = backend.exception_to_python(json.loads(json.dumps(backend.prepare_exception(error))))
    assert (type(told), str(told)) == (kind, str(error))


def test_a_crash_loop_says_which_operation() -> None:
    """On the other end of a result backend its row is there, as far as it is plain."""
    told = recovery.CrashLooping(*json.loads(json.dumps(recovery.CrashLooping(ROW).args)))
    assert (told.operation.operation_id, told.operation.state, told.operation.code) == (
        "abc",
        State.FAILED,
        "crash-loop",
    )
    assert str(told) == "task 'ship:7' was not run again"
