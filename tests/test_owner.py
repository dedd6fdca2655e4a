"""Names from which the death of a process can be known: never guessed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recovery import owner as module
from recovery.owner import new_owner, surely_dead

PRINT = "from recovery.owner import new_owner; print(new_owner(), flush=True); import sys; sys.stdin.read()"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def other() -> subprocess.Popen[str]:
    """Start a process that says its name and waits to be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", PRINT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def name_of(process: subprocess.Popen[str]) -> str:
    """Return the name that a process said."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_names_differ_and_ours_is_alive() -> None:
    """Also within one process: a name is for one supervisor."""
    names = {new_owner() for _ in range(100)}
    assert len(names) == 100
    assert not any(surely_dead(name) for name in names)


def test_a_killed_process_is_known_to_be_dead(other: subprocess.Popen[str]) -> None:
    """At once: while its parent has not even asked for its exit status, and afterwards."""
    name = name_of(other)
    assert not surely_dead(name)
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert surely_dead(name), "a zombie"
    other.communicate()
    assert surely_dead(name)


def test_a_stopped_process_is_alive(other: subprocess.Popen[str]) -> None:
    """It may go on at any moment."""
    name = name_of(other)
    other.send_signal(signal.SIGSTOP)
    assert not surely_dead(name)
    other.kill()
    other.communicate()


def test_a_pid_that_is_used_again_is_another_process() -> None:
    """The start time tells them apart."""
    machine, pid, started, random = new_owner().split(".")
    assert surely_dead(f"{machine}.{pid}.{int(started) - 1}.{random}")


def change(part: int, text: str) -> Callable[[list[str]], list[str]]:
    """Return what changes one part of a name."""
    return lambda parts: [*parts[:part], text, *parts[part + 1 :]]


@pytest.mark.parametrize(
    "of",
    [
        change(0, "elsewhere"),
        change(0, "unknown"),
        change(2, "0"),
        change(1, "x"),
        change(2, "x"),
        change(1, "-1"),
        lambda parts: parts[:3],
        lambda parts: [*parts, "more"],
        lambda parts: [""],
    ],
    ids=["machine", "unknown", "no start", "pid", "start", "negative", "short", "long", "empty"],
)
def test_what_cannot_be_compared_is_not_concluded(
    of: Callable[[list[str]], list[str]], other: subprocess.Popen[str]
) -> None:
    """Another machine, another boot, another container, or a name of another making: the lease decides."""
    name = name_of(other)
    other.kill()
    other.communicate()
    assert surely_dead(name)
    assert not surely_dead(".".join(of(name.split("."))))


def test_without_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a system's names say so."""
    module._token.cache_clear()
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(OSError("no /proc")))
    name = new_owner()
    assert name.startswith(f"unknown.{os.getpid()}.0.")
    assert not surely_dead(name)
    monkeypatch.undo()
    module._token.cache_clear()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Have every ``open`` of this process fail with EMFILE, really."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_nobody_is_dead(other: subprocess.Popen[str]) -> None:
    """A process that has too many files open cannot look into /proc, and its neighbours live on all the same."""
    name, ours = name_of(other), new_owner()
    module._own_start.cache_clear()
    with no_descriptors_left():
        assert not surely_dead(name)
        assert not surely_dead(ours)
    assert not surely_dead(ours), "what could not be known was not remembered"
    other.kill()
    other.communicate()
    with no_descriptors_left():
        assert not surely_dead(name), "it is, but nobody can know"
    assert surely_dead(name)


def test_a_name_made_without_descriptors_is_never_dead() -> None:
    """And the machine is known again as soon as it can be read."""
    module._token.cache_clear()
    with no_descriptors_left():
        name = new_owner()
    assert name.startswith(f"unknown.{os.getpid()}.0.")
    assert not surely_dead(name)
    assert not new_owner().startswith("unknown")


def test_a_process_that_proc_hides_is_alive(monkeypatch: pytest.MonkeyPatch, other: subprocess.Popen[str]) -> None:
    """As /proc mounted with hidepid=2 hides the processes of other users: only signal 0 tells that it lives."""
    name = name_of(other)
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert not surely_dead(name)
    other.kill()
    other.communicate()
    assert surely_dead(name)


def test_a_process_that_ends_while_it_is_looked_at_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading /proc/<pid>/stat says ESRCH then."""
    machine, _, started, random = new_owner().split(".")
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(ProcessLookupError()))
    assert surely_dead(f"{machine}.1.{started}.{random}")


def test_a_number_that_is_no_pid_is_not_judged() -> None:
    """Nobody can be asked about it."""
    machine, _, started, random = new_owner().split(".")
    assert not surely_dead(f"{machine}.{10**30}.{started}.{random}")


def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    """The command's name stands in the line that is read, and may hold anything."""
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to(sys.executable)
    with subprocess.Popen(
        [odd, "-c", PRINT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        name = name_of(other)
        assert not surely_dead(name)
        assert name.split(".")[2] != "0"
        other.kill()
        other.communicate()
    assert surely_dead(name)
