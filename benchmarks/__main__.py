"""Run every benchmark, judge the promises, write the report: ``python -m benchmarks [NAME...]``.

    python -m benchmarks                      all of them, which takes about half an hour
    python -m benchmarks --quick              small forms, a few minutes: shows that they work, judges nothing
    python -m benchmarks overhead writes      these two
    python -m benchmarks --list               what there is, how long each takes, and the question that it answers
    python -m benchmarks --compare old.json --out second
                                              all of them, set against another run: both figures, and a spread that
                                              is widened where the two do not agree
    python -m benchmarks --publish first/report.json second/report.json
                                              print BENCHMARKS.md of two runs (or one); nothing is run

Each runs in a process of its own; one that fails does not stop the others. The report goes into ``--out``
(benchmarks/report): ``report.json``, ``report.md`` and ``report.html``, one file with its plots inside. The exit status
is 1 when a promise to the user is broken or a benchmark failed, whatever our own bars say.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.page import as_html
from benchmarks.pair import compared
from benchmarks.paper import as_markdown, published
from benchmarks.record import Run, machine
from benchmarks.report import Report, say

HERE = Path(__file__).resolve().parent
PATIENCE, PATIENCE_S = 4, 300.0
"""One that takes four times what is expected and five minutes is stopped."""
PARTING_S = 15.0
"""What it has to take its servers down when it is stopped."""
EXPECTED_S = {
    "overhead": 50,
    "writes": 50,
    "startup": 20,
    "memory": 100,
    "resume_latency": 90,
    "audit": 110,
    "large_file": 380,
    "many_small": 340,
    "far_away": 100,
    "outage": 60,
    "linear": 40,
    "hub": 210,
    "page_open": 130,
    "celery_overhead": 20,
    "scoreboard": 280,
}
"""The benchmarks in their order, the cheap ones first, as a broken promise shows early; and the seconds that each takes
on two cores, where no other run has been named that knows better.
"""


def expected(names: Sequence[str], other: Run | None, *, quick: bool) -> dict[str, float]:
    """Return the seconds that each is likely to take: as in the other run, if that was of the same form."""
    known: dict[str, float] = {} if quick else {name: float(EXPECTED_S[name]) for name in names}
    if other is not None and other.quick == quick:
        known |= {report.benchmark: report.seconds for report in other.reports if report.benchmark in names}
    return known


def available() -> dict[str, str]:
    """Return every benchmark and the first sentence of what it says it answers, without importing any."""
    found = {}
    for name in EXPECTED_S:
        path = HERE / f"{name}.py"
        if path.exists():
            found[name] = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
    return found


def one(name: str, *, quick: bool, patience_s: float) -> Report | str:
    """Run one benchmark; return its report, or why there is none."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] if quick else [])]
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    paths = [str(HERE.parent), str(HERE.parent / "ui"), os.environ.get("PYTHONPATH", "")]
    environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    process = subprocess.Popen(
        command, cwd=HERE.parent, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        return f"did not end within {patience_s:.0f} s"
    finally:
        stop(process)
    lines = said.strip().splitlines()
    try:
        return Report.from_json(lines[-1] if lines else "")
    except ValueError:
        return f"ended with {process.returncode} and printed no report"


def stop(process: subprocess.Popen[str]) -> None:
    """End a benchmark and all that it started: first as Ctrl-C does, so that it takes its servers down."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, sign)
                process.wait(PARTING_S)


def run_all(
    names: Sequence[str], keep: Callable[[Run], None], likely: Mapping[str, float], *, quick: bool, within_s: float
) -> Run:
    """Run them one after the other, telling how far it is; ``keep`` is given what there is after each.

    ``likely`` are the seconds that each may take; it is stopped after many times that. What has not ended ``within_s``
    is named as failed.
    """
    ends = time.monotonic() + within_s
    started, reports, failures = time.time(), list[Report](), dict[str, str]()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    run = Run(machine=machine(), date=started, command=command, quick=quick, reports=reports, failures=failures)
    for number, name in enumerate(names, 1):
        say(f"[{number}/{len(names)}] {name}{_left(names[number - 1 :], likely)}")
        begun = time.monotonic()
        patience_s = min(PATIENCE_S + PATIENCE * likely.get(name, 0.0), ends - begun)
        report = one(name, quick=quick, patience_s=patience_s) if patience_s > 0 else "not begun: the time was over"
        say(f"[{number}/{len(names)}] {name}: {time.monotonic() - begun:.0f} s")
        if isinstance(report, str):
            failures[name] = report
            say(f"    FAILED: {report}")
        else:
            reports.append(report)
            for bar in report.bars:
                say(f"    {bar}")
        keep(run)
    return run


def _left(names: Sequence[str], likely: Mapping[str, float]) -> str:
    if names[0] not in likely:
        return ""
    left = sum(likely.get(name, 0.0) for name in names)
    return f", about {likely[names[0]]:.0f} s; {left / 60:.0f} min to the end"


def _parsed(known: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="small forms; nothing is judged")
    parser.add_argument("--json", action="store_true", help="print the whole run as JSON on stdout")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="report.json of another run")
    parser.add_argument("--publish", type=Path, nargs="+", metavar="FILE", help="print BENCHMARKS.md of these reports")
    parser.add_argument("--out", type=Path, default=HERE / "report", help="folder of the report")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N", help="end after so many, as it may be")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if given.publish and len(given.publish) > 2:
        parser.error("--publish takes one report or two")
    return given


def _read(path: Path) -> Run:
    return Run.from_json(path.read_text("utf-8"))


def main() -> int:
    """Run, write the report, judge."""
    known = available()
    given = _parsed(known)
    other = None if given.compare is None else _read(given.compare)
    names = given.names or list(known)
    likely = expected(names, other, quick=given.quick)
    if given.list:
        print("\n".join(f"{name:16} {likely.get(name, 0):4.0f} s  {known[name]}" for name in names))
        print(f"{'together':16} {sum(likely.values()) / 60:4.0f} min")
        return 0
    if given.publish:
        runs = [_read(path) for path in given.publish]
        print(published(runs[0] if len(runs) == 2 else None, runs[-1]), end="")
        return 0
    given.out.mkdir(parents=True, exist_ok=True)

    def keep(run: Run) -> None:
        (given.out / "report.json").write_text(run.to_json(), "utf-8")
        (given.out / "report.md").write_text(as_markdown(run, other), "utf-8")
        (given.out / "report.html").write_text(as_html(run, other), "utf-8")

    run = run_all(names, keep, likely, quick=given.quick, within_s=given.minutes * 60)
    print(run.to_json() if given.json else "\n".join([*run.verdicts(), *(compared(other, run) if other else [])]))
    say(f"the report is in {given.out}")
    return 0 if run.kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
