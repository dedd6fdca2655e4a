"""What a person sees of a download: views and events into words. Pure; printing is the business of others.

Every line is one line: control characters in names and messages from outside are escaped, so that no server moves the
cursor.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from recovery.states import TERMINAL, State
from recovery.verdict import Category, UserAction
from resumable.events import DownloadEvent, DownloadView, ErrorView, EventName
from resumable.redact import one_line
from resumable_ui.outcome import Outcome
from resumable_ui.quantities import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from recovery.journal import AttemptRecord


def name_of(view: DownloadView) -> str:
    """Return what to call a download: its file name, and while that is not known the end of its link."""
    if view.filename:
        return one_line(view.filename)
    parts = urlsplit(view.url)
    return one_line(unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc or view.url or view.download_id)


def amount(view: DownloadView) -> str:
    """Return ``3.9 GB of 6.9 GB``, or ``3.9 GB`` while the size is not known."""
    if view.bytes_total is None:
        return format_size(view.bytes_done)
    return f"{format_size(view.bytes_done)} of {format_size(view.bytes_total)}"


def percent(view: DownloadView) -> int | None:
    """Return whole percent, rounded down: 100 means all of it; None while the size is not known."""
    if view.bytes_total is None:
        return None
    return 100 if view.bytes_total == 0 else view.bytes_done * 100 // view.bytes_total


_ASKS: Final = frozenset({UserAction.NEW_LINK, UserAction.FREE_SPACE, UserAction.CHOOSE_FOLDER, UserAction.LOG_IN})
_OVERDUE_S: Final = 2.0


def goes_on(view: DownloadView) -> bool:
    """Return whether it gets on without a person, now or later."""
    if view.stale or view.state is State.PAUSED or view.state in TERMINAL:
        return False
    return view.state is not State.PARKED or _ASKS.isdisjoint(view.actions)


def waits_for_slot(view: DownloadView, now: float) -> bool:
    """Return whether its wait is over at epoch time ``now`` and nothing has begun: there are others before it."""
    return view.state is State.WAITING and view.retry_at is not None and now - view.retry_at > _OVERDUE_S


def progress_words(view: DownloadView) -> str:
    """Return ``56 %, 3.9 GB of 6.9 GB, 21.4 MB/s, 2 min 20 s left, attempt 2 of 50``."""
    done = percent(view)
    words = [] if done is None else [f"{done} %"]
    words.append(amount(view))
    if view.state is State.RUNNING and not view.stale:
        words.append(format_rate(view.speed))
        if view.bytes_total is not None and view.bytes_done < view.bytes_total:
            words.append("time left unknown" if view.eta is None else f"{format_duration(view.eta)} left")
    if view.attempt > 1 and view.state is not State.WAITING:
        words.append(attempt_words(view))
    return ", ".join(words)


def attempt_words(view: DownloadView) -> str:
    """Return ``attempt 2 of 50``."""
    return f"attempt {view.attempt}{of_most(view.attempt, view.max_attempts)}"


def of_most(number: int, most: int, mark: str = " of ") -> str:
    """Return `` of 50``; empty without a limit, and for attempts beyond it: each time a person asks, it counts anew."""
    return f"{mark}{most}" if number <= most else ""


def waiting_words(view: DownloadView, now: float) -> str:
    """Return when the next attempt comes and how many more there are, at epoch time ``now``."""
    if waits_for_slot(view, now):
        return "waiting for a free slot"
    if view.retry_at is None:
        when = "soon" if view.retry_delay is None else f"in {format_duration(view.retry_delay)}"
    else:
        when = f"in {format_duration(view.retry_at - now)}"
    coming = f"attempt {view.attempts + 1}{of_most(view.attempts + 1, view.max_attempts)}"
    if view.no_progress and view.max_no_progress:
        # Some failures have more tries than the policy grants in general.
        of = f" of {view.max_no_progress}" if view.no_progress <= view.max_no_progress else ""
        coming += f" (retry {view.no_progress}{of} without progress)"
    return f"{coming} {when}"


def event_words(event: DownloadEvent) -> str:
    """Return an event in words, without the download's name."""
    view = event.view
    reason = one_line(event.message).rstrip(".")
    if event.event in _WITH_REASON and view.error is not None:
        reason = _with_detail(reason or one_line(view.error.message).rstrip("."), view.error.detail)
    match event.event:
        case EventName.STARTED:
            return "started" if view.attempt <= 1 else f"{attempt_words(view)} started"
        case EventName.RESUMED:
            return f"continues at {format_size(view.bytes_resumed)}{_of_total(view)}"
        case EventName.PROGRESS:
            return progress_words(view)
        case EventName.RESTARTED:
            return f"begins again from byte zero: {reason or view.restarted or 'what was kept cannot be used'}"
        case EventName.WAITING:
            return f"{reason or 'the attempt failed'}. Kept {amount(view)}; {waiting_words(view, event.ts)}"
        case EventName.PARKED:
            return f"waits: {reason or 'for a condition'}. Kept {amount(view)}"
    words = _PLAIN_WORDS.get(event.event, event.event.value)
    return f"{words}: {reason}" if reason else words


_WITH_REASON: Final = frozenset({EventName.WAITING, EventName.PARKED, EventName.FAILED})
_PLAIN_WORDS: Final = {
    EventName.INTERRUPTED: "a connection broke",
    EventName.REPAIRED: "damage found",
}


def _of_total(view: DownloadView) -> str:
    return "" if view.bytes_total is None else f" of {format_size(view.bytes_total)}"


def _with_detail(reason: str, detail: str) -> str:
    """The plain words and, in parentheses, the fact behind them: which host, which status, which digest."""
    fact = one_line(detail).rstrip(".")
    return reason if not fact or fact.lower() in reason.lower() else f"{reason} ({fact})"


def outcome_words(outcome: Outcome) -> str:
    """Return how a download ended, in words, without its name and without what to do next."""
    view, result, fault = outcome.view, outcome.result, outcome.fault
    if result is not None:
        words = [f"done: {format_size(result.size)}"]
        if result.bytes_received and result.elapsed > 0:
            words[0] += f" in {format_duration(result.elapsed)}"
            words.append(format_rate(result.bytes_received / result.elapsed))
        else:
            words.append("nothing left to transfer")
        if result.bytes_resumed and result.bytes_received:
            words.append(f"{format_size(result.bytes_resumed)} of it from before")
        if result.attempts > 1:
            words.append(f"{result.attempts} attempts")
        words.append("not checked" if result.verified_by == "exists" else f"checked by {result.verified_by}")
        return ", ".join(words)
    kept = f" Kept {amount(view)}." if view.bytes_done else ""
    if fault is None or outcome.event is not EventName.FAILED:
        return f"{outcome.event.value}.{kept}"
    tries = f" after {view.attempts} attempts" if view.attempts > 1 else ""
    return f"failed{tries}: {_sentence(_with_detail(one_line(fault.message).rstrip('.'), fault.detail))}{kept}"


def _sentence(text: str) -> str:
    stripped = one_line(text).strip()
    return stripped if stripped.endswith((".", "!", "?")) else f"{stripped}."


def next_step(view: DownloadView, state: str | None = None) -> str:
    """Return the command that goes on with a download; ``state`` is the state file where it is not the default."""
    relink = command("relink", view.download_id, "NEWURL", state=state)
    if view.error is not None and view.error.category == Category.NEEDS_LINK:
        return f"Give it a fresh link: {relink}"
    if view.state is not State.FAILED:
        return f"Continue with: {command('resume', view.download_id, state=state)}"
    if view.error is not None and view.error.category == Category.FINAL_DIGEST:
        again = "the same get again with the right --sha256"
        return f"If the expected digest is wrong: {again}; if the link is wrong: {relink}"
    if not may_retry(view):
        return f"Give it another link: {relink}"
    retry = f"Try again with: {command('retry', view.download_id, state=state)}"
    if UserAction.NEW_LINK in view.actions:
        retry += f" or give it another link: {relink}"
    if UserAction.LOG_IN in view.actions:
        retry += " or say who you are: the same get again with -H @FILE"
    return retry


def may_retry(view: DownloadView) -> bool:
    """Return whether trying again what has failed may help, with nothing else changed here."""
    match None if view.error is None else view.error.category:
        case Category.NEEDS_LINK | Category.FINAL_DIGEST:
            return False
        case Category.GONE:
            return UserAction.NEW_LINK not in view.actions
    return True


def command(*words: str, state: str | None = None) -> str:
    """Return a command line of ours, quoted for a shell."""
    return " ".join(["resumable", *words, *([] if state is None else ["--state", shlex.quote(state)])])


def kept_lines(views: Sequence[DownloadView], *, state: str | None, most: int = 5) -> list[str]:
    """Return what was kept of unfinished downloads and how to go on: a line each for a few, then one for all."""
    lines = []
    for view in views[:most]:
        kept = f"Kept {amount(view)}" if view.bytes_done else "Nothing received yet"
        name = f" of {name_of(view)}" if len(views) > 1 else ""
        lines.append(f"{kept}{name}. Continue with: {command('resume', view.download_id, state=state)}")
    if len(views) > most:
        lines.append(f"And {len(views) - most} more. Continue all with: {command('resume', '--all', state=state)}")
    return lines


def status_row(view: DownloadView, now: float) -> str:
    """Return the line of ``status`` for one download at epoch time ``now``."""
    words = progress_words(view)
    if view.state is State.WAITING and not view.stale:
        words += f", {waiting_words(view, now)}"
    silent = view.state in {State.RUNNING, State.VERIFYING, State.COMPLETE} or waits_for_slot(view, now)
    if view.error is not None and not silent:
        words += f": {_sentence(view.error.message)}"
    gone = view.stale and view.state not in TERMINAL
    state = "interrupted" if gone else view.state.value
    if gone:
        words += " (its process has ended or does not answer)"
    return f"{view.download_id}  {state:<11}  {name_of(view)}  {words}"


def detail_lines(view: DownloadView, *, when: Callable[[float], str], state: str | None) -> list[str]:
    """Return everything else about one download, an indented line each; ``when`` writes epoch seconds."""
    error = view.error if view.state not in {State.RUNNING, State.VERIFYING, State.COMPLETE} else None
    active = view.state not in {State.PAUSED, *TERMINAL} and not view.stale
    facts = {
        "link": one_line(view.url),
        "file": one_line(view.dest),
        "project": one_line(view.project_id),
        "from before": format_size(view.bytes_resumed) if view.bytes_resumed else "",
        "can resume": {True: "yes", False: "no: the server sends only whole files", None: ""}[view.can_resume],
        "began again": one_line(view.restarted or ""),
        "broke at": ", ".join(format_size(offset) for offset in view.breaks),
        "odd": "; ".join(one_line(warning) for warning in view.warnings),
        "reason": "" if error is None else f"{_sentence(error.message)} ({_kind(error)})",
        "detail": "" if error is None else one_line(error.detail),
        "attempts": _attempts_words(view) if view.attempts else "",
        "next try": when(view.retry_at) if view.retry_at and active else "",
        "process": view.owner.split(".")[1] if active and view.owner.count(".") == 3 else "",
        "checked by": "nothing: it was there" if view.verified_by == "exists" else view.verified_by or "",
        "SHA-256": view.sha256 or "",
        "begun": when(view.created_at) if view.created_at else "",
        "changed": when(view.updated_at) if view.updated_at else "",
        "what to do": _what_to_do(view, state),
    }
    return [f"  {name:<12}{fact}" for name, fact in facts.items() if fact]


def _kind(error: ErrorView) -> str:
    return error.code if error.code == error.category else f"{error.category}: {error.code}"


def _attempts_words(view: DownloadView) -> str:
    made = f"{view.attempts}{of_most(view.attempts, view.max_attempts)}"
    return f"{made}, {view.no_progress} without progress" if view.no_progress else made


def _what_to_do(view: DownloadView, state: str | None) -> str:
    if view.state in {State.PAUSED, State.FAILED} or view.stale:
        return next_step(view, state)
    if view.state in {State.WAITING, State.PARKED}:
        return f"Try at once with: {command('retry', view.download_id, state=state)}"
    return ""


def attempt_line(attempt: AttemptRecord) -> str:
    """Return one attempt of the past as an indented line."""
    gained = format_size(max(attempt.progress_to - attempt.progress_from, 0))
    words = [f"attempt {attempt.number}: {attempt.outcome}", f"{gained} gained"]
    if attempt.ended_at is not None:
        words.append(f"took {format_duration(attempt.ended_at - attempt.started_at)}")
    if attempt.error:
        words.append(one_line(attempt.error))
    if attempt.delay_s is not None:
        words.append(f"then waited {format_duration(attempt.delay_s)}")
    return f"  {', '.join(words)}"
