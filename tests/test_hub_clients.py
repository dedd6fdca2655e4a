"""Clients of all kinds: rooms and snapshots, those of the source application, and those that read too slowly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.journal import JsonValue, OperationSpec
from recovery.records import Change
from recovery.states import State
from resumable.events import DownloadView
from resumable.manager import DownloadManager
from resumable_ui.clients import DROP_AT_ONCE_BYTES, Bucket
from tests.hubs import TOKEN, Served, Watcher, served, until
from tests.managing import Damage
from tests.origin import Behaviour, Content, Origin

MIB = 1 << 20

pytestmark = pytest.mark.blocking


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Served]:
    """Return a hub."""
    async with served(tmp_path) as serving:
        yield serving


def view(name: str, **fields: Any) -> DownloadView:
    """Return a view of a download that no process runs."""
    fields = {"state": State.RUNNING, "bytes_total": 1000, "project_id": "p", "filename": f"{name}.bin", **fields}
    return DownloadView(download_id=name, created_at=1.0, **fields)


def progress_of(payloads: list[Any], name: str) -> list[dict[str, Any]]:
    """Return what progress events say of a download, in order."""
    items = [item["progress"] for payload in payloads for item in payload.get("items", [payload])]
    return [progress for progress in items if progress["download_id"] == name]


# -- rooms -------------------------------------------------------------------------------------------------------------


async def test_everybody_hears_what_concerns_his_rooms_once(hub: Served) -> None:
    """Members of several rooms too; who left hears no more."""
    every = await hub.watcher("all", "project:p", "download:d1")
    project = await hub.watcher("project:p")
    other = await hub.watcher("project:q")
    one = await hub.watcher("download:d2")
    recovery = await hub.watcher("recovery")
    nothing = await hub.watcher()
    hub.hub.show(view("d1"))
    await every.until(lambda: every.sees("d1")["state"] == "running")
    await project.until(lambda: project.sees("d1")["state"] == "running")
    hub.hub.show(view("d2", project_id="r"))
    await one.until(lambda: one.sees("d2")["state"] == "running")
    await every.until(lambda: every.sees("d2")["state"] == "running")
    assert [len(progress_of(every.of("progress_batch"), name)) for name in ("d1", "d2")] == [1, 1]
    assert set(project.downloads) == {"d1"}
    assert set(one.downloads) == {"d2"}
    assert not any(client.downloads for client in (other, recovery, nothing))
    assert (await project.call("unsubscribe", {"rooms": ["project:p"]}))["ok"]
    hub.hub.show(view("d1", bytes_done=500, attempt=2))
    await every.until(lambda: every.sees("d1")["bytes_done"] == 500)
    await asyncio.sleep(0.15)
    assert project.sees("d1")["bytes_done"] == 0


async def test_the_snapshot_is_in_the_acknowledgement(hub: Served) -> None:
    """With everything a client needs to begin, and nothing it could miss between it and the first event."""
    hub.hub.show(view("d1", bytes_done=10))
    page = await hub.watcher()
    snapshot = await page.subscribe("all")
    assert (snapshot["ok"], snapshot["v"], snapshot["settings"]) == (True, 1, {"max_hz": 10.0})
    assert [download["bytes_done"] for download in snapshot["downloads"]] == [10]
    assert [project["project_id"] for project in snapshot["projects"]] == ["p"]
    before = snapshot["seq"]
    hub.hub.show(view("d1", bytes_done=20))
    await page.until(lambda: page.sees("d1")["bytes_done"] == 20)
    (event,) = page.of("progress_batch")
    assert (event["epoch"], event["v"]) == (snapshot["epoch"], 1)
    assert event["seq"] > before
    assert event["ts"] >= snapshot["ts"]
    for rooms in (None, "all", ["everything"], [7]):
        answer = await page.call("subscribe", {"rooms": rooms})
        assert (answer["ok"], answer["error"]["code"]) == (False, "bad_request")


async def test_progress_comes_ten_times_a_second_and_the_last_one_always(hub: Served) -> None:
    """Of a hundred changes in half a second few are sent, and the newest is among them."""
    page = await hub.watcher("all")
    hub.hub.show(view("d1"))
    for n in range(1, 101):
        hub.hub.show(view("d1", bytes_done=n))
        await asyncio.sleep(0.005)
    await page.until(lambda: page.sees("d1")["bytes_done"] == 100)
    seen = [one["bytes_done"] for one in progress_of(page.of("progress_batch"), "d1")]
    assert seen == sorted(seen)
    assert len(seen) <= 20


async def test_changes_of_state_are_all_sent_and_at_once(hub: Served) -> None:
    """None is merged into another, however fast they come."""
    page = await hub.watcher("all")
    states = [State.QUEUED, State.RUNNING, State.WAITING, State.RUNNING, State.VERIFYING, State.COMPLETE]
    for attempt, state in enumerate(states, start=1):
        hub.hub.show(view("d1", state=state, attempt=attempt))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await page.until(lambda: page.sees("d1")["state"] == "complete")
    assert [one["state"] for one in progress_of(page.of("progress_batch"), "d1")] == [state.value for state in states]


async def finished(hub: Served) -> tuple[Watcher, str]:
    """Return a page that shows a complete download, and its id."""
    with Origin() as origin:
        origin.put("/f.bin", b"x" * 10)
        page = await hub.watcher("all")
        handle = hub.manager.start(origin.url("/f.bin"), directory=hub.folder)
        await handle
        await page.until(lambda: page.sees(handle.download_id)["state"] == "complete")
    return page, handle.download_id


async def test_what_is_forgotten_is_removed(hub: Served) -> None:
    """Pruned by another process: the row disappears from the page."""
    page, download_id = await finished(hub)
    from resumable.manager import DownloadManager

    async with DownloadManager(state=hub.folder / "state.db") as elsewhere:
        assert await elsewhere.prune(older_than_s=0) == 1
    await page.until(lambda: download_id not in page.downloads)
    assert [one["reason"] for one in page.of("download_removed")] == ["pruned"]


async def test_a_state_file_that_is_begun_anew_is_said_to_have_lost_its_downloads(hub: Served) -> None:
    """Nobody pruned them; the page shows what is in the new file."""
    page, download_id = await finished(hub)
    await asyncio.sleep(0.3)
    await hub.manager._database.write(Damage())
    await page.until(lambda: download_id not in page.downloads)
    assert [one["reason"] for one in page.of("download_removed")] == ["lost"]


async def test_what_another_process_cancels_late_is_deleted_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement says that it is pending; the part file goes once nobody writes to it any more."""
    monkeypatch.setattr("resumable.catalog._SETTLE_S", 0.2)
    part = tmp_path / "f.bin.part"
    with Origin() as origin:
        origin.put("/f.bin", Content(8 * MIB, seed=1), Behaviour(rate=2 * MIB))
        async with DownloadManager(state=tmp_path / "state.db") as manager:
            handle = manager.start(origin.url("/f.bin"), tmp_path / "f.bin")
            await until(lambda: handle.view.bytes_done > 0, "it runs")
        name = handle.download_id
    async with served(tmp_path) as hub:
        page = await hub.watcher("all")
        await hub.manager.retry(name)
        generation = await hub.journal.claim(name, owner="elsewhere", ttl_s=1e6, now=time.time())
        assert generation is not None
        answer = await page.act(name, "cancel", args={"delete_part": True})
        assert (answer["ok"], answer.get("pending"), part.exists()) == (True, True, True)
        await hub.journal.record(name, generation, Change(state=State.CANCELLED, now=time.time()))
        await until(lambda: not part.exists(), "it is deleted")
        await page.until(lambda: (page.sees(name)["state"], page.sees(name)["bytes_done"]) == ("cancelled", 0))


# -- recovery ----------------------------------------------------------------------------------------------------------


async def test_an_operation_that_is_no_download_is_shown_and_steered(hub: Served) -> None:
    """Any ``@recoverable`` operation with a journal: its steps are events, Retry and Cancel act."""
    page = await hub.watcher("recovery")
    journal = hub.journal
    spec = OperationSpec(kind="import_workflow", key="w1", operation_id="o1", project="p", title="workflow 1")
    now = time.time()
    _, generation = await journal.begin_and_claim(spec, owner="other", ttl_s=1e9, now=now)
    assert generation is not None
    await page.until(lambda: page.of("recovery_update"))
    update = page.of("recovery_update")[-1]
    assert (update["operation_id"], update["function_name"], update["download_id"]) == ("o1", "import_workflow", None)
    answer = await page.act("o1", "retry")
    assert (answer["ok"], answer.get("pending")) == (True, True)
    assert [command.name for command in await journal.take_commands(["o1"])] == ["retry_now"]
    await journal.record("o1", generation, Change(state=State.FAILED, now=now + 5))
    await page.until(lambda: page.of("recovery_completed"))
    done = page.of("recovery_completed")[-1]
    assert (done["success"], done["final_state"]) == (False, "failed")
    status, listed = await hub.http("GET", "/api/recovery/operations")
    assert (status, [one["operation_id"] for one in listed["operations"]]) == (200, ["o1"])
    assert (await hub.http("POST", "/api/recovery/operations/o1/retry"))[1]["state"] == "queued"
    assert (await hub.http("POST", "/api/recovery/operations/o1/cancel"))[1]["state"] == "cancelled"


async def test_a_paused_operation_goes_on(hub: Served) -> None:
    """Resume is its button, as a download's."""
    page = await hub.watcher("recovery")
    now = time.time()
    spec = OperationSpec(kind="import_workflow", key="w1", operation_id="o1", project="p")
    _, generation = await hub.journal.begin_and_claim(spec, owner="other", ttl_s=1e9, now=now)
    assert generation is not None
    await hub.journal.record("o1", generation, Change(state=State.PAUSED, now=now))
    answer = await page.act("o1", "resume")
    assert (answer["ok"], answer.get("state"), answer.get("pending")) == (True, "queued", None), answer


async def test_operations_that_are_over_are_forgotten(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that runs for months beside Celery workers keeps none that ended well, and lists none that was pruned."""
    monkeypatch.setattr("resumable_ui.lookout.OPERATIONS_EVERY", 2)
    page = await hub.watcher("recovery")
    journal, now = hub.journal, time.time()
    for name, state in (("good", State.COMPLETE), ("bad", State.FAILED), ("gone", State.FAILED)):
        spec = OperationSpec(kind="import_workflow", key=name, operation_id=name, project="p")
        _, generation = await journal.begin_and_claim(spec, owner="other", ttl_s=1e9, now=now)
        assert generation is not None
        await journal.record(name, generation, Change(state=state, now=now))
    await page.until(lambda: len(page.of("recovery_completed")) == 3)
    board = hub.hub._board
    assert board.operation("good") is None
    assert {one["operation_id"] for one in board.operations()} == {"bad", "gone"}
    await journal.forget(["gone"])
    await until(lambda: board.operation("gone") is None, "the pruned one is forgotten")
    assert [one["operation_id"] for one in (await page.subscribe("recovery"))["operations"]] == ["bad"]


async def test_a_host_that_is_left_alone_is_told(hub: Served) -> None:
    """From the shared table of gates, whoever opened it; to whoever finds the gates in his snapshot."""
    page, other = await hub.watcher("all"), await hub.watcher("project:p")
    record: dict[str, JsonValue] = {"phase": "open", "failures": 5, "until": 9e9}
    await hub.journal.change_gate("origin.example", lambda _old: (record, None))
    await page.until(lambda: page.of("circuit_breaker_update"))
    await other.until(lambda: other.of("circuit_breaker_update"))
    (told,) = page.of("circuit_breaker_update")
    assert (told["host"], told["state"], told["failures"]) == ("origin.example", "OPEN", 5)
    assert [gate["host"] for gate in (await page.subscribe("all"))["gates"]] == ["origin.example"]
    assert (await hub.http("GET", "/api/recovery/status"))[1]["gates"][0]["state"] == "OPEN"


async def test_what_happened_to_a_project_is_its_log(hub: Served) -> None:
    """Lines for those who watch the project, not for everybody."""
    with Origin() as origin:
        origin.put("/f.bin", Content(MIB, seed=1), script=[Behaviour(cut_at=MIB // 2)])
        watching, every = await hub.watcher("project:p"), await hub.watcher("all")
        await hub.manager.start(origin.url("/f.bin"), directory=hub.folder, project="p")
    await watching.until(lambda: any(one["log"]["message"] == "completed" for one in watching.of("log_entry")))
    lines = watching.of("log_entry")
    assert {line["project_id"] for line in lines} == {"p"}
    assert {"timestamp", "level", "message", "data"} == set(lines[0]["log"])
    assert not every.of("log_entry")


# -- clients of the source application ---------------------------------------------------------------------------------


async def test_a_client_that_names_no_version_gets_every_progress_update(hub: Served) -> None:
    """At once and unbatched, in the shape its front end reads; what is under way is sent first."""
    hub.hub.show(view("d0", bytes_done=500))
    old = Watcher(hub.url, token=TOKEN)
    await old.connect(transports=["polling", "websocket"])
    await old.until(lambda: old.sees("d0")["bytes_done"] == 500)
    hub.hub.show(view("d1", bytes_done=250))
    await old.until(lambda: old.sees("d1")["bytes_done"] == 250)
    update = old.of("progress_update")[-1]
    assert update["project_id"] == "p"
    progress = update["progress"]
    assert (progress["stage"], progress["progress"]) == ("downloading", 37.5)
    assert (progress["current_file"], progress["file_progress"]) == ("d1.bin", 25.0)
    assert (progress["current"], progress["total"], progress["status"]) == (250, 1000, "downloading")
    assert not old.of("progress_batch")
    await old.close()


@pytest.mark.parametrize(
    ("join", "leave"), [("subscribe_project", "unsubscribe_project"), ("join_project", "leave_project")]
)
@pytest.mark.parametrize("bare", [True, False])
async def test_projects_are_joined_by_the_names_in_use(hub: Served, join: str, leave: str, bare: bool) -> None:
    """An object or a bare id; the present state comes as an event and as the acknowledgement."""
    hub.hub.show(view("d1", bytes_done=10))
    page = await hub.watcher()
    data = "p" if bare else {"project_id": "p"}
    answer = await page.call(join, data)
    assert [download["download_id"] for download in answer["downloads"]] == ["d1"]
    await page.until(lambda: page.sees("d1")["bytes_done"] == 10)
    assert len(page.of("progress_update")) == 1
    assert (await page.call(leave, data))["ok"]
    hub.hub.show(view("d1", bytes_done=20))
    await asyncio.sleep(0.2)
    assert page.sees("d1")["bytes_done"] == 10
    assert (await page.call(join, 7))["error"]["code"] == "bad_request"


async def test_progress_by_its_old_name_is_an_option(tmp_path: Path) -> None:
    """The web client of the source application listens for ``progress``."""
    async with served(tmp_path, legacy_progress=True) as hub:
        old = await hub.watcher(v=None)
        hub.hub.show(view("d1", bytes_done=250))
        await old.until(lambda: old.of("progress"))
        event = old.of("progress")[-1]
        assert (event["project_id"], event["stage"], event["progress"]) == ("p", "downloading", 25.0)


# -- slow clients ------------------------------------------------------------------------------------------------------


def sleeping(url: str) -> socket.socket:
    """Connect with a token and subscribe by hand, with small buffers, and read nothing afterwards."""
    host, _, port = url.removeprefix("http://").partition(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((host, int(port)))
    request = (
        f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    raw.sendall(request.encode())
    for text in ("40" + json.dumps({"token": TOKEN, "v": 1}), '420["subscribe",{"rooms":["all"]}]'):
        data = text.encode()
        raw.sendall(struct.pack("!BBI", 0x81, 0x80 | len(data), 0) + data)
    return raw


async def test_a_client_that_reads_nothing_misses_progress_and_delays_nobody(hub: Served) -> None:
    """Its queue stays short; it is sent a snapshot once it reads again, and changes of state in between."""
    url = "x" * 20_000
    with sleeping(hub.url) as raw:
        await until(lambda: len(hub.hub.clients) == 1)
        (slow,) = hub.hub.clients
        await until(lambda: slow.rooms)
        page = await hub.watcher("all")
        for n in range(1, 3000):
            hub.hub.show(view("d1", bytes_done=n, url=url))
            if n % 10 == 0:
                hub.flush()
                await asyncio.sleep(0)
            if slow.flow.skipping:
                break
        assert slow.flow.skipping
        packets, size = hub.backlog(slow)
        assert packets <= 66
        assert size <= 512 << 10
        hub.hub.show(view("d1", bytes_done=5000, bytes_total=6000, state=State.PAUSED, url=url))
        await page.until(lambda: page.sees("d1")["state"] == "paused")
        raw.setblocking(False)
        loop, heard = asyncio.get_running_loop(), b""
        async with asyncio.timeout(10):
            while b'["snapshot"' not in heard:
                heard = heard[-200_000:] + await loop.sock_recv(raw, 1 << 16)
        assert b'"state":"paused"' in heard


async def test_what_comes_when_a_client_has_caught_up_is_sent_after_the_snapshot(
    hub: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot does not say what was forgotten; and a change of state that a tick takes is not skipped."""
    page = await hub.watcher("all")
    hub.hub.show(view("d1"))
    hub.hub.show(view("d2"))
    await page.until(lambda: page.sees("d2")["state"] == "running")
    sockets, broadcaster = hub.hub._sockets, hub.hub._broadcaster
    assert sockets is not None
    assert broadcaster is not None
    with monkeypatch.context() as slow:
        slow.setattr(sockets, "backlog", lambda _sid: (100, 0))
        hub.hub.show(view("d1", bytes_done=6))
        hub.flush()
        assert [client.flow.skipping for client in hub.hub.clients] == [True]
        hub.hub.show(view("d1", bytes_done=7, state=State.PAUSED))
        hub.flush()
    await page.until(lambda: page.sees("d1")["state"] == "paused")
    broadcaster.clients[next(iter(broadcaster.clients))].flow.skipping = True
    broadcaster.removed("d2", "pruned")
    await page.until(lambda: page.of("download_removed"))
    assert [name for name, _ in page.events[-2:]] == ["snapshot", "download_removed"]


async def test_answers_are_not_kept_for_who_does_not_read_them(hub: Served) -> None:
    """A client that asks on and on and reads nothing is disconnected before it costs memory."""
    for n in range(400):
        hub.hub.show(view(f"d{n}", url="x" * 1000))
    with sleeping(hub.url) as raw:
        await until(lambda: len(hub.hub.clients) == 1)
        (slow,) = hub.hub.clients
        slow.snapshots = Bucket(burst=1000, rate=1000)
        worst = 0
        for n in range(200):
            data = f'42{n}["subscribe",{{"rooms":["all"]}}]'.encode()
            raw.sendall(struct.pack("!BBI", 0x81, 0x80 | len(data), 0) + data)
            await asyncio.sleep(0.005)
            worst = max(worst, hub.backlog(slow)[1])
            if slow not in hub.hub.clients:
                break
        await until(lambda: not hub.hub.clients, "it is shown out")
        assert worst < 16 << 20


async def test_questions_are_paced(hub: Served) -> None:
    """Snapshots and details cost the hub most: each client gets a few at once, and then some a second."""
    page = await hub.watcher("all")
    codes = []
    for event, data in (("subscribe", {"rooms": ["all"]}), ("operation_details", {"operation_id": "x"})):
        answers = await asyncio.gather(*(page.call(event, data) for _ in range(300)))
        codes.append({answer.get("error", {}).get("code") for answer in answers})
    assert codes == [{None, "rate_limited"}, {"not_found", "rate_limited"}]


async def test_a_legacy_client_is_told_of_thousands(hub: Served) -> None:
    """As fast as it reads, and not at once: it is not taken for one that does not read."""
    for n in range(2000):
        hub.hub.show(view(f"d{n}"))
    old = await hub.watcher(v=None)
    await old.until(lambda: len(old.downloads) == 2000, timeout_s=30)


async def test_a_client_whose_queue_only_grows_is_disconnected(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """By changes of state, which are never skipped; it resyncs when it comes back."""
    monkeypatch.setattr("resumable_ui.clients.DROP_ABOVE", 50)
    with sleeping(hub.url):
        await until(lambda: len(hub.hub.clients) == 1)
        (slow,) = hub.hub.clients
        await until(lambda: slow.rooms)
        page = await hub.watcher("all")
        base = view("d1", url="x" * 20_000)
        for n in range(1, 1000):
            hub.hub.show(replace(base, attempt=n))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if slow not in hub.hub.clients:
                break
        assert slow not in hub.hub.clients
        await until(lambda: hub.hub.connections == 1, "its connection is gone")
        await page.until(lambda: page.sees("d1")["attempt"] == n)


async def test_a_burst_disconnects_nobody_who_reads(hub: Served) -> None:
    """More in one turn than a queue may have for long: how well an operation ended is in no later snapshot."""
    reader = await hub.watcher("all")
    journal, now = hub.journal, time.time()
    names = [f"o{n}" for n in range(600)]

    def end_all(connection: Any) -> None:
        for name in names:
            row, generation = journal.begin_and_claim_in(
                connection, OperationSpec(kind="job", key=name), name, owner="me", ttl_s=9, now=now
            )
            assert generation is not None
            journal.record_in(connection, row.operation_id, generation, Change(state=State.COMPLETE, now=now))

    await journal.transact(end_all)
    await reader.until(lambda: not reader.client.connected or len(reader.of("recovery_completed")) == len(names))
    assert sorted(one["operation_id"] for one in reader.of("recovery_completed")) == sorted(names)
    assert reader.client.connected


async def test_a_question_in_a_burst_is_answered(hub: Served) -> None:
    """Once there is room for the answer."""
    reader = await hub.watcher("all")
    broadcaster = hub.hub._broadcaster
    assert broadcaster is not None
    (client,) = hub.hub.clients
    for _ in range(1100):
        broadcaster.tell("news", {}, lambda _: True)
    assert hub.backlog(client)[0] == 1100
    assert await broadcaster.may_be_answered(client)
    assert client.held == 0
    await reader.until(lambda: len(reader.of("news")) == 1100)


async def test_what_nobody_reads_is_bounded_within_a_turn(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far too much is not waited for; it is dropped once, and so are its questions."""
    await hub.watcher("all")
    broadcaster, sockets = hub.hub._broadcaster, hub.hub._sockets
    assert broadcaster is not None
    assert sockets is not None
    (client,) = hub.hub.clients
    dropped: list[str] = []
    drop = sockets.drop

    async def count(sid: str) -> None:
        dropped.append(sid)
        await drop(sid)

    monkeypatch.setattr(sockets, "drop", count)
    worst = 0
    for _ in range(100):
        broadcaster._deliver("x" * MIB, [client], lossy=False)
        worst = max(worst, hub.backlog(client)[1])
    assert worst == DROP_AT_ONCE_BYTES + MIB
    assert not await broadcaster.may_be_answered(client)
    await until(lambda: hub.hub.connections == 0, "its connection is gone")
    assert dropped == [client.sid]
