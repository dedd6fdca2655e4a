"""Makes the virtual environment of the two README commands; Python >= 3.11 and its pip are enough."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(*, extras: str, folder: Path = ROOT / ".venv") -> Path:
    """Return the Python of a virtual environment in which this clone is installed (editable) with ``extras``.

    It is made when it is missing, and brought up to date when ``pyproject.toml`` has changed since. Exits with one line
    when this Python is too old.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before any installer has checked
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
    windows = os.name == "nt"
    python = folder / ("Scripts/python.exe" if windows else "bin/python")
    stamp = folder / ".installed"
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    have = stamp.read_text().splitlines() if stamp.exists() else []
    if f"{digest} {extras}" in have and python.exists():
        return python
    print(f"Installing into {folder} ...", file=sys.stderr, flush=True)
    if not python.exists():
        # Debian splits ensurepip off: a bare environment and the pip that is here do as well.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--editable", f"{ROOT}[{extras}]"], check=True)
    current = [line for line in have if line.startswith(digest)]
    stamp.write_text("\n".join([*current, f"{digest} {extras}", ""]))
    return python
