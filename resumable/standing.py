"""How one download stands in this process: its view, kept up to date, and whoever wants to hear of it.

It decides nothing. Engine, supervisor and manager tell it what happened, in the event loop; it tells the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from recovery.clock import Clock
from recovery.events import OperationEvent
from recovery.states import TERMINAL, State
from recovery.verdict import Category
from resumable.completion import Published
from resumable.events import TERMINAL_EVENTS, DownloadEvent, DownloadView, EventName
from resumable.mailbox import Mailbox
from resumable.session import Session
from resumable.speed import SpeedMeter, seconds_left
from resumable.views import actions_for, after_operation_event

__all__ = ["EVENT_OF", "Standing", "next_rev"]

EVENT_OF: Final = {
    State.QUEUED: EventName.QUEUED,
    State.WAITING: EventName.WAITING,
    State.PARKED: EventName.PARKED,
    State.PAUSED: EventName.PAUSED,
    State.COMPLETE: EventName.COMPLETED,
    State.FAILED: EventName.FAILED,
    State.CANCELLED: EventName.CANCELLED,
}
"""What is told when the supervisor says that a download has entered a state."""
_MOST_WARNINGS: Final = 20
_QUIET_S: Final = 3.0
"""How long nothing is told of a download in which nothing moves; then a sign of life is due."""
_FAILED: Final = frozenset({State.WAITING, State.PARKED, State.FAILED})
"""What an attempt that failed leads to; going on after it is a retry."""
_ENDED: Final = _FAILED | TERMINAL | {State.PAUSED}


class Standing:
    """The view of one download and its readers, for as long as this process has a handle of it."""

    def __init__(
        self, view: DownloadView, *, clock: Clock, told: Callable[[Standing, DownloadEvent | None], None]
    ) -> None:
        """Begin with ``view``; ``told`` is called in the event loop with every event, and with None when the view has
        changed and there is no event to tell of it; it must not raise.
        """
        self.view = view
        self.generation = 0
        """Of the lease under which the download was last seen here; 0 before an attempt was made."""
        self.elsewhere = False
        """Whether another process runs it, and the view is only passed on."""
        self.known_complete = False
        """Whether the store says that it is complete, and nothing was begun again since."""
        self._clock = clock
        self._told = told
        self._mailboxes: list[Mailbox] = []
        self._last: DownloadEvent | None = None
        self._closed = False
        self._failed = False
        """Whether a failure is what the next attempt comes after."""
        self._note = ""
        """What is told with its completion."""
        self._speed = SpeedMeter()
        self._started = self._told_at = clock.monotonic()
        self._in_line = True
        """Whether no attempt has been made in this run."""

    # -- readers -------------------------------------------------------------------------------------------------------

    def subscribe(self) -> Mailbox:
        """Return a mailbox that gets every event from now on; of a download that has ended, how it ended."""
        mailbox = Mailbox()
        if self._closed:
            if self._last is not None:
                mailbox.put(self._last)
            mailbox.close()
        else:
            self._mailboxes.append(mailbox)
        return mailbox

    def unsubscribe(self, mailbox: Mailbox) -> None:
        """Put nothing into the mailbox any more."""
        if mailbox in self._mailboxes:
            self._mailboxes.remove(mailbox)

    def close(self) -> None:
        """Let readers come to an end: nothing happens here any more, unless it is begun again."""
        self._closed = True
        for mailbox in self._mailboxes:
            mailbox.close()
        self._mailboxes.clear()

    def begin(self) -> None:
        """Start a run of the download; its wire bytes count from here, its seconds anew from its first attempt."""
        self._closed = False
        self.known_complete = False
        self.generation = 0
        self.elsewhere = False
        self._speed = SpeedMeter()
        self._started = self._clock.monotonic()
        self._in_line = True
        self.view = replace(self.view, bytes_received=0, speed=0.0, eta=None, stale=False, elapsed=0.0)

    def take_up(
        self,
        seen: DownloadView | None,
        *,
        claimed: int,
        created_at: float | None,
        complete: bool = False,
        anew: bool = False,
    ) -> None:
        """Begin with what former runs left: their newest view, and the bytes that their checkpoints vouch for.

        ``anew``: what they did is given up, and nothing of it is told any more.
        """
        view = self.view
        if seen is not None and seen.error is not None and seen.state in _FAILED:
            self._failed = True
        self.known_complete = complete and seen is not None and seen.state is State.COMPLETE
        if seen is not None and anew:
            view = replace(view, rev=max(view.rev, seen.rev), created_at=seen.created_at or view.created_at)
        elif seen is not None:
            view = replace(
                view,
                bytes_total=seen.bytes_total,
                breaks=seen.breaks,
                can_resume=seen.can_resume,
                restarted=seen.restarted,
                warnings=seen.warnings,
                attempt=seen.attempt,
                attempts=seen.attempts,
                retries=seen.retries,
                rev=max(view.rev, seen.rev),
                created_at=seen.created_at or view.created_at,
            )
        elif created_at is not None:
            view = replace(view, created_at=created_at)
        self.view = replace(view, bytes_done=claimed, bytes_resumed=claimed)

    def begin_anew(self) -> None:
        """Tell nothing any more of how the former file came: its attempts are no past of another one's."""
        self.view = replace(self.view, attempt=0, attempts=0, retries=0, breaks=(), warnings=(), restarted=None)

    @property
    def elapsed(self) -> float:
        """Seconds since the first attempt of this run; before it, since the run was asked for."""
        return self._clock.monotonic() - self._started

    # -- what happened -------------------------------------------------------------------------------------------------

    def tell(self, name: EventName, message: str = "") -> None:
        """Send an event with the view as it is now."""
        now, self._told_at = self._clock.time(), self._clock.monotonic()
        self.view = replace(self.view, updated_at=now, elapsed=self.elapsed, rev=next_rev(self.view.rev, now))
        event = DownloadEvent(event=name, view=self.view, message=message, ts=now)
        if name in TERMINAL_EVENTS:
            self._last = event
        for mailbox in self._mailboxes:
            mailbox.put(event)
        self._told(self, event)

    def become(self, state: State, message: str = "") -> None:
        """Enter a state that was decided upon outside a supervised run, and tell."""
        self.view = replace(self.view, state=state, error=None, retry_at=None, actions=actions_for(state))
        self.tell(EVENT_OF[state], message)

    def emptied(self) -> None:
        """Take down that what was received has been deleted; there is no event to tell of it."""
        now = self._clock.time()
        rev = next_rev(self.view.rev, now)
        self.view = replace(self.view, bytes_done=0, bytes_resumed=0, breaks=(), updated_at=now, rev=rev)
        self._told(self, None)

    def passed_on(self, view: DownloadView) -> None:
        """Take over the view of the process that runs the download, and tell what is new in it."""
        before, self.view = self.view, replace(view, rev=max(view.rev, self.view.rev))
        if view.state is not before.state and view.state in EVENT_OF:
            self.tell(EVENT_OF[view.state], "" if view.error is None else view.error.message)
        elif view.state is not before.state:
            self.tell(EventName.VERIFYING if view.state is State.VERIFYING else EventName.STARTED)
        elif view.rev != before.rev:
            self.tell(EventName.PROGRESS)

    def operation_event(self, event: OperationEvent, session: Session, *, max_no_progress: int) -> None:
        """Take the supervisor's news."""
        previous = self.view.state
        self.known_complete = False
        if event.state in _ENDED and (event.verdict is None or event.verdict.category is not Category.GATE):
            self._failed = event.error is not None and event.state in _FAILED
        self.view = after_operation_event(self.view, event, max_no_progress=max_no_progress)
        if event.error is not None and event.state in _FAILED:
            session.breaks.append(session.durable)
        self.refresh(session)
        name = EVENT_OF.get(event.state)
        if name is not None and (event.state is not previous or event.state is State.WAITING):
            note = self._note if event.state is State.COMPLETE else ""
            self.tell(name, note if self.view.error is None else self.view.error.message)
        else:
            self._told(self, None)

    def attempt_begins(self, number: int) -> None:
        """Count an attempt, the ``number``-th that is made; a retry if it comes after a failed one."""
        if self._in_line:
            # A file that waited 18 s for its turn among two thousand did not come at 1 B/s.
            self._in_line, self._started = False, self._clock.monotonic()
        retries = self.view.retries + (self._failed and number > 1)
        self._failed = False
        self.view = replace(self.view, attempts=number, attempt=max(self.view.attempt, number), retries=retries)

    def engine_event(self, name: EventName, message: str, session: Session) -> None:
        """Take the engine's news."""
        if name is EventName.WARNING:
            session.warnings.append(message)
            self.view = replace(self.view, warnings=(*self.view.warnings, message)[-_MOST_WARNINGS:])
        if name is EventName.VERIFYING:
            self.view = replace(self.view, state=State.VERIFYING, actions=actions_for(State.VERIFYING))
        elif name is EventName.REPAIRED and self.view.state is State.VERIFYING:
            self.view = replace(self.view, state=State.RUNNING, actions=actions_for(State.RUNNING))
        before = self.view
        self.refresh(session)
        if name is EventName.PROGRESS and self.view == before and self._clock.monotonic() - self._told_at < _QUIET_S:
            return  # of a thousand that wait for their first byte, each would be told, drawn and stored every second
        self.tell(name, message)

    def published(self, published: Published) -> None:
        """Take what an attempt that succeeded has left; the supervisor says that the download is complete."""
        self._note, size = published.note, published.size
        view = replace(
            self.view,
            sha256=published.sha256,
            verified_by=published.verified_by,
            dest=str(published.path),
            filename=published.path.name,
        )
        if published.note:  # no answer has told what is there already
            view = replace(view, bytes_done=size, bytes_total=size, bytes_resumed=size)
        self.view = view

    def refresh(self, session: Session) -> None:
        """Bring the engine's numbers into the view."""
        view = self.view
        now = self._clock.monotonic()
        self._speed.sample(now, session.received)
        rate = self._speed.rate(now, session.received) if view.state is State.RUNNING else 0.0
        total = session.complete_length if session.complete_length is not None else view.bytes_total
        done, resumed = view.bytes_done, view.bytes_resumed
        if session.ledger is not None:
            # What the audit has not judged yet counts as there: a resume begins where the last run ended, not at 0.
            unjudged = sum(claim.length for claim in session.claims.values())
            done, resumed = session.ledger.durable + unjudged, session.ledger.resumed + unjudged
        elif session.restarted is not None:
            done = resumed = 0
        if view.state is State.COMPLETE:
            done = total or done
        dest = None if view.state is State.COMPLETE else session.dest
        self.view = replace(
            view,
            filename=view.filename if dest is None else dest.name,
            dest=view.dest if dest is None else str(dest),
            bytes_done=done,
            bytes_total=total,
            bytes_resumed=resumed,
            bytes_received=session.received,
            breaks=tuple(dict.fromkeys(offset for offset in session.breaks if offset)),
            speed=rate,
            eta=seconds_left(None if total is None else max(0, total - done), rate),
            can_resume=view.can_resume if session.can_resume is None else session.can_resume,
            restarted=session.restarted or view.restarted,
        )


def next_rev(rev: int, now: float) -> int:
    """Return the number after ``rev`` of a view that changes at ``now`` (epoch seconds).

    It follows the clock, so that a process that does not know the newest view still gives a greater one, and it grows
    when the clock does not.
    """
    return max(rev + 1, int(now * 1000))
