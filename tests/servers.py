"""Real servers on loopback, and certificates for them: context managers that serve a directory and stop reliably.

::

    with nginx(tmp_path) as server:
        ...  # download server.url("/file")

A server that is not installed skips the test with the reason; under ``CI=true`` it fails it: nothing is skipped unseen.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_START_S = 15.0
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    root: Path
    port: int
    scheme: str = "http"
    process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End it and all its workers with SIGKILL, as the out-of-memory killer would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def url(self, path: str = "/", *, host: str = HOST) -> str:
        """Return the address of ``path``."""
        return f"{self.scheme}://{host}:{self.port}{path}"


@dataclass(frozen=True, slots=True)
class Authority:
    """A private certificate authority; ``ca_file`` is what clients are to trust."""

    directory: Path
    ca_file: Path
    _authority: trustme.CA

    def certificate(self, *names: str, expired: bool = False) -> Path:
        """Issue a certificate for host names and addresses; return a PEM file with its key and chain."""
        day = dt.timedelta(days=1)
        now = dt.datetime.now(dt.UTC)
        if expired:
            issued = self._authority.issue_cert(*names, not_before=now - 10 * day, not_after=now - day)
        else:
            issued = self._authority.issue_cert(*names)
        path = self.directory / f"{len(list(self.directory.iterdir()))}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def context(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """Return a server's context with such a certificate, for ``Origin(tls=...)``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate(*names, expired=expired))
        return context


def authority(directory: Path) -> Authority:
    """Create an authority that keeps its files below ``directory``."""
    home = directory / "authority"
    home.mkdir(parents=True)
    made = trustme.CA()
    ca_file = home / "ca.pem"
    made.cert_pem.write_to_path(str(ca_file))
    return Authority(home, ca_file, made)


@contextmanager
def nginx(root: Path, *, certificate: Path | None = None, location: str = "", server: str = "") -> Iterator[Server]:
    """Run nginx over ``root``; ``location`` and ``server`` add directives to those blocks (``limit_rate 1m;``)."""

    def command(home: Path, port: int) -> Sequence[str]:
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};" if certificate else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
        (home / "nginx.conf").write_text(f"""
            daemon off;
            {"user root;" if os.geteuid() == 0 else ""}
            worker_processes 1;
            pid {home}/pid;
            error_log {home}/error.log;
            events {{ worker_connections 512; }}
            http {{
                {temporary}
                access_log off;
                default_type application/octet-stream;
                sendfile on;
                server {{
                    listen {HOST}:{port}{" ssl" if certificate else ""};
                    {tls}
                    root {root};
                    {server}
                    location / {{ {location} }}
                }}
            }}
        """)
        return [_find("nginx"), "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"]

    with _running(root, command, scheme="https" if certificate else "http") as running:
        yield running


@contextmanager
def caddy(root: Path) -> Iterator[Server]:
    """Run Caddy over ``root``."""

    def command(home: Path, port: int) -> Sequence[str]:
        (home / "Caddyfile").write_text(f"""
            {{
                admin off
                auto_https off
            }}
            http://{HOST}:{port} {{
                root * {root}
                file_server
            }}
        """)
        return [_find("caddy"), "run", "--config", f"{home}/Caddyfile", "--adapter", "caddyfile"]

    with _running(root, command) as running:
        yield running


@contextmanager
def lighttpd(root: Path) -> Iterator[Server]:
    """Run lighttpd over ``root``."""

    def command(home: Path, port: int) -> Sequence[str]:
        (home / "lighttpd.conf").write_text(f"""
            server.document-root = "{root}"
            server.bind = "{HOST}"
            server.port = {port}
            server.upload-dirs = ( "{home}" )
            mimetype.assign = ( "" => "application/octet-stream" )
        """)
        return [_find("lighttpd"), "-D", "-f", f"{home}/lighttpd.conf"]

    with _running(root, command) as running:
        yield running


@contextmanager
def python_http(root: Path) -> Iterator[Server]:
    """Run Python's ``http.server`` over ``root``: HTTP/1.0, one request per connection, no ranges, no ETag."""

    def command(home: Path, port: int) -> Sequence[str]:
        return [sys.executable, "-m", "http.server", "--bind", HOST, "--directory", str(root), str(port)]

    with _running(root, command) as running:
        yield running


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _find(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def _running(root: Path, command: Callable[[Path, int], Sequence[str]], *, scheme: str = "http") -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="server-") as directory:
        home, port = Path(directory), free_port()
        environment = os.environ | {"HOME": directory, "XDG_DATA_HOME": directory, "XDG_CONFIG_HOME": directory}
        with (home / "output").open("wb") as output:
            process = subprocess.Popen(
                command(home, port),
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait_until_it_listens(process, port, home / "output")
            yield Server(root, port, scheme, process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their master


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = output.read_text(errors="replace")
                pytest.fail(f"{process.args!r} {'ended' if ended else 'does not listen'}: {said[-2000:]}")
            time.sleep(0.01)
        else:
            return
