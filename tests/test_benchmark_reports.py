"""The report of the benchmarks: which figures of two runs agree, what is widened, and what a failing peer may do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import EXPECTED_S, available, expected, run_all, stop
from benchmarks.page import as_html
from benchmarks.pair import Move, bar_moves, compared, difference, moved, row_moves, widened, widened_rows
from benchmarks.paper import as_markdown, published
from benchmarks.record import Run, machine
from benchmarks.report import Bar, Report
from benchmarks.samples import Leniency, Samples, TooSlowError, interleave, ratio_bar
from benchmarks.tools import run as run_command
from benchmarks.unfinished import MIB, RangeOrigin, lay_down

ROOT = Path(__file__).resolve().parent.parent


def _run(value: float, median: float, *, other: float = 7.0) -> Run:
    report = Report(
        benchmark="startup",
        question="How long?",
        rows=[
            {"tool": "ours", "median s": median, "spread": "4%", "runs": 5},
            {"tool": "curl", "median s": other, "spread": "2%", "runs": 2},
        ],
        bars=[Bar(name="to curl", value=value, limit=1.0, unit="x", spread=0.04)],
        caveats=["a caveat"],
        seconds=12.0,
    )
    machine = {"processor": "2 x test"}
    return Run(machine=machine, date=0.0, command="python -m benchmarks", quick=False, reports=[report], failures={})


@pytest.mark.parametrize(
    ("first", "second", "expected_difference", "spread"),
    [
        (1.0, 1.0, 0.0, 0.04),
        (1.0, 1.149, 0.149, 0.04),
        (1.149, 1.0, 0.149, 0.04),
        (1.0, 1.25, 0.25, 0.2),
        (1.25, 1.0, 0.25, 0.25),
        (0.0, 0.0, 0.0, 0.04),
        (0.0, 2.0, float("inf"), 1.0),
        (2.0, 0.0, float("inf"), 0.04),
    ],
)
def test_two_figures(first: float, second: float, expected_difference: float, spread: float) -> None:
    """They agree within 15 % either way round; else the spread of the second reaches the first."""
    assert difference(first, second) == pytest.approx(expected_difference)
    assert widened(0.04, first, second) == pytest.approx(spread)


def test_a_wide_spread_is_not_narrowed() -> None:
    """What one run measured of its own spread stands."""
    assert widened(0.5, 1.0, 1.25) == 0.5


def test_bars_and_rows_of_two_runs_are_paired() -> None:
    """Every bar and every figure of the rows has its partner; how often it was measured is no figure."""
    first, second = _run(0.8, 2.0), _run(1.1, 2.1, other=9.0)
    (bar,) = bar_moves(first, second).values()
    assert (bar.what, bar.first, bar.second, bar.agrees) == ("startup: to curl", 0.8, 1.1, False)
    assert bar.spread == pytest.approx(0.3 / 1.1)
    rows = [(move.what, move.agrees) for move in row_moves(first, second)]
    assert rows == [("startup: ours, median s", True), ("startup: curl, median s", False)]
    assert [move.what for move in moved(row_moves(first, second))] == ["startup: curl, median s"]
    assert compared(first, second)[-1] == "1 of 3 figures agree within 15%"


def test_the_rows_of_the_second_run_are_widened() -> None:
    """Where the medians agree the spread stands; where they do not, it says that two runs made it."""
    second = _run(1.1, 2.1, other=9.0).reports[0]
    rows = widened_rows(second, _run(0.8, 2.0).reports[0])
    assert [row["spread"] for row in rows] == ["4%", "22% (two runs)"]
    assert widened_rows(second, None) == [dict(row) for row in second.rows]


def test_the_report_of_a_second_run_has_both_figures() -> None:
    """One line a bar: verdict, both figures, the limit, the difference, the widened spread."""
    text = as_markdown(_run(1.1, 2.1, other=9.0), _run(0.8, 2.0))
    line = "| **met in one of two** | own bar | startup: to curl | 0.8 | 1.1 x | <= 1 | +38 % | 27%, widened |"
    assert line in text.splitlines()
    assert "| startup: curl, median s | 7 | 9 | +29 % |" in text.splitlines()
    page = as_html(_run(1.1, 2.1, other=9.0), _run(0.8, 2.0))
    assert "22% (two runs)" in page
    assert "0.8 (+38 %)" in page


def test_what_only_one_run_has_is_shown_too() -> None:
    """A second run that was cut short does not lose what the first one found."""
    first = _run(0.8, 2.0)
    second = dataclasses.replace(first, reports=[], failures={"startup": "did not end"})
    text = as_markdown(second, first)
    assert "* **this run, startup failed**: did not end" in text
    assert "How long? (12 s, the first run's)" in text
    assert "| met | own bar | startup: to curl | 0.8 x | - | <= 1 | - | 4% |" in text.splitlines()


def test_benchmarks_md_is_a_command(tmp_path: Path) -> None:
    """``--publish`` prints it of two reports, with what people wrote about the losses, and runs nothing."""
    for name, run in (("first", _run(0.8, 2.0)), ("second", _run(0.82, 2.1))):
        (tmp_path / name).write_text(run.to_json(), "utf-8")
    command = [sys.executable, "-m", "benchmarks", "--publish", str(tmp_path / "first"), str(tmp_path / "second")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == published(_run(0.8, 2.0), _run(0.82, 2.1))
    assert "## Where we lose, and why" in done.stdout
    assert "1 of 1 agree within 15%" in done.stdout


def test_a_run_is_read_as_it_was_written() -> None:
    """Also one of before bars had a spread."""
    assert Run.from_json(_run(0.8, 2.0).to_json()) == _run(0.8, 2.0)
    old = json.loads(_run(0.8, 2.0).to_json())
    del old["reports"][0]["bars"][0]["spread"]
    assert Run.from_json(json.dumps(old)).reports[0].bars[0].spread == 0.0


def test_every_benchmark_has_an_expected_time() -> None:
    """And another run of the same form knows better."""
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "QUESTION = " in path.read_text("utf-8")}
    assert set(EXPECTED_S) == modules == set(available())
    assert expected(["startup"], _run(0.8, 2.0), quick=False) == {"startup": 12.0}
    assert expected(["startup"], _run(0.8, 2.0), quick=True) == {}


def _failing(*outcomes: float | Exception) -> Callable[[], float]:
    left = iter(outcomes)

    def once() -> float:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return once


def test_a_peer_that_crashes_is_run_again_and_named() -> None:
    """One crash costs it nothing; three in a row, or no end in sight, and it has no figures."""
    lenient = Leniency(frozenset({"flaky", "broken", "slow"}))
    samples = interleave(
        {
            "ours": _failing(1.0, 1.0),
            "flaky": _failing(RuntimeError("-11"), 2.0, 3.0),
            "broken": _failing(2.0, *[RuntimeError("no")] * 3),
            "slow": _failing(TooSlowError("stopped")),
            "seldom": _failing(5.0),
        },
        2,
        fewer={"seldom": 1},
        leniency=lenient,
    )
    values = {name: one.values for name, one in samples.items()}
    assert values == {"ours": (1.0, 1.0), "flaky": (2.0, 3.0), "seldom": (5.0,)}
    assert {note.partition(":")[0] for note in lenient.notes} == {
        "flaky, run again after",
        "broken, run again after",
        "no figures of broken",
        "no figures of slow",
    }


def test_our_own_failure_ends_the_benchmark() -> None:
    """It is not a peer's."""
    with pytest.raises(RuntimeError, match="wrong"):
        interleave({"ours": _failing(RuntimeError("wrong"))}, 1, leniency=Leniency(frozenset({"curl"})))


def test_a_command_that_takes_too_long_is_stopped() -> None:
    """With all that it started."""
    with pytest.raises(TooSlowError, match="sh was stopped after 0 s"):
        run_command(["sh", "-c", "sleep 60; true"], most_s=0.2)


def test_a_ratio_is_that_of_the_rounds() -> None:
    """The median of each round's ratio, and how far those lie apart."""
    bar = ratio_bar("x", Samples("ours", (1.0, 2.0, 6.0)), Samples("curl", (2.0, 2.0, 2.0)), limit=1.0)
    assert (bar.value, bar.spread) == (1.0, 0.625)


def test_a_move_says_what_it_is() -> None:
    """One line for people."""
    move = Move(what="large_file: plain", first=2.0, second=2.5, unit="x", spread=0.2)
    assert str(move) == "large_file: plain: 2 -> 2.5 x (+25 %; differs, spread widened to 20%)"


async def test_a_part_file_is_laid_down_once(tmp_path: Path) -> None:
    """What the round before finished is cut back to what was laid down; its bytes are not written again."""
    length, missing = 64 * MIB, 32 * MIB
    origin = RangeOrigin(length)
    try:
        await lay_down(tmp_path, origin.url, length, missing=missing)
        part = tmp_path / "big.bin.part"
        node = part.stat().st_ino
        assert part.stat().st_size == length - missing
        with open(part, "ab") as file:
            file.write(bytes(missing))
        part.rename(tmp_path / "big.bin")
        await lay_down(tmp_path, origin.url, length, missing=missing)
        assert (part.stat().st_ino, part.stat().st_size) == (node, length - missing)
        assert not (tmp_path / "big.bin").exists()
    finally:
        origin.close()


def test_a_benchmark_that_is_stopped_takes_its_servers_down() -> None:
    """As Ctrl-C does: it gets to its ``finally``, and so do those that it started."""
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "try:\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt: print('down', child.wait(5), flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    stop(process)
    assert process.stdout.read() == "down -2\n"
    process.stdout.close()


def test_what_has_no_time_left_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that has to end by then says what it did not begin, and keeps its report."""
    kept: list[Run] = []
    run = run_all(["startup"], kept.append, {"startup": 20.0}, quick=True, within_s=0.0)
    assert run.failures == {"startup": "not begun: the time was over"}
    assert [one.failures for one in kept] == [run.failures]
    assert not run.kept
    assert "[1/1] startup, about 20 s; 0 min to the end" in capsys.readouterr().err


def test_a_run_names_its_commit() -> None:
    """Two runs of different code are told apart."""
    here = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    commit = machine()["commit"].removesuffix("-dirty")
    assert commit == here.stdout.strip() or (here.returncode and commit == "not a git checkout")
