"""Which kind of filesystem a directory is on. SQLite's WAL needs memory shared by all its users, which network
filesystems lack.

WAL on NFS, SMB, virtiofs, 9p or a FUSE bind mount corrupts silently within minutes (hermes#110848, opencode#14970).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["filesystem_type", "shares_memory"]

# fmt: off
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fakeowner", "fuse", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs",
    "vmhgfs",
})
# fmt: on


def shares_memory(filesystem: str | None) -> bool:
    """Return whether WAL may be used on a filesystem of this type; an unknown type (None) is taken for local."""
    if filesystem is None:
        return True
    return filesystem not in _NETWORK and not filesystem.startswith("fuse.")


def filesystem_type(directory: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return the type of the filesystem ``directory`` is on; None where the system does not tell. Blocking."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    where = os.path.realpath(directory)
    best, found = -1, None
    for line in lines:
        fields = line.split(" ")
        try:
            mount, filesystem = _unescaped(fields[4]), fields[fields.index("-") + 1]
        except (IndexError, ValueError):
            continue
        inside = where == mount or where.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:  # a later mount on the same place covers an earlier one
            best, found = len(mount), filesystem
    return found


def _unescaped(field: str) -> str:
    # proc(5): space, tab, newline and backslash are octal escapes.
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field
