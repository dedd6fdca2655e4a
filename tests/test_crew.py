"""The connections of one attempt: who fetches what, what a broken one leads to, and how an attempt ends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recovery.clock import SystemClock
from resumable.errors import (
    ConnectFailed,
    DeviceError,
    DiskFull,
    Fault,
    Interrupted,
    LeaseLost,
    ProtocolFault,
    RepresentationChanged,
    Stalled,
    StatusError,
    WebPage,
)
from resumable.events import EventName
from resumable.ports import Fetch, Response, Sink
from resumable.session import Mode
from resumable.testing import MemoryPartFile, Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, OTHER, Rig, half_done

TUESDAY = "Tue, 07 Nov 2023 08:49:37 GMT"
SHA = hashlib.sha256(CONTENT).hexdigest()
WEDNESDAY = "Wed, 08 Nov 2023 08:49:37 GMT"


class HeldAudit:
    """Holds up every read of the part file until ``go``."""

    def __init__(self, rig: Rig) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        rig.prepare = self._hold

    def _hold(self, part: MemoryPartFile) -> None:
        hash_span = part.hash_span

        async def held(offset: int, length: int, digest: Sink) -> int:
            self.waiting += 1
            await self.go.wait()
            return await hash_span(offset, length, digest)

        part.hash_span = held  # type: ignore[method-assign]


# -- beside the audit --------------------------------------------------------------------------------------------------


async def test_what_is_missing_is_fetched_while_the_audit_reads() -> None:
    """The first new request leaves before one kept byte has been read, and everything missing comes meanwhile."""
    rig = await half_done(ScriptedTransport(CONTENT))
    held = HeldAudit(rig)
    attempt = asyncio.create_task(rig.attempt())
    await rig.until(lambda: rig.session.received == len(CONTENT) - 10 * CHUNK)
    assert held.waiting
    assert not attempt.done()
    held.go.set()
    await attempt
    assert rig.published == CONTENT


class Silent(ScriptedTransport):
    """Gives no answer until ``go``; notes how many reads of the part file there had been at each request."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.go = asyncio.Event()
        self.go.set()
        self.reads: Callable[[], int] = lambda: 0
        self.reads_before: list[int] = []

    @asynccontextmanager
    async def fetch(self, request: Fetch) -> AsyncIterator[Response]:
        self.reads_before.append(self.reads())
        await self.go.wait()
        async with super().fetch(request) as response:
            yield response


async def test_an_audit_lets_requests_go_first_and_waits_for_no_answer() -> None:
    """Hashing takes the processors; an origin that is silent must not hold it up for long."""
    transport = Silent(CONTENT)
    rig = await half_done(transport)
    held = HeldAudit(rig)
    transport.reads = lambda: held.waiting
    transport.reads_before.clear()
    transport.go.clear()
    attempt = asyncio.create_task(rig.attempt())
    await rig.until(lambda: held.waiting)
    assert transport.reads_before == [0]
    transport.go.set()
    held.go.set()
    await attempt
    assert rig.published == CONTENT


@pytest.mark.parametrize(
    ("etag", "ranges"), [(None, True), ('"v1"', False)], ids=["no validator", "no ranges any more"]
)
async def test_what_must_be_compared_waits_for_the_audit(etag: str | None, ranges: bool) -> None:
    """Kept bytes prove nothing before they are known to be good: no byte is received, and then all is right."""
    transport = ScriptedTransport(CONTENT, etag=etag)
    rig = await half_done(transport)
    transport.ranges = ranges
    held = HeldAudit(rig)
    attempt = asyncio.create_task(rig.attempt())
    await rig.until(lambda: held.waiting)
    for _ in range(50):
        await asyncio.sleep(0)
    assert rig.session.received == 0
    held.go.set()
    await attempt
    assert rig.published == CONTENT


async def test_an_audit_that_fails_ends_the_attempt_and_keeps_the_claims() -> None:
    """A device that does not answer is no sign against what is on it."""
    rig = await half_done(ScriptedTransport(CONTENT))

    def failing(part: MemoryPartFile) -> None:
        part.faults["hash_span"] = [DeviceError("EIO") for _ in range(3)]

    rig.prepare = failing
    with pytest.raises(DeviceError):
        await rig.attempt()
    assert set(range(10)) <= set(rig.store.claims)
    await rig.run(DeviceError)
    assert rig.published == CONTENT


# -- who fetches what --------------------------------------------------------------------------------------------------


class Counting(ScriptedTransport):
    """Refuses a request too many with 503, as some servers do with the fifth connection."""

    def __init__(self, most: int) -> None:
        super().__init__(CONTENT * 8)
        self.most = most
        self.served = 0
        self.refused = 0

    @asynccontextmanager
    async def fetch(self, request: Fetch) -> AsyncIterator[Response]:
        if self.served >= self.most:
            self.refused += 1
            self.script.appendleft(Reply(status=503))
            async with super().fetch(request) as answer:
                yield answer
            return
        self.served += 1
        try:
            async with super().fetch(request) as answer:
                yield answer
        finally:
            self.served -= 1


class Dated(ScriptedTransport):
    """Says what time it is, so that its dates are strong (RFC 9110 8.8.2.2)."""

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = super().honest(request)
        return status, headers | {"date": WEDNESDAY}, body


async def test_one_connection_too_many_is_no_failure_of_the_file() -> None:
    """The origin tolerates two: two go on, and the refusals cost no attempt (downloaders.md 4.49)."""
    transport = Counting(2)
    rig = Rig(transport, connections=6)
    await rig.attempt()
    assert rig.published == transport.content
    assert rig.session.received == len(transport.content)
    assert 0 < transport.refused <= 8


class Leaping(SystemClock):
    """A clock that can leap ahead."""

    leap = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.leap


async def test_the_end_is_taken_from_a_connection_that_crawls() -> None:
    """One connection hangs after a few bytes: the later half of its extent is fetched by another (ollama#1736)."""
    clock = Leaping()
    content = CONTENT * 4
    script = [Reply(), Reply(hold_after=1000, until=asyncio.Event())]
    rig = Rig(ScriptedTransport(content, script=script), connections=2, clock=clock)
    attempt = asyncio.create_task(rig.attempt())
    await rig.until(lambda: len(rig.transport.requests) == 3)
    plan = rig.session.bound_ledger.plan
    await rig.until(lambda: any(extent.cursor - extent.began == 1000 for extent in plan.active))
    victim = next(extent for extent in plan.active if extent.cursor - extent.began == 1000)
    stop = victim.stop
    clock.leap = 60.0
    await rig.until(lambda: victim.stop < stop)
    assert victim.stop % CHUNK == 0
    attempt.cancel()
    await asyncio.wait({attempt})


async def test_a_server_that_slows_down_long_answers_is_asked_for_short_ones() -> None:
    """``max_range`` bounds every request but the first."""
    rig = Rig(ScriptedTransport(CONTENT), connections=2, max_range=3 * CHUNK)
    await rig.attempt()
    assert rig.published == CONTENT
    asked = [request.headers["range"].removeprefix("bytes=").split("-") for request in rig.transport.requests[1:]]
    assert max(int(last) + 1 - int(first) for first, last in asked) == 3 * CHUNK


# -- what a failure leads to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([ConnectFailed("no"), Reply(status=503)], StatusError),
        ([Reply(cut_after=5), Reply(status=404)], StatusError),
        ([Reply(stall_after=5), Reply(cut_after=5)], Stalled),
        ([ConnectFailed("no"), ProtocolFault(Fault.ENCODED)], ProtocolFault),
        ([ProtocolFault(Fault.ENCODED), WebPage()], WebPage),
    ],
)
async def test_the_failure_that_says_most_is_told(faults: list[Any], told: type[Exception]) -> None:
    """A refusal says more than a connection that broke."""
    transport = ScriptedTransport(CONTENT * 8, script=[Reply(), *faults, *faults, *faults])
    rig = Rig(transport, connections=2)
    with pytest.raises(told):
        await rig.attempt()
    assert len(rig.messages(EventName.INTERRUPTED)) >= 2
    assert len(rig.session.breaks) >= 2


async def test_a_full_disk_ends_the_attempt_and_claims_what_is_there() -> None:
    """Every other connection is ended, and what they had written is checkpointed."""
    rig = Rig(ScriptedTransport(CONTENT * 8), connections=4)
    full = DiskFull("full", needed=1, free=0, path="/d")
    running = asyncio.create_task(rig.attempt())
    await rig.until(lambda: rig.session.part is not None and rig.session.durable > 0)
    rig.open_part.faults["write"] = [full]
    with pytest.raises(DiskFull):
        await running
    assert rig.transport.open_answers == 0
    assert sum(claim.length for claim in rig.store.claims.values()) == rig.session.durable
    await rig.attempt()
    assert rig.published == CONTENT * 8


async def test_a_slow_peer_does_not_hide_a_full_disk() -> None:
    """The tick's own write fails: the attempt ends now, not with the peer's next byte."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(hold_after=3000, until=asyncio.Event())]), connections=1)
    running = asyncio.create_task(rig.attempt())
    await rig.until(lambda: rig.session.part is not None)
    rig.open_part.faults["write"] = [DiskFull("full", needed=1, free=0, path="/d")]
    with pytest.raises(DiskFull):
        await running


async def test_a_lease_lost_in_mid_flight_ends_the_attempt() -> None:
    """The first commit that is refused says so; nothing is written after that."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(hold_after=5 * CHUNK, until=asyncio.Event())]), connections=1)
    running = asyncio.create_task(rig.attempt())
    await rig.until(lambda: rig.session.durable == 5 * CHUNK)
    rig.store.generation = 2
    rig.session.bound_ledger.redo(list(rig.store.claims.values()))
    with pytest.raises(LeaseLost):
        await running
    assert rig.transport.open_answers == 0


async def test_a_cancellation_is_not_hidden_by_a_checkpoint_that_fails() -> None:
    """It stays a cancellation, and what could not be written down is said."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(hold_after=5 * CHUNK, until=asyncio.Event())]), connections=1)
    running = asyncio.create_task(rig.attempt())
    await rig.until(lambda: rig.session.durable == 5 * CHUNK)
    rig.session.bound_ledger.redo(list(rig.store.claims.values()))
    rig.store.generation = 2
    running.cancel()
    with pytest.raises((asyncio.CancelledError, LeaseLost)):
        await running
    if running.cancelled():
        assert "last checkpoint" in rig.messages(EventName.WARNING)[0]


async def test_the_end_of_an_attempt_outlives_any_number_of_cancellations() -> None:
    """A second Ctrl-C while the last checkpoint is being made: it is made."""
    rig = Rig(
        ScriptedTransport(CONTENT, script=[Reply(hold_after=5 * CHUNK + 9, until=asyncio.Event())]), connections=1
    )
    commit, go = rig.store.commit, asyncio.Event()
    running = asyncio.create_task(rig.attempt())
    await rig.until(lambda: rig.session.received == 5 * CHUNK + 9)

    async def slow(*arguments: Any) -> None:
        await go.wait()
        await commit(*arguments)

    rig.session.bound_ledger.redo(list(rig.store.claims.values()))
    rig.store.commit = slow  # type: ignore[assignment]
    for _ in range(4):
        running.cancel()
        await asyncio.sleep(0.002)
    assert not running.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sum(claim.length for claim in rig.store.claims.values()) == 5 * CHUNK + 9


# -- answers that change the way of asking -----------------------------------------------------------------------------


@pytest.mark.parametrize("sha256", [SHA, None], ids=["digest", "no digest"])
async def test_a_tag_that_differs_alone_is_doubted(sha256: str | None) -> None:
    """Date and size are the same: nodes of one CDN disagree. With a digest nothing is lost; without one the file is
    begun again, once and in the same attempt, and the tag counts no more.
    """
    transport = Dated(CONTENT, last_modified=TUESDAY)
    rig = await half_done(transport, sha256=sha256)
    transport.etag = '"node-2"'
    published = await rig.attempt()
    assert rig.published == CONTENT
    assert rig.session.doubtful
    assert rig.session.mode is Mode.SINGLE
    assert published.verified_by == ("length" if sha256 is None else "digest")
    if sha256 is None:
        assert rig.messages(EventName.RESTARTED) == ['doubtful: etag "v1" -> "node-2"']
        assert rig.session.received == len(CONTENT)
    else:
        assert "comparing bytes instead" in rig.messages(EventName.WARNING)[0]
        assert rig.session.received <= len(CONTENT) - 10 * CHUNK + 64 * 1024


async def test_a_second_pass_of_other_bytes_is_a_change() -> None:
    """Without ranges and validators the comparison is all there is."""
    transport = ScriptedTransport(CONTENT, etag=None, ranges=False, script=[Reply(cut_after=20 * CHUNK)])
    rig = Rig(transport)
    transport.script.append(Reply(status=503))
    with pytest.raises(StatusError):
        await rig.attempt()
    transport.content = OTHER
    with pytest.raises(RepresentationChanged, match="differ from those fetched before"):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == OTHER


async def test_a_body_without_length_that_became_another_one_is_a_change() -> None:
    """The first attempt learned the tag and lost the body; the second meets another tag."""
    chunked: dict[str, str | None] = {"transfer-encoding": "chunked", "content-length": None}
    transport = ScriptedTransport(CONTENT, ranges=False, script=[Reply(headers=chunked, cut_after=9 * CHUNK)])
    rig = Rig(transport)
    with pytest.raises(Interrupted):
        await rig.attempt()
    transport.content, transport.etag = OTHER, '"v2"'
    with pytest.raises(RepresentationChanged):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == OTHER


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=416, headers={"content-range": f"bytes */{len(CONTENT)}"}),
        Reply(status=416),
        Reply(headers={"content-range": None}),
        Reply(headers={"content-range": "bytes 9-1/5"}),
        Reply(headers={"content-length": "7", "content-range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}),
    ],
    ids=["416", "416 without a size", "no Content-Range", "an impossible one", "a length that contradicts it"],
)
@pytest.mark.parametrize("resumed", [False, True], ids=["first request", "resumed"])
async def test_ranges_that_cannot_be_trusted_lead_to_the_whole_body(refusal: Reply, resumed: bool) -> None:
    """Once is an accident where bytes are kept; what is kept is compared and none of it is given up."""
    transport = ScriptedTransport(CONTENT)
    rig = await half_done(transport) if resumed else Rig(transport, connections=1)
    transport.script.extend([refusal] * (2 if resumed else 1))
    await rig.run(ProtocolFault)
    assert rig.published == CONTENT
    assert EventName.RESTARTED in rig.names() or resumed
    assert "changed" not in str(rig.messages(EventName.RESTARTED))


async def test_a_whole_body_refused_as_a_part_is_a_fault() -> None:
    """Asked without a range, a 206 is for somebody else."""
    transport = ScriptedTransport(CONTENT, ranges=False, script=[Reply(cut_after=9 * CHUNK)])
    part = Reply(status=206, body=CONTENT[:5], headers={"content-range": f"bytes 0-4/{len(CONTENT)}"})
    transport.script.extend([part] * 2)
    rig = Rig(transport)
    with pytest.raises(ProtocolFault) as caught:
        await rig.attempt()
    assert caught.value.fault is Fault.WRONG_RANGE
    await rig.run(ProtocolFault)
    assert rig.published == CONTENT


async def test_a_416_for_an_empty_file_is_the_file() -> None:
    """``bytes */0``: there is no range to give. Asked for all, the server says the same."""
    rig = Rig(ScriptedTransport(b"", script=[Reply(status=416, headers={"content-range": "bytes */0"})]))
    assert (await rig.attempt()).size == 0
    assert len(rig.transport.requests) == 2


async def test_a_416_does_not_make_a_file_empty() -> None:
    """One node has an empty object for a moment, in answer to the first request; the file is what a 200 has."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(status=416, headers={"content-range": "bytes */0"})]))
    await rig.attempt()
    assert rig.published == CONTENT
