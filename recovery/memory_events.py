"""The events of a call that has no journal: the same records as a supervisor's, about an operation that has no row."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from recovery.arguments import render
from recovery.budget import Budget
from recovery.events import OperationEvent
from recovery.observers import observed, tell
from recovery.recipe import Recipe
from recovery.redaction import describe
from recovery.states import State

__all__ = ["MemoryEvents", "watched"]

log = logging.getLogger("recovery.decorator")


def watched(recipe: Recipe) -> bool:
    """Return whether anybody wants to hear of this function's calls."""
    return recipe.on_event is not None or observed()


class MemoryEvents:
    """Tells what one call goes through; ``attempt`` numbers are counted from 1."""

    def __init__(self, recipe: Recipe, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Name the call; a call that does not fit the function has no key, and fails by itself."""
        self._recipe = recipe
        self._id = secrets.token_hex(5)
        self._state: State | None = None
        self._rev = 0
        try:
            self._key = recipe.key_of(args, kwargs)
            self._project = render(recipe.project, recipe.arguments.bind(args, kwargs))
        except Exception:  # noqa: BLE001 - templates and keys are the user's code, and a mere label here
            self._key, self._project = "", ""

    def tell(
        self,
        state: State,
        budget: Budget,
        attempt: int,
        *,
        delay_s: float | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Say that the operation is in ``state`` now; ``budget`` has counted what failed."""
        recipe, now = self._recipe, self._recipe.clock.time()
        self._rev += 1
        event = OperationEvent(
            operation_id=self._id,
            kind=recipe.kind,
            key=self._key,
            project=self._project,
            state=state,
            previous=self._state,
            attempt=attempt,
            max_attempts=budget.policy.max_attempts,
            no_progress=budget.history.no_progress,
            delay_s=delay_s,
            next_retry_at=None if delay_s is None else now + delay_s,
            verdict=None if error is None else budget.verdict,
            error=None if error is None else describe(error),
            ts=now,
            rev=self._rev,
        )
        self._state = state
        if recipe.on_event is not None:
            try:
                recipe.on_event(event)
            except Exception:  # an observer's code must not fail what it observes
                log.exception("observer-failed", extra={"kind": recipe.kind})
        tell(event)
