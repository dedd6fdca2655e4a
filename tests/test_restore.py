"""Restore points: all of the new versions or all of the old ones, whatever dies, wherever."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from recovery.restore import (
    RestoreLogDamaged,
    RestorePoint,
    RestorePointBusy,
    restore_point,
    settle_restore_points,
)
from recovery.restore_log import RestoreLog, log_path
from recovery.shield import to_the_end


class Died(BaseException):
    """Stands for the death of the process at a system call."""


async def test_a_path_is_what_the_system_takes_it_for(tmp_path: Path) -> None:
    """``link/../config`` is beside what the link leads to; taken for text it named another file, which was changed."""
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/link").symlink_to(tmp_path / "real/sub")
    mine, other = tmp_path / "real/config", tmp_path / "x/config"
    mine.write_text("old")
    other.write_text("other")
    path = tmp_path / "x/link/../config"
    async with restore_point([path]) as point:
        point.stage(path).write_text("new")
        with pytest.raises(RestorePointBusy):
            async with restore_point([mine]):
                pass
        with pytest.raises(ValueError, match="each once"):
            async with restore_point([mine, path]):
                pass
    assert snapshot(tmp_path) == {"real/config": "new", "x/config": "other"}


async def test_a_log_that_somebody_tidied_up_changes_nothing(tmp_path: Path) -> None:
    """What is done is done: the block does not end with an error after its commit."""
    config = tmp_path / "config"
    config.write_text("old")
    async with restore_point([config]) as point:
        point.stage(config).write_text("new")
        for log in tmp_path.glob(".restore-*.log"):
            log.unlink()
    assert snapshot(tmp_path) == {"config": "new"}


def snapshot(directory: Path) -> dict[str, str]:
    """Return every file below the directory with its content, leftovers of restore points included."""
    return {
        str(path.relative_to(directory)): path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()
    }


class NextStepFailedError(Exception):
    """Stands for what goes wrong after some of the paths have changed."""


async def interrupted(paths: Sequence[Path], steps: Callable[[RestorePoint], Awaitable[None]]) -> None:
    """Do the steps in a restore point and fail after them."""

    async def run() -> None:
        async with restore_point(paths) as point:
            await steps(point)
            raise NextStepFailedError

    with pytest.raises(NextStepFailedError):
        await run()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a file with its old version."""
    path = tmp_path / "config"
    path.write_text("old config")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a path where nothing is yet."""
    return tmp_path / "model"


async def test_leaving_the_block_publishes_everything_staged(tmp_path: Path, config: Path, model: Path) -> None:
    """What is staged when the block ends well is in place afterwards, and nothing else is left."""
    async with restore_point([config, model]) as point:
        point.stage(config).write_text("new config")
        point.stage(model).write_text("new model")
        assert snapshot(tmp_path)["config"] == "old config"
    assert snapshot(tmp_path) == {"config": "new config", "model": "new model"}


async def test_an_exception_brings_everything_back(tmp_path: Path, config: Path, model: Path) -> None:
    """Published, staged and removed paths all have their previous versions after an exception."""
    gone = tmp_path / "gone"
    gone.write_text("old gone")
    before = snapshot(tmp_path)

    async def steps(point: RestorePoint) -> None:
        point.stage(config).write_text("new config")
        await point.publish(config)
        point.stage(model).write_text("new model")
        await point.publish(model)
        await point.remove(gone)
        point.stage(config).write_text("newer config")
        assert config.read_text() == "new config"
        assert not gone.exists()

    await interrupted([config, model, gone], steps)
    assert before == snapshot(tmp_path)


async def test_cancellation_brings_everything_back_and_goes_on(tmp_path: Path, config: Path) -> None:
    """A cancelled block rolls back completely before its CancelledError leaves."""
    published = asyncio.Event()

    async def step() -> None:
        async with restore_point([config]) as point:
            point.stage(config).write_text("new config")
            await point.publish(config)
            published.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(step())
    await published.wait()
    assert config.read_text() == "new config"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert snapshot(tmp_path) == {"config": "old config"}


async def test_a_path_published_twice_comes_back_to_the_first_version(tmp_path: Path, config: Path) -> None:
    """Two publications of one path are undone in reverse order."""

    async def steps(point: RestorePoint) -> None:
        for version in ("second", "third"):
            point.stage(config).write_text(version)
            await point.publish(config)
        assert config.read_text() == "third"

    await interrupted([config], steps)
    assert snapshot(tmp_path) == {"config": "old config"}


async def test_directories_and_links_change_as_a_whole(tmp_path: Path) -> None:
    """A directory tree and a symbolic link are replaced, removed and brought back like files."""
    node, link = tmp_path / "node", tmp_path / "current"
    (node / "sub").mkdir(parents=True)
    (node / "sub" / "code").write_text("old code")
    link.symlink_to("node")

    async def steps(point: RestorePoint) -> None:
        (point.stage(node) / "sub").mkdir(parents=True)
        (point.stage(node) / "sub" / "code").write_text("new code")
        (point.stage(node) / "alias").symlink_to("sub")
        await point.publish(node)
        await point.remove(link)
        assert (node / "sub" / "code").read_text() == "new code"

    await interrupted([node, link], steps)
    assert snapshot(tmp_path) == {"node/sub/code": "old code"}
    assert os.readlink(link) == "node"

    async with restore_point([node, link]) as point:
        (point.stage(node) / "sub").mkdir(parents=True)
        (point.stage(node) / "sub" / "code").write_text("new code")
        point.stage(link).symlink_to("elsewhere")
    assert snapshot(tmp_path) == {"node/sub/code": "new code"}
    assert os.readlink(link) == "elsewhere"


async def test_a_file_is_never_missing_while_it_is_replaced(config: Path) -> None:
    """A reader that looks all the time finds the old or the new version, never nothing."""
    stop, missing = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if not config.exists():
                missing.append(1)

    async def steps(point: RestorePoint) -> None:
        point.stage(config).write_text("undone")
        await point.publish(config)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for version in range(20):
            await interrupted([config], steps)
            async with restore_point([config]) as point:
                point.stage(config).write_text(str(version))
    finally:
        stop.set()
        reader.join()
    assert missing == []


async def test_without_hard_links_it_moves(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links the previous version is moved aside and still comes back."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    monkeypatch.setattr(os, "link", refuse)

    async def steps(point: RestorePoint) -> None:
        point.stage(config).write_text("new config")
        await point.publish(config)

    await interrupted([config], steps)
    assert snapshot(tmp_path) == {"config": "old config"}


async def test_a_link_that_fails_for_another_reason_fails_the_step(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the link is an error of the step, not a reason to do without the link."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "link", full)

    async def replace() -> None:
        async with restore_point([config]) as point:
            point.stage(config).write_text("new config")

    with pytest.raises(OSError, match="no space"):
        await replace()
    assert snapshot(tmp_path) == {"config": "old config"}


async def test_equal_paths_exclude_each_other(tmp_path: Path, config: Path, model: Path) -> None:
    """While one is open, a second restore point on the same paths is refused, and settling passes it over."""
    async with restore_point([config, model]) as point:
        with pytest.raises(RestorePointBusy):
            await restore_point([model, str(config)]).__aenter__()
        assert await settle_restore_points(tmp_path) == []
        point.stage(config).write_text("new config")
    assert snapshot(tmp_path) == {"config": "new config"}


WRONG_PATHS = [([], "one path or more"), (["a", "./a"], "each once")]


@pytest.mark.parametrize(("paths", "message"), WRONG_PATHS)
def test_wrong_paths_are_refused(paths: list[str], message: str) -> None:
    """No path, or one path twice, is refused before anything happens."""
    with pytest.raises(ValueError, match=message):
        restore_point(paths)


async def test_only_its_own_paths_and_only_inside_the_block(config: Path, model: Path) -> None:
    """A restore point refuses paths it was not made for, paths without a staged version, and use outside its block."""
    point = restore_point([config])
    with pytest.raises(RuntimeError, match="inside its 'async with' block"):
        point.stage(config)
    async with point:
        assert repr(point) == "<RestorePoint config: open, 0 changes>"
        with pytest.raises(ValueError, match="not in"):
            point.stage(model)
        with pytest.raises(FileNotFoundError):
            await point.publish(config)
    assert repr(point) == "<RestorePoint config: closed>"


async def test_the_log_can_live_elsewhere(tmp_path: Path, config: Path) -> None:
    """With ``log_directory`` the log is kept there, and it is a private file."""
    elsewhere = tmp_path / "logs"
    elsewhere.mkdir()
    async with restore_point([config], log_directory=elsewhere):
        (log,) = elsewhere.iterdir()
        assert log.stat().st_mode & 0o777 == 0o600
    assert list(elsewhere.iterdir()) == []


async def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """The directory of the paths is not made up; entering fails and leaves no open descriptor behind."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        await restore_point([tmp_path / "nowhere" / "file"]).__aenter__()
    assert len(os.listdir("/proc/self/fd")) == before


# --- crashes ---

CALLS = ("pwrite", "fsync", "ftruncate", "link", "rename", "unlink")


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], None]]:
    """Return a switch: the process dies at its n-th system call (from zero) that changes the disk."""
    left: list[int | None] = [None]

    def wrap(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise Died
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))

    def arm(calls: int | None) -> None:
        left[0] = calls

    yield arm
    left[0] = None


def scene(directory: Path) -> tuple[list[Path], dict[str, str], dict[str, str]]:
    """Set up four paths; return them with the old and the new picture."""
    paths = [directory / name for name in ("file", "tree", "fresh", "gone")]
    paths[0].write_text("old file")
    paths[1].mkdir()
    (paths[1] / "leaf").write_text("old leaf")
    paths[3].write_text("old gone")
    old = snapshot(directory)
    return paths, old, {"file": "third file", "tree/leaf": "new leaf", "fresh": "new fresh"}


def change_everything(paths: list[Path], log: RestoreLog) -> None:
    """Replace, replace again, create and remove, as a block would; then commit."""
    log.begin("cafe", paths)
    for version in ("second file", "third file"):
        log.staged(0).write_text(version)
        log.replace(0)
    log.staged(1).mkdir()
    (log.staged(1) / "leaf").write_text("new leaf")
    log.replace(1)
    log.staged(2).write_text("new fresh")
    log.replace(2)
    log.remove(3)
    log.commit()


def die_in(work: Callable[[RestoreLog], object], file: Path) -> bool:
    """Do the work on an open log until the process dies; return whether it did."""
    log = RestoreLog.open(file, create=True)
    assert log is not None
    try:
        work(log)
    except Died:
        return True
    finally:
        log.close()
    return False


@pytest.mark.blocking
async def test_death_at_every_system_call_leaves_all_or_nothing(
    tmp_path: Path, mortal: Callable[[int | None], None]
) -> None:
    """Killed at each system call in turn, then settled: all paths are old or all are new, nothing is left over."""
    outcomes: list[bool] = []
    died = True
    while died:
        directory = tmp_path / str(len(outcomes))
        directory.mkdir()
        paths, old, new = scene(directory)
        mortal(len(outcomes))
        died = die_in(partial(change_everything, paths), log_path(paths))
        mortal(None)
        settled = await settle_restore_points(directory)
        committed = all(each.committed for each in settled) and snapshot(directory) == new
        assert snapshot(directory) == (new if committed else old)
        assert await settle_restore_points(directory) == []
        outcomes.append(committed)
    # Up to the commit it goes back, from there on it goes forward, and both stretches were really walked.
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 30
    assert outcomes.count(True) > 5


@pytest.mark.blocking
async def test_death_during_the_settling_of_a_death(tmp_path: Path, mortal: Callable[[int | None], None]) -> None:
    """Rolling back (or finishing) can be killed at every call as well; the next settling ends at old or at new."""
    ends: dict[int, set[bool]] = {}
    for first in range(2, 46, 4):
        died, second = True, 0
        while died:
            directory = tmp_path / f"{first}-{second}"
            directory.mkdir()
            paths, old, new = scene(directory)
            mortal(first)
            assert die_in(partial(change_everything, paths), log_path(paths))
            mortal(second)
            died = die_in(RestoreLog.settle, log_path(paths))
            mortal(None)
            await settle_restore_points(directory)
            assert snapshot(directory) in (old, new)
            ends.setdefault(first, set()).add(snapshot(directory) == new)
            second += 1
    # Whether it goes back or forward was decided by the first death, wherever the second one struck.
    assert [{False}] * 10 == list(ends.values())[:10]
    assert list(ends.values())[10:] == [{True}]


@pytest.mark.blocking
async def test_entering_again_settles_first(tmp_path: Path, config: Path, mortal: Callable[[int | None], None]) -> None:
    """The next restore point on the same paths rolls back what a dead one left, says so, and then begins."""

    def half(log: RestoreLog) -> None:
        log.begin("cafe", [config])
        log.staged(0).write_text("half")
        log.replace(0)
        raise Died

    assert die_in(half, log_path([config]))
    assert config.read_text() == "half"
    async with restore_point([config]) as point:
        assert config.read_text() == "old config"
        assert point.settled is not None
        assert (point.settled.committed, point.settled.paths) == (False, (config,))
    assert snapshot(tmp_path) == {"config": "old config"}


@pytest.mark.blocking
async def test_what_somebody_else_put_there_is_set_aside(tmp_path: Path, config: Path, model: Path) -> None:
    """A foreign file in place of ours is kept under another name; one where nothing was before stays."""

    def half(log: RestoreLog) -> None:
        log.begin("cafe", [config, model])
        for index in range(2):
            log.staged(index).write_text("ours")
            log.replace(index)
        raise Died

    assert die_in(half, log_path([config, model]))
    for path in (config, model):
        foreign = tmp_path / "foreign"
        foreign.write_text("theirs")
        foreign.rename(path)
    (settled,) = await settle_restore_points(tmp_path)
    assert settled.displaced == (tmp_path / "config.displaced-cafe-0",)
    assert snapshot(tmp_path) == {"config": "old config", "config.displaced-cafe-0": "theirs", "model": "theirs"}


@pytest.mark.blocking
async def test_a_damaged_log_touches_nothing(tmp_path: Path, config: Path) -> None:
    """A flipped bit in a line that is not the last is reported, and every file stays as it is."""

    def half(log: RestoreLog) -> None:
        log.begin("cafe", [config])
        log.staged(0).write_text("half")
        log.replace(0)
        raise Died

    file = log_path([config])
    assert die_in(half, file)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"cafe", b"cage", 1))
    before = snapshot(tmp_path)
    with pytest.raises(RestoreLogDamaged):
        await settle_restore_points(tmp_path)
    with pytest.raises(RestoreLogDamaged):
        await restore_point([config]).__aenter__()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("tail", [b"deadbeef {}", b"deadbeef {}\n"])
@pytest.mark.blocking
async def test_a_torn_last_line_never_happened(tmp_path: Path, config: Path, tail: bytes) -> None:
    """A last line that was cut or is damaged announced something that was not done; the rest is undone."""

    def half(log: RestoreLog) -> None:
        log.begin("cafe", [config])
        log.staged(0).write_text("half")
        log.replace(0)
        raise Died

    file = log_path([config])
    assert die_in(half, file)
    file.write_bytes(file.read_bytes() + tail)
    (settled,) = await settle_restore_points(tmp_path)
    assert settled.committed is False
    assert snapshot(tmp_path) == {"config": "old config"}


@pytest.mark.blocking
async def test_a_failed_append_does_not_spoil_the_next_line(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line cut short by a full disk is overwritten by the next one, so that a later crash can still be undone."""
    real, fail = os.pwrite, [False]

    def short(descriptor: int, data: bytes, offset: int) -> int:
        if fail[0]:
            if len(data) > 10:
                return real(descriptor, data[:10], offset)
            raise OSError(errno.ENOSPC, "no space")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", short)

    def half(log: RestoreLog) -> None:
        log.begin("cafe", [config])
        log.staged(0).write_text("half")
        fail[0] = True
        with pytest.raises(OSError, match="no space"):
            log.replace(0)
        fail[0] = False
        assert config.read_text() == "old config"
        log.replace(0)
        raise Died

    assert die_in(half, log_path([config]))
    assert config.read_text() == "half"
    (settled,) = await settle_restore_points(tmp_path)
    assert settled.committed is False
    assert snapshot(tmp_path) == {"config": "old config"}


async def test_an_empty_log_is_cleared_away(tmp_path: Path) -> None:
    """A process that died between making the log and its first line had done nothing; the file is removed."""
    (tmp_path / ".restore-0123456789abcdef.log").touch()
    assert await settle_restore_points(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_a_log_of_another_user_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else's log says to rename and delete is refused."""
    (tmp_path / ".restore-0123456789abcdef.log").touch()
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        await settle_restore_points(tmp_path)


@pytest.mark.blocking
async def test_a_log_that_vanishes_before_the_lock_is_looked_for_again(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner may finish between our open and our lock: a log without a name is given back and a new one made."""
    real, file = fcntl.flock, log_path([config])

    def unlinked_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        file.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", unlinked_first)
    async with restore_point([config]) as point:
        assert file.exists()
        point.stage(config).write_text("new config")
    assert config.read_text() == "new config"
    assert RestoreLog.open(file, create=False) is None


async def test_settling_passes_over_a_log_that_has_just_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that its owner deletes while the directory is being read is no error."""
    monkeypatch.setattr(Path, "glob", lambda *_: [tmp_path / ".restore-0123456789abcdef.log"])
    assert await settle_restore_points(tmp_path) == []


async def test_a_begin_that_fails_gives_the_lock_back(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error on the first line leaves the paths free for the next try."""
    real, errors = os.fsync, [OSError(errno.EIO, "disk")]

    def broken(descriptor: int) -> None:
        if errors:
            raise errors.pop()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk"):
        await restore_point([config]).__aenter__()
    async with restore_point([config]) as point:
        point.stage(config).write_text("new config")
    assert config.read_text() == "new config"


async def test_cancelled_while_entering_nothing_stays_locked(config: Path) -> None:
    """Cancelled while a thread opens the log: it is closed and removed before the CancelledError leaves."""
    task = asyncio.create_task(restore_point([config]).__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(config.parent.iterdir()) == [config]
    async with restore_point([config]):
        pass


async def test_cancelled_while_being_refused(config: Path) -> None:
    """Cancelled while the lock is refused: CancelledError leaves with the refusal as its cause, the owner goes on."""
    async with restore_point([config]) as point:
        task = asyncio.create_task(restore_point([config]).__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value.__cause__, RestorePointBusy)
        point.stage(config).write_text("new config")
    assert config.read_text() == "new config"


def test_kill_minus_nine_in_the_middle(tmp_path: Path) -> None:
    """A real SIGKILL after one of two publications: the next process finds the old versions."""
    script = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from recovery.restore import restore_point

        async def main(first, second):
            async with restore_point([first, second]) as point:
                point.stage(first).write_text("new")
                await point.publish(first)
                assert first.read_text() == "new"
                point.stage(second).write_text("new")
                os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
        """
    )
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old")
    ended = subprocess.run([sys.executable, "-c", script, str(first), str(second)], check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    assert first.read_text() == "new"
    (settled,) = asyncio.run(settle_restore_points(tmp_path))
    assert settled.committed is False
    assert snapshot(tmp_path) == {"first": "old"}


# --- to_the_end ---


async def test_to_the_end_returns_and_raises_like_an_await() -> None:
    """Without a cancellation it is an await: the result or the exception of the work."""

    async def give(value: int) -> int:
        if value < 0:
            raise ValueError(value)
        return value

    assert await to_the_end(give(3)) == 3
    with pytest.raises(ValueError, match="-1"):
        await to_the_end(give(-1), within_s=5)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_to_the_end_holds_cancellation_back(times: int, fails: bool) -> None:
    """However often it is cancelled, the work ends first; its error is the cause of the CancelledError."""
    started, release, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        started.set()
        await release.wait()
        done.append(True)
        if fails:
            raise ValueError("lost")

    task = asyncio.create_task(to_the_end(work()))
    await started.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert done == [True]
    assert isinstance(caught.value.__cause__, ValueError) is fails


@pytest.mark.parametrize("cancelled", [False, True])
async def test_to_the_end_is_bounded(cancelled: bool) -> None:
    """Work that does not end in time is cancelled and left; the caller learns it."""
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(to_the_end(work(), within_s=0.01))
    await started.wait()
    if cancelled:
        task.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError):
        await task


async def test_to_the_end_when_the_work_cancels_itself() -> None:
    """Work that ends cancelled while its caller is being cancelled raises one CancelledError, without a cause."""
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    task = asyncio.create_task(to_the_end(work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
