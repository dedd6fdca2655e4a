"""Asking a transport in tests: a request with short patience, and everything that came of it in one record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resumable.errors import DownloadError
from resumable.ports import Fetch, Hop, Response, Transport


def ask(url: str, *, range: tuple[int, int | None] | None = None, **changes: Any) -> Fetch:  # noqa: A002
    """Return a GET of ``url``, its own private origin, that waits two seconds for anything; ``range`` is half-open."""
    headers = {"accept-encoding": "identity"}
    if range is not None:
        headers["range"] = f"bytes={range[0]}-{'' if range[1] is None else range[1] - 1}"
    request = Fetch(
        url=url,
        headers=headers,
        private_headers={},
        private_origin=url,
        connect_timeout_s=2.0,
        stall_timeout_s=2.0,
        min_rate=0,
        max_redirects=10,
    )
    return replace(request, **changes)


@dataclass(slots=True)
class Outcome:
    """What came of a request."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    hops: tuple[Hop, ...] = ()
    body: bytes = b""
    error: DownloadError | None = None


async def fetch(transport: Transport, request: Fetch) -> Outcome:
    """Read the answer to its end, whatever that is. An exception that is no DownloadError gets through: it is a bug."""
    outcome = Outcome()
    try:
        async with transport.fetch(request) as response:
            outcome.status, outcome.headers = response.status, response.headers
            outcome.url, outcome.hops = response.url, tuple(response.hops)
            outcome.body, outcome.error = await drain(response)
    except DownloadError as error:
        outcome.error = error
    return outcome


async def drain(response: Response) -> tuple[bytes, DownloadError | None]:
    """Read what is left of a body; return it and how it failed, if it did."""
    blocks: list[bytes] = []
    try:
        while block := await next_block(response):
            blocks.append(block)
    except DownloadError as error:
        return b"".join(blocks), error
    return b"".join(blocks), None


async def read_block(response: Response) -> bytes:
    """Take the next block as the response made it."""
    return await response.read()


async def read_into_block(response: Response) -> bytes:
    """Take the next block into a buffer of ours, and hold the response to what it tells of it."""
    buffer, told = bytearray(100_000), 0

    def arrived(count: int) -> None:
        nonlocal told
        told += count

    count = await response.read_into(memoryview(buffer), arrived)
    assert told == count
    return bytes(buffer[:count])


WAYS: dict[str, Callable[[Response], Awaitable[bytes]]] = {"read": read_block, "read_into": read_into_block}
"""Both ways to take a body; a test file that must hold for both sets ``way`` by a parametrized fixture."""
way = ["read"]


async def next_block(response: Response) -> bytes:
    """Take the next block in the way that is set."""
    return await WAYS[way[0]](response)


def secrets_in(error: BaseException, *secrets: str) -> list[str]:
    """Return which of the secrets stand anywhere in what the error, its causes and its context would print."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        pending += [one.__cause__, one.__context__]
    printed = " ".join(f"{one!s} {one!r} {one.args!r} {getattr(one, '__dict__', {})!r}" for one in seen)
    return [secret for secret in secrets if secret in printed]
