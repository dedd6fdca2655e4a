"""A manager without network, files or database, for the tests of what stands in front of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from msgspec.structs import replace

from recovery.events import HealthEvent
from recovery.health import Health
from recovery.states import State
from resumable.errors import DownloadPaused
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.model import Result

Ending = Result | BaseException | None
"""How a fake download ends; None: only when it is stopped."""


class FakeHandle:
    """A download that ends as it was told."""

    def __init__(self, view: DownloadView, ending: Ending) -> None:
        self.view = view
        self._ending: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if isinstance(ending, BaseException):
            self._ending.set_exception(ending)
        elif ending is not None:
            self._ending.set_result(ending)

    @property
    def download_id(self) -> str:
        return self.view.download_id

    def __await__(self) -> Generator[Any, None, Result]:
        return self._ending.__await__()

    def retry_now(self) -> None:
        """Nothing waits here."""

    def end(self, result: Result) -> None:
        self._ending.set_result(result)

    def stop(self) -> None:
        if not self._ending.done():
            self.view = replace(self.view, state=State.PAUSED)
            self._ending.set_exception(DownloadPaused("stopped"))


class FakeManager:
    """Answers from ``views`` and ``endings``, keyed by URL for new downloads and by id for known ones."""

    def __init__(
        self,
        *,
        endings: dict[str, Ending | Callable[[], Ending]] | None = None,
        views: list[DownloadView] | None = None,
        health_reason: str = "",
    ) -> None:
        self.endings = endings or {}
        self.views = {view.download_id: view for view in views or []}
        self.health_reason = health_reason
        self.health = Health.OK
        self.settings: dict[str, Any] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.handles: list[FakeHandle] = []
        self.forgotten = 12
        self.report: Any = None
        self.obeys = True

    def __call__(self, **settings: Any) -> Self:
        """Stand for the class: the command line makes its manager with this."""
        self.settings = settings
        return self

    async def __aenter__(self) -> Self:
        if self.health_reason:
            for health in ("degraded", "ok"):
                self.settings["on_health"](HealthEvent(health, self.health_reason, 1.0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.stop()

    # -- running -------------------------------------------------------------------------------------------------------

    def start(self, url: str, dest: Any = None, **request: Any) -> FakeHandle:
        self.calls.append(("start", url, dest, request))
        return self._begin(
            DownloadView(download_id=f"d{len(self.handles) + 1}", url=url, filename="f"), self.endings[url]
        )

    def _begin(self, view: DownloadView, ending: Ending | Callable[[], Ending]) -> FakeHandle:
        final = ending() if callable(ending) else ending
        if isinstance(final, (ValueError, OSError)):
            raise final
        handle = FakeHandle(replace(view, state=State.RUNNING, bytes_done=5, bytes_total=10), final)
        self.handles.append(handle)
        for name in (EventName.STARTED, EventName.PROGRESS):
            self.settings["on_event"](DownloadEvent(event=name, view=handle.view, ts=1.0))
        return handle

    async def recover(self, ids: list[str]) -> list[FakeHandle]:
        self.calls.append(("recover", *ids))
        return [self._begin(self.views[name], self.endings[name]) for name in ids]

    # -- looking and steering ------------------------------------------------------------------------------------------

    async def downloads(self, *, project: str | None = None) -> list[DownloadView]:
        return [view for view in self.views.values() if project in {None, view.project_id}]

    async def find(self, name: str) -> DownloadView:
        found = [view for key, view in self.views.items() if key.startswith(name)]
        if len(found) != 1:
            msg = f"no download {name!r}" if not found else f"several downloads begin with {name!r}"
            raise LookupError(msg)
        return found[0]

    async def history(self, download_id: str) -> list[Any]:
        made = {"number": 1, "outcome": "failed", "progress_from": 0, "progress_to": 1000, "started_at": 1.0}
        return [SimpleNamespace(**made, ended_at=3.0, error="reset", delay_s=1.5)] if download_id == "d1" else []

    def _become(self, what: str, name: str, state: State) -> DownloadView:
        self.calls.append((what, name))
        if self.obeys:
            self.views[name] = replace(self.views[name], state=state)
        return self.views[name]

    async def pause(self, name: str) -> DownloadView:
        return self._become("pause", name, State.PAUSED)

    async def cancel(self, name: str, *, delete_part: bool = False) -> DownloadView:
        return self._become("cancel+delete" if delete_part else "cancel", name, State.CANCELLED)

    async def retry(self, name: str) -> DownloadView:
        return self._become("retry", name, State.QUEUED)

    async def relink(self, name: str, url: str) -> DownloadView:
        self.calls.append(("relink", name, url))
        return self.views[name]

    async def verify(self, path: Path, *, sha256: str | None = None) -> Any:
        self.calls.append(("verify", str(path), sha256))
        if isinstance(self.report, BaseException):
            raise self.report
        return self.report

    async def prune(self, *, older_than_s: float) -> int:
        self.calls.append(("prune", older_than_s))
        return self.forgotten
