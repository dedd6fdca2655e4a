"""The same request twice is done once: answers by request id, for a while.

A click during a reconnect is sent again, because nobody can know whether the first one arrived.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from resumable_ui.refusals import Code, Refused

KEPT_S: Final = 60.0
MOST: Final = 4096
LONGEST_ID: Final = 100


@dataclass(slots=True)
class _Kept:
    answer: asyncio.Future[dict[str, Any]]
    until: float


class Answers:
    """Answers given lately. ``now`` is monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin empty."""
        self._now = now
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    async def once(
        self, what: str, request_id: object, work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Return what ``work`` returns, or what it returned when ``what`` was asked under this id before.

        Who asks while the first one is still at work waits for the same answer. Raises Refused for an id that is none;
        what ``work`` raises is not kept.
        """
        if request_id is None:
            return await work()
        if not isinstance(request_id, str) or not 0 < len(request_id) <= LONGEST_ID:
            raise Refused(Code.BAD_REQUEST, f"request_id must be a text of 1 to {LONGEST_ID} characters")
        self._forget_old()
        key = (what, request_id)
        kept = self._kept.get(key)
        if kept is not None:
            return await asyncio.shield(kept.answer)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._kept[key] = _Kept(future, self._now() + KEPT_S)
        try:
            answer = await work()
        except BaseException as error:
            del self._kept[key]
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # whoever asked first is told; nobody else may have asked
            raise
        future.set_result(answer)
        return answer

    def _forget_old(self) -> None:
        now = self._now()
        for key in list(self._kept):
            kept = self._kept[key]
            if kept.until > now and len(self._kept) < MOST:
                return
            if not kept.answer.done():
                return
            del self._kept[key]
