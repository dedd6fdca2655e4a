"""What a hub knows this moment: the newest view of each download, the newest row of each operation. Pure.

Snapshots and events are made of the same board, so that a client which has one has, with the other, all of it. A
download's ``rev`` grows with every change the hub shows, and over restarts too: it is never less than the view's own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, KeysView, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from recovery.states import TERMINAL, State
from resumable.events import DownloadView
from resumable_ui.totals import Totals, percent, stage_of
from resumable_ui.wire import (
    VERSION,
    completed_wire,
    download_wire,
    gate_wire,
    moving_json,
    operation_wire,
    seen_of,
    standing_wire,
)

if TYPE_CHECKING:
    from recovery.records import Operation

FINISHED_SHOWN: Final = 500
"""Ended downloads in a snapshot, the newest; the others are read page by page through ``/api/downloads``."""

_ENDED_WELL: Final = frozenset({State.COMPLETE, State.CANCELLED})


class Change(IntEnum):
    """What news of a download are."""

    NONE = 0
    PROGRESS = 1
    """Bytes moved; the newest is enough."""
    STATE = 2
    """Something that must be seen: state, attempt, error, actions."""


@dataclass(slots=True)
class _Shown:
    view: DownloadView
    rev: int
    standing: str | None = None
    """JSON of what has not changed since the last change of state, without its closing brace; made when needed."""


class Board:
    """Downloads, operations and gates as they are known to one hub."""

    def __init__(self, *, epoch: str, rev: int) -> None:
        """``epoch`` names this life of the hub; ``rev`` is the least number of a change."""
        self.epoch = epoch
        self.seq = 0
        """Number of the newest event sent."""
        self._rev = rev
        self._shown: dict[str, _Shown] = {}
        self._projects: dict[str, Totals] = {}
        self._operations: dict[str, Operation] = {}
        self._gates: dict[str, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        """Return how many downloads are known."""
        return len(self._shown)

    # -- taking in -----------------------------------------------------------------------------------------------------

    def offer(self, view: DownloadView) -> Change:
        """Take a view in, unless a newer one is known; return what is new about it."""
        known = self._shown.get(view.download_id)
        change = Change.STATE if known is None else difference(known.view, view)
        if change is Change.NONE:
            return change
        if known is None:
            self._projects.setdefault(view.project_id, Totals()).count(view, 1)
            self._shown[view.download_id] = _Shown(view, max(view.rev, self._rev))
            return change
        if change is Change.PROGRESS:
            self._projects[view.project_id].move(view, view.bytes_done - known.view.bytes_done)
        else:
            self._projects[known.view.project_id].count(known.view, -1)
            self._projects.setdefault(view.project_id, Totals()).count(view, 1)
            known.standing = None
        known.view = view
        known.rev = max(view.rev, known.rev + 1)
        return change

    def remove(self, download_id: str) -> bool:
        """Forget a download; return whether it was known."""
        known = self._shown.pop(download_id, None)
        self._operations.pop(download_id, None)
        if known is None:
            return False
        project = self._projects[known.view.project_id]
        project.count(known.view, -1)
        if not any(project.states.values()):
            del self._projects[known.view.project_id]
        return True

    def offer_operation(self, operation: Operation) -> bool:
        """Take an operation's row in; return whether its state or attempt is news."""
        known = self._operations.get(operation.operation_id)
        if known is not None and known.rev >= operation.rev:
            return False
        self._operations[operation.operation_id] = operation
        return known is None or _told_of(known) != _told_of(operation)

    def forget_ended(self, operation_id: str) -> None:
        """Forget an operation that has ended well: no snapshot has it, and a hub sees many in its life."""
        known = self._operations.get(operation_id)
        if known is not None and known.state in _ENDED_WELL:
            del self._operations[operation_id]

    def keep_operations(self, ids: Collection[str]) -> None:
        """Forget all operations but these; none where their numbers begin anew."""
        self._operations = {name: row for name, row in self._operations.items() if name in ids}

    def offer_gates(self, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Take all host gates in; return the hosts whose phase or failures changed, those forgotten among them."""
        before, self._gates = self._gates, dict(records)
        hosts = {*before, *records}
        return sorted(host for host in hosts if _gate_key(before.get(host)) != _gate_key(records.get(host)))

    # -- giving out ----------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> KeysView[str]:
        """The ids of the downloads known."""
        return self._shown.keys()

    def view(self, download_id: str) -> DownloadView | None:
        """Return the newest view of a download."""
        shown = self._shown.get(download_id)
        return None if shown is None else shown.view

    def rev(self, download_id: str) -> int:
        """Return the number of the newest change of a download, 0 where it is not known."""
        shown = self._shown.get(download_id)
        return 0 if shown is None else shown.rev

    def download(self, download_id: str) -> dict[str, Any] | None:
        """Return a ``Download``."""
        shown = self._shown.get(download_id)
        return None if shown is None else download_wire(shown.view, rev=shown.rev)

    def views(self) -> list[DownloadView]:
        """Return all views, newest download first."""
        views = [shown.view for shown in self._shown.values()]
        return sorted(views, key=lambda view: (view.created_at, view.download_id), reverse=True)

    def operation(self, operation_id: str) -> Operation | None:
        """Return the newest row of an operation."""
        return self._operations.get(operation_id)

    def operations(self) -> list[dict[str, Any]]:
        """Return every operation that has not ended well, newest first."""
        rows = [row for row in self._operations.values() if row.state not in _ENDED_WELL]
        return [operation_wire(row) for row in sorted(rows, key=lambda row: row.created_at, reverse=True)]

    def completed(self, operation_id: str) -> dict[str, Any] | None:
        """Return the payload of ``recovery_completed``; None while the operation goes on."""
        operation = self._operations.get(operation_id)
        return completed_wire(operation) if operation is not None and operation.state in TERMINAL else None

    def gate(self, host: str, now: float) -> dict[str, Any]:
        """Return the payload of ``circuit_breaker_update``."""
        return gate_wire(host, self._gates.get(host, {}), now)

    def gates(self, now: float) -> list[dict[str, Any]]:
        """Return all gates that hold something back."""
        hosts = [host for host, record in self._gates.items() if record.get("phase", "closed") != "closed"]
        return [gate_wire(host, self._gates[host], now) for host in sorted(hosts)]

    def progress(self, download_id: str) -> dict[str, Any] | None:
        """Return ``{project_id, progress}``: the project's totals, this file's numbers, and the whole ``Download``."""
        download = self.download(download_id)
        if download is None:
            return None
        project = self._projects[download["project_id"]]
        done, total = download["bytes_done"], download["bytes_total"]
        progress = {
            **download,
            "stage": stage_of(project.states),
            "progress": project.progress,
            "current_file": download["filename"],
            "file_progress": _file_progress(self._shown[download_id].view),
            "current": done,
            "total": total,
        }
        return {"project_id": download["project_id"], "progress": progress}

    def progress_jsons(self, ids: Iterable[str]) -> list[tuple[str, str, str]]:
        """Return ``(id, project, progress as JSON)`` of those that are known, made ten times as fast: most of it is
        what it was the last time, or is the same for all of a project.
        """
        totals: dict[str, str] = {}
        found = []
        for shown in map(self._shown.get, ids):
            if shown is not None:
                view = shown.view
                project = view.project_id
                if project not in totals:
                    totals[project] = self._projects[project].totals_json()
                found.append((view.download_id, project, _progress_json(shown, totals[project])))
        return found

    def project(self, project_id: str) -> dict[str, Any]:
        """Return a project's totals."""
        project = self._projects.get(project_id, Totals())
        return {
            "project_id": project_id,
            "downloads": sum(project.states.values()),
            "states": {status: count for status, count in project.states.items() if count},
            "stage": stage_of(project.states),
            "progress": project.progress,
            "bytes_done": project.done,
            "bytes_total": project.total,
            "unknown_sizes": project.unknown,
        }

    def snapshot(self, rooms: Iterable[str], now: float) -> dict[str, Any]:
        """Return everything a client in ``rooms`` must know, at epoch time ``now``."""
        wanted = frozenset(rooms)
        every = bool(wanted & {"all", "recovery"})
        chosen = [
            view
            for view in self.views()
            if every or f"project:{view.project_id}" in wanted or f"download:{view.download_id}" in wanted
        ]
        shown, left_out = _newest_ended(chosen)
        projects = sorted(self._projects) if every else sorted({view.project_id for view in shown})
        ids = None if every else {view.download_id for view in chosen}
        operations = [row for row in self.operations() if ids is None or row["operation_id"] in ids]
        return {
            "v": VERSION,
            "epoch": self.epoch,
            "seq": self.seq,
            "ts": now,
            "projects": [self.project(name) for name in projects],
            "downloads": [download_wire(view, rev=self.rev(view.download_id)) for view in shown],
            "operations": operations,
            "gates": self.gates(now),
            "left_out": left_out,
        }


def _progress_json(shown: _Shown, totals: str) -> str:
    view = shown.view
    if shown.standing is None:
        standing = {**standing_wire(view), "current_file": view.filename, "total": view.bytes_total}
        shown.standing = f'{{"project_id":{_json(view.project_id)},"progress":{_json(standing)[:-1]}'
    return (
        f'{shown.standing},{moving_json(view)},"rev":{shown.rev},{totals},'
        f'"current":{view.bytes_done},"file_progress":{_file_progress(view)}}}}}'
    )


def difference(old: DownloadView, new: DownloadView) -> Change:
    """Return what ``new`` says that ``old`` did not; NONE too where it is the older one."""
    if new is old or new.rev < old.rev:
        return Change.NONE
    if seen_of(old) != seen_of(new):
        return Change.STATE
    return Change.NONE if _moving(old) == _moving(new) else Change.PROGRESS


_moving: Final = attrgetter("bytes_done", "bytes_received", "speed")


def _told_of(operation: Operation) -> tuple[Any, ...]:
    return (operation.state, operation.history.attempts, operation.next_at, operation.code)


def _gate_key(record: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return ("closed", 0, None) if record is None else (record.get("phase"), record.get("failures"), record.get("until"))


def _newest_ended(views: Sequence[DownloadView]) -> tuple[list[DownloadView], int]:
    """Return the views without the oldest ended ones, and how many were left out."""
    ended = [view for view in views if view.state in _ENDED_WELL]
    hidden = {view.download_id for view in ended[FINISHED_SHOWN:]}
    return [view for view in views if view.download_id not in hidden], len(hidden)


_json: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _file_progress(view: DownloadView) -> float:
    return percent(view.bytes_done, view.bytes_total or 0, complete=view.state is State.COMPLETE)
