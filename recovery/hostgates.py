"""The gates of all hosts: what ``recovery.gate`` decides, remembered between the asking and the telling.

``MemoryGates`` serves one process, ``JournalGates`` all that share a state file, and survives restarts. Neither knows
attempts or what a host is: any string will do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from recovery.clock import Clock, SystemClock
from recovery.events import GateEvent
from recovery.gate import Admit, GatePhase, GateSettings, GateState, Wait, admit, failed, released, succeeded
from recovery.observers import tell
from recovery.owner import surely_dead
from recovery.records import JsonValue
from recovery.verdict import Verdict

__all__ = ["GateTable", "HostGates", "JournalGates", "MemoryGates"]

T = TypeVar("T")

_MOST_HOSTS = 4096
_LOOK_S = 0.5
"""How soon the trouble another process has with a host becomes known to this one."""


class HostGates(Protocol):
    """Asked before each attempt and told after it, by the name (``owner``) of the attempt."""

    async def admit(self, host: str, owner: str, *, asked_for: bool = False) -> Admit | Wait:
        """Say whether ``owner`` may go now, or when to ask again. ``asked_for``: a person wants it now."""

    async def succeeded(self, host: str, owner: str) -> None:
        """Note that the host answered ``owner``."""

    async def failed(self, host: str, owner: str, verdict: Verdict) -> None:
        """Note that ``owner``'s attempt failed."""

    async def released(self, host: str, owner: str) -> None:
        """Note that ``owner`` did not use its admission."""


class GateTable(Protocol):
    """What ``JournalGates`` needs of a journal."""

    async def change_gate(
        self, host: str, change: Callable[[Mapping[str, Any] | None], tuple[Mapping[str, JsonValue] | None, T]]
    ) -> T:
        """Change one record in a transaction; see ``Journal.change_gate``."""

    async def gates(self) -> dict[str, Any]:
        """Return all records."""


class _Gates:
    """What both have in common: how the pure machine is asked and told."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        settings: GateSettings | None = None,
        on_event: Callable[[GateEvent], None] | None = None,
    ) -> None:
        """``on_event`` hears of every change of phase that is made here."""
        self._clock = clock or SystemClock()
        self._draw = draw
        self._settings = settings or GateSettings()
        self._on_event = on_event

    async def admit(self, host: str, owner: str, *, asked_for: bool = False) -> Admit | Wait:
        """Say whether ``owner`` may go now, or when to ask again. ``asked_for``: a person wants it now."""
        now, draw = self._clock.time(), self._draw()
        return await self._change(
            host, lambda state: admit(state, now, draw, owner, asked_for=asked_for, settings=self._settings)
        )

    async def succeeded(self, host: str, owner: str) -> None:
        """Note that the host answered ``owner``."""
        now = self._clock.time()
        await self._change(host, lambda state: (succeeded(state, now, owner=owner, settings=self._settings), None))

    async def failed(self, host: str, owner: str, verdict: Verdict) -> None:
        """Note that ``owner``'s attempt failed."""
        now, draw = self._clock.time(), self._draw()
        await self._change(
            host, lambda state: (failed(state, verdict, now, draw, owner=owner, settings=self._settings), None)
        )

    async def released(self, host: str, owner: str) -> None:
        """Note that ``owner`` did not use its admission."""
        now = self._clock.time()
        await self._change(host, lambda state: (released(state, now, owner=owner), None))

    async def state(self, host: str) -> GateState:
        """Return how the gate of ``host`` stands, for people; asking changes nothing."""
        return await self._change(host, lambda state: (state, state))

    async def _change(self, host: str, change: Callable[[GateState], tuple[GateState, T]]) -> T:
        raise NotImplementedError

    def _say(self, host: str, old: GateState, new: GateState) -> None:
        if new.phase is old.phase:
            return
        ts = self._clock.time()
        event = GateEvent(host=host, state=new.phase.value, until=new.held_until, failures=new.failures, ts=ts)
        tell(event)
        if self._on_event is not None:
            self._on_event(event)


class MemoryGates(_Gates):
    """Gates for one process; a restart forgets them."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        settings: GateSettings | None = None,
        on_event: Callable[[GateEvent], None] | None = None,
    ) -> None:
        """See ``GateSettings`` for how they behave."""
        super().__init__(clock=clock, draw=draw, settings=settings, on_event=on_event)
        self._states: dict[str, GateState] = {}

    async def _change(self, host: str, change: Callable[[GateState], tuple[GateState, T]]) -> T:
        old = self._states.pop(host, _WELL)
        new, result = change(old)
        if new != _WELL:
            self._states[host] = new
            if len(self._states) > _MOST_HOSTS:
                del self._states[next(iter(self._states))]  # the one that was used longest ago
        self._say(host, old, new)
        return result


class JournalGates(_Gates):
    """Gates that every process with the same journal shares. A host that is well costs no write."""

    def __init__(
        self,
        table: GateTable,
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        settings: GateSettings | None = None,
        on_event: Callable[[GateEvent], None] | None = None,
    ) -> None:
        """``table`` is a journal."""
        super().__init__(clock=clock, draw=draw, settings=settings, on_event=on_event)
        self._table = table
        self._ill: frozenset[str] = frozenset()
        self._looked_at: float | None = None

    async def _change(self, host: str, change: Callable[[GateState], tuple[GateState, T]]) -> T:
        if not await self._is_ill(host):
            new, result = change(_WELL)
            if new == _WELL:
                return result  # neither asking nor an answer changes a host that is well

        def in_table(record: Mapping[str, Any] | None) -> tuple[Mapping[str, JsonValue] | None, _Changed[T]]:
            old = _WELL if record is None else _from_record(record)
            new, result = change(_without_the_dead(old, self._clock.time()))
            kept = None if new == _WELL else record if new == old else _to_record(new)
            return kept, _Changed(old, new, result)

        changed = await self._table.change_gate(host, in_table)
        self._ill = self._ill - {host} if changed.new == _WELL else self._ill | {host}
        self._say(host, changed.old, changed.new)
        return changed.result

    async def _is_ill(self, host: str) -> bool:
        now = self._clock.monotonic()
        if self._looked_at is None or not 0 <= now - self._looked_at < _LOOK_S:
            self._ill = frozenset(await self._table.gates())
            self._looked_at = now
        return host in self._ill


class _Changed(Struct, Generic[T], frozen=True):
    old: GateState
    new: GateState
    result: T


_WELL = GateState()
_GATE_FIELDS = frozenset(GateState.__struct_fields__)


def _without_the_dead(state: GateState, now: float) -> GateState:
    """Return the state with the probe free whose process is known to have died: nobody waits for its lease to end."""
    if state.probe_owner is None or not surely_dead(state.probe_owner.partition("/")[0]):
        return state
    return released(state, now, owner=state.probe_owner)


def _to_record(state: GateState) -> dict[str, JsonValue]:
    return {**asdict(state), "phase": state.phase.value}


def _from_record(record: Mapping[str, Any]) -> GateState:
    # A newer program that shares the file may note more. What it notes differently is better forgotten than obeyed.
    known = {name: value for name, value in record.items() if name in _GATE_FIELDS}
    try:
        return GateState(**{**known, "phase": GatePhase(record["phase"])})
    except (KeyError, ValueError):
        return _WELL
