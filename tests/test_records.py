"""Public records as their users have them: changed by copying, checked, compared, pickled, and silent about secrets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import asdict, replace
from yarl import URL

from recovery import OperationSpec
from recovery.events import HealthEvent
from recovery.history import History
from recovery.records import Operation
from recovery.states import State
from recovery.taxonomy import network
from recovery.verdict import Category
from resumable import RetryPolicy
from resumable.credentials import Told
from resumable.events import DownloadEvent, DownloadView, ErrorView, EventName
from resumable.linkstore import Links
from resumable.model import DownloadRequest, Options, Result
from resumable.ports import Fetch, Hop
from resumable.proxies import Proxy
from resumable_ui.access import Access

VIEW = DownloadView(download_id="d1", state=State.FAILED, error=ErrorView(code="c", category="x", message="m"))
RECORDS: list[Struct] = [
    Result(
        path=Path("/d/f"),
        size=3,
        sha256=None,
        bytes_resumed=1,
        bytes_received=2,
        attempts=1,
        elapsed=0.5,
        verified_by="etag",
        warnings=("w",),
    ),
    VIEW,
    DownloadEvent(event=EventName.FAILED, view=VIEW, ts=1.0),
    Options(connections=2),
    RetryPolicy(cap=10.0),
    OperationSpec(kind="k", key="x", args={"a": [1]}),
    Operation(operation_id="o", kind="k", key="x", history=History(attempts=2, category=Category.DNS)),
    HealthEvent(health="ok", reason="", ts=1.0),
    network.TIMEOUT,
]
SECRET = "hunter2"
DISCREET: list[object] = [
    DownloadRequest(
        url=f"https://a/?{SECRET}", directory=Path("/d"), filename="f", mirrors=(SECRET,), headers={"a": SECRET}
    ),
    Hop(SECRET, 302, {"location": SECRET}),
    Fetch(
        url=SECRET,
        headers={},
        private_headers={"a": SECRET},
        private_origin=SECRET,
        connect_timeout_s=1.0,
        stall_timeout_s=1.0,
        min_rate=1,
        max_redirects=1,
    ),
    Told({"a": SECRET}, netrc=False),
    Links(SECRET, (SECRET,), {"a": SECRET}),
    Proxy(URL("http://p"), SECRET),
    Access(token=SECRET, viewer_token=SECRET),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_can_be_copied_and_pickled_but_not_changed(record: Struct) -> None:
    """What comes back equals what went in, and neither is changed by whoever has the other."""
    name, value = next(iter(asdict(record).items()))
    assert record == pickle.loads(pickle.dumps(record)) == replace(record) == type(record)(**asdict(record))
    with pytest.raises(AttributeError, match="immutable"):
        setattr(record, name, value)
    with pytest.raises(TypeError, match="no field"):
        replace(record, no_such_field=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"max_attempts": -1}, "max_attempts must be at least 0, not -1"), ({"cap": float("inf")}, "must be finite")],
)
def test_a_changed_copy_is_checked_like_a_new_record(changes: dict[str, Any], words: str) -> None:
    """No policy that could not have been made can be derived."""
    with pytest.raises(ValueError, match=words):
        RetryPolicy(**changes)
    with pytest.raises(ValueError, match=words):
        replace(RetryPolicy(), **changes)


@pytest.mark.parametrize("record", DISCREET, ids=lambda record: type(record).__name__)
def test_what_may_hold_secrets_shows_none(record: object) -> None:
    """Neither as text nor to a pretty printer, which reads ``__rich_repr__`` where there is one."""
    assert SECRET not in repr(record) + str(record)
    assert not hasattr(record, "__rich_repr__")
