"""Who holds a lease: a name for one incarnation of a process, from which another process of this machine can tell
its death.

A lease alone says only that its owner has been silent for as long as it lives; after a ``kill -9`` everybody would wait
for that. The name holds the boot, the PID namespace, the PID and the start time of the process, so on Linux its death
can be *known* at once. Where any of that cannot be compared, nothing is concluded and the lease decides.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import lru_cache

__all__ = ["new_owner", "surely_dead"]

_UNKNOWN = "unknown"


def new_owner() -> str:
    """Return a name that no other process, dead or alive, has: ``<machine>.<pid>.<start>.<random>``."""
    pid = os.getpid()
    try:
        started = _started(pid) or 0
    except OSError:
        started = 0
    return f"{_machine()}.{pid}.{started}.{secrets.token_hex(4)}"


def surely_dead(owner: str) -> bool:
    """Return whether the process of this name is known to have ended; False whenever that cannot be known."""
    parts = owner.split(".")
    if len(parts) != 4 or not parts[1].isdecimal() or not parts[2].isdecimal():
        return False
    machine, pid, started = parts[0], int(parts[1]), int(parts[2])
    if machine == _UNKNOWN or started == 0 or machine != _machine():
        return False
    try:
        # Our own name is asked for with every row of ours that is read.
        return (_own_start(pid) if pid == os.getpid() else _started(pid)) != started
    except (OSError, OverflowError):
        return False


def _machine() -> str:
    """Return a token for this boot of this machine and this PID namespace, "unknown" where /proc does not tell."""
    try:
        return _token(os.getpid())
    except OSError:
        return _UNKNOWN


@lru_cache(maxsize=8)
def _token(pid: int) -> str:  # noqa: ARG001 - the key: a fork may enter another namespace
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        boot = file.read(64)
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return hashlib.sha256(boot + str(namespace).encode()).hexdigest()[:12]


@lru_cache(maxsize=8)
def _own_start(pid: int) -> int | None:
    return _started(pid)


def _started(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None when there is no such process (a zombie is
    none).

    Raises:
        OSError: it cannot be known now (no descriptors left, a /proc that hides others' processes).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The name in parentheses may hold anything, a parenthesis included.
            fields = file.read(4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return None  # it ended between the two lines
    except FileNotFoundError:
        # Of a process of another user, too, if /proc was mounted with hidepid=2; and of all, if this is a chroot.
        if _is_gone(pid):
            return None
        raise
    if len(fields) < 20 or fields[0] in {b"Z", b"X"}:
        return None
    return int(fields[19])


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
