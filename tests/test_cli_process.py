"""The real command as a process, against real servers: what a shell, a script or a person gets from it."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.command import Ended, environment, finish, run, start
from tests.mounts import mounted, remount
from tests.origin import Behaviour, Content, Origin
from tests.servers import authority

MIB = 1 << 20
SMALL = Content(3 * MIB, seed=11)

pytestmark = pytest.mark.blocking


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Return an origin that serves a small file."""
    with Origin() as server:
        server.put("/small.bin", SMALL)
        yield server


def get(*words: str | Path, cwd: Path) -> Ended:
    """Run `resumable get` with a state file in ``cwd``."""
    return run("get", *words, "--state", "state.db", cwd=cwd)


def without_traceback(ended: Ended) -> None:
    """Fail where a person would see the inside of the program."""
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err


# -- what a shell gets -------------------------------------------------------------------------------------------------


def test_stdout_is_the_path_and_the_file_is_right(tmp_path: Path, origin: Origin) -> None:
    """path=$(resumable get URL) works; a second time nothing is transferred."""
    ended = get(origin.url("/small.bin"), "--sha256", SMALL.sha256(), cwd=tmp_path)
    assert (0, f"{tmp_path / 'small.bin'}\n") == (ended.code, ended.out)
    assert SMALL.read(0, SMALL.size) == (tmp_path / "small.bin").read_bytes()
    assert "done: 3.1 MB" in ended.err
    sent = origin.body_bytes_sent()
    again = get(origin.url("/small.bin"), "--sha256", SMALL.sha256(), cwd=tmp_path)
    assert (0, ended.out, sent) == (again.code, again.out, origin.body_bytes_sent())


def test_a_server_without_ranges_does_too(tmp_path: Path) -> None:
    """Python's http.server, which knows neither ranges nor ETags."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "plain.bin").write_bytes(SMALL.read(0, SMALL.size))
    handler = functools.partial(QuietHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ended = get(f"http://127.0.0.1:{server.server_address[1]}/plain.bin", "-o", "x.bin", cwd=tmp_path)
        server.shutdown()
    assert (0, f"{tmp_path / 'x.bin'}\n") == (ended.code, ended.out)
    assert (root / "plain.bin").read_bytes() == (tmp_path / "x.bin").read_bytes()


class QuietHandler(SimpleHTTPRequestHandler):
    """http.server without its log."""

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_a_list_from_standard_input_keeps_links_out_of_ps(tmp_path: Path, origin: Origin) -> None:
    """Signed links and headers reach the origin, and neither output nor state file shows them."""
    origin.put("/two.bin", SMALL, Behaviour(login="Bearer hunter2"))
    (tmp_path / "headers").write_text("Authorization: Bearer hunter2\n")
    text = f"{origin.url('/small.bin?sig=hunter2')}\n  out=a/one.bin\n{origin.url('/two.bin')}\n"
    words = ["get", "-i", "-", "-H", "@headers", "-d", "out", "--state", "state.db", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "resumable", *words],
        input=text,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert {"one.bin", "two.bin"} == {path.name for path in (tmp_path / "out").rglob("*.bin")}
    assert any("hunter2" in one.target for one in origin.requests)
    assert "hunter2" not in done.stdout + done.stderr
    assert b"hunter2" not in b"".join(file.read_bytes() for file in tmp_path.glob("state.db*") if file.is_file())


@pytest.mark.parametrize("words", [(), ("-d", "models"), ("-o", "small.bin"), ("-i", "list")], ids=" ".join)
def test_no_clobber_counts_what_is_there_as_done(words: tuple[str, ...], tmp_path: Path, origin: Origin) -> None:
    """In the current folder, in one that is named, under a name that is given, and for each file of a list."""
    folder = tmp_path / "models" if "-d" in words else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "small.bin").write_bytes(b"hi")
    (tmp_path / "list").write_text(f"{origin.url('/small.bin')}\n{origin.url('/two.bin')}\n")
    origin.put("/two.bin", SMALL)
    listed = "-i" in words
    ended = get("--no-clobber", *words, *([] if listed else [origin.url("/small.bin")]), cwd=tmp_path)
    expected = [str(folder / "small.bin"), *([str(folder / "two.bin")] if listed else [])]
    assert (0, expected) == (ended.code, sorted(ended.out.splitlines())), ended
    assert "small.bin: done: 2 B, nothing left to transfer, not checked\n" in ended.err
    assert (folder / "small.bin").read_bytes() == b"hi"
    assert {one.path for one in origin.requests} == ({"/two.bin"} if listed else set())
    assert not list(folder.glob("*.1.*"))


def test_a_warning_is_printed_once(tmp_path: Path, origin: Origin) -> None:
    """When it is given, and not once more at the end."""
    (tmp_path / "small.bin").write_bytes(b"mine")
    ended = get(origin.url("/small.bin"), cwd=tmp_path)
    assert (ended.code, ended.err.count("is called small.1.bin")) == (0, 1), ended


@pytest.mark.parametrize("rot", [True, False])
@pytest.mark.parametrize("words", [(), ("-o", "small.bin")], ids=" ".join)
def test_a_damaged_file_is_repaired_as_verify_says(
    words: tuple[str, ...], rot: bool, tmp_path: Path, origin: Origin
) -> None:
    """Whoever damaged it, and whether the file's time tells of it or not."""
    link, file = origin.url("/small.bin"), tmp_path / "small.bin"
    assert get(link, *words, cwd=tmp_path).code == 0
    times = file.stat()
    file.write_bytes(SMALL.read(0, SMALL.size - 1) + b"x")
    if rot:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    damaged = run("verify", "small.bin", "--state", "state.db", cwd=tmp_path)
    assert damaged.code == 5
    advice = damaged.err.partition("To fetch it anew: resumable ")[2].split()
    assert advice == ["get", "URL", "-o", "small.bin", "--restart", "--state", "state.db"]
    repaired = run(*(link if word == "URL" else word for word in advice), cwd=tmp_path)
    assert (0, f"{file}\n") == (repaired.code, repaired.out)
    assert run("verify", "small.bin", "--state", "state.db", cwd=tmp_path).code == 0
    assert SMALL.read(0, SMALL.size) == file.read_bytes()


def test_several_files_end_with_the_worst_code(tmp_path: Path, origin: Origin) -> None:
    """What is there is fetched; what is not is named with its reason."""
    urls = [origin.url("/small.bin"), origin.url("/missing.bin")]
    ended = get(*urls, "--json", cwd=tmp_path)
    assert ended.code == 4
    ends = {line["event"]: line for line in ended.lines if line["event"] in {"completed", "failed", "summary"}}
    assert str(tmp_path / "small.bin") == ends["completed"]["path"]
    assert (ends["failed"]["error"]["category"], ends["summary"]["exit_code"]) == ("not-found", 4)
    without_traceback(ended)


# -- what goes wrong ---------------------------------------------------------------------------------------------------

BAD_USE = [
    ([], "no command"),
    (["get"], "no link"),
    (["get", "ftp://127.0.0.1/x"], "ftp:// is not supported"),
    (["get", "http://127.0.0.1:1/x", "--sha256", "12"], "not a SHA-256"),
    (["get", "http://127.0.0.1:1/x", "--limit-rate", "-1"], "not a rate"),
    (["get", "-i", "no-such-list"], "cannot read 'no-such-list'"),
    (["status", "nonsense"], "nonsense"),
    (["resume"], "no unfinished download"),
    (["verify", "small.bin"], "small.bin"),
]


@pytest.mark.parametrize(("words", "expected"), BAD_USE, ids=lambda value: " ".join(value)[:30])
def test_wrong_use_is_one_line_and_code_2(tmp_path: Path, words: list[str], expected: str) -> None:
    """On stderr; nothing is on stdout, nothing is begun."""
    (tmp_path / "small.bin").write_bytes(b"of which nothing is known")
    ended = run(*words, cwd=tmp_path, RESUMABLE_STATE=str(tmp_path / "state.db"))
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1), ended
    assert expected in ended.err


def test_a_folder_in_the_files_place_is_this_machines_fault(tmp_path: Path, origin: Origin) -> None:
    """Exit code 6, and the folder is as it was."""
    (tmp_path / "there").mkdir()
    ended = get(origin.url("/small.bin"), "-o", "there", cwd=tmp_path)
    assert (ended.code, ended.out, list((tmp_path / "there").iterdir())) == (6, "", []), ended
    without_traceback(ended)


def test_a_folder_that_cannot_be_made_is_this_machines_fault(tmp_path: Path, origin: Origin) -> None:
    """Exit code 6, also for root, whom permissions do not stop: the parent is a file."""
    (tmp_path / "file").write_text("")
    ended = get(origin.url("/small.bin"), "-d", "file/folder", cwd=tmp_path)
    assert (ended.code, ended.out) == (6, ""), ended
    without_traceback(ended)


def test_a_folder_that_cannot_be_written_is_this_machines_fault(tmp_path: Path, origin: Origin) -> None:
    """A read-only disk: code 6, the folder and the reason in one line, nothing tried over and over."""
    real = tmp_path / "real"
    real.mkdir()
    with mounted("none", tmp_path / "disk", "bind", source=str(real)) as disk:
        remount(disk, "ro,bind")
        ended = get(origin.url("/small.bin"), "-o", "disk/x.bin", cwd=tmp_path)
    assert ended.code == 6, ended
    assert "read-only" in ended.err
    assert len(origin.requests) <= 2
    without_traceback(ended)


def test_verbose_tells_of_each_request_what_was_asked_and_what_came(tmp_path: Path, origin: Origin) -> None:
    """Origin, range, status, validators, bytes and the decision to try again, and no secret."""
    origin.put("/moved", SMALL, Behaviour(location="/late.bin?sig=c4n4ry"))
    origin.put("/late.bin", SMALL, script=[Behaviour(cut_at=1000), Behaviour(status=503, retry_after=1)])
    ended = get(origin.url("/moved?key=c4n4ry"), "-v", "-c", "1", "-H", "X-Api-Key: c4n4ry", cwd=tmp_path)
    assert ended.code == 0, ended
    assert "c4n4ry" not in ended.err
    for expected in (
        f"request 1: GET {origin.url('/moved')}?key=*** (range: bytes=0-; with x-api-key)",
        "request 1: 302 to /late.bin?sig=*** after 0.",
        f"content-range: bytes 0-{SMALL.size - 1}/{SMALL.size}; content-length: {SMALL.size};",
        f"request 2: 1000 of {SMALL.size} bytes in ",
        "if-range: ",
        "503 after ",
        "retry-after: 1",
        "asked us to wait",
        "attempt 3 of 50 in ",
        f" {SMALL.size - 1000} bytes in ",
    ):
        assert expected in ended.err, (expected, ended.err)


def test_what_is_not_verbose_tells_of_no_request(tmp_path: Path, origin: Origin) -> None:
    """Whoever did not ask sees states and outcomes; the fault of a request is in those."""
    assert "request" not in get(origin.url("/small.bin"), cwd=tmp_path).err


def test_nobody_there_is_network_and_the_way_on_is_said(tmp_path: Path) -> None:
    """Exit code 3 after the tries; --retries 0 means none."""
    with Origin() as server:
        url = server.url("/x.bin")
    ended = get(url, "--retries", "0", cwd=tmp_path)
    assert (ended.code, ended.out) == (3, ""), ended
    assert "failed" in ended.err
    assert "Try again with: resumable retry d" in ended.err
    without_traceback(ended)


def test_a_server_that_always_says_later_uses_up_the_retries_that_were_named(tmp_path: Path, origin: Origin) -> None:
    """As with curl --retry 1: two requests and not fifty. Without a number such waits are no failures."""
    origin.put("/busy.bin", SMALL, Behaviour(status=429, retry_after=0))
    ended = get(origin.url("/busy.bin"), "--retries", "1", "--json", cwd=tmp_path)
    assert (ended.code, ended.last["error"]["code"], len(origin.seen("/busy.bin"))) == (3, "throttled", 2)


def test_a_wrong_digest_is_never_a_finished_file(tmp_path: Path, origin: Origin) -> None:
    """Exit code 5; what came is set aside, not published."""
    ended = get(origin.url("/small.bin"), "--sha256", "0" * 64, cwd=tmp_path)
    assert (ended.code, ended.out) == (5, ""), ended
    assert not (tmp_path / "small.bin").exists()
    without_traceback(ended)


BROKEN_STATES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"this is no database " * 1000),
    "newer": lambda path: newer(path),
    "folder": lambda path: path.mkdir(),
}


def newer(path: Path) -> None:
    """Make a state file that a later version of the program left."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1000000")
        connection.execute("CREATE TABLE operations (what_a_later_version_needs TEXT)")
    connection.close()


@pytest.mark.parametrize("kind", BROKEN_STATES)
def test_a_state_file_that_cannot_be_used_does_not_stop_a_download(tmp_path: Path, origin: Origin, kind: str) -> None:
    """The file arrives, one line says what will not be remembered, and nothing of the state is destroyed."""
    state = tmp_path / "state.db"
    BROKEN_STATES[kind](state)
    before = state.read_bytes() if state.is_file() else b""
    ended = get(origin.url("/small.bin"), cwd=tmp_path)
    assert ended.code == 0, ended
    assert SMALL.read(0, SMALL.size) == (tmp_path / "small.bin").read_bytes()
    assert "warning" in ended.err
    kept = [file.read_bytes() for file in tmp_path.glob("state.db*") if file.is_file()]
    assert before in kept or not before
    without_traceback(ended)


# -- readers that go away ----------------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_is_no_failure_to_shout_about(tmp_path: Path, origin: Origin) -> None:
    """`resumable get --json | head -1`: quiet, dead of SIGPIPE, and everything received is kept."""
    origin.put("/slow.bin", Content(16 * MIB, seed=3), Behaviour(rate=1 * MIB))
    process = start("get", origin.url("/slow.bin"), "--state", "state.db", "--json", "-q", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    ended = finish(process)
    assert ended.code == -13, ended
    without_traceback(ended)
    status = run("status", "--json", "--state", "state.db", cwd=tmp_path)
    assert [line["state"] for line in status.lines] == ["paused"]


def test_a_reader_that_sleeps_does_not_hold_up_the_download(tmp_path: Path, origin: Origin) -> None:
    """Nobody reads the pipe until the file is there."""
    origin.put("/slow.bin", Content(6 * MIB, seed=4), Behaviour(rate=2 * MIB))
    process = start("get", origin.url("/slow.bin"), "--state", "state.db", "--json", cwd=tmp_path)
    deadline = time.monotonic() + 40
    while not (tmp_path / "slow.bin").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = finish(process)
    assert (ended.code, ended.lines[-1]["event"]) == (0, "summary")


def test_help_to_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """`resumable --help | head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "resumable", "--help"]
    done = subprocess.run(
        words, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), timeout=30, check=False
    )
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("words", ["--help", "--version", "get --help", "status", "get URL -q"])
def test_a_full_disk_behind_stdout_is_said_once(tmp_path: Path, origin: Origin, words: str) -> None:
    """`resumable status > report` on a full disk: one line tells why, and the code that this machine is to blame."""
    given = [origin.url("/small.bin") if word == "URL" else word for word in words.split()]
    if "help" not in words and "version" not in words:
        given += ["--state", "state.db"]
    if words == "status":
        run("get", origin.url("/small.bin"), "--state", "state.db", cwd=tmp_path)
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "resumable", *given]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), timeout=30, check=False
        )
    said = "resumable: cannot write to standard output: No space left on device\n"
    assert (6, said) == (done.returncode, done.stderr.decode())


# -- several processes -------------------------------------------------------------------------------------------------


def test_one_process_pauses_and_another_resumes(tmp_path: Path, origin: Origin) -> None:
    """pause reaches the process that runs the download, which ends with 7; resume receives only the rest."""
    content = Content(12 * MIB, seed=6)
    origin.put("/slow.bin", content, Behaviour(rate=MIB // 2))
    process = start("get", origin.url("/slow.bin"), "-c", "1", "--state", "state.db", "--json", cwd=tmp_path)
    origin.wait_for(lambda: origin.body_bytes_sent("/slow.bin") > MIB)
    (view,) = run("status", "--json", "--state", "state.db", cwd=tmp_path).lines
    assert view["state"] == "running"
    paused = run("pause", view["download_id"][:6], "--state", "state.db", cwd=tmp_path)
    assert (paused.code, paused.err.split()[-1]) == (0, "paused"), paused
    ended = finish(process)
    assert (ended.code, ended.last["event"]) == (7, "paused"), ended
    origin.behave("/slow.bin", Behaviour())
    resumed = run("resume", "--state", "state.db", "--json", cwd=tmp_path)
    assert resumed.code == 0, resumed
    assert content.size == ended.last["bytes_received"] + resumed.last["bytes_received"]
    assert content.read(0, content.size) == (tmp_path / "slow.bin").read_bytes()


def test_cancel_deletes_the_part_file_when_told_to(tmp_path: Path, origin: Origin) -> None:
    """Also when another process was writing it a moment ago."""
    origin.put("/slow.bin", Content(12 * MIB, seed=7), Behaviour(rate=MIB // 2))
    process = start("get", origin.url("/slow.bin"), "-c", "1", "--state", "state.db", cwd=tmp_path)
    origin.wait_for(lambda: origin.body_bytes_sent("/slow.bin") > MIB)
    (view,) = run("status", "--json", "--state", "state.db", cwd=tmp_path).lines
    cancelled = run("cancel", view["download_id"], "--delete-part", "--state", "state.db", cwd=tmp_path)
    assert cancelled.code == 0, cancelled
    assert finish(process).code == 7
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("slow.bin")] == []


def test_a_fresh_link_saves_what_an_expired_one_left(tmp_path: Path, origin: Origin) -> None:
    """403 ends with code 4 and names relink; after it, resume receives only the rest."""
    content = Content(8 * MIB, seed=8)
    origin.put("/old.bin", content, script=[Behaviour(cut_at=5 * MIB)], behaviour=Behaviour(status=403))
    origin.put("/new.bin", content)
    ended = get(origin.url("/old.bin"), "-o", "x.bin", "-c", "1", "--json", cwd=tmp_path)
    assert ended.code == 4, ended
    assert "relink" in ended.err
    download_id = ended.last["download_id"]
    assert run("relink", download_id, origin.url("/new.bin"), "--state", "state.db", cwd=tmp_path).code == 0
    resumed = run("resume", download_id, "--state", "state.db", "--json", cwd=tmp_path)
    assert resumed.code == 0, resumed
    # 64 KiB beside the gap come twice, and of each of the five chunks kept: they prove that it is the same file.
    assert content.size + 6 * 64 * 1024 == ended.last["bytes_received"] + resumed.last["bytes_received"]
    assert content.read(0, content.size) == (tmp_path / "x.bin").read_bytes()


def test_after_a_mistyped_digest_the_same_get_with_the_right_one(tmp_path: Path, origin: Origin) -> None:
    """That is what the line says, and it works; a retry would fetch the same for the same digest, and is not named."""
    right = SMALL.sha256()
    wrong = get(origin.url("/small.bin"), "--sha256", "0" * 64, cwd=tmp_path)
    assert (wrong.code, "resumable retry" in wrong.err) == (5, False), wrong
    assert "If the expected digest is wrong: the same get again with the right --sha256" in wrong.err
    assert "retry --failed" not in run("status", "--state", "state.db", cwd=tmp_path).err
    again = get(origin.url("/small.bin"), "--sha256", right, cwd=tmp_path)
    assert again.code == 0, again
    assert SMALL.read(0, SMALL.size) == (tmp_path / "small.bin").read_bytes()


def test_all_that_failed_are_tried_again_with_one_command(tmp_path: Path, origin: Origin) -> None:
    """Not with seven clicks for each (AriaNg#662): what is done stays done, what was cancelled stays cancelled."""
    for name in "abc":
        origin.put(f"/{name}", SMALL, Behaviour(status=404))
    urls = [origin.url(f"/{name}") for name in "abc"]
    assert get(*urls, origin.url("/small.bin"), cwd=tmp_path).code == 4
    listed = run("status", "--state", "state.db", cwd=tmp_path)
    assert "3 failed. Go on with: resumable retry --failed --state state.db" in listed.err
    cancelled = next(view["download_id"] for view in views(tmp_path) if view["url"].endswith("/c"))
    assert run("cancel", cancelled, "--state", "state.db", cwd=tmp_path).code == 0
    for name in "abc":
        origin.behave(f"/{name}", Behaviour())
    again = run("retry", "--failed", "--state", "state.db", cwd=tmp_path)
    assert (again.code, len(again.out.splitlines())) == (0, 2), again
    assert [view["state"] for view in views(tmp_path)].count("complete") == 3


def views(folder: Path) -> list[dict[str, Any]]:
    """Return what ``status`` knows."""
    return run("status", "--json", "--state", "state.db", cwd=folder).lines


# -- afterwards --------------------------------------------------------------------------------------------------------


def test_verify_finds_what_rotted_and_prune_forgets(tmp_path: Path, origin: Origin) -> None:
    """A flipped byte in the finished file is located; forgetting leaves the file alone."""
    assert get(origin.url("/small.bin"), cwd=tmp_path).code == 0
    good = run("verify", "small.bin", "--state", "state.db", cwd=tmp_path)
    assert (good.code, good.out) == (0, "small.bin\n"), good
    data = bytearray((tmp_path / "small.bin").read_bytes())
    data[MIB + 5] ^= 0xFF
    (tmp_path / "small.bin").write_bytes(data)
    bad = run("verify", "small.bin", "--state", "state.db", "--json", cwd=tmp_path)
    assert (bad.code, json.loads(bad.out)["damaged"]) == (5, [[MIB, 2 * MIB]]), bad
    pruned = run("prune", "--older-than", "0", "--state", "state.db", "--json", cwd=tmp_path)
    assert (pruned.code, pruned.lines[0]["downloads"]) == (0, 1), pruned
    assert run("status", "--all", "--state", "state.db", cwd=tmp_path).out == ""
    assert (tmp_path / "small.bin").exists()


def test_status_tells_one_download_in_full(tmp_path: Path, origin: Origin) -> None:
    """With its attempts."""
    assert get(origin.url("/small.bin?sig=hunter2"), "-o", "s.bin", cwd=tmp_path).code == 0
    (view,) = run("status", "--json", "--state", "state.db", cwd=tmp_path).lines
    told = run("status", view["download_id"], "--state", "state.db", cwd=tmp_path)
    assert told.code == 0
    assert "complete" in told.out
    assert "attempt 1" in told.out
    assert "hunter2" not in told.out


def test_the_command_starts_without_reading_certificates() -> None:
    """aiohttp would, twice, at import; the contexts of others come with theirs again afterwards."""
    script = """
import ssl
read = []
real = ssl.SSLContext.set_default_verify_paths
def reads(self):
    read.append(self)
    return real(self)
ssl.SSLContext.set_default_verify_paths = reads
from resumable_ui.running import _manager_type
_manager_type()
import aiohttp.connector
assert read == [], read
assert ssl.SSLContext.set_default_verify_paths is reads
ssl.create_default_context()
ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_default_verify_paths()
assert len(read) == 2
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_the_command_trusts_whom_this_machine_trusts(tmp_path: Path) -> None:
    """Although aiohttp is imported without certificates: our own context reads them, and refuses a stranger."""
    ca = authority(tmp_path)
    with Origin(tls=ca.context("127.0.0.1")) as origin:
        origin.put("/file", b"content")
        words = (origin.url("/file"), "--retries", "0", "-o", "file.bin")
        stranger = get(*words, cwd=tmp_path)
        seen = len(origin.requests)
        known = run("get", *words, "--state", "state.db", cwd=tmp_path, SSL_CERT_FILE=str(ca.ca_file))
    assert "unable to get local issuer certificate" in stranger.err, stranger
    assert (stranger.code, seen, stranger.out) == (3, 0, "")
    assert (known.code, (tmp_path / "file.bin").read_bytes()) == (0, b"content"), known
