"""The bars of a terminal as rows of styled pieces: what a person sees of running downloads at one moment. Pure.

A row is ``name  bar  percent  words``. The bar has two tones: what former runs had left, and what came in this one. The
words are the amounts and the speed while it moves, else which try comes when, and why.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from recovery.states import TERMINAL, State
from resumable.events import DownloadView
from resumable.redact import one_line
from resumable_ui.projection import goes_on, name_of, of_most, percent, waits_for_slot
from resumable_ui.quantities import format_duration, format_rate, format_size

__all__ = ["ASCII", "BLOCKS", "Charset", "Frame", "Piece", "Tone", "columns", "cut", "frame"]


class Tone(StrEnum):
    """What a piece means; the terminal decides how that looks."""

    PLAIN = "plain"
    QUIET = "quiet"
    RESUMED = "resumed"
    FRESH = "fresh"
    EMPTY = "empty"
    TROUBLE = "trouble"
    BAD = "bad"
    GOOD = "good"
    STRONG = "strong"


class Charset(Struct, frozen=True):
    """What the bar is drawn with, and what marks a cut name."""

    resumed: str
    fresh: str
    empty: str
    ellipsis: str
    dot: str


BLOCKS: Final = Charset("▒", "█", "░", "…", "·")
ASCII: Final = Charset("#", "=", "-", "~", "-")
"""For terminals that are not UTF-8; no tone is told by colour alone in either."""

Piece = tuple[str, Tone]
Frame = list[list[Piece]]

_NOW_S: Final = 0.1
"""A wait of less is over: `in 0.0 s` says nothing."""
_ECHO: Final = 3
"""Columns left free: the ``^C`` that a terminal echoes behind a row must not begin another one that stays."""
_NARROW: Final = 60
_WIDE: Final = 100


def frame(
    views: Sequence[DownloadView],
    *,
    finished: int,
    failed: int = 0,
    now: float,
    width: int,
    height: int,
    charset: Charset = BLOCKS,
) -> Frame:
    """Return at most ``height - 1`` rows of at most ``width - 3`` columns: the downloads under way, and their total.

    ``finished`` ones are not drawn; they are counted, ``failed`` ones among them apart. ``now`` is epoch seconds.
    """
    shown = sorted((view for view in views if view.state not in TERMINAL), key=lambda view: view.state is State.QUEUED)
    several = len(views) + finished > 1
    room = max(1, height - 1 - several)
    hidden = 0
    if len(shown) > room:
        room = max(1, room - 1)
        hidden = len(shown) - room
    columns_of = _layout(shown[:room], width)
    rows = [_row(view, now, width, columns_of, charset) for view in shown[:room]]
    if hidden:
        rows.append([(f"{charset.ellipsis} and {hidden} more", Tone.QUIET)])
    if several:
        rows.append([(_total(views, finished, failed, charset), Tone.STRONG)])
    return [_fitted(row, width - _ECHO, charset) for row in rows[: max(1, height - 1)]]


def _layout(views: Sequence[DownloadView], width: int) -> tuple[int, int]:
    """Return the columns of the name and of the bar.

    At 80 columns `3.9 GB/6.9 GB  21.4 MB/s  2 min 20 s left` has room, and `try 3` beside it where there is one; at 40
    `21.4 MB/s try 3`, or `try 3/50 12 s`.
    """
    retried = any(view.attempt > 1 and view.state is State.RUNNING for view in views)
    if width >= _WIDE:
        named, drawn = 30, 32
    elif width >= _NARROW:
        named, drawn = (14, 8) if retried else (17, 12)
    else:
        named, drawn = 10, 5 if retried or any(view.state is State.WAITING for view in views) else 8
    return min(named, max((columns(name_of(view)) for view in views), default=named)), drawn


def _row(view: DownloadView, now: float, width: int, layout: tuple[int, int], charset: Charset) -> list[Piece]:
    named, drawn = layout
    done = percent(view)
    name = cut(name_of(view), named, charset)
    room = width - _ECHO - named - 1 - drawn - 5
    return [
        (name + " " * (named - columns(name) + 1), Tone.PLAIN),
        *_bar(view, drawn, charset),
        ("     " if done is None else f" {done:>3}%", Tone.PLAIN),
        *_whole([(f" {text}", tone) for text, tone in _words(view, now, short=width < _NARROW)], room),
    ]


def _whole(words: list[Piece], room: int) -> list[Piece]:
    """Return what fits of several words without a cut: the limit of the tries goes first, then the words at the end."""
    if sum(columns(text) for text, _ in words) > room:
        words = [(_without_limit(text), tone) for text, tone in words] if len(words) > 1 else words
    while len(words) > 1 and sum(columns(text) for text, _ in words) > room:
        words = words[:-1]
    return words


def _without_limit(text: str) -> str:
    return text.partition("/")[0] if text.lstrip().startswith("try ") else text


def _bar(view: DownloadView, width: int, charset: Charset) -> list[Piece]:
    total = view.bytes_total
    if not total:
        return [(charset.empty * width, Tone.EMPTY)]
    resumed = min(view.bytes_resumed, view.bytes_done, total) * width // total
    fresh = min(view.bytes_done, total) * width // total - resumed
    moving = Tone.TROUBLE if view.state in {State.WAITING, State.PARKED} else Tone.FRESH
    pieces = [
        (charset.resumed * resumed, Tone.RESUMED),
        (charset.fresh * fresh, moving),
        (charset.empty * (width - resumed - fresh), Tone.EMPTY),
    ]
    return [piece for piece in pieces if piece[0]]


def _words(view: DownloadView, now: float, *, short: bool) -> list[Piece]:
    if view.stale:
        return [("interrupted" if short else "interrupted: its process has ended or does not answer", Tone.BAD)]
    match view.state:
        case State.RUNNING | State.VERIFYING:
            return _moving(view, short=short)
        case State.WAITING | State.PARKED:
            return [(_waiting(view, now, short=short), Tone.TROUBLE)]
        case State.QUEUED:
            return [("queued", Tone.QUIET)]
        case _:
            return [(view.state.value, Tone.QUIET)]


def _moving(view: DownloadView, *, short: bool) -> list[Piece]:
    retried = view.attempt > 1
    if view.state is State.VERIFYING:
        return [("verifying", Tone.GOOD)]
    if short:
        words: list[Piece] = [(format_rate(view.speed), Tone.PLAIN)]
        return [*words, (_try(view), Tone.TROUBLE)] if retried else words
    # Without a length nothing may be safe before the end, and it moves all the same.
    amount = format_size(view.bytes_done if view.bytes_total is not None else max(view.bytes_done, view.bytes_received))
    if view.bytes_total is not None:
        amount += f"/{format_size(view.bytes_total)}"
    words = [(amount, Tone.PLAIN), (f" {format_rate(view.speed)}", Tone.PLAIN)]
    if view.bytes_total is not None and view.bytes_done < view.bytes_total:
        left = "time left unknown" if view.eta is None else f"{format_duration(view.eta)} left"
        words.append((f" {left}", Tone.PLAIN))
    if retried:
        words.append((f" {_try(view)}", Tone.TROUBLE))
    if view.bytes_resumed:
        words.append((f" from {format_size(view.bytes_resumed)}", Tone.RESUMED))
    return words


def _try(view: DownloadView) -> str:
    return f"try {view.attempt}{of_most(view.attempt, view.max_attempts, '/')}"


def _waiting(view: DownloadView, now: float, *, short: bool) -> str:
    reason = "" if view.error is None else one_line(view.error.message).rstrip(".")
    if view.state is State.PARKED:
        return f"waits: {reason}" if reason else "waits"
    if waits_for_slot(view, now):
        return "waits" if short else "waiting for a free slot"
    coming = f"try {view.attempts + 1}{of_most(view.attempts + 1, view.max_attempts, '/')}"
    seconds = view.retry_delay if view.retry_at is None else view.retry_at - now
    soon = seconds is not None and seconds < _NOW_S
    when = "" if seconds is None else "now" if soon else format_duration(seconds)
    if short:
        return f"{coming} {when}".rstrip()
    coming += "" if not when else " now" if soon else f" in {when}"
    return f"{coming}: {reason}" if reason else coming


def _total(views: Sequence[DownloadView], finished: int, failed: int, charset: Charset) -> str:
    live = [view for view in views if view.state not in TERMINAL]
    done, speed = (
        sum(view.bytes_done for view in live),
        sum(view.speed for view in live if view.state is State.RUNNING and not view.stale),
    )
    known = all(view.bytes_total is not None for view in live)
    total = sum(view.bytes_total or 0 for view in live)
    words = [f"{finished - failed} of {len(live) + finished} done"]
    if failed:
        words.append(f"{failed} failed")
    words.append(f"{format_size(done)} of {format_size(total)}" if known and live else format_size(done))
    words.append(format_rate(speed))
    going = [view for view in live if goes_on(view)]
    left = sum((view.bytes_total or 0) - view.bytes_done for view in going)
    if speed > 0 and left > 0 and all(view.bytes_total is not None for view in going):
        words.append(f"{format_duration(left / speed)} left")
    recovering = sum(view.state in {State.WAITING, State.PARKED} for view in going)
    if recovering:
        words.append(f"{recovering} recovering")
    return f" {charset.dot} ".join(words)


def _fitted(row: Sequence[Piece], width: int, charset: Charset) -> list[Piece]:
    fitted: list[Piece] = []
    left = width
    for text, tone in row:
        piece = cut(text, left, charset)
        if not piece:
            break
        fitted.append((piece, tone))
        left -= columns(piece)
        if piece != text:
            break
    return fitted


def columns(text: str) -> int:
    """Return how many columns of a terminal the text takes: two for East Asian wide characters, none for combining."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def cut(text: str, width: int, charset: Charset) -> str:
    """Return the text in at most ``width`` columns, marked where something was cut off."""
    if columns(text) <= width:
        return text
    if width <= 0:
        return ""
    taken = stop = 0
    while (taken := taken + columns(text[stop])) < width:
        stop += 1
    return text[:stop].rstrip() + charset.ellipsis
