"""What was asked for cannot be done as it is: no retry helps, a person has to change something, and is told what.

::

    raise InvalidInput(
        "This workflow uses a node called 'UpscaleX', which is not installed.",
        remedy="Install the node, or remove it from the workflow; then retry.",
        code="missing-node",
    )

The operation is given up at once: no retries, and no fallbacks, which would be given the same input. Row, events and
exception say the same two sentences and offer the same buttons.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from recovery.redaction import redacted
from recovery.taxonomy.machine import INVALID_INPUT
from recovery.verdict import UserAction

__all__ = ["InvalidInput"]


class InvalidInput(Exception):  # noqa: N818 - names what happened
    """Raised by a program's own checks, before the work begins or as soon as it is seen to be pointless."""

    def __init__(
        self,
        problem: str,
        remedy: str,
        code: str = INVALID_INPUT.code,
        user_actions: Sequence[UserAction] = INVALID_INPUT.user_actions,
    ) -> None:
        """``problem`` and ``remedy`` are sentences for people: what is wrong with what, and what to do about it.

        ``code`` is a stable kebab-case name for programs (``bad-workflow``, ``missing-node``, ``unknown-model``).
        """
        super().__init__(problem, remedy, code, tuple(user_actions))
        self.problem = problem
        self.remedy = remedy
        self.code = code
        self.recovery_hint = replace(
            INVALID_INPUT,
            code=code,
            message=redacted(f"{problem} {remedy}"),
            user_actions=tuple(map(UserAction, user_actions)),
        )

    def __str__(self) -> str:
        """Return both sentences."""
        return f"{self.problem} {self.remedy}"
