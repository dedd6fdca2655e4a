"""From the board to every client that it concerns: paced, batched, and never waiting for a slow one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from recovery.states import State
from resumable.events import DownloadView
from resumable_ui.alarm import Alarm
from resumable_ui.board import Board, Change
from resumable_ui.clients import MOST_HELD, SKIP_ABOVE, SKIP_ABOVE_BYTES, Client, Turn, overrun
from resumable_ui.feed import MAX_HZ, SOON_S, Feed
from resumable_ui.sockets import Sockets, event_message
from resumable_ui.wire import VERSION, operation_wire

TICK_S: Final = 0.1
REAP_EVERY: Final = 10
"""Ticks between looks for connections that never said who they are."""

SETTINGS: Final[Mapping[str, Any]] = {"max_hz": MAX_HZ}

_LEGACY: Final = ("stage", "progress", "current_file", "file_progress", "current", "total", "status", "download_id")
"""Of ``ProgressEvent`` in the source application's web client."""

_log = logging.getLogger("resumable_ui.broadcast")


class Broadcaster:
    """Sends what changes on a board; one task, plus a callback for what cannot wait for its next turn."""

    def __init__(
        self, board: Board, sockets: Sockets, *, time: Callable[[], float], legacy_progress: bool = False
    ) -> None:
        """``time`` is the epoch's; ``legacy_progress`` also sends ``progress`` as the source application reads it."""
        self.board = board
        self.clients: dict[str, Client] = {}
        self._sockets = sockets
        self._time = time
        self._legacy_progress = legacy_progress
        self._feed = Feed()
        self._flushing = False
        self._soon = Alarm(self._flush_soon)
        self._flushed_at = 0.0
        self._dropping: set[asyncio.Task[None]] = set()

    # -- news ----------------------------------------------------------------------------------------------------------

    def show(self, view: DownloadView) -> None:
        """Take news of a download: progress waits for its turn, anything else goes out before the loop's next one."""
        change = self.board.offer(view)
        if change is Change.NONE:
            return
        self._feed.put(view.download_id, urgent=change is Change.STATE)
        if change is Change.STATE and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush_urgent)

    def removed(self, download_id: str, reason: str) -> None:
        """Say that a download is not known any more."""
        view = self.board.view(download_id)
        if view is not None and self.board.remove(download_id):
            self._feed.forget(download_id)
            data = {"download_id": download_id, "reason": reason}
            self.tell("download_removed", data, lambda one: one.sees(download_id, view.project_id))

    def tell_operation(self, operation_id: str) -> None:
        """Send ``recovery_update``, and ``recovery_completed`` at the end; what has ended well is then forgotten."""
        operation = self.board.operation(operation_id)
        if operation is None:
            return

        def concerns(client: Client) -> bool:
            return client.sees_recovery(operation_id, operation.project)

        self.tell("recovery_update", operation_wire(operation), concerns)
        done = self.board.completed(operation_id)
        if done is not None:
            self.tell("recovery_completed", done, concerns)
            self.board.forget_ended(operation_id)

    def tell_gate(self, host: str) -> None:
        """Send ``circuit_breaker_update``."""
        data = self.board.gate(host, self._time())
        self.tell("circuit_breaker_update", data, lambda one: bool(one.rooms))  # as every snapshot has them

    def log_entry(self, project_id: str, level: str, message: str, data: Mapping[str, Any]) -> None:
        """Send a line of a project's log, to those who watch that project only."""
        log = {"timestamp": self._time(), "level": level, "message": message, "data": data}
        self.tell("log_entry", {"project_id": project_id, "log": log}, lambda one: f"project:{project_id}" in one.rooms)

    def tell(self, event: str, data: Mapping[str, Any], concerns: Callable[[Client], bool]) -> None:
        """Send one event that nobody may miss."""
        self.board.seq += 1
        stamped = {**data, "v": VERSION, "epoch": self.board.epoch, "seq": self.board.seq, "ts": self._time()}
        self._deliver(event_message(event, _dump(stamped)), filter(concerns, list(self.clients.values())), lossy=False)

    def greet(self, client: Client, data: Mapping[str, Any]) -> None:
        """Say ``connected``; a legacy client, which asks for no snapshot, is sent what is under way as well."""
        self._sockets.send([client.sid], event_message("connected", _dump(data)))
        if client.legacy:
            self.send_state(client, self.unfinished())

    def send_state(self, client: Client, ids: Iterable[str]) -> None:
        """Send one client how these downloads stand, no faster than it reads."""
        client.owed.update(dict.fromkeys(ids))
        self._pay(client)

    def _pay(self, client: Client) -> None:
        packets, size = self._sockets.backlog(client.sid)
        if not client.owed or size > SKIP_ABOVE_BYTES:
            return
        due = list(client.owed)[: max(0, SKIP_ABOVE - packets)]
        for name in due:
            del client.owed[name]
        for item in self.board.progress_jsons(due):
            self._deliver(self._single(item), [client], lossy=False)

    async def may_be_answered(self, client: Client) -> bool:
        """Wait while the queue of a client is too long for an answer; return False where it is ended meanwhile."""
        if not overrun(*self._sockets.backlog(client.sid)):
            return True
        if client.held >= MOST_HELD:
            return False
        client.held += 1
        try:
            while self.clients.get(client.sid) is client:
                await asyncio.sleep(TICK_S)
                if not overrun(*self._sockets.backlog(client.sid)):
                    return self.clients.get(client.sid) is client
        finally:
            client.held -= 1
        return False

    # -- sending -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send progress ten times a second while there is any; runs until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            try:
                self._flush(urgent_only=False)
                self._catch_up()
                if ticks % REAP_EVERY == 0:
                    await self._sockets.reap()
            except Exception:  # noqa: BLE001 - the edge of the task: one bad record must not silence the hub for good
                _log.exception("tick failed")

    def flush(self) -> None:
        """Send what is due now rather than at the next tick."""
        self._flush(urgent_only=False)

    def flush_soon(self) -> None:
        """Send what is due at once, or together with what comes until a moment has passed since the last time."""
        self._soon.at(self._flushed_at + SOON_S)

    def _flush_soon(self) -> None:
        self._flush(urgent_only=False)
        due_s = self._feed.due_in(self._flushed_at)
        if due_s is not None and due_s < TICK_S:
            self._soon.at(self._flushed_at + max(SOON_S, due_s))

    def _flush_urgent(self) -> None:
        self._flushing = False
        self._flush(urgent_only=True)

    def _flush(self, *, urgent_only: bool) -> None:
        now = asyncio.get_running_loop().time()
        taken = self._feed.take(now, urgent_only=urgent_only)
        if not urgent_only:
            self._flushed_at = now
        for lossy in (False, True):
            ids = [name for name, urgent in taken.items() if urgent is not lossy]
            if ids and self.clients:
                self._spread(self.board.progress_jsons(ids), lossy=lossy)

    def _spread(self, items: Sequence[tuple[str, str, str]], *, lossy: bool) -> None:
        singles: dict[int, str] = {}
        batches: dict[tuple[int, ...], list[Client]] = {}
        for client in list(self.clients.values()):
            every = "all" in client.rooms
            chosen = tuple(n for n, (name, project, _) in enumerate(items) if every or client.sees(name, project))
            if chosen and client.batch:
                batches.setdefault(chosen, []).append(client)
            else:
                for n in chosen:
                    if n not in singles:
                        singles[n] = self._single(items[n])
                    self._deliver(singles[n], [client], lossy=lossy)
                    if self._legacy_progress and client.legacy:
                        self._deliver(self._legacy(items[n][0]), [client], lossy=lossy)
        for chosen, clients in batches.items():
            self._deliver(self._batch([items[n][2] for n in chosen]), clients, lossy=lossy)

    def _single(self, item: tuple[str, str, str]) -> str:
        return event_message("progress_update", f"{item[2][:-1]},{self._stamp()}}}")

    def _legacy(self, download_id: str) -> str:
        item = self.board.progress(download_id)
        progress = {} if item is None else {name: item["progress"][name] for name in _LEGACY}
        return event_message("progress", _dump({"project_id": "" if item is None else item["project_id"], **progress}))

    def _batch(self, items: Sequence[str]) -> str:
        return event_message("progress_batch", f'{{{self._stamp()},"items":[{",".join(items)}]}}')

    def _stamp(self) -> str:
        self.board.seq += 1
        return f'"v":{VERSION},"epoch":"{self.board.epoch}","seq":{self.board.seq},"ts":{self._time():.3f}'

    def _deliver(self, message: str, clients: Iterable[Client], *, lossy: bool) -> None:
        chosen = []
        for client in clients:
            match client.flow.turn(*self._sockets.backlog(client.sid), lossy=lossy):
                case Turn.SEND:
                    chosen.append(client.sid)
                case Turn.SNAPSHOT:
                    self._send_snapshot(client)
                    chosen.append(client.sid)
                case Turn.DROP:
                    self._drop(client)
                case Turn.SKIP:
                    pass
        self._sockets.send(chosen, message)

    def _catch_up(self) -> None:
        """Give a snapshot to those who have read what they were behind with; end those who never read."""
        for client in list(self.clients.values()):
            if not client.flow.look(*self._sockets.backlog(client.sid)):
                self._drop(client)
                continue
            self._pay(client)
            if (
                client.flow.skipping
                and client.flow.turn(*self._sockets.backlog(client.sid), lossy=True) is Turn.SNAPSHOT
            ):
                self._send_snapshot(client)

    def _send_snapshot(self, client: Client) -> None:
        self._sockets.send([client.sid], event_message("snapshot", _dump(self.snapshot(client))))

    def snapshot(self, client: Client) -> dict[str, Any]:
        """Return everything a client must know: what its rooms watch, and what it may do."""
        snapshot = self.board.snapshot(client.rooms, self._time())
        return {"ok": True, **snapshot, "settings": SETTINGS, "role": client.role.value}

    def _drop(self, client: Client) -> None:
        if self.clients.pop(client.sid, None) is None:
            return  # on its way out already
        task = asyncio.get_running_loop().create_task(self._sockets.drop(client.sid))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    def unfinished(self) -> list[str]:
        """Return the ids of downloads that have not ended."""
        return [view.download_id for view in self.board.views() if view.state not in {State.COMPLETE, State.CANCELLED}]


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _dump(data: Any) -> str:
    return _encode(data)
