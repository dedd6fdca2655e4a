"""A range must hold the bytes it is labelled with: proved once per process, on the first one that goes on from kept
bytes.
"""

from __future__ import annotations

import pytest

from resumable.errors import RepresentationChanged, StatusError
from resumable.events import EventName
from resumable.ports import Fetch
from resumable.probe import PROBE
from resumable.session import Mode
from resumable.testing import Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, Rig, half_done

KEPT = 10 * CHUNK


class LyingTransport(ScriptedTransport):
    """Labels ranges as asked; what they hold is from a few bytes further on, once ``lies`` is set."""

    lies = False

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = super().honest(request)
        if self.lies and status == 206 and not headers["content-range"].startswith("bytes 0-"):
            body = body[7:] + body[:7]
        return status, headers, body


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_resumed_run_compares_a_few_bytes_once(connections: int) -> None:
    """The first request reaches back by 4 KiB, which do not count as received; no other one does."""
    rig = await half_done(ScriptedTransport(CONTENT), connections=connections)
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) - KEPT == rig.session.received
    assert rig.session.received + PROBE == rig.transport.body_bytes
    assert rig.session.source.ranges_proved


async def test_a_fresh_run_compares_nothing() -> None:
    """No byte is asked for twice when nothing was kept."""
    rig = Rig(ScriptedTransport(CONTENT))
    await rig.attempt()
    assert len(CONTENT) == rig.transport.body_bytes


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_range_that_lies_is_found_out(connections: int) -> None:
    """The reason is told, nothing of it is published, and the file is read whole from then on."""
    transport = LyingTransport(CONTENT)
    rig = await half_done(transport, connections=connections)
    transport.lies = True
    with pytest.raises(RepresentationChanged, match="ranges hold other bytes"):
        await rig.attempt()
    assert rig.session.mode is Mode.SEQUENTIAL
    await rig.attempt()
    assert rig.published == CONTENT
    assert rig.messages(EventName.RESTARTED) == ["changed: its ranges hold other bytes than they say"]


async def test_damaged_bytes_prove_nothing() -> None:
    """Where the audit denies what was to be compared, that is no sign against the origin."""
    rig = await half_done(ScriptedTransport(CONTENT))
    rig.part[KEPT - 1] ^= 1
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) - KEPT + CHUNK == rig.session.received
    assert EventName.RESTARTED not in rig.names()


async def test_a_probe_that_got_no_answer_is_made_again() -> None:
    """The request that was to prove it was refused: the next one proves it."""
    rig = await half_done(ScriptedTransport(CONTENT))
    rig.transport.script.append(Reply(status=503))
    with pytest.raises(StatusError):
        await rig.attempt()
    assert not rig.session.source.ranges_proved
    await rig.attempt()
    assert rig.session.source.ranges_proved
    assert rig.published == CONTENT


async def test_without_validators_the_overlap_is_the_proof() -> None:
    """There every request proves itself anyway."""
    rig = await half_done(ScriptedTransport(CONTENT, etag=None))
    await rig.attempt()
    assert rig.published == CONTENT
    assert not rig.session.source.ranges_proved
