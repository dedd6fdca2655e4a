"""What may be stored of a program's values: plain JSON that comes back exactly as it went in. Pure.

``json.dumps`` also takes tuples, numbers as keys and enums, and gives lists, texts and plain values back: a program
that resumes would then see other values than the one that was killed. Such values are refused here, when they are new.

>>> plain({"files": ["a", "b"], "size": 7})
{'files': ['a', 'b'], 'size': 7}
>>> plain({"files": ("a", "b")})
Traceback (most recent call last):
    ...
recovery.plainjson.NotPlain: value['files'] is a tuple
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["NotPlain", "plain"]

_DEEPEST = 64


class NotPlain(ValueError):  # noqa: N818 - names what happened
    """A value that JSON does not give back as it is; the text says where it is and what."""


def plain(value: Any) -> Any:
    """Return a deep copy of ``value``, made of None, bool, int, finite float, str, list and dict with str keys.

    Raises:
        NotPlain: anything else is in it, subclasses of these types included.
    """
    return _copy(value, "value", _DEEPEST)


def _copy(value: Any, where: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind in {bool, int}:
        return value
    if kind is float:
        return _finite(value, where)
    if kind is str:
        return _encodable(value, where)
    if depth == 0:
        msg = f"{where} is nested more than {_DEEPEST} deep"
        raise NotPlain(msg)
    if kind is list:
        return [_copy(item, f"{where}[{index}]", depth - 1) for index, item in enumerate(value)]
    if kind is dict:
        return {_key(name, where): _copy(item, f"{where}[{name!r}]", depth - 1) for name, item in value.items()}
    msg = f"{where} is a {kind.__name__}"
    raise NotPlain(msg)


def _finite(number: float, where: str) -> float:
    if not math.isfinite(number):
        msg = f"{where} is {number}"
        raise NotPlain(msg)
    return number


def _encodable(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        msg = f"{where} has characters that are no text (surrogates of an undecodable file name)"
        raise NotPlain(msg) from None
    return text


def _key(name: Any, where: str) -> str:
    if type(name) is not str:
        msg = f"{where} has a key that is a {type(name).__name__}"
        raise NotPlain(msg)
    return _encodable(name, f"a key of {where}")
