"""``@resumable_task``, ``download()`` for its bodies and for others', and the ready tasks."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import os
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from celery import Celery, Task, current_app, current_task, shared_task

from recovery.celery import RECOMMENDED, TASK_OPTIONS, WorkerSettings
from recovery.celery import configure as configure_worker
from recovery.celery.decorator import body_of, call_of
from recovery.celery.endings import How, StopReason, TaskCall
from recovery.celery.runtime import Runtime
from recovery.celery.taskrun import TaskRun
from recovery.celery.worker import perform
from recovery.loopthread import CallerSide
from recovery.policy import RetryPolicy
from resumable.celery.meta import failure_info, failure_of, result_of
from resumable.celery.runtime import RESUME, DownloadRuntime, WorkerOptions, runtimes_of
from resumable.celery.scope import Attached, Scope, current_scope
from resumable.errors import DownloadError, DownloadPaused
from resumable.model import Options, Result
from resumable.redact import redact_url

__all__ = ["PendingDownload", "configure", "download", "fetch", "fetch_many", "resumable_task", "resume"]

_GRACE_S = 5.0


def configure(app: Celery, options: WorkerOptions | None = None, *, settings: WorkerSettings = RECOMMENDED) -> None:
    """Give the application the settings with which no long task is lost (``recovery.celery.RECOMMENDED``), and tell
    its downloads how to run.
    """
    configure_worker(app, settings)
    app.conf["resumable"] = options or WorkerOptions()
    runtimes_of(app)


class PendingDownload:
    """A download that is asked for: ``await`` it in an asynchronous body, call ``get()`` in any other."""

    def __init__(self, url: str, dest: Path | str | None, request: Mapping[str, Any]) -> None:
        """Made by ``download``."""
        self._url = url
        self._dest = dest
        self._request = request

    def __await__(self) -> Generator[Any, None, Result]:
        """Download, in the body of a ``@resumable_task``.

        Raises:
            RuntimeError: awaited anywhere else.
            ValueError, DownloadError: see ``DownloadManager.start``.
        """
        scope = current_scope.get()
        if scope is None:
            raise RuntimeError(
                "await download(...) in the body of an async @resumable_task; elsewhere call download(...).get(),"
                " or await resumable.download(...) where no Celery worker is about"
            )
        return self._through(scope).__await__()

    def get(self) -> Result:
        """Download and wait: in a synchronous body of any Celery task, or outside of all. A wait for the next attempt
        raises Celery's ``Retry`` through the body (or frees the slot of a ``@resumable_task``), which then runs again.

        Raises:
            RuntimeError: called in an asynchronous body, which has to ``await``.
            ValueError, DownloadError: see ``DownloadManager.start``.
        """
        scope = current_scope.get()
        if scope is not None:
            return _in_thread(scope, self._through)
        task = current_task._get_current_object() if current_task else None  # noqa: SLF001 - the way out of a proxy
        if task is None:
            return _outside(runtimes_of(current_app._get_current_object()).eager, self._alone)  # noqa: SLF001
        asked = hashlib.sha256(f"{self._url}|{self._dest}|{self._request.get('directory')}".encode()).hexdigest()[:12]
        found: Result = _perform(task, self._alone, key=f"{task.request.id}:{asked}", again=True)
        return found

    async def _through(self, scope: Scope) -> Result:
        return await scope.download(self._url, self._dest, **self._request)

    async def _alone(self) -> Result:
        return await self._through(_scope())


def download(url: str, dest: Path | str | None = None, **request: Any) -> PendingDownload:
    """Ask for a download; ``await`` what this returns, or call its ``get()``. ``request`` is what
    ``DownloadManager.start`` takes. Nothing happens before.
    """
    return PendingDownload(url, dest, request)


def resumable_task(app: Celery, *, policy: RetryPolicy | None = None, **options: Any) -> Callable[..., Task]:
    """Make a function a task whose body may ``await download(...)``; ``async def`` or not.

    The body runs once at a time for each message, whatever broker and processes do. When it has nothing to do but wait
    for an attempt that is far away, it is put down and runs again from its beginning later: what was downloaded is
    found there. With a ``policy`` its other failures are judged and tried again too; without one they end the task.
    ``options`` are Celery's; ``bind`` is none of them (the running task is ``celery.current_task`` in a synchronous
    body).
    """
    if options.pop("bind", False):
        raise TypeError("a @resumable_task is not bound: an asynchronous body does not run in its task's thread")

    def decorate(fn: Callable[..., Any]) -> Task:
        @functools.wraps(fn)
        def run(self: Task, *args: Any, **kwargs: Any) -> Any:
            return _perform(self, fn, args, kwargs, policy=policy)

        return app.task(run, bind=True, **{**TASK_OPTIONS, **options})

    runtimes_of(app)
    return decorate


# -- ready tasks -----------------------------------------------------------------------------------------------------

# Not decorated: Celery has no annotations, so a decorated function would lose its own, and never have ``delay``.


def _task_fetch(self: Task, url: str, dest: str | None = None, **request: Any) -> dict[str, Any]:
    """Download one file. ``request``: directory, project, mirrors, headers, sha256, and ``options`` as a dict.

    Returns ``{"download_id", "path", "size", "sha256", "verified_by", "bytes_resumed", "bytes_received", "attempts",
    "elapsed"}``, or at once ``{"attached": download_id}`` while another task downloads the same file.
    """
    found: dict[str, Any] = _perform(self, _fetch, (_request({**request, "url": url, "dest": dest}),))
    return found


def _task_resume(self: Task, download_id: str) -> dict[str, Any]:
    """Continue a download that this host's state file knows; returns what ``fetch`` does."""
    found: dict[str, Any] = _perform(self, _resume, (download_id,))
    return found


def _task_fetch_many(
    self: Task, files: Sequence[Mapping[str, Any]], project: str = "", max_concurrent: int = 4
) -> dict[str, Any]:
    """Download the files of a project: each of ``files`` is what ``fetch`` takes, ``url`` included.

    A file that fails touches no other. Returns ``{"project", "complete", "failed", "bytes", "files": [...]}``, where
    each file is what ``fetch`` returns, or ``{"url", "error": {"code", "category", "message", "detail", "retryable",
    "attempts", "bytes_kept"}}``, in the order they were given.
    """
    asked = [_request({**one, "project": project or one.get("project", "")}) for one in files]
    found: dict[str, Any] = _perform(self, _fetch_many, (asked, project, max_concurrent))
    return found


fetch: Final[Any] = shared_task(bind=True, name="resumable.fetch", **TASK_OPTIONS)(_task_fetch)
resume: Final[Any] = shared_task(bind=True, name=RESUME, **TASK_OPTIONS)(_task_resume)
fetch_many: Final[Any] = shared_task(bind=True, name="resumable.fetch_many", **TASK_OPTIONS)(_task_fetch_many)


async def _fetch(request: dict[str, Any]) -> dict[str, Any]:
    return await _found(_scope().download(**request, attach=True))


async def _resume(download_id: str) -> dict[str, Any]:
    return await _found(_scope().resume(download_id))


async def _found(downloading: Awaitable[Result]) -> dict[str, Any]:
    try:
        return result_of(await downloading)
    except Attached as attached:
        return {"attached": attached.download_id}


async def _fetch_many(files: Sequence[dict[str, Any]], project: str, max_concurrent: int) -> dict[str, Any]:
    scope = _scope()
    done = await scope.finished()
    places = asyncio.Semaphore(max_concurrent)

    async def one(name: str, request: dict[str, Any]) -> dict[str, Any]:
        if name in done:
            return dict(done[name])
        try:
            found = result_of(await scope.download(**request, places=places))
        except DownloadError as exc:
            found = {"url": redact_url(request["url"]), "error": failure_info(exc)}
        await scope.finish(name, found)
        return found

    found = await asyncio.gather(*(one(str(index), request) for index, request in enumerate(files)))
    good = [each for each in found if "error" not in each]
    return {
        "project": project,
        "complete": len(good),
        "failed": len(found) - len(good),
        "bytes": sum(each["size"] for each in good),
        "files": found,
    }


def _request(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``download`` from those of a message, which are JSON."""
    request = dict(given)
    if isinstance(request.get("options"), Mapping):
        request["options"] = Options(**request["options"])
    return request


# -- inside ----------------------------------------------------------------------------------------------------------


def _perform(task: Task, fn: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Any = None, **call: Any) -> Any:
    runtime = runtimes_of(task.app).of(task)
    body = _scoped(runtime, task, fn, args, kwargs or {})
    asked = call_of(task, in_thread=not inspect.iscoroutinefunction(fn), **call)
    return perform(task, runtime, asked, body, failure=failure_of)


def _scoped(
    runtime: Runtime, task: Task | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[TaskRun], Awaitable[Any]]:
    """Return a body that runs ``fn`` with a scope of its own."""
    assert isinstance(runtime, DownloadRuntime)

    async def body(run: TaskRun) -> Any:
        token = current_scope.set(runtime.scope(run, task))
        try:
            return await body_of(fn, args, kwargs)(run)
        finally:
            current_scope.reset(token)

    return body


def _scope() -> Scope:
    scope = current_scope.get()
    assert scope is not None, "only called in a body"
    return scope


def _in_thread(scope: Scope, request: Callable[[Scope], Awaitable[Result]]) -> Result:
    """Download from within a synchronous body, in whose thread this runs."""

    async def visit(side: CallerSide) -> Result:
        # Celery is called in the task's thread: while this waits, here.
        former, scope.run.side = scope.run.side, side
        try:
            return await request(scope)
        finally:
            scope.run.side = former

    return scope.loop_thread.start(visit).outcome(grace_s=_GRACE_S)


def _outside(runtime: Runtime, fn: Callable[..., Any]) -> Result:
    """Download where no Celery task runs: a script, a test."""
    call = TaskCall(name="download", task_id=f"direct-{os.urandom(8).hex()}")
    run = TaskRun(call)
    started = runtime.start(run, _scoped(runtime, None, fn, (), {}))
    try:
        ending = started.result()
    except BaseException:
        if not started.done:
            started.tell(lambda: run.stop(StopReason.INTERRUPTED))
            started.settle(within_s=_GRACE_S)
        raise
    if ending.how is not How.DONE:
        raise ending.error or DownloadPaused("the download was paused; what it has is kept")
    found: Result = ending.value
    return found
