"""The bars in a real terminal (tmux): what stands on the screen at 80 and 40 columns, and what a pipe gets instead."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import environment, run
from tests.origin import Behaviour, Content, Origin

pytestmark = pytest.mark.blocking

MIB = 1 << 20
CONTENT = Content(8 * MIB, seed=21)


class Screen:
    """A tmux session of its own server."""

    def __init__(self, folder: Path, width: int, height: int = 12) -> None:
        """Start it with a shell that shows no prompt."""
        self._tmux = ["tmux", "-S", str(folder / "tmux.sock"), "-f", "/dev/null"]
        size = ["-x", str(width), "-y", str(height)]
        # pytest-xdist and some CI systems tell their processes a width, which would win over the terminal's own.
        told = {"COLUMNS", "LINES", "NO_COLOR"}
        env = {name: value for name, value in os.environ.items() if name not in told} | {"LC_ALL": "C.UTF-8"}
        subprocess.run([*self._tmux, "new-session", "-d", *size, "env PS1= sh"], check=True, env=env)

    def type(self, command: str) -> None:
        """Run a command line in it."""
        subprocess.run([*self._tmux, "send-keys", "-l", command], check=True)
        subprocess.run([*self._tmux, "send-keys", "Enter"], check=True)

    def press(self, key: str) -> None:
        """Press a key, such as ``C-c``."""
        subprocess.run([*self._tmux, "send-keys", key], check=True)

    def resize(self, width: int) -> None:
        """Make the window narrower or wider."""
        subprocess.run([*self._tmux, "resize-window", "-x", str(width)], check=True)

    def lines(self) -> list[str]:
        """Return what stands there, without empty lines."""
        shown = subprocess.run([*self._tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True).stdout
        return [line for line in shown.splitlines() if line.strip()]

    def until(self, condition: Callable[[list[str]], object], within_s: float = 20.0) -> list[str]:
        """Return the first screen for which the condition holds."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            lines = self.lines()
            if condition(lines):
                return lines
            time.sleep(0.05)
        raise AssertionError("\n".join(self.lines()))

    def close(self) -> None:
        """End the server and what runs in it."""
        subprocess.run([*self._tmux, "kill-server"], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def screen(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Screen]:
    """A terminal of 80 columns, or of as many as the test asks for."""
    if shutil.which("tmux") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("tmux is not installed, and on CI it must be")
        pytest.skip("tmux is not installed")
    made = Screen(tmp_path, getattr(request, "param", 80))
    yield made
    made.close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin with one file that takes four seconds."""
    with Origin() as running:
        running.put("/model.bin", CONTENT, Behaviour(rate=2 * MIB))
        yield running


def command(origin: Origin, folder: Path, *more: str) -> str:
    """Return the command line of a download into ``folder``."""
    words = [sys.executable, "-m", "resumable", "get", origin.url("/model.bin"), "-o", str(folder / "model.bin")]
    settings = {name: environment()[name] for name in ("PYTHONPATH",)}
    prefix = "env " + " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return f"cd {folder}; clear; {prefix} {shlex.join([*words, '-c', '1', '--state', 'state.db', *more])}"


def moving(lines: list[str]) -> bool:
    """Whether a bar has begun to fill."""
    return any("█" in line and "%" in line for line in lines)


@pytest.mark.parametrize("screen", [80, 40], indirect=True, ids=["80 columns", "40 columns"])
def test_one_bar_is_overwritten_and_gone_at_the_end(screen: Screen, origin: Origin, tmp_path: Path) -> None:
    """One line while it moves, at either width; the path and one line of news stay."""
    screen.type(command(origin, tmp_path))
    lines = screen.until(moving)
    assert sum("░" in line for line in lines) == 1
    assert any("MB/s" in line for line in lines)
    screen.until(lambda shown: any("done:" in line for line in shown) and not any("░" in line for line in shown))
    assert (tmp_path / "model.bin").stat().st_size == CONTENT.size


def test_a_narrower_window_leaves_no_rubbish(screen: Screen, origin: Origin, tmp_path: Path) -> None:
    """After a resize in mid-flight there is still one bar."""
    screen.type(command(origin, tmp_path))
    screen.until(moving)
    screen.resize(50)
    time.sleep(1.2)
    assert sum("░" in line for line in screen.lines()) == 1


def test_ctrl_c_keeps_it_and_says_how_to_continue_then_the_bar_has_two_tones(
    screen: Screen, origin: Origin, tmp_path: Path
) -> None:
    """The resumed part is hatched, and the speed is this run's from its first second: no megabytes of before in it."""
    screen.type(command(origin, tmp_path))
    screen.until(lambda lines: any(f" {n}%" in line for line in lines for n in range(40, 80)))
    screen.press("C-c")
    screen.until(lambda lines: any("Continue with: resumable resume" in line for line in lines))
    screen.type(command(origin, tmp_path))
    lines = screen.until(lambda shown: moving(shown) and any("▒" in line for line in shown))
    (bar,) = [line for line in lines if "▒" in line]
    speed = float(bar.partition(" MB/s")[0].split()[-1])
    assert speed < 4.5
    screen.until(lambda shown: any("done:" in line for line in shown))


@pytest.mark.parametrize("screen", [40], indirect=True)
def test_the_echo_of_ctrl_c_leaves_no_bar_behind(screen: Screen, origin: Origin, tmp_path: Path) -> None:
    """A total as wide as the terminal: the `^C` behind it must not begin a row that nobody counts."""
    origin.put("/model.bin", CONTENT, Behaviour(status=503, retry_after=30))
    origin.put("/another.bin", CONTENT)
    settings = f"PYTHONPATH={shlex.quote(environment()['PYTHONPATH'])}"
    words = [sys.executable, "-m", "resumable", "get", origin.url("/model.bin"), origin.url("/another.bin")]
    screen.type(f"cd {tmp_path}; clear; env {settings} {shlex.join([*words, '--state', 'state.db'])}")
    screen.until(lambda shown: shown[-1:] and shown[-1].startswith("1 of 2 done") and "try 2" in shown[-2])
    screen.press("C-c")
    lines = screen.until(lambda shown: any("Continue with" in line for line in shown))
    assert [line for line in lines if "try 2/50" in line or "of 2 done" in line] == []


def test_a_wait_counts_down(screen: Screen, origin: Origin, tmp_path: Path) -> None:
    """The row says which try comes, in how many seconds, and why; the seconds fall without any event."""
    origin.put("/model.bin", CONTENT, script=[Behaviour(status=503, retry_after=9)])
    screen.type(command(origin, tmp_path))

    def seconds(lines: list[str]) -> int:
        for line in lines:
            if "try 2/" in line and " in " in line:
                return int(float(line.partition(" in ")[2].split()[0]))
        return -1

    first = seconds(screen.until(lambda lines: seconds(lines) > 0))
    screen.until(lambda lines: 0 <= seconds(lines) < first)


def test_a_dumb_or_latin_terminal_gets_ascii_or_lines(screen: Screen, origin: Origin, tmp_path: Path) -> None:
    """TERM=dumb: lines. Not UTF-8: a bar of ASCII."""
    screen.type(f"export PYTHONIOENCODING=latin-1; {command(origin, tmp_path)}")
    lines = screen.until(lambda shown: any("==" in line and "%" in line for line in shown))
    assert not any("█" in line for line in lines)
    screen.until(lambda shown: any("done:" in line for line in shown))
    (tmp_path / "model.bin").unlink()
    screen.type(f"export TERM=dumb; {command(origin, tmp_path)}")
    lines = screen.until(lambda shown: any("done:" in line for line in shown))
    assert not any("%" in line and "--" in line for line in lines)


def test_a_pipe_gets_one_line_a_change(origin: Origin, tmp_path: Path) -> None:
    """No bar and no escape codes; the path alone on stdout."""
    ended = run("get", origin.url("/model.bin"), "-o", "model.bin", "--state", "state.db", cwd=tmp_path)
    assert ended.out == f"{tmp_path / 'model.bin'}\n"
    assert "\x1b" not in ended.err
    assert [line.partition(": ")[2].partition(":")[0] for line in ended.err.splitlines()] == [
        "started",
        "verifying",
        "done",
    ]


def test_watching_from_another_terminal(screen: Screen, origin: Origin, tmp_path: Path) -> None:
    """`status --watch` draws the same bar from the state file, and leaves with Ctrl-C without a word."""
    origin.put("/model.bin", CONTENT, Behaviour(rate=MIB))
    from tests.command import finish, start

    process = start("get", origin.url("/model.bin"), "-o", "model.bin", "-c", "1", "--state", "state.db", cwd=tmp_path)
    words = [sys.executable, "-m", "resumable", "status", "--watch", "--state", "state.db"]
    screen.type(f"cd {tmp_path}; clear; env PYTHONPATH={shlex.quote(environment()['PYTHONPATH'])} {shlex.join(words)}")
    lines = screen.until(moving)
    assert sum("░" in line for line in lines) == 1
    screen.press("C-c")
    screen.type("echo; echo ended with $?")
    lines = screen.until(lambda shown: any("ended with" in line for line in shown))
    assert not any("Traceback" in line for line in lines)
    assert finish(process).code == 0
