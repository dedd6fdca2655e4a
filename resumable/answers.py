"""Asks the source in use for bytes, and says what its answers mean: usable, changed, ignored, or a typed failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from recovery.classify import parse_retry_after
from resumable.errors import Fault, OriginError, ProtocolFault, RepresentationChanged, StatusError, WebPage
from resumable.filename import name_from
from resumable.ports import Response
from resumable.response import Accept, Changed, Decision, Expected, Ignored, Reject, interpret, request_headers
from resumable.session import Adapters, Mode, Session
from resumable.source import MAYBE_EXPIRED
from resumable.validators import has_validator, parse_etag, weakened

__all__ = ["Answers"]

MOST_UNCONFIRMED: Final = 3
"""So many answers in a row without the validator that is known, and the origin has ceased to send it: one node of
several that leaves it out costs a request, not the bytes that are kept.
"""


class Answers:
    """The answers of one session's source."""

    def __init__(self, session: Session, adapters: Adapters, *, answered: Callable[[], None]) -> None:
        """Prepare; nothing is asked yet. ``answered`` is called whenever the head of an answer has come."""
        self._session = session
        self._adapters = adapters
        self._answered = answered

    @property
    def must_prove(self) -> bool:
        """Whether kept bytes have to be compared with fetched ones, because no validator vouches for both."""
        session = self._session
        known = session.representation
        return session.doubtful or (known is not None and not has_validator(known))

    def expected(self, start: int, stop: int | None, *, ranged: bool) -> Expected:
        """Return the question for bytes ``[start, stop)`` of what the session is bound to."""
        session = self._session
        # Before anything was adopted the link's own name says whether a web page can be what was asked for.
        name = session.filename or name_from(session.source.url, {})
        return Expected(start=start, stop=stop, representation=session.representation, ranged=ranged, filename=name)

    @asynccontextmanager
    async def to(self, expected: Expected) -> AsyncIterator[tuple[Response, Decision]]:
        """Yield an answer and what it means, never a Reject; an expired link is renewed outside the retry budget.

        An answer that no validator confirms, though one is known, is not combined with what is kept (RFC 9110
        15.3.7.3) but asked for again, and after the third one in a row the answer means that the identity is in doubt.

        Raises WebPage, ProtocolFault or StatusError for an answer that cannot be used, and what the transport raises.
        """
        session = self._session
        source = session.source
        while True:
            generation = source.generation
            request = source.request(request_headers(expected), session.request.options)
            async with self._adapters.transport.fetch(request) as response:
                self._answered()
                hops = [hop.headers for hop in response.hops]
                decision = self._confirmed(
                    expected, interpret(expected, response.status, response.headers, hops), response
                )
                if decision is None:
                    continue
                if not isinstance(decision, Reject):
                    source.remember(response)
                    yield response, decision
                    return
                refused = response.status in MAYBE_EXPIRED
                failure = self._failure(decision, response)
            if not (refused and await source.renew(generation, durable=session.durable)):
                raise failure

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[Response]:
        """Yield one more answer with the whole body, of the same representation.

        Raises RepresentationChanged, and what ``to`` raises.
        """
        async with self.to(self.expected(0, None, ranged=False)) as (response, decision):
            if isinstance(decision, Changed):
                raise self.changed(decision)
            if not isinstance(decision, Accept):
                raise ProtocolFault(Fault.UNREADABLE, url=self._session.source.shown)
            yield response

    def changed(self, decision: Changed) -> RepresentationChanged:
        """Return the error that gives up what is kept; in doubt, the session takes no validator's word from now on."""
        if not decision.certain:
            self._begin_to_doubt()
        return RepresentationChanged(decision.reason, url=self._session.source.shown)

    def doubt(self) -> None:
        """Keep what is kept, in one stream, and let bytes and the whole digest prove it: the validators do not."""
        session = self._session
        if session.representation is None:
            raise RuntimeError("nothing to doubt before the first answer")
        session.representation = session.source.representation = weakened(session.representation)
        self._begin_to_doubt()

    def _begin_to_doubt(self) -> None:
        session = self._session
        session.doubtful = True
        if session.mode is Mode.PARALLEL:
            session.mode = Mode.SINGLE

    def _confirmed(self, expected: Expected, decision: Decision, response: Response) -> Decision | None:
        """Return what an answer means where a validator vouches for it or none has to; None: ask again."""
        session, known = self._session, expected.representation
        if not isinstance(decision, Accept | Ignored) or known is None or not has_validator(known):
            return decision
        if decision.confirmed:
            session.unconfirmed = 0
            tag = parse_etag(response.headers.get("etag", ""))
            if known.etag is not None and (tag is None or not tag.strong_equal(known.etag)):
                session.tag_was_missing = True
            return decision
        promised = session.request.sha256 is not None
        if promised and (session.doubtful or session.mode is Mode.SEQUENTIAL):
            return decision  # the digest will tell
        session.unconfirmed += 1
        if session.unconfirmed < MOST_UNCONFIRMED and not session.doubtful:
            return None
        session.unconfirmed = 0
        return Changed("its answers no longer say which version they are of", None, certain=False)

    def _failure(self, reject: Reject, response: Response) -> OriginError:
        shown = self._session.source.shown
        if reject.web_page:
            return WebPage(url=shown)
        if reject.fault is not None:
            return ProtocolFault(reject.fault, url=shown, detail=reject.detail)
        retry_after = response.headers.get("retry-after")
        seconds = None if retry_after is None else parse_retry_after(retry_after, now=self._adapters.clock.time())
        return StatusError(reject.status, url=shown, retry_after_s=seconds)
