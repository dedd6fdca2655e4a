"""The secret half of a download: kept for its owner only, degrading to memory, forgotten when told to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resumable.linkstore import Links, LinkStore
from resumable.statefile import default_state_path
from tests.mounts import mounted, remount

pytestmark = pytest.mark.blocking

LINKS = Links("https://h/f?sig=1", ("https://m/f",), {"Authorization": "x"})


def test_what_is_kept_outlives_the_process(tmp_path: Path) -> None:
    """Another store over the same folder knows it; a newer one replaces it; dropping is final and may be repeated."""
    folder = tmp_path / "a" / "links"
    LinkStore(folder).put("d1", LINKS)
    again = LinkStore(folder)
    assert again.get("d1") == LINKS
    newer = Links("https://h/f?sig=2")
    again.put("d1", newer)
    assert LinkStore(folder).get("d1") == newer
    again.drop("d1")
    again.drop("d1")
    assert again.get("d1") is None
    assert list(folder.iterdir()) == []


def test_its_repr_shows_nothing() -> None:
    """It ends up in tracebacks and debuggers."""
    assert repr(LINKS) == "<Links>"


def test_without_a_folder_it_is_kept_in_memory() -> None:
    """For a state in memory."""
    store = LinkStore(None)
    store.put("d1", LINKS)
    assert store.get("d1") == LINKS
    store.drop("d1")
    assert store.get("d1") is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"url": 1, "mirrors": 2, "headers": 3}', b"\xff\xfe"])
def test_a_damaged_file_is_as_good_as_none(damage: bytes, tmp_path: Path) -> None:
    """Then a fresh link has to be given; nothing raises."""
    store = LinkStore(tmp_path)
    (tmp_path / "d1.json").write_bytes(damage)
    assert store.get("d1") is None


def test_a_folder_that_cannot_be_written_leaves_it_in_memory(tmp_path: Path) -> None:
    """This run goes on; the next may have to be given the link again."""
    real = tmp_path / "real"
    real.mkdir()
    LinkStore(real).put("old", LINKS)
    with mounted("none", tmp_path / "view", "bind", source=str(real)) as view:
        remount(view, "ro,bind")
        store = LinkStore(view)
        store.put("d1", LINKS)
        assert (store.get("d1"), LinkStore(view).get("d1")) == (LINKS, None)
        store.drop("d1")
        store.drop("old")
        assert LinkStore(view).get("old") == LINKS


def test_it_writes_through_no_link(tmp_path: Path) -> None:
    """Somebody who can write to the folder must not make us write elsewhere."""
    target = tmp_path / "target"
    target.write_text("untouched")
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / f".d1.json.{os.getpid()}").symlink_to(target)
    LinkStore(folder).put("d1", LINKS)
    (folder / "d2.json").symlink_to(target)
    LinkStore(folder).put("d2", LINKS)
    assert target.read_text() == "untouched"
    assert not (folder / "d2.json").is_symlink()


HOME = Path.home()
PLACES = [
    ({"RESUMABLE_STATE": "/x/s.db"}, "linux", Path("/x/s.db")),
    ({"RESUMABLE_STATE": "~/s.db"}, "linux", HOME / "s.db"),
    ({}, "linux", HOME / ".local/state/resumable/state.db"),
    ({"XDG_STATE_HOME": "/xdg"}, "linux", Path("/xdg/resumable/state.db")),
    ({"XDG_STATE_HOME": "relative"}, "linux", HOME / ".local/state/resumable/state.db"),
    ({}, "darwin", HOME / "Library/Application Support/resumable/state.db"),
    ({}, "win32", HOME / "AppData/Local/resumable/state.db"),
    ({"LOCALAPPDATA": "/local"}, "win32", Path("/local/resumable/state.db")),
]


@pytest.mark.parametrize(("environ", "platform", "expected"), PLACES)
def test_where_the_state_is_when_nobody_says(environ: dict[str, str], platform: str, expected: Path) -> None:
    """Where each platform keeps such things; a relative XDG path must be ignored (XDG Base Directory)."""
    assert expected == default_state_path(environ, platform=platform)
