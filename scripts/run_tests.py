"""All tests, with nothing but Python >= 3.11 and pip: `python3 scripts/run_tests.py [arguments of pytest]`."""

from __future__ import annotations

import os
import subprocess
import sys

from fresh_env import ROOT, environment


def main() -> int:
    """Install what the tests need into .venv and run them; returns pytest's exit code."""
    python = environment(extras="cli,speed,test")
    # One process more than there are processors: most of a test's time is waiting.
    chosen = sys.argv[1:] or ["-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal"]
    return subprocess.run([str(python), "-m", "pytest", *chosen], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
