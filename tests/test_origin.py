"""The test origin itself: what other tests rely on when they call a server hostile."""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from resumable.errors import ConnectFailed, Interrupted, Stalled
from resumable.transport import AiohttpTransport
from tests.fetching import ask, fetch
from tests.origin import Behaviour, Content, Gzip, Origin, Ranges, Validator, http_date

SIZE = 100_000
CONTENT = Content(SIZE, seed=1)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin with one file."""
    with Origin() as running:
        running.put("/file", CONTENT)
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A client; test_transport.py vouches for it."""
    made = AiohttpTransport(environ={})
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("ranges", "status", "label", "span"),
    [
        (Ranges.HONOURED, 206, "bytes 1000-1999/100000", (1000, 2000)),
        (Ranges.IGNORED, 200, None, (0, SIZE)),
        (Ranges.SHIFTED, 206, "bytes 1100-2099/100000", (1100, 2100)),
        (Ranges.LIAR, 206, "bytes 1000-1999/100000", (1100, 2100)),
        (Ranges.MISLABELLED, 206, "bytes 1100-2099/100100", (1000, 2000)),
        (Ranges.EARLIER, 206, "bytes 900-1999/100000", (900, 2000)),
        (Ranges.SHORTER, 206, "bytes 1000-1499/100000", (1000, 1500)),
        (Ranges.LONGER, 206, "bytes 1000-2099/100000", (1000, 2100)),
        (Ranges.OVERRUN, 206, "bytes 1000-1999/100000", (1000, 2100)),
        (Ranges.UNLABELLED, 206, None, (1000, 2000)),
        (Ranges.MALFORMED, 206, "bytes 2000-1000/100000", (1000, 2000)),
        (Ranges.NO_TOTAL, 206, "bytes 1000-1999/*", (1000, 2000)),
        (Ranges.OTHER_TOTAL, 206, "bytes 1000-1999/100100", (1000, 2000)),
        (Ranges.UNSATISFIABLE, 416, "bytes */100000", (0, 0)),
        (Ranges.UNSATISFIABLE_BARE, 416, None, (0, 0)),
    ],
)
async def test_what_becomes_of_a_range(
    origin: Origin,
    transport: AiohttpTransport,
    ranges: Ranges,
    status: int,
    label: str | None,
    span: tuple[int, int],
) -> None:
    """Status, Content-Range and bytes of each way to answer bytes=1000-1999, with a shift of 100."""
    origin.behave("/file", Behaviour(ranges=ranges, shift=100))
    outcome = await fetch(transport, ask(origin.url("/file"), range=(1000, 2000)))
    assert (outcome.status, outcome.headers.get("content-range"), outcome.error) == (status, label, None)
    assert outcome.body == CONTENT.read(*span)


async def test_one_range_in_an_envelope(origin: Origin, transport: AiohttpTransport) -> None:
    """multipart/byteranges around the bytes."""
    origin.behave("/file", Behaviour(ranges=Ranges.MULTIPART))
    outcome = await fetch(transport, ask(origin.url("/file"), range=(1000, 2000)))
    head, _, rest = outcome.body.partition(b"\r\n\r\n")
    assert outcome.headers["content-type"].startswith("multipart/byteranges")
    assert (b"bytes 1000-1999/100000" in head, rest) == (True, CONTENT.read(1000, 2000) + b"\r\n--sep--\r\n")


@pytest.mark.parametrize(
    ("validator", "etags", "dated"),
    [
        (Validator.STRONG, ['"s1-186a0"'] * 2, True),
        (Validator.WEAK, ['W/"s1-186a0"'] * 2, True),
        (Validator.DATE, [None, None], True),
        (Validator.ROTATING, ['"s1-186a0-1"', '"s1-186a0-2"'], False),
        (Validator.NONE, [None, None], False),
    ],
)
async def test_how_the_content_is_named(
    transport: AiohttpTransport, validator: Validator, etags: list[str | None], *, dated: bool
) -> None:
    """ETag and Last-Modified of two answers."""
    with Origin() as origin:
        origin.put("/file", CONTENT, Behaviour(validator=validator))
        outcomes = [await fetch(transport, ask(origin.url("/file"))) for _ in range(2)]
    assert [one.headers.get("etag") for one in outcomes] == etags
    assert ["last-modified" in one.headers for one in outcomes] == [dated] * 2


@pytest.mark.parametrize(("if_range", "status"), [(True, 200), (False, 206)])
async def test_if_range_may_be_ignored(
    origin: Origin, transport: AiohttpTransport, status: int, *, if_range: bool
) -> None:
    """A mismatch gives everything, unless the origin does not look."""
    origin.behave("/file", Behaviour(if_range=if_range))
    headers = {"range": "bytes=5-", "if-range": '"older"'}
    assert (await fetch(transport, ask(origin.url("/file"), headers=headers))).status == status


async def test_a_script_is_used_up_step_by_step(origin: Origin, transport: AiohttpTransport) -> None:
    """Statuses with Retry-After in both forms, then another object of the same size, then what the path stands for."""
    other = Content(SIZE, seed=2)
    date = http_date(60)
    origin.put(
        "/file",
        CONTENT,
        script=[
            Behaviour(status=503, retry_after=2),
            Behaviour(status=429, retry_after=date),
            Behaviour(content=other),
            Behaviour(html=True),
        ],
    )
    outcomes = [await fetch(transport, ask(origin.url("/file"), range=(0, None))) for _ in range(5)]
    assert [one.status for one in outcomes] == [503, 429, 206, 200, 206]
    assert [one.headers.get("retry-after") for one in outcomes[:3]] == ["2", date, None]
    assert outcomes[2].body == other.read(0, SIZE)
    assert outcomes[3].body.startswith(b"<!doctype html>")
    assert outcomes[4].body == CONTENT.read(0, SIZE)
    assert [one.number for one in origin.seen("/file")] == [1, 2, 3, 4, 5]


async def test_content_is_replaced_on_command(origin: Origin, transport: AiohttpTransport) -> None:
    """Bytes, size and validator change together."""
    origin.replace("/file", Content(50, seed=3))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert (outcome.body, outcome.headers["etag"]) == (Content(50, seed=3).read(0, 50), '"s3-32"')


async def test_sent_bytes_are_counted_exactly(origin: Origin, transport: AiohttpTransport) -> None:
    """Over cuts, ranges, stalls and error pages."""
    origin.put("/cut", CONTENT, Behaviour(cut_at=12_345))
    origin.put("/stall", CONTENT, Behaviour(stall_at=777))
    origin.put("/error", b"", Behaviour(status=500, body=b"oops"))
    assert isinstance((await fetch(transport, ask(origin.url("/cut")))).error, Interrupted)
    assert isinstance((await fetch(transport, ask(origin.url("/stall"), stall_timeout_s=0.1))).error, Stalled)
    await fetch(transport, ask(origin.url("/error")))
    await fetch(transport, ask(origin.url("/file"), range=(10, 20)))
    # The client may have everything before the origin's thread has come to count it.
    await origin.until(lambda: all(one.done for one in origin.requests))
    sent = {path: origin.body_bytes_sent(path) for path in ("/cut", "/stall", "/error", "/file")}
    assert sent == {"/cut": 12_345, "/stall": 777, "/error": 4, "/file": 10}
    assert origin.body_bytes_sent() == sum(sent.values())


async def test_a_stall_may_be_released(origin: Origin, transport: AiohttpTransport) -> None:
    """It goes on where it stopped."""
    origin.behave("/file", Behaviour(stall_at=100))
    async with transport.fetch(ask(origin.url("/file"))) as response:
        first = await response.read()
        origin.release()
        rest = b""
        while block := await response.read():
            rest += block
    assert (len(first), first + rest) == (100, CONTENT.read(0, SIZE))


async def test_one_byte_may_be_flipped(origin: Origin, transport: AiohttpTransport) -> None:
    """Of the content, whatever the range."""
    origin.behave("/file", Behaviour(flip_at=1500))
    body = (await fetch(transport, ask(origin.url("/file"), range=(1000, 2000)))).body
    good = CONTENT.read(1000, 2000)
    assert [at for at in range(1000) if body[at] != good[at]] == [500]


async def test_compression_when_identity_was_not_asked_for(origin: Origin, transport: AiohttpTransport) -> None:
    """And the range is ignored, as some CDNs do."""
    origin.behave("/file", Behaviour(gzip=Gzip.UNLESS_IDENTITY))
    plain = await fetch(transport, ask(origin.url("/file"), range=(0, 10)))
    headers = {"range": "bytes=0-9", "accept-encoding": "gzip"}
    packed = await fetch(transport, ask(origin.url("/file"), headers=headers))
    assert (plain.status, len(plain.body)) == (206, 10)
    assert (packed.status, gzip.decompress(packed.body)) == (200, CONTENT.read(0, SIZE))


async def test_too_many_at_once_are_refused(origin: Origin, transport: AiohttpTransport) -> None:
    """The third body gets 403 while two are under way, and is welcome after."""
    origin.behave("/file", Behaviour(most_active=2, refusal=403, stall_at=10))
    request = ask(origin.url("/file"), stall_timeout_s=30)
    async with transport.fetch(request) as first, transport.fetch(request) as second:
        third = await fetch(transport, request)
        assert (first.status, second.status, third.status) == (200, 200, 403)
    await origin.until(lambda: origin.open_connections <= 1)
    async with transport.fetch(request) as again:
        assert again.status == 200


async def test_a_rate_is_kept_per_connection(origin: Origin, transport: AiohttpTransport) -> None:
    """100 kB at 500 kB/s take 0.2 s on the origin's clock, from its request to the end of its body."""
    origin.behave("/file", Behaviour(rate=500_000))
    await fetch(transport, ask(origin.url("/file")))
    await origin.until(lambda: origin.seen("/file")[0].done)
    took_s = time.monotonic() - origin.seen("/file")[0].at
    assert 0.2 <= took_s < 2


async def test_the_origin_may_go_away_and_come_back(origin: Origin, transport: AiohttpTransport) -> None:
    """Refusing connections, dropping those there are, and listening again on the same port."""
    origin.behave("/file", Behaviour(stall_at=10))
    async with transport.fetch(ask(origin.url("/file"))) as response:
        await response.read()
        origin.drop()
        with pytest.raises(Interrupted):
            await response.read()
    origin.refuse()
    assert isinstance((await fetch(transport, ask(origin.url("/file")))).error, ConnectFailed)
    origin.accept()
    origin.behave("/file", Behaviour())
    assert (await fetch(transport, ask(origin.url("/file")))).status == 200


def test_a_behaviour_comes_from_json() -> None:
    """For the origin as a process; a misspelt switch is an error, not an honest server."""
    told = Behaviour.from_json({"ranges": "liar", "cut_at": 5, "cut": "rst", "raw": "x"})
    assert told == Behaviour(ranges=Ranges.LIAR, cut_at=5, cut=Behaviour.from_json({"cut": "rst"}).cut, raw=b"x")
    with pytest.raises(ValueError, match="cutat"):
        Behaviour.from_json({"cutat": 5})
