"""The real transport over sockets: the shared contract, what a hostile origin sends, patience, and connections."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from resumable.errors import ConnectFailed, Fault, Interrupted, ProtocolFault, Stalled
from resumable.ports import Transport
from resumable.transport import AiohttpTransport
from tests.fetching import ask, fetch, next_block
from tests.origin import Behaviour, Content, End, FixedContent, Framing, Gzip, Origin
from tests.transport_contract import CONTENT, Step, TransportContract

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin of the test's own."""
    with Origin() as running:
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A transport that the environment of the test run does not reach."""
    made = AiohttpTransport(environ={})
    yield made
    await made.close()


pytestmark = pytest.mark.usefixtures("both_ways")


class TestContract(TransportContract):
    """The shared cases over sockets."""

    @pytest.fixture(autouse=True)
    def _sockets(self, origin: Origin, transport: AiohttpTransport) -> None:
        self.origin, self.transport = origin, transport

    async def stage(self, step: Step, content: bytes = CONTENT) -> tuple[Transport, str]:
        """Serve it from the origin."""
        behaviour = Behaviour(
            status=step.status,
            headers=dict(step.headers),
            body=step.body,
            cut_at=step.cut_after,
            stall_at=step.stall_after,
            framing=step.framing,
        )
        self.origin.put("/file", content, behaviour)
        return self.transport, self.origin.url("/file")


# -- sendings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(hang_up=End.FIN),
        Behaviour(hang_up=End.RST),
        Behaviour(raw=b"HTTP/1.1 200 OK\r\nContent-"),
        Behaviour(cut_at=0, cut=End.RST),
        Behaviour(status=503),
        Behaviour(),
    ],
)
async def test_a_request_is_sent_exactly_once(
    origin: Origin, transport: AiohttpTransport, behaviour: Behaviour
) -> None:
    """Also when a reused connection breaks, where aiohttp would send a GET again by itself."""
    origin.put("/warm", b"warm")
    origin.put("/file", b"content", behaviour)
    for _ in range(3):
        await fetch(transport, ask(origin.url("/warm")))
        await fetch(transport, ask(origin.url("/file")))
    reused = [
        one for one in origin.seen("/file") if one.connection in {warm.connection for warm in origin.seen("/warm")}
    ]
    assert (len(origin.seen("/file")), len(reused)) == (3, 3)


async def test_what_is_asked_is_what_arrives(origin: Origin, transport: AiohttpTransport) -> None:
    """Only our own headers, the caller's, and none that aiohttp would add to make servers compress."""
    origin.put("/file", b"content")
    headers = {"range": "bytes=1-3", "if-range": '"x"', "accept-encoding": "identity"}
    private = {"X-Token": "hunter2", "Range": "bytes=9-", "User-Agent": "mine/1"}
    await fetch(transport, ask(origin.url("/file"), headers=headers, private_headers=private))
    await fetch(transport, ask(origin.url("/file"), headers={}))
    first, second = origin.seen("/file")
    ours = headers | {"x-token": "hunter2", "user-agent": "mine/1", "host": f"127.0.0.1:{origin.port}", "accept": "*/*"}
    assert first.headers == ours
    assert set(second.headers) == {"host", "accept", "user-agent"}
    assert second.headers["user-agent"].startswith("resumable-downloads/")


@pytest.mark.parametrize(
    "target", ["/a%2fb/%7Euser?sig=%2B%2f+x&empty&k=%E9", "/~x;v=1,2!$'()*?a=b?c/d:@|[]", "/%zz%", "/a//b/../c/./d"]
)
async def test_a_target_is_sent_byte_for_byte(origin: Origin, transport: AiohttpTransport, target: str) -> None:
    """A signature is made over what was written, so nothing may be normalised."""
    await fetch(transport, ask(origin.url(target)))
    assert [one.target for one in origin.requests] == [target]


async def test_what_no_address_may_hold_is_escaped(origin: Origin, transport: AiohttpTransport) -> None:
    """Blanks and letters beyond ASCII go out as UTF-8 percent escapes; the fragment stays here."""
    await fetch(transport, ask("  " + origin.url("/ä b?q=ü <#part") + "\n"))
    assert [one.target for one in origin.requests] == ["/%C3%A4%20b?q=%C3%BC%20%3C"]


# -- heads -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\x01\x02garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"hello world",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: 0x5\r\n\r\nhello",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
        OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: " + b"1" * 100_000 + b"\r\n\r\n",
        OK + b"X: 1\r\n" * 1000 + b"\r\n",
    ],
    ids=lambda head: repr(head[:40] + head[-20:]),
)
async def test_a_head_that_is_none_is_unreadable(origin: Origin, transport: AiohttpTransport, head: bytes) -> None:
    """A protocol fault that names no byte of what came, within moments and bounded memory."""
    origin.put("/file", b"", Behaviour(raw=head))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert isinstance(outcome.error, ProtocolFault)
    assert outcome.error.fault is Fault.UNREADABLE
    assert "hello" not in str(outcome.error)


@pytest.mark.parametrize(
    ("head", "status", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 500\r\n\r\n", 304, b""),
        (b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", 999, b""),
        (OK + b"X: " + b"1" * 30_000 + b"\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (OK + b"X: 1\r\n" * 200 + b"Content-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
async def test_an_odd_head_is_read(
    origin: Origin, transport: AiohttpTransport, head: bytes, status: int, body: bytes
) -> None:
    """Informational answers are passed over, and bodies that cannot be are not waited for."""
    origin.put("/file", b"", Behaviour(raw=head))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert (outcome.status, outcome.body, outcome.error) == (status, body, None)


async def test_repeated_header_fields_are_joined(origin: Origin, transport: AiohttpTransport) -> None:
    """RFC 9110 5.3; names are lower-case."""
    head = OK + b"X-A: 1\r\nLink: <a>\r\nx-a: 2\r\nLINK: <b>\r\nContent-Length: 0\r\n\r\n"
    origin.put("/file", b"", Behaviour(raw=head))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert outcome.headers == {"x-a": "1, 2", "link": "<a>, <b>", "content-length": "0"}


@pytest.mark.parametrize("end", list(End))
async def test_no_head_at_all_is_a_failed_connection(origin: Origin, transport: AiohttpTransport, end: End) -> None:
    """The cause keeps the type that says why."""
    origin.put("/file", b"", Behaviour(hang_up=end))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert isinstance(outcome.error, ConnectFailed)
    cause = {End.FIN: "ServerDisconnectedError", End.RST: "ClientOSError"}[end]
    assert type(outcome.error.__cause__).__name__ == cause


# -- bodies ------------------------------------------------------------------------------------------------------------


async def test_a_reset_is_not_the_end_of_a_body_without_length(origin: Origin, transport: AiohttpTransport) -> None:
    """aiohttp takes it for one: a file cut by a reset would count as whole."""
    origin.put("/file", Content(100_000), Behaviour(framing=Framing.CLOSE, cut_at=50_000, cut=End.RST))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert isinstance(outcome.error, Interrupted)
    assert (outcome.error.received, outcome.error.promised) == (len(outcome.body), None)


async def test_a_reset_keeps_what_had_come(origin: Origin, transport: AiohttpTransport) -> None:
    """Nothing that reached the process is thrown away, and the count is of what was handed over."""
    content = Content(4 << 20, seed=3)
    origin.put("/file", content, Behaviour(cut_at=3 << 20, cut=End.RST))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert isinstance(outcome.error, Interrupted)
    assert (outcome.error.received, outcome.error.promised) == (len(outcome.body), content.size)
    assert outcome.body == content.read(0, len(outcome.body))


async def test_a_slow_reader_loses_nothing_of_a_cut_body(origin: Origin, transport: AiohttpTransport) -> None:
    """The connection is long gone when the last blocks are read: they are handed over first, then the break is told."""
    content = Content(400_000, seed=4)
    origin.put("/file", content, Behaviour(cut_at=300_000))
    blocks = []
    async with transport.fetch(ask(origin.url("/file"))) as response:
        blocks.append(await next_block(response))
        await origin.until(lambda: origin.open_connections == 0)
        while sum(map(len, blocks)) < 300_000:
            blocks.append(await next_block(response))
        with pytest.raises(Interrupted) as raised:
            await next_block(response)
    assert (b"".join(blocks), raised.value.received) == (content.read(0, 300_000), 300_000)


async def test_all_promised_bytes_are_a_whole_body_whatever_aiohttp_says(
    origin: Origin, transport: AiohttpTransport
) -> None:
    """A slow reader and a server that closes at once: aio-libs/aiohttp#13348 called this incomplete."""
    content = Content(3 << 20, seed=5)
    origin.put("/file", content, Behaviour(close=True))
    body = b""
    async with transport.fetch(ask(origin.url("/file"))) as response:
        while block := await next_block(response):
            body += block
            await asyncio.sleep(0.01)
    assert body == content.read(0, content.size)


@pytest.mark.parametrize("chunk", [b"ZZ\r\nxxx", b"5hello\r\n", b"-5\r\nhello\r\n", b"ffffffffffffffffff\r\nx"])
async def test_a_broken_chunk_header_interrupts_at_once(transport: AiohttpTransport, chunk: bytes) -> None:
    """aiohttp closes the connection and lets the reader wait for ever; ours is woken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await started.wait()
        writer.write(chunk)
        await reader.read()
        writer.close()

    started = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with transport.fetch(ask(url, stall_timeout_s=60)) as response, asyncio.timeout(10):
            first = await next_block(response)
            started.set()
            with pytest.raises(Interrupted) as raised:
                await next_block(response)
    assert (first, raised.value.received, raised.value.promised) == (b"hello", 5, None)


async def test_bytes_behind_the_promised_end_are_not_part_of_the_body(
    origin: Origin, transport: AiohttpTransport
) -> None:
    """Nor of the next one's: they cost the connection. aiohttp would take them for the next answer."""
    content = Content(2 << 20, seed=6)
    origin.put("/file", content, Behaviour(after_body=OK + b"Content-Length: 8\r\n\r\nsmuggled"))
    origin.put("/next", b"honest")
    for _ in range(5):
        outcome = await fetch(transport, ask(origin.url("/file")))
        assert (outcome.body == content.read(0, content.size), outcome.error) == (True, None)
        await origin.until(lambda: all(one.done for one in origin.requests))
        assert (await fetch(transport, ask(origin.url("/next")))).body == b"honest"


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(
    origin: Origin, transport: AiohttpTransport
) -> None:
    """The goodbye is in the socket when the next request is made: it goes over a new connection at the first try."""
    origin.put("/file", b"content")
    for _ in range(10):
        outcome = await fetch(transport, ask(origin.url("/file")))
        assert outcome.error is None
        origin.drop()
        origin.wait_for(lambda: origin.open_connections == 0)
    assert (origin.connections, len(origin.requests)) == (10, 10)


async def test_compressed_bytes_are_handed_over_as_they_are(origin: Origin, transport: AiohttpTransport) -> None:
    """Nothing is inflated here: ranges address the encoded bytes, and a bomb stays small (RFC 9110 8.4)."""
    origin.put("/file", b"\0" * 1_000_000, Behaviour(gzip=Gzip.ALWAYS))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert (outcome.headers["content-encoding"], outcome.body[:2]) == ("gzip", b"\x1f\x8b")
    assert len(outcome.body) == int(outcome.headers["content-length"]) < 10_000


@pytest.mark.parametrize("framing", list(Framing))
async def test_an_error_page_is_read_only_so_far(origin: Origin, transport: AiohttpTransport, framing: Framing) -> None:
    """64 KiB of an answer that is not 2xx, however much is sent."""
    origin.put("/file", b"", Behaviour(status=500, body=b"x" * (8 << 20), framing=framing))
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert (outcome.error, len(outcome.body) <= 65_536) == (None, True)
    await origin.until(lambda: origin.open_connections == 0)


# -- patience ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [Behaviour(latency_s=30), Behaviour(drip_head_s=0.01)], ids=["late", "dripping"])
async def test_a_head_has_its_time_and_no_more(
    origin: Origin, transport: AiohttpTransport, behaviour: Behaviour
) -> None:
    """Bytes that drip in do not win more of it (slowloris), and the connection is freed."""
    origin.put("/file", b"content", behaviour)
    outcome = await fetch(transport, ask(origin.url("/file"), stall_timeout_s=0.3))
    assert isinstance(outcome.error, Stalled)
    await origin.until(lambda: origin.open_connections == 0 or behaviour.latency_s > 1)


@pytest.mark.parametrize(("min_rate", "stalls"), [(0, False), (100_000, True)])
async def test_below_the_floor_is_stalled(
    origin: Origin, transport: AiohttpTransport, min_rate: int, *, stalls: bool
) -> None:
    """A connection that never falls silent but gives 20 kB/s where 100 are the least."""
    origin.put("/file", Content(20_000), Behaviour(rate=20_000))
    outcome = await fetch(transport, ask(origin.url("/file"), stall_timeout_s=0.4, min_rate=min_rate))
    assert isinstance(outcome.error, Stalled) is stalls
    assert (len(outcome.body) == 20_000) is not stalls


async def test_a_slow_body_that_never_falls_silent_has_not_stalled(origin: Origin, transport: AiohttpTransport) -> None:
    """A megabyte's buffer takes 50 s to fill at 20 kB/s: bytes count as they come, not when the buffer is full."""
    content = Content(300_000)
    origin.put("/file", content, Behaviour(rate=200_000))
    buffer = bytearray(content.size)
    came = 0
    async with transport.fetch(ask(origin.url("/file"), stall_timeout_s=0.4)) as response:
        while count := await response.read_into(memoryview(buffer)[came:], lambda _: None):
            came += count
    assert content.read(0, content.size) == buffer


@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
@pytest.mark.blocking
async def test_a_process_that_stood_still_does_not_blame_its_peer(
    origin: Origin, transport: AiohttpTransport, framing: Framing
) -> None:
    """Ctrl-Z and fg, a laptop that slept: what the peer sent meanwhile lies in the socket, and is looked at first."""
    content = Content(1 << 20)
    origin.put("/file", content, Behaviour(rate=1 << 20, framing=framing))
    asyncio.get_running_loop().call_later(0.3, time.sleep, 0.6)
    outcome = await fetch(transport, ask(origin.url("/file"), stall_timeout_s=0.4))
    assert outcome.error is None
    assert len(outcome.body) == content.size


async def test_a_reader_that_comes_late_is_not_the_peers_fault(origin: Origin, transport: AiohttpTransport) -> None:
    """A slow disk or a rate limit: the floor counts only time spent waiting for bytes."""
    content = Content(2 << 20)
    origin.put("/file", content)
    length = 0
    async with transport.fetch(ask(origin.url("/file"), stall_timeout_s=0.05, min_rate=1 << 40)) as response:
        while block := await next_block(response):
            length += len(block)
            await asyncio.sleep(0.06)
    assert length == content.size


async def test_nobody_listening_is_a_failed_connection(origin: Origin, transport: AiohttpTransport) -> None:
    """Refused at once, with the errno in the cause, and fine again when somebody listens."""
    origin.put("/file", b"content")
    origin.refuse()
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.__cause__, OSError)
    assert outcome.error.__cause__.errno == errno.ECONNREFUSED
    assert str(outcome.error) == f"127.0.0.1:{origin.port} cannot be reached (Connection refused)"
    origin.accept()
    assert (await fetch(transport, ask(origin.url("/file")))).body == b"content"


# -- connections -------------------------------------------------------------------------------------------------------


async def test_a_body_read_to_its_end_gives_its_connection_back(origin: Origin, transport: AiohttpTransport) -> None:
    """Twenty requests, one connection; also for ranges, chunked bodies and short error pages."""
    origin.put("/file", Content(100_000))
    origin.put("/chunked", Content(100_000), Behaviour(framing=Framing.CHUNKED))
    origin.put("/error", b"", Behaviour(status=503, body=b"busy"))
    for _ in range(5):
        for path in ("/file", "/chunked", "/error"):
            await fetch(transport, ask(origin.url(path)))
        await fetch(transport, ask(origin.url("/file"), range=(10, 20)))
    assert (origin.connections, len(origin.requests)) == (1, 20)


@pytest.mark.parametrize("blocks", [0, 1])
async def test_leaving_an_unread_body_closes_the_connection_at_once(
    origin: Origin, transport: AiohttpTransport, blocks: int
) -> None:
    """The origin sees it before it has sent much more."""
    origin.put("/file", Content(1 << 40))
    async with transport.fetch(ask(origin.url("/file"))) as response:
        for _ in range(blocks):
            await next_block(response)
    await origin.until(lambda: origin.open_connections == 0)
    assert origin.body_bytes_sent() < 64 << 20


async def test_a_cancelled_read_closes_the_connection(origin: Origin, transport: AiohttpTransport) -> None:
    """Cancellation goes through, and nothing is left open."""
    origin.put("/file", Content(100_000), Behaviour(stall_at=10))
    task = asyncio.create_task(fetch(transport, ask(origin.url("/file"), stall_timeout_s=60)))
    await origin.until(lambda: origin.body_bytes_sent() == 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await origin.until(lambda: origin.open_connections == 0)


async def test_a_cancelled_request_closes_the_connection(origin: Origin, transport: AiohttpTransport) -> None:
    """Also before the head has come."""
    origin.put("/file", b"", Behaviour(drip_head_s=0.05))
    task = asyncio.create_task(fetch(transport, ask(origin.url("/file"), stall_timeout_s=60)))
    await origin.until(lambda: len(origin.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await origin.until(lambda: origin.open_connections == 0)


async def test_an_origin_gets_no_more_connections_than_allowed(origin: Origin) -> None:
    """Those beyond wait their turn, and waiting does not use up the time for connecting."""
    origin.put("/file", Content(1000), Behaviour(latency_s=0.1))
    transport = AiohttpTransport(per_host=2, environ={})
    requests = [ask(origin.url("/file"), connect_timeout_s=0.25) for _ in range(8)]
    outcomes = await asyncio.gather(*(fetch(transport, request) for request in requests))
    await transport.close()
    assert [outcome.error for outcome in outcomes] == [None] * 8
    assert origin.connections == 2


async def test_a_closed_transport_may_be_used_again(origin: Origin) -> None:
    """Closing ends the connections; asking opens new ones."""
    origin.put("/file", b"content")
    transport = AiohttpTransport(environ={})
    for _ in range(2):
        assert (await fetch(transport, ask(origin.url("/file")))).body == b"content"
        await transport.close()
        await origin.until(lambda: origin.open_connections == 0)
    await transport.close()


def test_one_loop_after_another_may_use_a_transport(origin: Origin) -> None:
    """Celery tasks do: each gets a session of its own loop."""
    origin.put("/file", b"content")
    transport = AiohttpTransport(environ={})

    async def once() -> bytes:
        outcome = await fetch(transport, ask(origin.url("/file")))
        await transport.close()
        return outcome.body

    assert [asyncio.run(once()) for _ in range(3)] == [b"content"] * 3


async def test_two_loops_at_once_may_not(origin: Origin, transport: AiohttpTransport) -> None:
    """A mistake in the program, so it is said as one."""
    origin.put("/file", b"content")
    await fetch(transport, ask(origin.url("/file")))

    def elsewhere() -> None:
        asyncio.run(fetch(transport, ask(origin.url("/file"))))

    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(elsewhere)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_leaves_the_parents_connections_alone(
    origin: Origin, transport: AiohttpTransport, tmp_path: Path
) -> None:
    """The child opens its own; the parent goes on with the one it had."""
    origin.put("/file", b"content")
    await fetch(transport, ask(origin.url("/file")))
    pid = os.fork()
    if pid == 0:
        # In the child: only os._exit is safe, whatever happens.
        status = 1
        try:
            asyncio.events._set_running_loop(None)
            outcome = asyncio.run(fetch(transport, ask(origin.url("/file"))))
            status = 0 if outcome.body == b"content" else 2
        finally:
            os._exit(status)
    _, code = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(code) == 0
    assert (await fetch(transport, ask(origin.url("/file")))).body == b"content"
    assert [one.connection for one in origin.seen("/file")] == [1, 2, 1]


async def test_fixed_and_computed_content_can_be_told_apart() -> None:
    """The origin's own promise: every byte depends on seed and offset, and a range is a slice of the whole."""
    content = Content(5_000_000, seed=7)
    whole = content.read(0, content.size)
    assert FixedContent(whole).sha256() == content.sha256() != Content(5_000_000, seed=8).sha256()
    assert content.read(1_048_570, 2_097_160) == whole[1_048_570:2_097_160]
    assert len({whole[at : at + 64] for at in range(0, content.size - 64, 64)}) == (content.size - 1) // 64
