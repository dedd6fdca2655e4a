"""The classifier behind ``on=``: these exception types are tried again, all others are not. Pure.

What may not be decided by a list stays as it is: control flow is never retried, a wait that a server asked for is kept,
and what waits for a condition (a full disk) waits for it.
"""

from __future__ import annotations

from msgspec.structs import replace

from recovery.classify import Classifier
from recovery.taxonomy.buttons import GOES_ON
from recovery.verdict import Action, Verdict

__all__ = ["ChosenTypes", "Types"]

Types = type[BaseException] | tuple[type[BaseException], ...]

_AS_IT_IS = frozenset({Action.RETRY, Action.RETRY_FRESH, Action.AFTER, Action.PARK})


class ChosenTypes(Classifier):
    """Tries again what is an instance of ``types``; a group only if all in it are."""

    __slots__ = ("_judge_all", "_types")

    def __init__(self, types: Types, classifier: Classifier) -> None:
        """``classifier`` gives categories and words; ``types`` decide whether there is another attempt.

        Raises:
            TypeError: not an exception type, or not a tuple of them.
        """
        super().__init__()
        listed = types if isinstance(types, tuple) else (types,)
        if not listed or not all(isinstance(each, type) and issubclass(each, BaseException) for each in listed):
            msg = f"on= takes exception types, not {types!r}"
            raise TypeError(msg)
        self._types = listed
        self._judge_all = classifier.classify

    def classify(self, exc: BaseException) -> Verdict:
        """Return the verdict on ``exc``."""
        verdict = self._judge_all(exc)
        if verdict.action is Action.PROPAGATE:
            return verdict
        if not self._chosen(exc):
            return replace(verdict, action=Action.FAIL, limit=None, condition=None, retry_after_s=None)
        if verdict.action in _AS_IT_IS:
            return replace(verdict, limit=None)
        return replace(verdict, action=Action.RETRY, limit=None, user_actions=GOES_ON)

    def _chosen(self, exc: BaseException) -> bool:
        if isinstance(exc, self._types):
            return True
        return isinstance(exc, BaseExceptionGroup) and exc.split(self._types)[1] is None
