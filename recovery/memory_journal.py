"""A journal without a file: the same rules as ``recovery.journal.Journal``, kept in dicts, for tests.

Nothing in it suspends for longer than one turn of the event loop: tests with it are deterministic. It is not durable,
and nothing is shared between processes.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from recovery.clock import Clock, SystemClock
from recovery.lifecycle import Fenced, advanced, asked_again, begun, claimed, recorded, renewed
from recovery.records import AttemptRecord, Change, Command, JsonValue, Operation, OperationSpec
from recovery.rows import load_json, to_json
from recovery.states import TERMINAL, State

__all__ = ["MemoryJournal"]

T = TypeVar("T")


class MemoryJournal:
    """What a supervisor, its steps and its gates ask of a journal. ``fail_with`` makes it fail."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Empty. ``clock`` gives the time where the caller does not."""
        self._clock = clock or SystemClock()
        self._rows: dict[str, Operation] = {}
        self._newest: dict[tuple[str, str], Operation] = {}
        self._attempts: dict[str, dict[int, AttemptRecord]] = {}
        self._steps: dict[str, dict[str, Any]] = {}
        self._gates: dict[str, Mapping[str, Any]] = {}
        self._commands: dict[str, tuple[Command, bool]] = {}
        self._rev = 0
        self.writes: list[str] = []
        """What was written, in order: ``begin``, ``claim``, ``renew``, ``step``, ``forget``, ``gate``, or a state."""
        self.fail_with: BaseException | None = None
        """Raised by every call while it is set, before anything is changed."""

    async def begin(self, spec: OperationSpec, *, now: float | None = None) -> Operation:
        """See ``Journal.begin``."""
        await self._turn()
        row = self._begin(spec, None, self._clock.time() if now is None else now)
        self.writes.append("begin")
        return self._put(row)

    async def begin_and_claim(
        self,
        spec: OperationSpec,
        *,
        owner: str,
        ttl_s: float,
        now: float,
        also: Callable[[sqlite3.Connection, int], None] | None = None,  # noqa: ARG002 - there is no connection
    ) -> tuple[Operation, int | None]:
        """See ``Journal.begin_and_claim``; ``also`` is not called, for there is no connection to call it with."""
        await self._turn()
        row = self._begin(spec, owner, now)
        taken = claimed(row, owner, ttl_s, now)
        self.writes.append("begin" if taken is None else "claim")
        return self._put(taken or row), None if taken is None else taken.generation

    async def renew(
        self,
        operation_id: str,
        generation: int,
        *,
        ttl_s: float,
        now: float,
        progress: tuple[int, int | None] | None = None,
    ) -> bool:
        """See ``Journal.renew``."""
        await self._turn()
        row = self._rows.get(operation_id)
        if row is None:
            return False
        try:
            row = renewed(row, generation, row.owner, ttl_s, now, progress)
        except Fenced:
            return False
        self.writes.append("renew")
        self._put(row)
        return True

    async def record(self, operation_id: str, generation: int, change: Change) -> Operation:
        """See ``Journal.record``."""
        await self._turn()
        row = recorded(self._fenced_row(operation_id, generation), generation, change)
        if change.state in TERMINAL or change.state is State.PAUSED:
            self._drop_commands(operation_id)
        if change.state is State.COMPLETE:
            self._steps.pop(operation_id, None)
        if change.attempt is not None:
            self._attempts.setdefault(operation_id, {})[change.attempt.number] = change.attempt
        self.writes.append(change.state.value)
        return self._put(row)

    async def get(self, operation_id: str) -> Operation | None:
        """Return the row; None when there is none."""
        await self._turn()
        return self._rows.get(operation_id)

    async def find(self, kind: str, key: str) -> Operation | None:
        """See ``Journal.find``."""
        await self._turn()
        return self._newest.get((kind, key))

    async def attempts(self, operation_id: str) -> list[AttemptRecord]:
        """Return the attempts made so far, oldest first."""
        await self._turn()
        return [record for _, record in sorted(self._attempts.get(operation_id, {}).items())]

    async def post_command(
        self,
        operation_id: str,
        name: str,
        args: Mapping[str, JsonValue] | None = None,
        request_id: str | None = None,
    ) -> bool:
        """See ``Journal.post_command``."""
        await self._turn()
        request_id = request_id or secrets.token_hex(5)
        if request_id in self._commands:
            return False
        command = Command(
            request_id=request_id,
            operation_id=operation_id,
            name=name,
            args=args or {},
            posted_at=self._clock.time(),
        )
        self._commands[request_id] = (command, False)
        return True

    async def take_commands(self, operation_ids: Collection[str]) -> list[Command]:
        """See ``Journal.take_commands``."""
        await self._turn()
        waiting = [each for each, taken in self._commands.values() if not taken and each.operation_id in operation_ids]
        for command in waiting:
            self._commands[command.request_id] = (command, True)
        return waiting

    async def save_step(
        self,
        operation_id: str,
        generation: int,
        name: str,
        data: JsonValue,
        *,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """See ``Journal.save_step``."""
        await self._turn()
        row = self._fenced_row(operation_id, generation)
        text = to_json(data)
        further = advanced(row, generation, progress)
        self._steps.setdefault(operation_id, {})[name] = load_json(text)
        if further is not row:
            self._put(further)
        self.writes.append("step")

    async def forget_steps(
        self,
        operation_id: str,
        generation: int,
        names: Collection[str] | None = None,
        *,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """See ``Journal.forget_steps``."""
        await self._turn()
        row = self._fenced_row(operation_id, generation)
        further = advanced(row, generation, progress)
        if further is not row:
            self._put(further)
        steps = self._steps.get(operation_id, {})
        for name in [*steps] if names is None else names:
            steps.pop(name, None)
        self.writes.append("forget")

    async def steps(self, operation_id: str) -> dict[str, Any]:
        """See ``Journal.steps``."""
        await self._turn()
        return dict(self._steps.get(operation_id, {}))

    async def change_gate(
        self, host: str, change: Callable[[Mapping[str, Any] | None], tuple[Mapping[str, JsonValue] | None, T]]
    ) -> T:
        """See ``Journal.change_gate``."""
        await self._turn()
        old = self._gates.get(host)
        new, result = change(old)
        if new is None:
            self._gates.pop(host, None)
        elif new is not old:
            self._gates[host] = load_json(to_json(new))
        if new is not old:
            self.writes.append("gate")
        return result

    async def gates(self) -> dict[str, Any]:
        """Return every host's gate record."""
        await self._turn()
        return dict(self._gates)

    async def _turn(self) -> None:
        await asyncio.sleep(0)  # as with a file, others run meanwhile
        if self.fail_with is not None:
            raise self.fail_with

    def _drop_commands(self, operation_id: str) -> None:
        untaken = [
            key for key, (each, taken) in self._commands.items() if each.operation_id == operation_id and not taken
        ]
        for request_id in untaken:
            del self._commands[request_id]

    def _begin(self, spec: OperationSpec, owner: str | None, now: float) -> Operation:
        to_json(spec.args)
        row = self._newest.get((spec.kind, spec.key))
        if row is not None and row.state in TERMINAL:
            row = None
        if row is None and spec.operation_id is not None:
            row = self._rows.get(spec.operation_id)
            if row is not None and (row.kind, row.key) != (spec.kind, spec.key):
                msg = f"operation {spec.operation_id} is {row.kind} of {row.key!r}, not {spec.kind} of {spec.key!r}"
                raise ValueError(msg)
        if row is None:
            return begun(spec, spec.operation_id or secrets.token_hex(5), now)
        again = asked_again(row, spec, now, owner=owner)
        if again.history.attempts < row.history.attempts:
            self._attempts.pop(row.operation_id, None)
        if again.state is not row.state:
            self._drop_commands(row.operation_id)
        return again

    def _fenced_row(self, operation_id: str, generation: int) -> Operation:
        row = self._rows.get(operation_id)
        if row is None or row.generation != generation:
            raise Fenced(operation_id, generation, None if row is None else row.generation)
        return row

    def _put(self, row: Operation) -> Operation:
        if self._rows.get(row.operation_id) is row:
            return row  # asked for again, and nothing is new
        self._rev += 1
        row = self._rows[row.operation_id] = self._newest[row.kind, row.key] = replace(row, rev=self._rev)
        return row
