"""What all downloads of one manager use, and the engine's adapters made of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from recovery.clock import Clock
from recovery.policy import RetryPolicy
from recovery.supervisor import Supervisor
from resumable.audit import audit
from resumable.catalog import Catalog
from resumable.checkpoints import SqliteCheckpoints
from resumable.events import EventName
from resumable.finished import FinishedFile
from resumable.hashing import FollowBehind
from resumable.model import DownloadRequest
from resumable.naming import open_new
from resumable.partfile import DiskPartFile
from resumable.ports import Transport
from resumable.session import Adapters
from resumable.throttle import RateLimit, combined
from resumable.unclobbered import asks, under_name

__all__ = ["Shared"]


class Shared(Struct, frozen=True, kw_only=True):
    """What all downloads of one manager use."""

    clock: Clock
    transport: Transport
    store: SqliteCheckpoints
    catalog: Catalog
    supervisor: Supervisor
    policy: RetryPolicy
    rate_limit: RateLimit | None
    follow: bool = True
    promised: set[Path] = field(default_factory=set)
    """Where files will stand that callers have named: nobody takes these names from his origin meanwhile."""
    brought: set[Path] = field(default_factory=set)
    """Where downloads that clobber nothing have put their files: what they have brought was not there already."""

    def adapters(
        self, request: DownloadRequest, *, notify: Callable[[EventName, str], None], publishing: Callable[[], None]
    ) -> Adapters:
        """Return what the engine of one download does its work with."""
        limit = request.options.limit_rate
        own = None if limit is None else RateLimit(limit, self.clock)
        return Adapters(
            transport=self.transport,
            store=self.store,
            clock=self.clock,
            open_part=DiskPartFile.open,
            open_finished=FinishedFile.open,
            audit=lambda part, claims, size, length: audit(part, claims, chunk_size=size, complete_length=length),
            follow=FollowBehind,
            open_new=lambda suggested, room: open_new(
                request.directory, suggested, self.promised, room=room, named=self.store.has_named
            ),
            unclobbered=(lambda name: under_name(request, name, self.brought)) if asks(request) else None,
            stands=lambda path: asyncio.to_thread(os.path.lexists, path),
            throttle=combined(own, self.rate_limit),
            notify=notify,
            publishing=publishing,
        )
