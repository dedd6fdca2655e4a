"""The official JavaScript client, installed from the registry by the test, against the real hub."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.hubs import TOKEN, command, until
from tests.origin import Behaviour, Content, Origin

VERSION = "4.8.4"
SCRIPT = Path(__file__).parent / "clients" / "contract.mjs"
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "resumable-tests" / f"socket.io-client-{VERSION}"
)

pytestmark = pytest.mark.blocking


@pytest.fixture(scope="module")
def client() -> Path:
    """Return a folder with ``node_modules/socket.io-client``; installed once, kept for the next run."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed: the official client is not tried"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    if not (CACHE / "node_modules" / "socket.io-client" / "package.json").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text('{"private": true}')
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"socket.io-client@{VERSION}"]
        done = subprocess.run(install, cwd=CACHE, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode != 0:
            reason = f"npm could not install socket.io-client: {done.stderr[-300:]}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
    return CACHE


async def lines_of(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """Yield what the script says."""
    assert process.stdout is not None
    async for line in process.stdout:
        yield json.loads(line)


@pytest.mark.timeout(150)
async def test_the_official_client_keeps_the_contract(tmp_path: Path, client: Path) -> None:
    """Refusals, snapshot, progress, acknowledged actions, the upgrade from polling, and a hub that comes back."""
    said: dict[str, dict[str, Any]] = {}
    with Origin() as origin:
        origin.put("/slow.bin", Content(40 << 20, seed=41), Behaviour(rate=1 << 20))
        with command(tmp_path) as (process, url):
            port = url.rpartition(":")[2]
            node = await asyncio.create_subprocess_exec(
                *("node", str(SCRIPT), url, TOKEN, "/socket.io", origin.url("/slow.bin")),
                cwd=client,
                stdout=asyncio.subprocess.PIPE,
            )
            said_lines = lines_of(node)
            async for line in said_lines:
                said[line["what"]] = line
                if line["what"] in {"ready", "failed"}:
                    break
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None)
        with command(tmp_path, "--port", port):
            async for line in said_lines:
                said[line["what"]] = line
            assert await node.wait() == 0, said
    assert said["refused"]["codes"] == ["unauthorized", "version", "unauthorized"]
    assert (said["connected"]["role"], said["connected"]["v"]) == ("operator", 1)
    assert {"ok", "v", "epoch", "seq", "ts", "projects", "downloads", "operations", "settings"} <= {
        *said["snapshot"]["keys"]
    }
    assert (said["added"]["ok"], said["added"]["same"]) == (True, True)
    assert (said["acted"]["paused"], said["acted"]["unknown"]) == ("paused", "not_found")
    assert said["acted"]["kept"] > 0
    assert said["upgraded"]["transport"] == "websocket"
    assert (said["resynced"]["other"], said["resynced"]["known"]) == (True, True)
    assert "done" in said
