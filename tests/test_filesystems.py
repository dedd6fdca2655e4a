"""Which kind of file system a directory is on, as /proc/self/mountinfo says it (proc(5))."""

from __future__ import annotations

from pathlib import Path

import pytest

from recovery.mounts import filesystem_type, shares_memory
from tests.mounts import mounted

MOUNTINFO = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:30 / /mnt/nas rw - nfs4 nas:/export rw,vers=4.2
25 24 0:31 / /mnt/nas/local rw master:2 propagate_from:1 - xfs /dev/vdb rw
26 22 0:32 / /mnt/with\040space\134and\040more rw - cifs //nas/share rw
27 22 0:33 / /mnt/twice rw - ext4 /dev/vdc rw
28 22 0:34 / /mnt/twice rw - fuse.sshfs host: rw
this line says nothing
29 22 0:35 / /no/dash rw ext4
"""

PLACES = [
    ("/home/me", "ext4"),
    ("/", "ext4"),
    ("/mnt/nas", "nfs4"),
    ("/mnt/nas/deep/down", "nfs4"),
    ("/mnt/nasal", "ext4"),
    ("/mnt/nas/local/x", "xfs"),
    (r"/mnt/with space\and more/x", "cifs"),
    ("/mnt/twice/x", "fuse.sshfs"),
    ("/no/dash/x", "ext4"),
]


@pytest.mark.parametrize(("place", "expected"), PLACES)
def test_the_deepest_and_latest_mount_counts(place: str, expected: str, tmp_path: Path) -> None:
    """Lines that cannot be read are passed over."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTINFO)
    assert filesystem_type(Path(place), mountinfo) == expected


def test_nothing_is_known_without_it(tmp_path: Path) -> None:
    """On a system that does not tell."""
    assert filesystem_type(tmp_path, tmp_path / "nothing here") is None


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The file is where the link leads."""
    with mounted("tmpfs", tmp_path / "disk", "size=64k") as disk:
        link = tmp_path / "link"
        link.symlink_to(disk)
        assert filesystem_type(link) == "tmpfs"
        assert filesystem_type(disk / "not there yet") == "tmpfs"


SHARED = {
    "ext4": True,
    "xfs": True,
    "btrfs": True,
    "tmpfs": True,
    "overlay": True,
    "zfs": True,
    "fuseblk": True,  # NTFS on a local disk
    None: True,
    "nfs": False,
    "nfs4": False,
    "cifs": False,
    "9p": False,
    "virtiofs": False,
    "fuse.sshfs": False,
    "fuse": False,
    "lustre": False,
}


@pytest.mark.parametrize(("filesystem", "expected"), SHARED.items(), ids=str)
def test_where_wal_may_be_used(filesystem: str | None, *, expected: bool) -> None:
    """Wherever all users of the file share this machine's memory."""
    assert shares_memory(filesystem) is expected
