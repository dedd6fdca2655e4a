"""An import of nine steps that comes back: from a flaky registry, from kill -9, and from input that cannot work.

    python examples/workflow_import.py

plays the whole story in a temporary folder, with no network and no downloads. One import by itself:

    python examples/workflow_import.py import FOLDER [--workflow FILE] [--die-at N]

Run that again after any interruption: it goes on at the step where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, installed or not

from recovery import (
    InvalidInput,
    OperationEvent,
    RetryPolicy,
    State,
    UserAction,
    current_sync_operation,
    observe,
    recoverable,
)
from recovery.observers import Event

STEPS = 9
INSTALLABLE = {"Load", "Sample", "Upscale", "Save"}
WORDS = {
    UserAction.RETRY_NOW: "retry now",
    UserAction.RESUME: "resume",
    UserAction.PAUSE: "pause",
    UserAction.CANCEL: "cancel",
    UserAction.NEW_LINK: "give another link",
    UserAction.FREE_SPACE: "free some space",
    UserAction.CHOOSE_FOLDER: "choose another folder",
    UserAction.LOG_IN: "log in",
}
GOOD = {"name": "portrait", "nodes": ["Load", "Sample", "Save"], "registry_hiccups": 2}
MISSING_NODE = {"name": "poster", "nodes": ["Load", "SuperUpscaleX"]}
HOPELESS = {"name": "mural", "nodes": ["Load", "Save"], "registry_hiccups": 99}

# ---- the import: nothing in it knows about retries, journals or processes ------------------------------------------


class Import:
    """One import into a folder. Every step leaves a file, so that anybody can see how far it came."""

    def __init__(self, folder: Path, workflow: Path, die_at: int | None) -> None:
        """``die_at``: the number of the step in which this process kills itself, for the story."""
        self.folder = folder
        self.workflow = workflow
        self.die_at = die_at
        self.number = 0

    def step(self, what: str, work: Any, *, undo: Any = None) -> Any:
        """Do one step, or get what it returned when it was done before."""
        self.number += 1
        op, label = current_sync_operation(), f"  [{self.number}/{STEPS}] {what}"
        if what in op.restored:
            print(f"{label}: done before")
        return op.step(what, lambda: self._do(label, work), undo=undo)

    def _do(self, label: str, work: Any) -> Any:
        print(label, flush=True)
        if self.number == self.die_at:
            print("  ... and here this process is killed (kill -9)", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return work()

    def read(self) -> dict[str, Any]:
        """Read the workflow."""
        try:
            workflow: dict[str, Any] = json.loads(self.workflow.read_text(encoding="utf-8"))
        except json.JSONDecodeError as exc:
            problem = f"{self.workflow.name} is no workflow: line {exc.lineno} is no JSON."
            raise InvalidInput(problem, remedy="Export it again, then retry.", code="bad-workflow") from exc
        return workflow

    def check(self, workflow: dict[str, Any]) -> list[str]:
        """Refuse what cannot work, and say what to do about it."""
        for node in workflow["nodes"]:
            if node not in INSTALLABLE:
                raise InvalidInput(
                    f"The workflow uses a node {node!r} that no registry knows.",
                    remedy="Correct its name or take it out of the workflow, then retry.",
                    code="missing-node",
                )
        return list(workflow["nodes"])

    def make_project(self, name: str) -> str:
        """Make the project's folder."""
        project = self.folder / name
        project.mkdir(parents=True, exist_ok=True)
        return str(project)

    def ask_registry(self, workflow: dict[str, Any]) -> dict[str, str]:
        """Ask which versions there are. This registry hangs up as often as the workflow says."""
        hiccups = self.folder / "hiccups"
        before = int(hiccups.read_text()) if hiccups.exists() else 0
        if before < workflow.get("registry_hiccups", 0):
            hiccups.write_text(str(before + 1))
            raise ConnectionResetError("the registry hung up")
        return dict.fromkeys(workflow["nodes"], "1.0")

    def write(self, project: str, file: str, content: object) -> str:
        """Write a file of the project; writing it twice does no harm."""
        path = Path(project) / file
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return file


def remove_project(project: str) -> None:
    """Take the project's folder away again."""
    print(f"  taking back: {Path(project).name}", flush=True)
    shutil.rmtree(project, ignore_errors=True)


# ---- how it comes back ----------------------------------------------------------------------------------------------


def import_workflow(folder: Path, workflow: Path, die_at: int | None = None) -> str:
    """Import ``workflow`` into ``folder``; what is known about it is in ``folder/imports.db``."""

    @recoverable(
        journal=folder / "imports.db",
        key="import:{workflow.name}",
        kind="workflow-import",
        title="Import of {workflow.name}",
        policy=RetryPolicy(max_no_progress=3, base=0.4, cap=2.0),
    )
    def run(workflow: Path) -> str:
        this = Import(folder, workflow, die_at)
        content = this.step("read the workflow", this.read)
        nodes = this.step("check its nodes", lambda: this.check(content))
        project = this.step("make the project", lambda: this.make_project(content["name"]), undo=remove_project)
        versions = this.step("ask the registry", lambda: this.ask_registry(content))
        this.step("copy the workflow", lambda: this.write(project, "workflow.json", content))
        this.step("install the nodes", lambda: [this.write(project, f"{node}.node", versions[node]) for node in nodes])
        this.step("write the settings", lambda: this.write(project, "settings.json", {"seed": random.randrange(1000)}))
        this.step("index it", lambda: this.write(project, "index.json", sorted(versions)))
        this.step("announce it", lambda: this.write(project, "READY", content["name"]))
        return str(project)

    return run(workflow)


def tell(event: Event) -> None:
    """Print what a person wants to know: what is wrong, when it goes on, and what to try."""
    if not isinstance(event, OperationEvent) or event.verdict is None:
        return
    print(f"  {event.verdict.message}")
    if event.delay_s is not None:
        tries = f"attempt {event.attempt}, {event.no_progress} without progress"
        print(f"  Next try in {event.delay_s:.1f} s ({tries}).")
    if event.state is State.FAILED:
        buttons = [WORDS[action] for action in event.verdict.user_actions if action is not UserAction.PAUSE]
        print(f"  Not imported. What you can try: {', '.join(buttons)}.")


def main() -> int:
    """Run one import, or play the story."""
    parser = argparse.ArgumentParser(description="An import of nine steps that comes back.")
    parser.add_argument("command", nargs="?", choices=["import"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--workflow", type=Path)
    parser.add_argument("--die-at", type=int)
    given = parser.parse_args()
    if given.command is None:
        return story()
    if given.folder is None:
        parser.error("import needs a folder")
    given.folder.mkdir(parents=True, exist_ok=True)
    workflow = given.workflow or written(given.folder, GOOD)
    observe(tell)
    try:
        print(f"  Imported into {import_workflow(given.folder, workflow, given.die_at)}")
    except Exception:  # noqa: BLE001 - the edge of the program; tell() has said why
        return 1
    return 0


# ---- the story ------------------------------------------------------------------------------------------------------


def written(folder: Path, workflow: object) -> Path:
    """Write a workflow file and return where."""
    file = folder / f"{workflow['name']}.json" if isinstance(workflow, dict) else folder / "broken.json"
    file.write_text(json.dumps(workflow) if isinstance(workflow, dict) else str(workflow), encoding="utf-8")
    return file


def again(folder: Path, workflow: Path, *words: str) -> int:
    """Run one import as a process of its own."""
    command = [sys.executable, __file__, "import", str(folder), "--workflow", str(workflow), *words]
    return subprocess.run(command, check=False).returncode


def story() -> int:
    """Play five acts; each is a process that could be yours."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        acts = [
            ("The registry hangs up twice; then the process is killed in step 6.", GOOD, ["--die-at", "6"], -9),
            ("The same command again: five steps are not done twice.", GOOD, [], 0),
            ("A workflow that cannot work is not tried again and again.", MISSING_NODE, [], 1),
            ("Neither is a file that is no workflow.", "{oops", [], 1),
            ("A registry that never answers: given up, and what was done is taken back.", HOPELESS, [], 1),
        ]
        for number, (title, workflow, words, expected) in enumerate(acts, 1):
            print(f"\n{number}. {title}", flush=True)
            if number == 5:
                (folder / "hiccups").unlink()
            ended = again(folder, written(folder, workflow), *words)
            if ended != expected:
                print(f"This act should have ended with {expected}, not {ended}.")
                return 1
        left = sorted(path.name for path in folder.iterdir() if path.is_dir())
        print(f"\nProjects there are now: {', '.join(left)}. Everything else was taken back.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
