"""The commands in front of a manager: what they ask of it, what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.health import Health
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.verdict import UserAction
from resumable.errors import DestinationError, DownloadCancelled, NeedsLink, StatusError
from resumable.events import DownloadView, ErrorView
from resumable.model import Options, Result
from resumable.ranges import Span
from resumable_ui.console import Console
from resumable_ui.grammar import parse
from resumable_ui.output import LineWriter
from resumable_ui.running import run_command
from tests.fake_manager import Ending, FakeManager

A, B = "https://a.example/one.bin", "https://b.example/two.bin"


def result_of(name: str = "one.bin") -> Result:
    """Return a finished download."""
    return Result(
        path=Path("/d") / name,
        size=10,
        sha256=None,
        bytes_resumed=0,
        bytes_received=10,
        attempts=1,
        elapsed=2.0,
        verified_by="etag",
    )


class Ran:
    """A command that has run: its code, what killed it, and its lines."""

    def __init__(self, words: list[str], manager: FakeManager, folder: Path, *, terminal: bool = False) -> None:
        files = [folder / "stdout", folder / "stderr"]
        ends = [os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for file in files]
        console = Console(LineWriter(ends[0]), LineWriter(ends[1]), terminal=terminal)
        ended = run_command(parse(words, {}), console, make_manager=manager)  # type: ignore[arg-type]
        console.close()
        for end in ends:
            os.close(end)
        self.code, self.stopped_by = ended.code, ended.stopped_by
        self.out, self.err = (file.read_bytes().decode() for file in files)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A command must leave the process's signal handlers as it found them."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


# -- get ---------------------------------------------------------------------------------------------------------------


def test_get_prints_the_path_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    """What happened is on stderr, so that $(resumable get URL) is the file."""
    ran = Ran(["get", A], FakeManager(endings={A: result_of()}), tmp_path)
    assert (ran.code, ran.out) == (0, "/d/one.bin\n")
    assert ran.err.splitlines() == [
        "d1  f: started",
        "d1  f: done: 10 B in 2 s, 5 B/s, checked by etag",
    ]


def test_get_hands_everything_to_the_manager(tmp_path: Path) -> None:
    """Options of the run go to the manager, those of the file to the download."""
    words = f"get {A} -o x --mirror {B} -c 2 -j 7 --retries 60 --retry-max-time 1h --limit-rate 1K --restart"
    manager = FakeManager(endings={A: result_of()})
    Ran([*words.split(), "--project", "p", "--state", "s.db", "-H", "K: V"], manager, tmp_path)
    policy = manager.settings["policy"]
    expected = RetryPolicy(max_no_progress=60, max_attempts=61, deadline_s=3600.0, count_waits=True)
    assert policy == expected
    assert tuple(manager.settings[key] for key in ("state", "max_concurrent", "limit_rate")) == ("s.db", 7, 1024)
    options = Options(connections=2, wait_for_space=False, restart=True)
    request = {
        "directory": None,
        "project": "p",
        "mirrors": (B,),
        "headers": {"K": "V"},
        "sha256": None,
        "options": options,
    }
    assert [("start", A, "x", request)] == manager.calls


def test_an_empty_list_is_success_and_says_so(tmp_path: Path) -> None:
    """As for any program that works through what another one found; silence would look like a hang."""
    (tmp_path / "list").write_text("# nothing new today\n")
    ran = Ran(["get", "-i", str(tmp_path / "list")], FakeManager(), tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "", "Nothing to do.\n")


def test_a_folder_that_is_a_file_is_said_in_words(tmp_path: Path) -> None:
    """And no download is begun."""
    (tmp_path / "models").write_text("")
    manager = FakeManager()
    ran = Ran(["get", A, "-d", str(tmp_path / "models")], manager, tmp_path)
    expected = f"failed: the folder {tmp_path / 'models'} cannot be made (there is a file of that name)."
    assert (ran.code, manager.calls) == (6, [])
    assert expected in ran.err


@pytest.mark.parametrize("words", ["status", "status d1", "resume --all", "retry --failed", "pause d1", "resume d1"])
def test_a_state_file_that_cannot_be_used_is_not_the_same_as_nothing_known(words: str, tmp_path: Path) -> None:
    """A newer version wrote it, say: whoever asked what there is must not be told that all is done."""
    manager = FakeManager(health_reason="the state file was written by a newer version")
    manager.health = Health.DEGRADED
    ran = Ran(words.split(), manager, tmp_path)
    assert (ran.code, ran.out) == (6, "")
    assert ran.err.endswith("former downloads are not known, for the state file cannot be used now\n")


def test_several_downloads_end_with_the_worst_code(tmp_path: Path) -> None:
    """The good one's path is printed, the bad one's reason and what to do about it."""
    manager = FakeManager(endings={A: result_of(), B: StatusError(503)})
    ran = Ran(["get", A, B], manager, tmp_path)
    assert (ran.code, ran.out) == (3, "/d/one.bin\n")
    assert "d2  f: failed: the server answered 503. Kept 5 B of 10 B. Continue with: resumable resume d2" in ran.err
    assert ran.err.endswith("1 of 2 done.\n")


def test_a_refused_download_does_not_hinder_the_others(tmp_path: Path) -> None:
    """A directory that cannot be written is the fault of one file; the secret part of its link stays unsaid."""
    refused = DestinationError("/ro is not writable")
    url = f"{A}?sig=hunter2"

    def refuse() -> Ending:
        raise refused

    ran = Ran(["get", url, B], FakeManager(endings={url: refuse, B: result_of("two.bin")}), tmp_path)
    assert (ran.code, ran.out) == (6, "/d/two.bin\n")
    assert "one.bin: failed: /ro is not writable." in ran.err
    assert "hunter2" not in ran.err


def test_what_the_manager_calls_bad_input_is_wrong_use(tmp_path: Path) -> None:
    """One line, exit code 2."""
    ran = Ran(["get", A], FakeManager(endings={A: ValueError("a name of 300 characters")}), tmp_path)
    assert (ran.code, ran.out, ran.err) == (2, "", "resumable get: a name of 300 characters\n")


def test_json_tells_each_event_each_end_and_the_summary(tmp_path: Path) -> None:
    """On stdout only; the words stay on stderr."""
    ran = Ran(["get", A, B, "--json"], FakeManager(endings={A: result_of(), B: StatusError(404)}), tmp_path)
    names = [(record["event"], record.get("download_id")) for record in ran.records]
    assert names[:4] == [("started", "d1"), ("progress", "d1"), ("started", "d2"), ("progress", "d2")]
    assert {("completed", "d1"), ("failed", "d2")} == set(names[4:6])
    assert names[6:] == [("summary", None)]
    assert (
        ran.code,
        ran.records[-1]["completed"],
        ran.records[-1]["failed"],
        ran.records[-1]["exit_code"],
    ) == (4, 1, 1, 4)


def test_quiet_says_only_what_went_wrong(tmp_path: Path) -> None:
    """-q: the path on stdout, failures on stderr."""
    assert Ran(["get", A, "-q"], FakeManager(endings={A: result_of()}), tmp_path).err == ""
    failed = Ran(["get", A, "-q"], FakeManager(endings={A: StatusError(404)}), tmp_path)
    assert (failed.code, len(failed.err.splitlines())) == (4, 1)


def test_a_store_that_will_not_remember_is_said_at_once(tmp_path: Path) -> None:
    """The download goes on; whoever relies on resuming must know."""
    manager = FakeManager(endings={A: result_of()}, health_reason="the state file is from a newer version")
    ran = Ran(["get", A], manager, tmp_path)
    assert (ran.code, ran.err.splitlines()[0]) == (0, "warning: the state file is from a newer version")


def test_a_fault_of_ours_is_one_line_and_code_1(tmp_path: Path) -> None:
    """No traceback unless asked for."""
    ran = Ran(["get", A], FakeManager(endings={A: ZeroDivisionError("oops")}), tmp_path)
    assert ran.code == 1
    assert "Traceback" not in ran.err

    def burst() -> Ending:
        raise ZeroDivisionError("oops at https://h/?sig=hunter2")

    ran = Ran(["get", A, "-vv"], FakeManager(endings={A: burst}), tmp_path)
    assert ran.code == 1
    assert "a fault of this program (ZeroDivisionError: oops at https://h/?sig=***)" in ran.err
    assert "Traceback" in ran.err
    assert "hunter2" not in ran.err


def test_cancelled_elsewhere_is_unfinished_but_no_failure(tmp_path: Path) -> None:
    """Exit code 7, as aria2 has it."""
    ran = Ran(["get", A], FakeManager(endings={A: DownloadCancelled("x")}), tmp_path)
    assert ran.code == 7
    assert "d1  f: cancelled. Kept 5 B of 10 B." in ran.err


@pytest.mark.blocking
def test_a_terminal_gets_bars_that_are_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And they are gone at the end."""
    for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)

    def under_way() -> Ending:
        loop = asyncio.get_running_loop()

        def end_once_drawn() -> None:
            if "50%" in (tmp_path / "stderr").read_text():
                manager.handles[0].end(result_of())
            else:
                loop.call_later(0.01, end_once_drawn)

        loop.call_soon(end_once_drawn)
        return None

    manager = FakeManager(endings={A: under_way})
    ran = Ran(["get", A], manager, tmp_path, terminal=True)
    assert f"f {'█' * 6}{'░' * 6}  50% 5 B/10 B  0 B/s  time left unknown\r\x1b[K" in ran.err
    assert ran.err.endswith("checked by etag\n")


# -- stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_everything_and_says_how_to_continue(tmp_path: Path, number: signal.Signals) -> None:
    """The command reports the signal it shall die of; the finished download is not forgotten."""

    def under_way() -> Ending:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        return None

    manager = FakeManager(endings={A: result_of(), B: under_way})
    ran = Ran(["get", A, B, "--json", "--state", "s.db"], manager, tmp_path)
    assert (128 + number, number) == (ran.code, ran.stopped_by)
    assert ran.err.splitlines()[-1] == "Kept 5 B of 10 B. Continue with: resumable resume d2 --state s.db"
    ends = [(record["event"], record.get("download_id")) for record in ran.records[-3:]]
    assert ends == [("completed", "d1"), ("paused", "d2"), ("summary", None)]
    assert 128 + number == ran.records[-1]["exit_code"]


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """Under nohup a closed terminal is no reason to stop."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def hang_up() -> Ending:
            os.kill(os.getpid(), signal.SIGHUP)
            return result_of()

        assert Ran(["get", A], FakeManager(endings={A: hang_up}), tmp_path).code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_stdout_stops_gently_and_dies_of_sigpipe() -> None:
    """`resumable get ... --json | head -1` keeps everything and says nothing."""
    ends = os.pipe()
    os.close(ends[0])
    notes = os.open(os.devnull, os.O_WRONLY)
    console = Console(LineWriter(ends[1]), LineWriter(notes))
    manager = FakeManager(endings={A: None})
    ended = run_command(parse(["get", A, "--json"], {}), console, make_manager=manager)  # type: ignore[arg-type]
    console.close()
    os.close(ends[1])
    os.close(notes)
    assert ended.stopped_by == signal.SIGPIPE
    assert manager.handles[0].view.state == State.PAUSED


def test_a_full_disk_behind_stdout_is_a_failure_of_this_machine(tmp_path: Path) -> None:
    """The file is complete, but the script that waits for its path would never know."""
    full = os.open("/dev/full", os.O_WRONLY)
    notes = os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT)
    console = Console(LineWriter(full), LineWriter(notes))
    manager = FakeManager(endings={A: result_of()})
    ended = run_command(parse(["get", A], {}), console, make_manager=manager)  # type: ignore[arg-type]
    console.close()
    os.close(full)
    os.close(notes)
    assert ended.code == 6


# -- resume and retry --------------------------------------------------------------------------------------------------


def known(name: str, state: State, **fields: Any) -> DownloadView:
    """Return a download that the store knows."""
    values: dict[str, Any] = {
        "filename": f"{name}.bin",
        "dest": f"/d/{name}.bin",
        "bytes_done": 5,
        "bytes_total": 10,
    } | fields
    return DownloadView(download_id=name, state=state, **values)


def test_resume_continues_the_one_there_is(tmp_path: Path) -> None:
    """Without an id, where nothing else can be meant."""
    manager = FakeManager(views=[known("d1", State.PAUSED), known("d2", State.COMPLETE)], endings={"d1": result_of()})
    ran = Ran(["resume"], manager, tmp_path)
    assert (ran.code, ran.out, manager.calls) == (0, "/d/one.bin\n", [("recover", "d1")])


def test_resume_all_continues_every_unfinished_one(tmp_path: Path) -> None:
    """Paused and interrupted ones, not those that failed or were cancelled."""
    states = [State.PAUSED, State.RUNNING, State.WAITING, State.FAILED, State.CANCELLED, State.COMPLETE]
    views = [known(f"d{n}", state) for n, state in enumerate(states)]
    manager = FakeManager(views=views, endings={f"d{n}": result_of() for n in range(3)})
    ran = Ran(["resume", "--all"], manager, tmp_path)
    assert (ran.code, manager.calls) == (0, [("recover", "d0"), ("recover", "d1"), ("recover", "d2")])


def test_resume_of_a_finished_download_is_success(tmp_path: Path) -> None:
    """As asking get for it again is."""
    manager = FakeManager(views=[known("d1", State.COMPLETE)])
    ran = Ran(["resume", "d1"], manager, tmp_path)
    assert (ran.code, ran.out, manager.calls) == (0, "/d/d1.bin\n", [])


CHOICES = [
    (["resume"], [], "resumable resume: no unfinished download is known"),
    (["retry"], [], "resumable retry: no failed download is known"),
    (
        ["resume"],
        [known("d1", State.PAUSED), known("d2", State.PAUSED)],
        "resumable resume: 2 downloads are unfinished: d1 (d1.bin), d2 (d2.bin); name one or say --all",
    ),
    (["resume", "x"], [known("d1", State.PAUSED)], "resumable: no download 'x'"),
    (["pause", "d"], [known("d1", State.PAUSED), known("d2", State.PAUSED)], "resumable: several downloads begin"),
    (["status", "x"], [], "resumable: no download 'x'"),
]


@pytest.mark.parametrize(("words", "views", "expected"), CHOICES)
def test_what_cannot_be_chosen_is_asked_for(
    tmp_path: Path, words: list[str], views: list[DownloadView], expected: str
) -> None:
    """Wrong use, with the ids to choose from."""
    ran = Ran(words, FakeManager(views=views), tmp_path)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert expected in ran.err


def test_retry_opens_a_fresh_budget_and_runs_here(tmp_path: Path) -> None:
    """--failed takes all that failed."""
    views = [known("d1", State.FAILED), known("d2", State.FAILED), known("d3", State.PAUSED)]
    manager = FakeManager(views=views, endings={"d1": result_of(), "d2": result_of()})
    ran = Ran(["retry", "--failed"], manager, tmp_path)
    assert ran.code == 0
    assert manager.calls == [("retry", "d1"), ("recover", "d1"), ("retry", "d2"), ("recover", "d2")]


def test_a_lost_link_is_asked_for(tmp_path: Path) -> None:
    """A secret link that was not kept cannot be continued, and the others still are."""

    def lost() -> Ending:
        raise NeedsLink("the link of d1 is not kept")

    error = ErrorView(code="needs-link", category="needs-link", message="The link has expired.")
    views = [known("d1", State.PAUSED, error=error), known("d2", State.PAUSED)]
    ran = Ran(["resume", "--all"], FakeManager(views=views, endings={"d1": lost, "d2": result_of()}), tmp_path)
    assert (ran.code, ran.out) == (4, "/d/one.bin\n")
    assert "Give it a fresh link: resumable relink d1 NEWURL" in ran.err


# -- steering ----------------------------------------------------------------------------------------------------------


def test_pause_and_cancel_confirm_what_happened(tmp_path: Path) -> None:
    """What has ended already is not asked again; a part file can be deleted afterwards."""
    views = [known("d1", State.RUNNING), known("d2", State.COMPLETE), known("d3", State.FAILED)]
    manager = FakeManager(views=views)
    ran = Ran(["pause", "d1", "d2"], manager, tmp_path)
    assert (ran.code, manager.calls) == (0, [("pause", "d1")])
    assert ran.err.splitlines() == ["d1  d1.bin: paused", "d2  d2.bin: is complete already"]
    ran = Ran(["cancel", "d1", "d3", "--delete-part", "--json"], manager, tmp_path)
    assert manager.calls[1:] == [("cancel+delete", "d1"), ("cancel+delete", "d3")]
    assert [record["state"] for record in ran.records] == ["cancelled", "cancelled"]


def test_a_process_that_does_not_answer_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wish stays in the store; the code says it has not happened."""
    monkeypatch.setattr("resumable_ui.control.CONFIRM_S", 0.15)
    manager = FakeManager(views=[known("d1", State.RUNNING)])
    manager.obeys = False
    ran = Ran(["pause", "d1"], manager, tmp_path)
    assert ran.code == 7
    assert "was asked, but is still running" in ran.err


def test_relink_says_how_to_go_on(tmp_path: Path) -> None:
    """The link itself may be a secret and is not repeated."""
    manager = FakeManager(views=[known("d1", State.PAUSED)])
    ran = Ran(["relink", "d1", f"{A}?sig=hunter2"], manager, tmp_path)
    assert (0, [("relink", "d1", f"{A}?sig=hunter2")]) == (ran.code, manager.calls)
    assert ran.err == "d1  d1.bin: has a fresh link. Continue with: resumable resume d1\n"


def test_verify_tells_right_from_wrong(tmp_path: Path) -> None:
    """0 and the path, or 5 and where the damage is."""
    manager = FakeManager()
    report = {"path": Path("/d/f"), "size": 10, "sha256": "ab" * 32, "source": "its download"}
    manager.report = SimpleNamespace(**report, ok=True, damaged=())
    ran = Ran(["verify", "f"], manager, tmp_path)
    assert (ran.code, ran.out, manager.calls) == (0, "f\n", [("verify", "f", None)])
    manager.report = SimpleNamespace(**report, ok=False, damaged=(Span(0, 4), Span(6, 8)))
    ran = Ran(["verify", "f", "--json"], manager, tmp_path)
    assert (ran.code, ran.records[0]["ok"], ran.records[0]["damaged"]) == (5, False, [[0, 4], [6, 8]])
    assert "6 B in 2 places are damaged" in ran.err
    manager.report = SimpleNamespace(**report, ok=False, damaged=(Span(0, 4),))
    assert "4 B in 1 place is damaged" in Ran(["verify", "f"], manager, tmp_path).err


UNREADABLE = [
    (FileNotFoundError(2, "No such file or directory", "f"), 6, "No such file or directory: f"),
    (LookupError("nothing is known of f; give --sha256"), 2, "nothing is known of f; give --sha256"),
]


@pytest.mark.parametrize(("error", "code", "words"), UNREADABLE)
def test_verify_of_what_cannot_be_verified_is_one_line(
    tmp_path: Path, error: BaseException, code: int, words: str
) -> None:
    """A missing file, or one of which nothing is known."""
    manager = FakeManager()
    manager.report = error
    ran = Ran(["verify", "f"], manager, tmp_path)
    assert (code, f"resumable verify: {words}\n") == (ran.code, ran.err)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (12, "12 downloads forgotten; their files stay.\n"),
        (1, "1 download forgotten; its file stays.\n"),
        (0, "No downloads to forget.\n"),
    ],
)
def test_prune_says_how_many(count: int, words: str, tmp_path: Path) -> None:
    """And that files stay."""
    manager = FakeManager()
    manager.forgotten = count
    ran = Ran(["prune", "--older-than", "1d", "--json"], manager, tmp_path)
    pruned = {"event": "pruned", "downloads": count}
    assert (ran.code, manager.calls, ran.records) == (0, [("prune", 86_400.0)], [pruned])
    assert ran.err == words


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_lists_what_is_unfinished_and_the_last_few_that_ended(tmp_path: Path) -> None:
    """Newest first as the manager says; how many are left out is said."""
    views = [known("d1", State.PAUSED), *(known(f"c{n}", State.COMPLETE) for n in range(12))]
    ran = Ran(["status"], FakeManager(views=views), tmp_path)
    assert (ran.code, len(ran.out.splitlines())) == (0, 11)
    assert ran.out.startswith("d1  paused       d1.bin  50 %, 5 B of 10 B\n")
    assert ran.err.splitlines() == [
        "And 2 more that ended: resumable status --all",
        "1 unfinished. Go on with: resumable resume d1",
    ]
    assert len(Ran(["status", "--all"], FakeManager(views=views), tmp_path).out.splitlines()) == 13
    assert len(Ran(["status", "--json"], FakeManager(views=views), tmp_path).records) == 13


def test_status_says_how_to_go_on(tmp_path: Path) -> None:
    """With one, its id; with several, the word for all of them."""
    views = [known(f"f{n}", State.FAILED) for n in range(2)]
    views += [known("p1", State.PAUSED), replace(known("r1", State.RUNNING), stale=True), known("r2", State.RUNNING)]
    ran = Ran(["status", "--state", "s.db"], FakeManager(views=views), tmp_path)
    assert ran.err.splitlines() == [
        "2 unfinished. Go on with: resumable resume --all --state s.db",
        "2 failed. Go on with: resumable retry --failed --state s.db",
    ]
    assert Ran(["status", "p1"], FakeManager(views=views), tmp_path).err == ""


def test_status_names_no_retry_for_what_a_retry_does_not_mend(tmp_path: Path) -> None:
    """A wrong digest is as wrong the next time, and a link that is gone stays gone."""
    wrong = ErrorView(code="digest-mismatch", category="final-digest", message="Another digest.")
    gone = ErrorView(code="gone", category="gone", message="Gone.")
    views = [
        replace(known("w1", State.FAILED), error=wrong),
        replace(known("g1", State.FAILED), error=gone, actions=(UserAction.NEW_LINK,)),
        known("f1", State.FAILED),
    ]
    assert Ran(["status"], FakeManager(views=views), tmp_path).err.splitlines() == [
        "1 failed. Go on with: resumable retry f1",
        "2 failed and need more than a retry. What to do: resumable status w1 g1",
    ]
    assert Ran(["status"], FakeManager(views=views[:1]), tmp_path).err.splitlines() == [
        "1 failed and needs more than a retry. What to do: resumable status w1",
    ]


def test_status_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    """stdout stays empty for scripts."""
    ran = Ran(["status"], FakeManager(), tmp_path)
    assert (ran.code, ran.out) == (0, "")
    assert "resumable get URL" in ran.err


def test_status_of_one_tells_its_history(tmp_path: Path) -> None:
    """Each attempt with what it gained and why it ended."""
    ran = Ran(["status", "d1"], FakeManager(views=[known("d1", State.PAUSED, url=A)]), tmp_path)
    assert f"  link        {A}" in ran.out.splitlines()
    assert ran.out.splitlines()[-1] == "  attempt 1: failed, 1 kB gained, took 2 s, reset, then waited 2 s"


def test_watching_a_download_ends_with_it(tmp_path: Path) -> None:
    """`resumable status ID --watch` is a way to wait."""
    ran = Ran(["status", "d1", "--watch", "--json"], FakeManager(views=[known("d1", State.COMPLETE)]), tmp_path)
    assert (ran.code, [record["state"] for record in ran.records]) == (0, ["complete"])
