"""The arguments of one call, by name: what its key is made of, and what of them may be stored. Pure.

Stored is what JSON gives back as it is, with secrets blanked out; the rest is only named, in ``LEFT_OUT``, so that
whoever continues the operation in another process knows that these have to come from elsewhere.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Mapping
from typing import Any

from recovery.plainjson import NotPlain, plain
from recovery.records import JsonValue
from recovery.redaction import names_a_secret, redacted

__all__ = ["LEFT_OUT", "ArgumentNames", "check_template", "render", "storable"]

LEFT_OUT = "~"
"""Key of the stored arguments under which the names of those are listed that are not stored as they are."""

_LONGEST = 2_000
"""Characters of JSON that one argument may take up."""


class ArgumentNames:
    """Binds positional and keyword arguments of one function to their names."""

    __slots__ = ("_plain", "_signature", "names", "open_ended")

    def __init__(self, function: Callable[..., Any]) -> None:
        """Read the function's signature."""
        self._signature = inspect.signature(function)
        kinds = {name: parameter.kind for name, parameter in self._signature.parameters.items()}
        self.names = frozenset(name for name, kind in kinds.items() if kind is not inspect.Parameter.VAR_KEYWORD)
        self.open_ended = inspect.Parameter.VAR_KEYWORD in kinds.values()
        """Whether any other name may come, through ``**kwargs``."""
        defaults: dict[str, Any] = {name: parameter.default for name, parameter in self._signature.parameters.items()}
        plain_ones = all(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds.values())
        self._plain = defaults if plain_ones else None
        """Every parameter with its default, if all of them may come by position or by name: of most functions."""

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return name and value of every argument, defaults included; what came through ``**kwargs`` by its own name.

        Raises:
            TypeError: the call does not fit the function, in the words Python has for that.
        """
        named = self._bind_plainly(args, kwargs)
        if named is not None:
            return named
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = {}
        for name, value in bound.arguments.items():
            kind = self._signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                named |= value
            else:
                named[name] = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else value
        return named

    def _bind_plainly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Bind what fits at first sight; ``Signature.bind`` takes ten times as long, for each durable call."""
        if self._plain is None or len(args) > len(self._plain):
            return None
        by_position = dict(zip(self._plain, args, strict=False))
        named = {**self._plain, **by_position, **kwargs}
        missing = any(value is inspect.Parameter.empty for value in named.values())
        if missing or len(named) > len(self._plain) or not by_position.keys().isdisjoint(kwargs):
            return None
        return named


def check_template(template: str, names: ArgumentNames) -> None:
    """Check a template such as ``import:{name}`` or ``{self.id}/{page}`` when it is written, not when it is used.

    Raises:
        ValueError: it is empty, no template, or names an argument the function has not.
    """
    if not template:
        raise ValueError("an empty key would make one operation of all calls")
    for _, field, _, _ in string.Formatter().parse(template):
        if field is None:
            continue
        first = field.partition(".")[0].partition("[")[0]
        if first not in names.names and not names.open_ended:
            msg = f"the template {template!r} names {first or 'a position'!r}; the arguments are {sorted(names.names)}"
            raise ValueError(msg)


def render(template: str, bound: Mapping[str, Any]) -> str:
    """Return the template with the arguments filled in; raises as ``str.format`` does."""
    return template.format_map(bound)


def storable(bound: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return what of the arguments may be stored; see the module."""
    kept: dict[str, JsonValue] = {}
    left_out: list[str] = []
    for name, value in bound.items():
        if name in {"self", "cls"}:
            continue
        try:
            safe = "***" if names_a_secret(name) else _without_secrets(plain(value))
        except NotPlain:
            left_out.append(name)
            continue
        if len(str(safe)) > _LONGEST:
            left_out.append(name)
            continue
        kept[name] = safe
        if safe != value:
            left_out.append(name)
    if left_out:
        kept[LEFT_OUT] = left_out
    return kept


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {key: "***" if names_a_secret(key) else _without_secrets(item) for key, item in value.items()}
    return value
