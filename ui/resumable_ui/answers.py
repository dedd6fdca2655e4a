"""The same request twice is done once: answers by request id, for a while.

A click during a reconnect is sent again, because nobody can know whether the first one arrived. Two clients, or a
script that names all its requests alike, may take one id for two requests: the answer to one of them would be a lie to
the other, so that is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resumable_ui.refusals import Code, Refused

KEPT_S: Final = 60.0
MOST: Final = 4096
LONGEST_ID: Final = 100


@dataclass(slots=True)
class _Kept:
    form: bytes
    """Digest of what was asked for: a form may be long, and hold secrets."""
    answer: asyncio.Future[dict[str, Any]]
    until: float = 0.0


class Answers:
    """Answers given lately. ``now`` is monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin empty."""
        self._now = now
        self._under_way: dict[tuple[str, str], _Kept] = {}
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        """Answers that are known, oldest first."""

    async def once(
        self, what: str, form: Mapping[str, Any], work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Return what ``work`` returns, or what it returned when ``what`` was asked with this form before; its
        ``request_id`` says whether it is the same request.

        Who asks while the first one is still at work waits for the same answer. Raises Refused for an id that is none,
        or that another form had; what ``work`` raises is not kept.
        """
        request_id = form.get("request_id")
        if request_id is None:
            return await work()
        if not isinstance(request_id, str) or not 0 < len(request_id) <= LONGEST_ID:
            raise Refused(Code.BAD_REQUEST, f"request_id must be a text of 1 to {LONGEST_ID} characters")
        self._forget_old()
        key = (what, request_id)
        digest = hashlib.sha256(json.dumps(form, sort_keys=True).encode()).digest()
        kept = self._under_way.get(key) or self._kept.get(key)
        if kept is not None:
            if kept.form != digest:
                raise Refused(Code.CONFLICT, "another request had this request_id; each needs one of its own")
            return await asyncio.shield(kept.answer)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        asked = self._under_way[key] = _Kept(digest, future)
        try:
            answer = await work()
        except BaseException as error:
            del self._under_way[key]
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # whoever asked first is told; nobody else may have asked
            raise
        future.set_result(answer)
        del self._under_way[key]
        asked.until = self._now() + KEPT_S
        self._kept[key] = asked
        return answer

    def _forget_old(self) -> None:
        now = self._now()
        while self._kept and (len(self._kept) >= MOST or next(iter(self._kept.values())).until <= now):
            self._kept.popitem(last=False)
