"""What ``@recoverable`` knows of a function: how to do it, how patient to be, and what its calls are called."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from recovery.arguments import ArgumentNames, render, storable
from recovery.classify import Classifier
from recovery.clock import Clock, SystemClock
from recovery.events import OperationEvent
from recovery.policy import RetryPolicy
from recovery.records import OperationSpec
from recovery.redaction import redacted
from recovery.verdict import Action, Category, Verdict

if TYPE_CHECKING:
    from recovery.supervisors import Source

__all__ = ["Recipe", "plain_recipe", "recipe_of"]


class Recipe(Struct, frozen=True, kw_only=True):
    """Of one decorated function."""

    ways: tuple[Callable[..., Any], ...]
    """The function itself, then the alternatives, in the order in which they are tried."""
    policy: RetryPolicy
    classifier: Classifier
    clock: Clock
    draw: Callable[[], float]
    kind: str
    key: str | Callable[..., str] | None
    project: str
    title: str
    arguments: ArgumentNames
    journal: Source | None
    on_event: Callable[[OperationEvent], None] | None

    def has_way_after(self, way: int, verdict: Verdict) -> bool:
        """Return whether another way is worth trying: none is when the input itself is wrong."""
        wrong_input = verdict.category is Category.VALIDATION and verdict.action is Action.ASK
        return way + 1 < len(self.ways) and not wrong_input

    def for_undo(self, undo: Callable[[Any], Any]) -> Recipe:
        """Return the recipe for an undo: as patient as the function itself."""
        return replace(self, ways=(undo,), kind=f"{self.kind}.undo", key=None, project="", title="", on_event=None)

    def key_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of a call; empty where the function has none.

        Raises:
            TypeError: the arguments do not fit the function.
            ValueError: the key is empty, or no text.
        """
        if self.key is None:
            return ""
        if isinstance(self.key, str):
            return render(self.key, self.arguments.bind(args, kwargs))
        key = self.key(*args, **kwargs)
        if not isinstance(key, str) or not key:
            msg = f"the key of {self.kind} must be a text that is not empty, not {key!r}"
            raise ValueError(msg)
        return key

    def spec(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> OperationSpec:
        """Return what the journal is told about a call; raises like ``key_of``."""
        bound = self.arguments.bind(args, kwargs)
        key = render(self.key, bound) if isinstance(self.key, str) else self.key_of(args, kwargs)
        return OperationSpec(
            kind=self.kind,
            key=key,
            operation_id=_identifier(self.kind, key),
            project=render(self.project, bound),
            title=redacted(render(self.title, bound)) if self.title else "",
            policy=self.policy,
            args=storable(bound),
        )


def plain_recipe(function: Callable[..., Any], kind: str, policy: RetryPolicy, classifier: Classifier) -> Recipe:
    """Return a recipe without names, journal and observers, on the real clock."""
    return Recipe(
        ways=(function,),
        policy=policy,
        classifier=classifier,
        clock=SystemClock(),
        draw=random.random,
        kind=kind,
        key=None,
        project="",
        title="",
        arguments=ArgumentNames(lambda _: None),
        journal=None,
        on_event=None,
    )


def recipe_of(function: Callable[..., Any]) -> Recipe:
    """Return what ``@recoverable`` knows of a function, for whoever runs its operations in another way.

    Raises:
        TypeError: it is not recoverable.
    """
    recipe = getattr(function, "__recovery__", None)
    if not isinstance(recipe, Recipe):
        msg = f"{function!r} is not a recoverable function"
        raise TypeError(msg)
    return recipe


def _identifier(kind: str, key: str) -> str:
    """Return the same id for the same kind and key, so that a call after a failure finds what the failed one did."""
    digest = hashlib.sha256(f"{kind}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest[:10])[:12].decode().lower()
