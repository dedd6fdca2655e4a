"""Resumable downloads for Celery: awaited in tasks, on as many workers as one likes.

::

    app = Celery("shop", broker="redis://localhost")
    configure(app)

    @resumable_task(app)
    async def import_model(url: str, dest: str) -> str:
        result = await download(url, dest)
        return str(result.path)

``docs/celery.md`` says what happens at every kind of death, limit and shutdown.
"""

from __future__ import annotations

from recovery.celery import RECOMMENDED, WorkerSettings
from resumable.celery.meta import DownloadFailed
from resumable.celery.runtime import WorkerOptions
from resumable.celery.tasks import PendingDownload, configure, download, fetch, fetch_many, resumable_task, resume

__all__ = [
    "RECOMMENDED",
    "DownloadFailed",
    "PendingDownload",
    "WorkerOptions",
    "WorkerSettings",
    "configure",
    "download",
    "fetch",
    "fetch_many",
    "resumable_task",
    "resume",
]
