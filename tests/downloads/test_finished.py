"""Asked for again, a finished download needs no handle: found as it is, or not found and to be started."""

from __future__ import annotations

import os
from typing import Any

import pytest

from resumable import DownloadElsewhere, EventName, Options
from tests.managing import MIB, SLOW, Rig, content, row
from tests.origin import Behaviour, Origin


async def test_it_costs_one_request_and_nothing_is_recorded(rig: Rig, origin: Origin) -> None:
    """The same result as that of a handle, without its events and its view."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file())
        by_handle = await manager.start(origin.url("/f"), rig.file())
        before, events = row(rig.state, "SELECT rev, updated_at FROM operations"), list(rig.events)
        origin.clear()
        found = await manager.finished(origin.url("/f"), rig.file(), priority=3, refresh_url=None)
        assert found is not None
        result, view = found
        asked = [name for name in by_handle.__struct_fields__ if name != "elapsed"]
        assert [getattr(result, name) for name in asked] == [getattr(by_handle, name) for name in asked]
        assert (view.download_id, view.bytes_done) == (result.download_id, MIB)
        assert [seen.headers.get("if-none-match") is not None for seen in origin.requests] == [True]
        assert rig.events == events
        assert row(rig.state, "SELECT rev, updated_at FROM operations") == before


@pytest.mark.parametrize(
    "what",
    ["never asked for", "changed at the origin", "touched", "deleted", "another digest", "restart", "kept", "secret"],
)
async def test_where_a_handle_has_to_tell(what: str, rig: Rig, origin: Origin) -> None:
    """A table: whatever is not exactly what was downloaded, or is to be put right, is for the whole way."""
    origin.put("/f", content(1))
    url = origin.url("/f?token=abc" if what == "secret" else "/f")
    changes: dict[str, dict[str, Any]] = {
        "another digest": {"sha256": "0" * 64},
        "restart": {"options": Options(restart=True)},
        "kept": {"options": Options(no_clobber=True)},
    }
    given = changes.get(what, {})
    async with rig.manager() as manager:
        if what != "never asked for":
            await manager.start(url, rig.file())
            await manager.downloads()  # its last view is written by now
        if what == "changed at the origin":
            origin.replace("/f", content(1, seed=2))
        elif what == "touched":
            os.utime(rig.file(), ns=(1, 1))
        elif what == "deleted":
            rig.file().unlink()
        assert await manager.finished(url, rig.file(), **given) is None


async def test_the_digest_of_its_receipt_is_enough(rig: Rig, origin: Origin) -> None:
    """Whoever knows the digest that was checked need not ask the origin."""
    origin.put("/f", content(1))
    digest = content(1).sha256()
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file(), sha256=digest)
        await manager.downloads()  # its last view is written by now
        origin.clear()
        found = await manager.finished(origin.url("/f"), rig.file(), sha256=digest)
        assert found is not None
        assert (found[0].sha256, found[0].verified_by, origin.requests) == (digest, "digest", [])


async def test_one_that_runs(rig: Rig, origin: Origin) -> None:
    """Here its handle is joined; of another process's download a worker that does not follow hears at once."""
    origin.put("/f", content(4), SLOW)
    async with rig.manager() as first, rig.manager(follow=False, on_event=None) as second:
        handle = first.start(origin.url("/f"), rig.file())
        await rig.until(EventName.STARTED)
        assert await first.finished(origin.url("/f"), rig.file()) is None
        with pytest.raises(DownloadElsewhere):
            await second.finished(origin.url("/f"), rig.file())
        origin.behave("/f", Behaviour())
        await handle.cancel()
