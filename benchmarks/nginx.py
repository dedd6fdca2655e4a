"""A real nginx on loopback for the length of a benchmark."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_CONFIG = """
daemon off; master_process on; worker_processes 2; pid {run}/nginx.pid; error_log {run}/error.log warn; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; etag on; server_tokens off;
  client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u;
  scgi_temp_path {run}/s;
  server {{ listen {address}:{port} {listen} reuseport; {keys} root {root}; location / {{ {rate} }} }}
}}
"""


def free_port() -> int:
    """Return a port that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    root: Path,
    *,
    limit_rate: str | None = None,
    tls: Path | None = None,
    space: str | None = None,
    address: str = "127.0.0.1",
) -> Iterator[str]:
    """Serve ``root`` and yield the base URL.

    ``limit_rate`` is nginx's (per connection), such as ``10m``. With ``tls`` it speaks HTTPS, and a new authority's
    certificate is put into that folder as ``ca.pem``. ``space`` is a network namespace to serve in, at ``address``.
    Raises
    RuntimeError without nginx.
    """
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="nginx-") as run:
        port = free_port()
        config = Path(run) / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        rate = f"limit_rate {limit_rate};" if limit_rate else ""
        listen = "ssl" if tls else ""
        keys = _certificate(Path(run), tls) if tls else ""
        config.write_text(
            _CONFIG.format(
                run=run, port=port, root=root, rate=rate, user=user, listen=listen, keys=keys, address=address
            )
        )
        inside = ["ip", "netns", "exec", space] if space else []
        process = subprocess.Popen([*inside, binary, "-c", str(config), "-e", f"{run}/error.log"])
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"http{'s' if tls else ''}://{address}:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _certificate(run: Path, folder: Path) -> str:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(run / "server.pem"))
    return f"ssl_certificate {run}/server.pem; ssl_certificate_key {run}/server.pem;"
