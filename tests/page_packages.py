"""What the page's tests take from the npm registry, through npm, into a cache: a type checker, and hosts to embed in.

Without node and npm, or without the registry, the tests are skipped with the reason; under ``CI=true`` they fail.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "typescript": "7.0.2",
    "socket.io-client": "4.8.4",
    "esbuild": "0.28.2",
    "react18": "npm:react@18.3.1",
    "react-dom18": "npm:react-dom@18.3.1",
    "react19": "npm:react@19.2.0",
    "react-dom19": "npm:react-dom@19.2.0",
}
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "resumable-tests"


def installed() -> Path:
    """Return the folder ``node_modules`` with these packages, installed once and kept for the next run."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        _without(f"{' and '.join(missing)} not installed")
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    folder = _CACHE / f"page-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    done = folder / "complete"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", *wanted]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
        if ended.returncode != 0:
            _without(f"npm could not install them: {ended.stderr[-300:]}")
        done.touch()
    return folder / "node_modules"


def node(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of node's."""
    return subprocess.run(["node", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def _without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
