"""The arguments of a call: what makes its key, what of them is stored, and what never is."""

from __future__ import annotations

import doctest
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery import plainjson
from recovery.arguments import LEFT_OUT, ArgumentNames, check_template, render, storable
from recovery.plainjson import NotPlain, plain
from recovery.redaction import describe, names_a_secret, redacted


def example(name: str, *tags: str, size: int = 7, **more: object) -> None:
    """Have one argument of each kind."""


NAMES = ArgumentNames(example)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (("a",), {}, {"name": "a", "tags": [], "size": 7}),
        (("a", "b", "c"), {"size": 1}, {"name": "a", "tags": ["b", "c"], "size": 1}),
        ((), {"name": "a", "colour": "red"}, {"name": "a", "tags": [], "size": 7, "colour": "red"}),
    ],
    ids=["defaults", "positions", "names"],
)
def test_arguments_are_bound_by_name(args: tuple[Any, ...], kwargs: dict[str, Any], expected: dict[str, Any]) -> None:
    """Defaults included, and what came through ``**more`` by its own name."""
    assert expected == NAMES.bind(args, kwargs)


def test_a_call_that_does_not_fit_is_a_type_error() -> None:
    """In the words Python has for that."""
    with pytest.raises(TypeError, match="missing a required argument: 'name'"):
        NAMES.bind((), {})


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returned, or the words of its TypeError."""
    try:
        return call()
    except TypeError as exc:
        return str(exc)


def plain_example(name: str, size: int = 7) -> None:
    """Have arguments that may come by position or by name."""


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("a",), {}),
        (("a", 1), {}),
        ((), {"size": 1, "name": "a"}),
        (("a",), {"size": 1}),
        ((), {}),
        (("a",), {"name": "b"}),
        (("a",), {"colour": "red"}),
        (("a", 1, 2), {}),
    ],
    ids=["default", "positions", "names", "both", "missing", "twice", "unknown", "too many"],
)
def test_the_short_way_binds_as_python_does(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """In the order of the parameters, and with Python's own words for what does not fit."""

    def by_python() -> list[tuple[str, Any]]:
        bound = inspect.signature(plain_example).bind(*args, **kwargs)
        bound.apply_defaults()
        return list(bound.arguments.items())

    def by_ours() -> list[tuple[str, Any]]:
        return list(ArgumentNames(plain_example).bind(args, kwargs).items())

    assert outcome(by_python) == outcome(by_ours)


def test_keyword_only_arguments_keep_their_defaults() -> None:
    """Also when nothing is given."""
    assert ArgumentNames(lambda *, size=7: size).bind((), {}) == {"size": 7}


@pytest.mark.parametrize("template", ["import:{name}", "{name.stem}/{tags[0]}", "{anything}", "constant", "{{}}{name}"])
def test_a_template_that_fits_is_accepted(template: str) -> None:
    """Attributes, items, and any name where ``**more`` may bring it."""
    check_template(template, NAMES)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "an empty key"),
        ("{nothing}", "names 'nothing'; the arguments are"),
        ("{}", "names a position|names 'a position'"),
        ("{name", "expected"),
        ("{0}", "names '0'"),
    ],
)
def test_a_template_that_cannot_work_is_refused_when_it_is_written(template: str, words: str) -> None:
    """And not at the first call, in production."""
    with pytest.raises(ValueError, match=words):
        check_template(template, ArgumentNames(lambda name: name))


def test_templates_are_filled_in() -> None:
    """As ``str.format`` does."""
    assert render("{self.id}:{n:03d}", {"self": SimpleNamespace(id="x"), "n": 7}) == "x:007"


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ({"name": "flux", "size": 1.5, "tags": ["a"], "deep": {"x": None}}, None),
        ({"self": object(), "cls": int, "name": "a"}, {"name": "a"}),
        ({"session": object(), "name": "a"}, {"name": "a", LEFT_OUT: ["session"]}),
        ({"path": Path("/x")}, {LEFT_OUT: ["path"]}),
        ({"pair": (1, 2)}, {LEFT_OUT: ["pair"]}),
        (
            {"api_key": "k-123", "hub_token": "t"},
            {"api_key": "***", "hub_token": "***", LEFT_OUT: ["api_key", "hub_token"]},
        ),
        ({"headers": {"Authorization": "Bearer x"}}, {"headers": "***", LEFT_OUT: ["headers"]}),
        (
            {"options": {"password": "x", "retries": 3}},
            {"options": {"password": "***", "retries": 3}, LEFT_OUT: ["options"]},
        ),
        ({"url": "https://me:pw@h/f?sig=s3cret"}, {"url": "https://h/f?sig=***", LEFT_OUT: ["url"]}),
        (
            {"urls": ["https://h/f", "https://h/f?k=v"]},
            {"urls": ["https://h/f", "https://h/f?k=***"], LEFT_OUT: ["urls"]},
        ),
        ({"text": "x" * 3_000}, {LEFT_OUT: ["text"]}),
        ({}, {}),
    ],
)
def test_what_is_stored_of_the_arguments(bound: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """What JSON keeps, without secrets; the rest is named as left out."""
    assert (bound if expected is None else expected) == storable(bound)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("token", True),
        ("hf_token", True),
        ("Authorization", True),
        ("x-api-key", True),
        ("apikey", True),
        ("aws.secret", True),
        ("passwd", True),
        ("name", False),
        ("monkey", False),
        ("tokenizer", False),
        ("author", False),
        ("key", False),
        ("passage", False),
    ],
)
def test_names_of_secrets_are_known(name: str, *, secret: bool) -> None:
    """Whole words only: a tokenizer is no token."""
    assert secret is names_a_secret(name)


@given(st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    """Nothing is eaten further each time a text passes by."""
    assert redacted(redacted(text)) == redacted(text)


def test_an_exception_that_cannot_be_read_is_described_all_the_same() -> None:
    """A stranger's ``__str__`` must not turn one failure into two; and no description is longer than a line."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert describe(MuteError()) == "MuteError: (its message cannot be read)"
    assert len(describe(ValueError("x" * 10_000))) == 300


# ---- plain JSON -----------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_plain_values_come_back_as_they_are(value: Any) -> None:
    """A copy that is equal, now and after JSON, types included."""
    copied = plain(value)
    assert (value, repr(value)) == (copied, repr(copied))
    assert value == json.loads(json.dumps(value))


class Loud(str):
    """A text that is more than a text."""

    __slots__ = ()


def nested(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    return [] if depth == 0 else [nested(depth - 1)]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), "value is a tuple"),
        ({"a": [1, {2}]}, r"value\['a'\]\[1\] is a set"),
        ({1: "a"}, "value has a key that is a int"),
        (b"x", "value is a bytes"),
        (float("nan"), "value is nan"),
        ([float("inf")], r"value\[0\] is inf"),
        (Loud("x"), "value is a Loud"),
        (Path("/x"), "value is a PosixPath"),
        ("\udcff", "no text"),
        ({"\udcff": 1}, "a key of value has characters"),
        (nested(70), "nested more than 64 deep"),
        (CYCLE, "nested more than 64 deep"),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "backslashreplace").decode(),
)
def test_what_json_changes_or_refuses_is_no_plain_value(value: Any, words: str) -> None:
    """Said with the place where it is."""
    with pytest.raises(NotPlain, match=words):
        plain(value)


def test_a_copy_shares_nothing() -> None:
    """What is changed later changes no record."""
    inner = [1]
    copied = plain({"a": inner})
    inner.append(2)
    assert copied == {"a": [1]}


def test_the_examples_in_the_docstring() -> None:
    """Are true."""
    assert doctest.testmod(plainjson).failed == 0
