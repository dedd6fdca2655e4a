"""Decorated functions keep their types: mypy --strict passes over this file, and each ``type: ignore`` is needed.

``warn_unused_ignores`` makes the second half as strict as the first: a line that should be an error and is none fails.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import assert_type

from recovery import RetryPolicy, current_operation, current_sync_operation, recoverable


@recoverable
async def bare(name: str, *, times: int = 1) -> bytes:
    """Decorated without parentheses."""
    return name.encode() * times


@recoverable(policy=RetryPolicy(), on=(TimeoutError, OSError), key="{path}", journal="state.db")
def blocking(path: Path) -> int:
    """Not async."""
    return len(str(path))


async def mirror(name: str) -> list[str]:
    """Another way."""
    return [name]


@recoverable(fallbacks=[mirror])
async def with_fallback(name: str) -> list[str]:
    """Decorated with another way of the same shape."""
    return [name]


class Importer:
    """Methods are bound."""

    @recoverable(key="{self}")
    async def fetch(self, name: str) -> bytes:
        """A method."""
        return name.encode()

    @classmethod
    @recoverable
    def of_class(cls, name: str) -> str:
        """A class method."""
        return name


async def results() -> None:
    """What calls return."""
    assert_type(await bare("x", times=2), bytes)
    assert_type(blocking(Path()), int)
    assert_type(await with_fallback("x"), list[str])
    assert_type(await Importer().fetch("x"), bytes)
    assert_type(Importer.of_class("x"), str)


async def steps() -> None:
    """A step returns what its function returns, awaited or not."""
    op = current_operation()
    assert_type(await op.step("a", lambda: bare("x")), bytes)
    assert_type(await op.step("b", lambda: 7), int)
    assert_type(current_sync_operation().step("c", lambda: "x"), str)


async def mistakes() -> None:
    """What a checker must object to."""
    await bare(1)  # type: ignore[arg-type]
    await bare("x", time=2)  # type: ignore[call-arg]
    blocking("x")  # type: ignore[arg-type]
    await Importer().fetch()  # type: ignore[call-arg]
    wrong: Awaitable[int] = bare("x")  # type: ignore[assignment]
    await wrong


@recoverable(fallbacks=[mirror])  # type: ignore[arg-type]
async def other_shape(number: int) -> list[str]:
    """The fallback takes a name, not a number."""
    return [str(number)]


@recoverable(polcy=RetryPolicy())  # type: ignore[call-overload, untyped-decorator]
async def misspelled() -> None:
    """An option that does not exist."""
