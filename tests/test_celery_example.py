"""The example does what it says, on a broker that it brings along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_example_runs() -> None:
    """One command: three files through a cut, a refusal and a kill -9, every byte right."""
    done = subprocess.run(
        [sys.executable, "examples/celery_app/run.py", "--inside", "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("every byte right") == 3
    assert "kill -9 of one of the worker's processes" in done.stdout
    assert "vae   RETRY" in done.stdout
    assert "Try, in another terminal" not in done.stdout  # of what that names nothing is left
    assert done.stdout.endswith("Without --quick it goes on, and says what to try in another terminal.\n")


def test_its_help_installs_nothing() -> None:
    """Whoever only asks what it does waits for no installation."""
    done = subprocess.run(
        [sys.executable, "examples/celery_app/run.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--quick" in done.stdout
