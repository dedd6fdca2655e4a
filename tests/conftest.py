"""Fixtures every test gets: a loop that must not block, and a state file that is never the user's own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests import fetching
from tests.browsing import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

# Only our own code is watched: a blocking call counts when one of these packages is on the stack. Test code, and what
# third parties do when they start up (certificate stores, resolver configuration), is not ours to judge.
WATCHED = ("resumable", "recovery", "resumable_ui")

# A busy machine is nobody's fault: how long an example takes, or takes to draw, is not judged.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Hear signals that were ignored: Ctrl-C in the background of a shell, SIGHUP under nohup, as children do."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def loop_never_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make a blocking call (file, socket, sleep, lock) under a running event loop an error; ``blocking`` opts out."""
    if request.node.get_closest_marker("blocking") is not None:
        yield
        return
    with blockbuster_ctx(scanned_modules=list(WATCHED)) as watched:
        # /proc is memory: it answers in microseconds, and a hop to a thread would take longer.
        watched.functions["os.stat"].can_block_in("recovery/owner.py", {"_machine"})
        # It asks the kernel for the current folder, and no disk.
        watched.functions["os.path.abspath"].can_block_in("resumable/request.py", {"_place"})
        yield


@pytest.fixture(autouse=True, scope="session")
def no_home_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point the default state file into a temporary directory, also for the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state-home")))
        for name in [name for name in os.environ if name.startswith("RESUMABLE_") and name != "RESUMABLE_LONG"]:
            patch.delenv(name)
        yield


@pytest.fixture
def state_path(tmp_path: Path) -> Path:
    """Return where this test's state file goes; neither it nor its directory exists yet."""
    return tmp_path / "state" / "state.db"


@pytest.fixture(params=list(fetching.WAYS))
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test once for each way to take a body."""
    before, fetching.way[0] = fetching.way[0], request.param
    yield
    fetching.way[0] = before


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Run one browser for all tests that need one; they belong to the session's loop, as it does."""
    async with chromium() as running:
        yield running
