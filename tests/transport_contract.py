"""What every ``Transport`` does, the real one over a socket and the fake in memory: both test files inherit it."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from resumable.errors import DownloadError, Interrupted, Stalled
from resumable.ports import Transport
from tests.fetching import ask, fetch, next_block
from tests.origin import Framing

CONTENT = bytes(range(256)) * 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one request is answered, in words that the origin and the fake both know."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    stall_after: int | None = None
    framing: Framing = Framing.LENGTH


class TransportContract(abc.ABC):
    """The shared cases; ``stage`` is what differs."""

    @abc.abstractmethod
    async def stage(self, step: Step, content: bytes = CONTENT) -> tuple[Transport, str]:
        """Return a transport and the address at which ``content`` is answered by ``step``."""

    async def test_a_body_is_whole_and_its_end_is_final(self) -> None:
        """Blocks add up to the content, and after the end there is only the end."""
        transport, url = await self.stage(Step())
        blocks = []
        async with transport.fetch(ask(url)) as response:
            while block := await next_block(response):
                blocks.append(block)
            again = [await next_block(response) for _ in range(3)]
        assert b"".join(blocks) == CONTENT
        assert again == [b""] * 3

    async def test_an_empty_body_ends_at_once(self) -> None:
        """Zero bytes are a body too."""
        transport, url = await self.stage(Step(), b"")
        outcome = await fetch(transport, ask(url))
        assert (outcome.status, outcome.body, outcome.error) == (200, b"", None)

    @pytest.mark.parametrize(
        ("range_", "span"),
        [
            ((0, 1), (0, 1)),
            ((100, 70_000), (100, 70_000)),
            ((5, None), (5, len(CONTENT))),
            ((7, 10**9), (7, len(CONTENT))),
        ],
    )
    async def test_a_range_is_answered_with_exactly_its_bytes(
        self, range_: tuple[int, int | None], span: tuple[int, int]
    ) -> None:
        """206, the Content-Range that was asked for, and those bytes."""
        transport, url = await self.stage(Step())
        outcome = await fetch(transport, ask(url, range=range_))
        label = f"bytes {span[0]}-{span[1] - 1}/{len(CONTENT)}"
        assert (outcome.status, outcome.headers["content-range"]) == (206, label)
        assert outcome.body == CONTENT[span[0] : span[1]]

    async def test_a_range_behind_the_end_is_told_the_length(self) -> None:
        """416 is an answer, not an error of the transport."""
        transport, url = await self.stage(Step())
        outcome = await fetch(transport, ask(url, range=(len(CONTENT), None)))
        assert (outcome.status, outcome.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")

    async def test_another_validator_gets_the_whole_new_representation(self) -> None:
        """If-Range goes out as given, and a mismatch is a 200."""
        transport, url = await self.stage(Step())
        headers = {"range": "bytes=10-19", "if-range": '"older"'}
        outcome = await fetch(transport, ask(url, headers=headers))
        assert (outcome.status, outcome.body) == (200, CONTENT)
        headers["if-range"] = outcome.headers["etag"]
        outcome = await fetch(transport, ask(url, headers=headers))
        assert (outcome.status, outcome.body) == (206, CONTENT[10:20])

    async def test_a_status_is_handed_over_without_judging_it(self) -> None:
        """Headers and body of a 503 are there to be read."""
        transport, url = await self.stage(Step(status=503, headers={"Retry-After": "2"}, body=b"busy"))
        outcome = await fetch(transport, ask(url))
        assert (outcome.status, outcome.headers["retry-after"], outcome.body) == (503, "2", b"busy")

    @pytest.mark.parametrize("after", [0, 1, 65_536, 200_000, len(CONTENT) - 1])
    @pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
    async def test_a_cut_body_gives_every_byte_and_then_says_so(self, framing: Framing, after: int) -> None:
        """Interrupted comes after the last byte that came, with the counts, and stays."""
        transport, url = await self.stage(Step(cut_after=after, framing=framing))
        errors: list[DownloadError] = []
        body = b""
        async with transport.fetch(ask(url)) as response:
            while len(errors) < 2:
                try:
                    body += await next_block(response)
                except DownloadError as error:
                    errors.append(error)
        promised = len(CONTENT) if framing is Framing.LENGTH else None
        assert body == CONTENT[:after]
        for told in errors:
            assert isinstance(told, Interrupted)
            assert (told.received, told.promised) == (after, promised)

    async def test_a_body_that_ends_with_its_connection_just_ends(self) -> None:
        """Without length and framing nobody can tell a cut from the end; the engine decides."""
        transport, url = await self.stage(Step(cut_after=1000, framing=Framing.CLOSE))
        outcome = await fetch(transport, ask(url))
        assert (outcome.body, outcome.error) == (CONTENT[:1000], None)

    @pytest.mark.parametrize("after", [0, 1000, 100_000])
    async def test_a_silent_peer_is_a_stall_after_what_it_sent(self, after: int) -> None:
        """Everything sent is read, then Stalled says how long was waited."""
        transport, url = await self.stage(Step(stall_after=after))
        outcome = await fetch(transport, ask(url, stall_timeout_s=0.2))
        assert isinstance(outcome.error, Stalled)
        assert (outcome.body, outcome.error.seconds) == (CONTENT[:after], 0.2)

    async def test_the_answer_says_where_it_comes_from(self) -> None:
        """No redirect: no hop, and the address that was asked."""
        transport, url = await self.stage(Step())
        outcome = await fetch(transport, ask(url))
        assert (outcome.url, outcome.hops) == (url, ())

    async def test_errors_show_no_secret(self) -> None:
        """The address in an error is redacted."""
        transport, url = await self.stage(Step(cut_after=10))
        outcome = await fetch(transport, ask(f"{url}?signature=hunter2"))
        assert outcome.error is not None
        assert "hunter2" not in f"{outcome.error!s}{outcome.error.url}"
        assert outcome.error.url.startswith(url)
