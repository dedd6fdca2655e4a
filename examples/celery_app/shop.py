"""The application: three ready lines and two tasks of its own. ``celery -A shop worker`` runs it."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from resumable.celery import WorkerOptions, configure, download, resumable_task

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"])
configure(app, WorkerOptions(state=os.environ["SHOP_STATE"]))


@resumable_task(app, name="import_model")
async def import_model(url: str, dest: str) -> dict[str, Any]:
    """Download a model, then do something with it; a body that waits holds no slot."""
    result = await download(url, dest)
    return {"imported": str(result.path), "size": result.size, "resumed": result.bytes_resumed}


@app.task(name="hello")  # type: ignore[untyped-decorator]
def hello() -> str:
    """Show that the worker has a slot to spare."""
    return "hello"
