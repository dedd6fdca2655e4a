"""docs/cases.md: every case has a test, and every test that is named there exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "cases.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \|(?:[^|]+\|)? ([^|]+) \|$", TABLE, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`([\w/]+\.py::[^`]+)`", TABLE)))

SCOREBOARD = 20
"""Rows of the scoreboard of other tools; the project's bar is all of them."""
FAULTS = {"A": 30, "B": 10, "C": 10, "D": 7, "E": 13, "F": 11, "G": 4, "H": 8, "I": 6, "J": 4}
"""Rows of the fault matrix, by family."""


def section(title: str) -> list[str]:
    """Return the first cells of a section's table."""
    text = re.split(r"^## ", TABLE, flags=re.MULTILINE)
    (found,) = [part for part in text if part.startswith(title)]
    cells: list[str] = re.findall(r"^\| ([^|]+) \|", found, re.MULTILINE)
    return cells[1:]


@cache
def source(file: str) -> str:
    """Return the text of a test file, and of the tables it shares with others."""
    return (TESTS / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    """With the row that is named, where it is one of a table."""
    file, _, test = name.partition("::")
    function, _, row = test.rstrip("]").partition("[")
    assert re.search(rf"^(async )?def {function}\(", source(file), re.MULTILINE), name
    if row:
        assert re.search(rf'["_]{re.escape(row)}\b', source(file)), name


def test_every_case_is_listed() -> None:
    """None left out, none twice, in order."""
    assert len(section("A.")) == len(set(section("A."))) == SCOREBOARD
    assert [str(number) for number in range(1, 77)] == section("B.")
    assert [str(number) for number in range(1, 56)] == section("C.")
    faults = [f"{family}{number}" for family, count in FAULTS.items() for number in range(1, count + 1)]
    assert faults == section("F.")


def test_every_case_has_a_test_or_a_reason() -> None:
    """A reference leads to a case of B; only the fault matrix may say why something is not run."""
    for case, answer in ROWS:
        if case.startswith("-") or "::" in answer or answer in {"test", "case or test"}:
            continue
        numbers = re.fullmatch(r"case ([0-9, ]+)", answer)
        if numbers is not None:
            assert all(1 <= int(number) <= 76 for number in numbers[1].split(", ")), case
        else:
            assert len(answer.split()) >= 2, case


def test_nothing_of_b_is_without_a_test() -> None:
    """Edge cases are all run."""
    text = TABLE.partition("## B.")[2].partition("## C.")[0]
    rows = re.findall(r"^\| [0-9]+ \|.*$", text, re.MULTILINE)
    assert [row for row in rows if "::" not in row] == []
