"""Run every benchmark, judge the promises, write the report: ``python -m benchmarks [NAME...]``.

    python -m benchmarks                      all of them, which takes about an hour
    python -m benchmarks --quick              small forms, a few minutes: shows that they work, judges nothing
    python -m benchmarks overhead writes      these two
    python -m benchmarks --list               what there is, and the question that each answers
    python -m benchmarks --compare old.json   how the figures moved since another run

Each runs in a process of its own; one that fails does not stop the others. The report goes into ``--out``
(benchmarks/report): ``report.json``, ``report.md`` and ``report.html``, one file with its plots inside. The exit status
is 1 when a promise to the user is broken or a benchmark failed, whatever our own bars say.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.page import as_html
from benchmarks.paper import Run, as_markdown, compared, machine
from benchmarks.report import Report, say

HERE = Path(__file__).resolve().parent
ORDER = (
    "overhead",
    "writes",
    "startup",
    "memory",
    "resume_latency",
    "audit",
    "large_file",
    "many_small",
    "far_away",
    "outage",
    "linear",
    "hub",
    "page_open",
    "celery_overhead",
    "scoreboard",
)
"""The cheap ones first: a broken promise shows early."""


def available() -> dict[str, str]:
    """Return every benchmark and the first sentence of what it says it answers, without importing any."""
    found = {}
    for name in ORDER:
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
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, env=environ, stdout=subprocess.PIPE, text=True, timeout=patience_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {patience_s:.0f} s"
    lines = done.stdout.strip().splitlines()
    try:
        return Report.from_json(lines[-1] if lines else "")
    except ValueError:
        return f"ended with {done.returncode} and printed no report"


def run_all(names: Sequence[str], keep: Callable[[Run], None], *, quick: bool, patience_s: float) -> Run:
    """Run them one after the other, telling how far it is; ``keep`` is given what there is after each."""
    started, reports, failures = time.time(), list[Report](), dict[str, str]()
    command = "python -m benchmarks " + " ".join([*(["--quick"] if quick else []), *names])
    run = Run(machine=machine(), date=started, command=command, quick=quick, reports=reports, failures=failures)
    for number, name in enumerate(names, 1):
        say(f"[{number}/{len(names)}] {name}")
        begun = time.monotonic()
        report = one(name, quick=quick, patience_s=patience_s)
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


def main() -> int:
    """Run, write the report, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = available()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="small forms; nothing is judged")
    parser.add_argument("--json", action="store_true", help="print the whole run as JSON on stdout")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="report.json of another run")
    parser.add_argument("--out", type=Path, default=HERE / "report", help="folder of the report")
    parser.add_argument("--patience", type=float, default=3600.0, metavar="S", help="seconds that one may take")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name:16} {question}" for name, question in known.items()))
        return 0
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    other = None if given.compare is None else Run.from_json(given.compare.read_text("utf-8"))
    given.out.mkdir(parents=True, exist_ok=True)

    def keep(run: Run) -> None:
        (given.out / "report.json").write_text(run.to_json(), "utf-8")
        (given.out / "report.md").write_text(as_markdown(run, other), "utf-8")
        (given.out / "report.html").write_text(as_html(run, other), "utf-8")

    run = run_all(given.names or list(known), keep, quick=given.quick, patience_s=given.patience)
    print(run.to_json() if given.json else "\n".join([*run.verdicts(), *(compared(run, other) if other else [])]))
    say(f"the report is in {given.out}")
    return 0 if run.kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
