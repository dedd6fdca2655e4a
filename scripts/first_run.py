"""The main job, for real: `python3 scripts/first_run.py` installs this clone and downloads 1 GiB through trouble.

A web server on loopback (nginx if it is installed, else one of Python's with ranges) serves the file; a proxy in
between cuts the first connections in the middle; the downloading process is killed with SIGKILL at 40 % and started
again. In the end the SHA-256 must be right, and what went over the wire twice is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from fresh_env import ROOT, environment

MIB = 1 << 20


def main() -> int:
    """Run it; returns 0 only if the file is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--cuts", type=int, default=3, help="connections to cut in the middle")
    options = parser.parse_args()
    python = environment(extras="cli,speed,web")
    with tempfile.TemporaryDirectory(prefix="resumable-") as name:
        folder = Path(name)
        (folder / "root").mkdir()
        (folder / "out").mkdir()
        free = shutil.disk_usage(folder).free
        if free < 2.2 * options.size_mib * MIB:
            sys.exit(f"{folder} has {free / 1e9:.1f} GB free; twice the file's size is needed (TMPDIR chooses another)")
        say(f"Making a file of {options.size_mib} MiB ...")
        digest = make_file(folder / "root" / "model.bin", options.size_mib)
        with (
            served(folder / "root") as (server, port),
            CuttingProxy(port, options.cuts, options.size_mib * MIB // 8) as proxy,
        ):
            say(f"Serving it with {server}; {options.cuts} connections will be cut, and the download killed once.")
            return download(python, folder, proxy, digest, options.size_mib * MIB)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def make_file(path: Path, size_mib: int) -> str:
    """Write random blocks, no two alike; return the SHA-256 in hex."""
    block, digest = os.urandom(MIB), hashlib.sha256()
    with path.open("wb") as file:
        for index in range(size_mib):
            data = index.to_bytes(8, "big") + block[8:]
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


def download(python: Path, folder: Path, proxy: CuttingProxy, digest: str, size: int) -> int:
    """Download through cuts and one SIGKILL; returns 0 if all is right."""
    out, state = folder / "out" / "model.bin", folder / "state.db"
    url = f"http://127.0.0.1:{proxy.port}/model.bin"
    command = [str(python), "-m", "resumable", "get", url, "-o", str(out), "--sha256", digest, "--state", str(state)]
    no_proxy = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    say("\n$ resumable get " + " ".join(command[4:]))
    started = time.monotonic()
    killed_at = run_and_kill(command, no_proxy, size * 2 // 5)
    say(f"killed with SIGKILL at {killed_at / 1e6:.0f} MB; the same command again:")
    done = subprocess.run(command, env=no_proxy, check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0 or not out.exists():
        say(f"FAILED: exit code {done.returncode}")
        return 1
    with out.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    twice = proxy.body_bytes - size
    say(f"\nsize      {out.stat().st_size} bytes\nSHA-256   {actual}\nexpected  {digest}")
    say(f"{proxy.cut} connections cut, 1 process killed, {seconds:.1f} s; {max(twice, 0) / 1e6:.1f} MB sent twice")
    verdict = subprocess.run([*command[:3], "verify", str(out), "--state", str(state)], env=no_proxy, check=False)
    right = actual == digest and out.stat().st_size == size and verdict.returncode == 0
    say("The file is right." if right else "THE FILE IS WRONG.")
    say(f"\nThe command is at {python.with_name('resumable')}")
    return 0 if right else 1


def run_and_kill(command: list[str], environ: dict[str, str], at: int) -> int:
    """Run the command until ``at`` bytes are durable, then kill it; returns how many were."""
    process = subprocess.Popen([*command, "--json"], env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    durable = 0
    for line in process.stdout:
        record = json.loads(line)
        durable = record.get("bytes_done") or durable
        if durable >= at:
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait()
    return durable


# -- the other side ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder on loopback; yields what serves it and the port."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.nginx import serving

    if shutil.which("nginx") is not None:
        with serving(root) as base:
            yield "nginx", int(base.rpartition(":")[2])
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: RangeHandler(*args, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield "Python's http.server (nginx is not installed)", server.server_address[1]
    finally:
        server.shutdown()


class RangeHandler(SimpleHTTPRequestHandler):
    """http.server with single ranges (RFC 9110 14) and a strong ETag; nginx does the same, faster."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        info = path.stat()
        etag = f'"{info.st_mtime_ns:x}-{info.st_size:x}"'
        first, last = 0, info.st_size - 1
        wanted = self.headers.get("Range", "")
        partial = wanted.startswith("bytes=") and self.headers.get("If-Range", etag) == etag
        if partial:
            start, _, stop = wanted[6:].partition("-")
            first, last = int(start), min(int(stop or last), last)
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{last}/{info.st_size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", etag)
        self.end_headers()
        with path.open("rb") as file, contextlib.suppress(OSError):
            self.connection.sendfile(file, first, last - first + 1)

    def log_message(self, *words: object) -> None:
        """Stay quiet."""


class CuttingProxy:
    """Passes connections on to a port and counts; the first few are cut in the middle."""

    def __init__(self, target: int, cuts: int, after: int) -> None:
        """Cut the first ``cuts`` connections after about ``after`` bytes each."""
        self._target, self._cuts, self._after = target, cuts, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._passed = 0
        self.port: int = self._listener.getsockname()[1]
        self.cut = 0

    @property
    def body_bytes(self) -> int:
        """Bytes passed to the client so far, heads included (some hundred bytes each)."""
        return self._passed

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            passed, buffer = 0, memoryview(bytearray(MIB))
            with contextlib.suppress(OSError):
                while count := server.recv_into(buffer):
                    client.sendall(buffer[:count])
                    passed += count
                    with self._lock:
                        self._passed += count
                        if passed >= self._after and self.cut < self._cuts:
                            self.cut += 1
                            break
                client.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    raise SystemExit(main())
