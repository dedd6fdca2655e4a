"""Input that cannot work: a category of its own with guidance, given up at once, never retried."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recovery import Action, Category, InvalidInput, OperationEvent, State, Supervisor, UserAction, recoverable
from recovery.classify import Classifier
from recovery.testing import MemoryJournal

KNOWN_NODES = {"Load", "Sample", "Save"}
KNOWN_MODELS = {"sdxl"}


def check(text: str) -> dict[str, Any]:
    """Check a workflow as a program would, with the three classic failures."""
    try:
        workflow: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as exc:
        raise InvalidInput(
            f"This is no workflow: it is no JSON at line {exc.lineno}.",
            remedy="Export it again, then retry.",
            code="bad-workflow",
        ) from exc
    for node in workflow["nodes"]:
        if node not in KNOWN_NODES:
            raise InvalidInput(
                f"The workflow uses a node {node!r} that is not installed.",
                remedy="Install it, or take it out of the workflow; then retry.",
                code="missing-node",
            )
    if workflow["model"] not in KNOWN_MODELS:
        raise InvalidInput(
            f"Nobody knows a model {workflow['model']!r}.",
            remedy="Give a link to it.",
            code="unknown-model",
            user_actions=[UserAction.NEW_LINK, UserAction.CANCEL],
        )
    return workflow


WRONG = [
    ("{", "bad-workflow", "no JSON at line 1. Export it again", (UserAction.RETRY_NOW, UserAction.CANCEL)),
    ('{"nodes": ["UpscaleX"]}', "missing-node", "'UpscaleX'", (UserAction.RETRY_NOW, UserAction.CANCEL)),
    ('{"nodes": [], "model": "flux"}', "unknown-model", "'flux'. Give a", (UserAction.NEW_LINK, UserAction.CANCEL)),
]


@pytest.mark.parametrize(("text", "code", "words", "actions"), WRONG, ids=[row[1] for row in WRONG])
async def test_a_person_is_told_what_is_wrong_and_what_to_do(
    text: str, code: str, words: str, actions: tuple[UserAction, ...]
) -> None:
    """One attempt, no fallback; row, event and exception say the same."""
    journal = MemoryJournal()
    events: list[OperationEvent] = []
    others: list[str] = []

    async def fallback(text: str) -> dict[str, Any]:
        others.append(text)
        return {}

    @recoverable(journal=Supervisor(journal, on_event=events.append), key="check", kind="check", fallbacks=[fallback])
    async def validate(text: str) -> dict[str, Any]:
        return check(text)

    with pytest.raises(InvalidInput) as caught:
        await validate(text)
    row = await journal.find("check", "check")
    assert row is not None
    assert (row.state, row.category, row.code, row.user_actions) == (State.FAILED, Category.VALIDATION, code, actions)
    assert words in (row.message or "")
    assert row.message == str(caught.value) == f"{caught.value.problem} {caught.value.remedy}"
    assert [event.state for event in events] == [State.RUNNING, State.FAILED]
    assert events[-1].verdict is not None
    assert (events[-1].verdict.code, caught.value.code) == (code, code)
    assert others == []


async def test_in_memory_it_is_the_same() -> None:
    """And once it is corrected, the same call goes through."""
    others: list[str] = []

    def fallback(text: str) -> dict[str, Any]:
        others.append(text)
        return {}

    @recoverable(fallbacks=[fallback])
    def validate(text: str) -> dict[str, Any]:
        return check(text)

    with pytest.raises(InvalidInput):
        validate("{")
    assert others == []
    assert validate('{"nodes": ["Load"], "model": "sdxl"}')["model"] == "sdxl"


def test_the_message_for_people_holds_no_secret() -> None:
    """What a program puts into the sentence may come from anywhere."""
    exc = InvalidInput("https://h/?token=hush is no model.", remedy="Give another link.")
    verdict = Classifier().classify(exc)
    assert (verdict.code, verdict.action) == ("invalid-input", Action.ASK)
    assert "hush" not in verdict.message
