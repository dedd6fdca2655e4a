"""Answers by request id: how long they are kept, and how many. Pure, but for the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from recovery.testing import FakeClock
from resumable_ui.answers import KEPT_S, MOST, Answers


class Asking:
    """Requests by number, and how often each was worked on."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.answers = Answers(self.clock.monotonic)
        self.worked: dict[str, int] = {}
        self.finish = asyncio.Event()

    async def ask(self, name: str, *, slow: bool = False) -> dict[str, Any]:
        async def work() -> dict[str, Any]:
            self.worked[name] = self.worked.get(name, 0) + 1
            if slow:
                await self.finish.wait()
            return {"name": name}

        return await self.answers.once("act", {"request_id": name}, work)


async def test_one_that_takes_long_does_not_keep_the_others() -> None:
    """They are forgotten after their minute, and it is not."""
    asking = Asking()
    slow = asyncio.create_task(asking.ask("slow", slow=True))
    await asyncio.sleep(0)
    for n in range(10):
        await asking.ask(f"r{n}")
    await asking.clock.advance(KEPT_S)
    await asking.ask("r0")
    again = asyncio.create_task(asking.ask("slow", slow=True))
    await asyncio.sleep(0)
    asking.finish.set()
    assert [await slow, await again] == [{"name": "slow"}] * 2
    assert (asking.worked["r0"], asking.worked["slow"]) == (2, 1)
    assert len(asking.answers._kept) == 2, "r0 and slow"


async def test_an_answer_is_kept_for_a_minute_from_when_it_was_given() -> None:
    """However long it took: who asks again just after must not have it done twice."""
    asking = Asking()
    slow = asyncio.create_task(asking.ask("slow", slow=True))
    await asyncio.sleep(0)
    await asking.clock.advance(2 * KEPT_S)
    asking.finish.set()
    await slow
    await asking.clock.advance(KEPT_S - 1)
    await asking.ask("slow")
    assert asking.worked == {"slow": 1}
    await asking.clock.advance(1)
    await asking.ask("slow")
    assert asking.worked == {"slow": 2}


async def test_no_more_are_kept_than_fit() -> None:
    """The oldest go first, also behind one that takes long."""
    asking = Asking()
    slow = asyncio.create_task(asking.ask("slow", slow=True))
    await asyncio.sleep(0)
    for n in range(MOST + 5):
        await asking.ask(f"r{n}")
    assert len(asking.answers._kept) == MOST
    await asking.ask(f"r{MOST + 4}")
    await asking.ask("r0")
    assert (asking.worked[f"r{MOST + 4}"], asking.worked["r0"]) == (1, 2)
    asking.finish.set()
    await slow
