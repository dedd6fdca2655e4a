"""``resumable serve`` as a process: how it starts, what it refuses, how it ends; downloads of other processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from recovery.states import State
from tests.command import ROOT, finish, run, run_async, start
from tests.hubs import TOKEN, Watcher, command, until
from tests.origin import Behaviour, Content, Origin

MIB = 1 << 20
SLOW = Content(6 * MIB, seed=31)

pytestmark = pytest.mark.blocking


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Return an origin with a file that takes a while, and one that fails at first."""
    with Origin() as server:
        server.put("/slow.bin", SLOW, Behaviour(rate=1 * MIB))
        yield server


async def watching(url: str) -> Watcher:
    """Return a client that watches everything."""
    watcher = Watcher(url, token=TOKEN, v=1, caps=["batch"])
    await watcher.connect()
    await watcher.subscribe()
    return watcher


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """In the words of pip, for whoever has the package and for whoever has a clone."""
    (tmp_path / "socketio.py").write_text("raise ModuleNotFoundError('No module named socketio', name='socketio')")
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "ui")])
    ended = run("serve", "--state", "state.db", cwd=tmp_path, PYTHONPATH=path)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1), ended
    assert "pip install 'resumable-downloads[web]'" in ended.err
    assert "pip install '.[web]'" in ended.err


# -- starting and ending -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_at_once_with_clients_connected(
    tmp_path: Path, origin: Origin, number: signal.Signals
) -> None:
    """Clients are told, what runs is kept to the last byte, and the process dies of the signal."""
    with command(tmp_path) as (process, url):
        page, idle = await watching(url), await watching(url)
        name = (await page.call("add_download", {"url": origin.url("/slow.bin")}))["download_id"]
        await page.until(lambda: page.sees(name)["bytes_done"] > MIB // 2)
        process.send_signal(number)
        await until(lambda: process.poll() is not None, "it ends", 10)
        assert process.returncode == -number
        for one in (page, idle):
            await one.until(partial(one.of, "server_shutdown"), "it was told")
            await one.close()
    sent = origin.body_bytes_sent()
    ended = await run_async("resume", name, "--state", "state.db", "--json", cwd=tmp_path)
    assert ended.code == 0, ended
    assert ended.last["bytes_resumed"] > MIB // 2
    assert (tmp_path / "slow.bin").read_bytes() == SLOW.read(0, SLOW.size)
    # Nothing is fetched twice but what was in socket buffers.
    assert origin.body_bytes_sent() - sent <= SLOW.size - ended.last["bytes_resumed"] + MIB


def test_the_address_is_printed_once_with_a_random_token(tmp_path: Path) -> None:
    """In the fragment, which no server and no proxy sees; another one each time."""
    tokens = set()
    for _ in range(2):
        process = start("serve", "--port", "0", "--state", "state.db", cwd=tmp_path)
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
        assert (ended.code, ended.out) == (-signal.SIGTERM, "")
        found = re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=([\w-]{32})\n", line)
        assert found is not None, line
        assert found[1] not in ended.err
        assert "Serving http://127.0.0.1:" in ended.err
        tokens.add(found[1])
    assert len(tokens) == 2


def test_any_token_survives_in_the_printed_link(tmp_path: Path) -> None:
    """A fragment has its own rules for plus, percent, ampersand and number sign."""
    process = start("serve", "--port", "0", "--state", "state.db", cwd=tmp_path, RESUMABLE_TOKEN="a+b/c%12==&d#e")
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert line.rstrip().partition("#token=")[2] == "a%2Bb%2Fc%2512%3D%3D%26d%23e"


def test_a_given_token_is_not_in_the_list_of_processes(tmp_path: Path) -> None:
    """From the environment it is in no argument; the printed address works with it."""
    with command(tmp_path, token="from-the-environment") as (process, url):
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"from-the-environment" not in words
        wrong = subprocess.run(["curl", "-sS", f"{url}/api/snapshot"], capture_output=True, text=True, check=True)
        assert json.loads(wrong.stdout)["error"]["code"] == "unauthorized"
        right = ["curl", "-sS", "-H", "Authorization: Bearer from-the-environment", f"{url}/api/snapshot"]
        assert json.loads(subprocess.run(right, capture_output=True, text=True, check=True).stdout)["ok"] is True


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """Which port, and what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run("serve", "--port", str(port), "--state", "state.db", cwd=tmp_path)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert f"port {port} of 127.0.0.1 is in use" in ended.err
    assert "--port" in ended.err


BAD_USE = [
    (["--host", "0.0.0.0"], "can be reached|open to other machines"),
    (["--host", "::"], "open to other machines"),
    (["--host", "0.0.0.0", "--no-auth"], "let anybody in"),
    (["--host", "example.invalid", "--token", "12345678"], "no address of this machine"),
    (["--host", "192.0.2.1", "--token", "12345678"], "cannot listen on 192.0.2.1"),
    (["--token", "short"], "8 to 200"),
    (["--token", "12345678", "--no-auth"], "not allowed with"),
    (["--port", "70000"], "whole number"),
    (["--prefix", "/../x"], "not a path"),
]


@pytest.mark.parametrize(("words", "expected"), BAD_USE, ids=lambda value: " ".join(value)[:40])
def test_wrong_use_is_one_line_and_code_2(tmp_path: Path, words: list[str], expected: str) -> None:
    """Nothing listens afterwards."""
    ended = run("serve", "--state", "state.db", *(() if "--port" in words else ("--port", "0")), *words, cwd=tmp_path)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1), ended
    assert re.search(expected, ended.err), ended.err


def test_every_address_needs_the_token_it_was_given(tmp_path: Path) -> None:
    """Listening on all addresses: the token is needed, and names other than loopback's must be allowed."""
    words = ["--host", "0.0.0.0", "--allow-host", "hub.example", "--viewer-token", "only-to-look"]
    with command(tmp_path, *words) as (_, url):

        def curl(*more: str) -> str:
            done = subprocess.run(
                ["curl", "-sS", *more, f"{url}/api/snapshot"], capture_output=True, text=True, check=True
            )
            return done.stdout

        assert '"unauthorized"' in curl()
        assert '"ok":true' in curl("-H", f"Authorization: Bearer {TOKEN}")
        assert '"ok":true' in curl("-H", "Authorization: Bearer only-to-look", "-H", "Host: hub.example")
        assert '"forbidden"' in curl("-H", f"Authorization: Bearer {TOKEN}", "-H", "Host: evil.example")


def test_a_state_file_that_cannot_be_used_is_said_and_served_all_the_same(tmp_path: Path) -> None:
    """The store never fails the work: what happens is kept in memory, and the health says so."""
    (tmp_path / "state.db").write_bytes(b"SQLite format 3\x00" + b"garbage" * 1000)
    with command(tmp_path) as (process, url):
        right = ["curl", "-sS", "-H", f"Authorization: Bearer {TOKEN}", f"{url}/api/recovery/status"]
        answer = json.loads(subprocess.run(right, capture_output=True, text=True, check=True).stdout)
        assert answer["operations"] == 0
        process.send_signal(signal.SIGTERM)
        assert "warning" in finish(process).err


# -- other processes ---------------------------------------------------------------------------------------------------


async def test_a_download_of_another_process_is_shown_and_steered(tmp_path: Path, origin: Origin) -> None:
    """``resumable get`` elsewhere: its numbers move, pause stops it there, resume takes it over here."""
    with command(tmp_path) as (_, url):
        page = await watching(url)
        getting = start("get", origin.url("/slow.bin"), "--state", "state.db", "--json", cwd=tmp_path)
        await page.until(lambda: page.downloads, "it is seen")
        (name,) = page.downloads
        await page.until(lambda: page.sees(name)["bytes_done"] > MIB // 2, "it moves")
        seen = page.sees(name)
        assert (seen["state"], seen["bytes_total"], seen["stale"]) == ("running", SLOW.size, False)
        answer = await page.act(name, "pause")
        assert answer["ok"], answer
        assert answer.get("pending") is True or answer["state"] == "paused"
        await page.until(lambda: page.sees(name)["state"] == "paused", "its process obeys")
        ended = finish(getting)
        assert (ended.code, ended.last["event"]) == (7, "paused")
        assert (await page.act(name, "resume"))["ok"]
        await page.until(lambda: page.sees(name)["state"] == "complete", "the hub finishes it", 30)
        assert (tmp_path / "slow.bin").read_bytes() == SLOW.read(0, SLOW.size)
        await page.close()


async def test_a_wait_in_another_process_is_ended_by_retry(tmp_path: Path, origin: Origin) -> None:
    """The countdown is shown, Retry now wakes the process that waits, and it finishes there."""
    origin.put("/late.bin", SLOW, script=[Behaviour(status=503, retry_after=120)])
    with command(tmp_path) as (_, url):
        page = await watching(url)
        getting = start("get", origin.url("/late.bin"), "--state", "state.db", "--json", cwd=tmp_path)
        await page.until(lambda: any(one["state"] == State.WAITING for one in page.downloads.values()), "it waits")
        (name,) = page.downloads
        seen = page.sees(name)
        assert seen["retry_at"] > time.time() + 60
        assert "retry_now" in seen["actions"]
        assert seen["error"]["category"] in {"server", "throttled"}
        assert (await page.act(name, "retry"))["ok"]
        await page.until(lambda: page.sees(name)["state"] == "complete", "it was woken", 20)
        assert finish(getting).code == 0
        await page.close()


async def test_a_full_disk_is_waited_for(tmp_path: Path, origin: Origin) -> None:
    """The command ends with 6 there; a server goes on when there is room, and its page says what to do."""
    origin.put("/huge.bin", Content(10**15, seed=32))
    with command(tmp_path) as (_, url):
        page = await watching(url)
        name = (await page.call("add_download", {"url": origin.url("/huge.bin")}))["download_id"]
        await page.until(lambda: page.sees(name)["state"] == "parked")
        assert page.sees(name)["error"]["code"] == "disk-full"
        assert page.sees(name)["actions"][:2] == ["free_space", "choose_folder"]
        await page.close()


async def test_a_dead_process_is_seen_and_its_download_taken_over(tmp_path: Path, origin: Origin) -> None:
    """kill -9: the page says that nobody answers; Resume continues at the last checkpoint."""
    with command(tmp_path) as (_, url):
        page = await watching(url)
        getting = start("get", origin.url("/slow.bin"), "--state", "state.db", "--json", cwd=tmp_path)
        await page.until(lambda: page.downloads, "it is seen")
        (name,) = page.downloads
        await page.until(lambda: page.sees(name)["bytes_done"] > MIB // 2, "it moves")
        getting.kill()
        getting.communicate()
        await page.until(lambda: page.sees(name)["stale"], "nobody answers", 30)
        assert "resume" in page.sees(name)["actions"]
        assert (await page.act(name, "resume"))["ok"]
        await page.until(lambda: page.sees(name)["state"] == "complete", "the hub finishes it", 40)
        assert (tmp_path / "slow.bin").read_bytes() == SLOW.read(0, SLOW.size)
        await page.close()


async def test_killed_and_started_again_the_hub_tells_the_truth(tmp_path: Path, origin: Origin) -> None:
    """A new epoch, nothing lost, revs that go on growing; with --resume it continues what it ran."""
    with command(tmp_path) as (process, url):
        page = await watching(url)
        name = (await page.call("add_download", {"url": origin.url("/slow.bin")}))["download_id"]
        await page.until(lambda: page.sees(name)["bytes_done"] > MIB // 2)
        before, epoch = page.sees(name), page.epoch
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        await page.close()
    with command(tmp_path, "--resume") as (_, url):
        page = await watching(url)
        assert page.epoch != epoch
        after = page.sees(name)
        assert after["rev"] > before["rev"]
        assert after["bytes_done"] >= before["bytes_done"]
        await page.until(lambda: page.sees(name)["state"] == "complete", "it goes on", 60)
        await page.close()


async def test_two_hubs_of_one_state_file_agree(tmp_path: Path, origin: Origin) -> None:
    """What one is told to do, the other shows, and the other way round."""
    with command(tmp_path) as (_, one_url), command(tmp_path) as (_, two_url):
        one, two = await watching(one_url), await watching(two_url)
        name = (await one.call("add_download", {"url": origin.url("/slow.bin")}))["download_id"]
        await two.until(lambda: two.sees(name)["bytes_done"] > 0, "the other sees it")
        assert (await two.act(name, "pause"))["ok"]
        await one.until(lambda: one.sees(name)["state"] == "paused")
        await two.until(lambda: two.sees(name)["state"] == "paused")
        assert (await one.act(name, "cancel"))["ok"]
        await two.until(lambda: two.sees(name)["state"] == "cancelled")
        await one.close()
        await two.close()
