"""``no_clobber`` where the origin names the file: what stands under the name that it would take counts as done."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resumable import DigestMismatch, EventName, Options
from tests.managing import Rig, content, only, whole
from tests.origin import Behaviour, Origin

A = content(1)
KEEP = Options(no_clobber=True, connections=2, checkpoint_interval_s=0.05)
NAMED = Behaviour(headers={"Content-Disposition": 'attachment; filename="model.bin"'})


def put(origin: Origin, how: str) -> str:
    """Serve A so that its file is called ``model.bin``; return the link."""
    if how == "URL":
        origin.put("/model.bin", A)
        return origin.url("/model.bin?sig=1")
    if how == "redirect":
        origin.put("/model.bin", A)
        origin.put("/latest", A, Behaviour(location="/model.bin"))
        return origin.url("/latest")
    origin.put("/get", A, NAMED)
    return origin.url("/get")


def names(folder: Path) -> list[str]:
    """Return the files beside the state file."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("state.db"))


@pytest.mark.parametrize("how", ["URL", "redirect", "Content-Disposition"])
async def test_what_is_there_counts_as_done(how: str, rig: Rig, origin: Origin) -> None:
    """Nothing is written, nothing is called ``model.1.bin``; nobody is asked where the link says the name."""
    url = put(origin, how)
    (rig.folder / "model.bin").write_bytes(b"mine")
    async with rig.manager(options=KEEP) as manager:
        result = await manager.start(url, directory=rig.folder)
        view = only(await manager.downloads())
        found = await manager.find(str(rig.folder / "model.bin"))
    assert (result.path, result.size, result.verified_by) == (rig.folder / "model.bin", 4, "exists")
    assert (result.bytes_received, result.bytes_resumed) == (0, 4)
    assert (view.state.value, view.filename, view.bytes_done, view.bytes_total) == ("complete", "model.bin", 4, 4)
    assert view == found
    assert rig.told(EventName.COMPLETED)[-1].message == "the file exists and is kept (no clobber)"
    assert names(rig.folder) == ["model.bin"]
    assert (rig.folder / "model.bin").read_bytes() == b"mine"
    assert (how == "URL") == (origin.requests == [])


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("how", ["URL", "Content-Disposition"])
async def test_a_promised_digest_is_checked(how: str, right: bool, rig: Rig, origin: Origin) -> None:
    """As with a name that was given: the wrong one is an error, is tried once, and stays as it is."""
    url, path = put(origin, how), rig.folder / "model.bin"
    path.write_bytes(whole(A) if right else b"another")
    async with rig.manager(options=KEEP) as manager:
        handle = manager.start(url, directory=rig.folder, sha256=A.sha256())
        if right:
            assert (await handle).verified_by == "digest"
        else:
            with pytest.raises(DigestMismatch, match="SHA-256"):
                await handle
            assert path.read_bytes() == b"another"
    assert names(rig.folder) == ["model.bin"]
    assert len(origin.requests) == (how != "URL")


@pytest.mark.parametrize("how", ["URL", "Content-Disposition"])
async def test_what_is_not_there_is_fetched(how: str, rig: Rig, origin: Origin) -> None:
    """And the next time it is there, whatever is in it by then."""
    url, path = put(origin, how), rig.folder / "model.bin"
    async with rig.manager(options=KEEP) as manager:
        assert (await manager.start(url, directory=rig.folder)).path == path
        assert whole(A) == path.read_bytes()
        path.write_bytes(b"edited")
        origin.clear()
        assert (await manager.start(url, directory=rig.folder)).verified_by == "exists"
    assert (origin.requests, names(rig.folder)) == ([], ["model.bin"])


async def test_of_a_folder_that_has_the_name_nothing_counts_as_done(rig: Rig, origin: Origin) -> None:
    """It is no file; this one gets a number, as without ``no_clobber``."""
    url = put(origin, "URL")
    (rig.folder / "model.bin").mkdir()
    async with rig.manager(options=KEEP) as manager:
        assert (await manager.start(url, directory=rig.folder)).path.name == "model.1.bin"


@pytest.mark.parametrize("pace", [None, 2 << 20])
async def test_two_links_of_one_name_are_two_files(pace: int | None, rig: Rig, origin: Origin) -> None:
    """What this manager has brought from another link was not there already, be it quick or slow; next time, it is."""
    for path, seed in (("/a/config.bin", 1), ("/b/config.bin", 2)):
        origin.put(path, content(1, seed), Behaviour(rate=pace))
    urls = [origin.url("/a/config.bin"), origin.url("/b/config.bin")]
    for again in (False, True):
        async with rig.manager(options=KEEP, max_concurrent=1) as manager:
            results = await asyncio.gather(*(manager.start(url, directory=rig.folder) for url in urls))
        assert [result.path.name for result in results] == ["config.bin", "config.1.bin"]
        assert [result.verified_by == "exists" for result in results] == [again, again]
    assert names(rig.folder) == ["config.1.bin", "config.bin"]
