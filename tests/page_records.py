"""Downloads as the hub tells a page of them: one of each state a person can meet, made up."""

from __future__ import annotations

import time
from typing import Any

MB = 1_000_000
GB = 1_000_000_000


def record(download_id: str, state: str = "running", **fields: Any) -> dict[str, Any]:
    """Return one ``Download`` of the wire (research/ui.md section 8), with fields laid over it."""
    actions = {
        "queued": ["pause", "cancel"],
        "running": ["pause", "cancel"],
        "verifying": ["cancel"],
        "waiting": ["retry_now", "pause", "cancel"],
        "parked": ["retry_now", "pause", "cancel"],
        "paused": ["resume", "cancel"],
        "failed": ["retry_now", "cancel"],
        "cancelled": ["retry_now"],
        "complete": [],
    }
    made: dict[str, Any] = {
        "download_id": download_id,
        "operation_id": download_id,
        "project_id": "SDXL portrait workflow",
        "url": f"https://models.example.org/{download_id}.safetensors",
        "dest": f"/models/{download_id}.safetensors",
        "filename": f"{download_id}.safetensors",
        "state": state,
        "bytes_done": 0,
        "bytes_total": 100 * MB,
        "bytes_resumed": 0,
        "bytes_received": 0,
        "breaks": [],
        "attempt": 1,
        "attempts": int(state == "waiting"),
        "max_attempts": 50,
        "no_progress": 0,
        "max_no_progress": 3,
        "retry_at": None,
        "retry_delay": None,
        "speed": 0.0,
        "eta": None,
        "error": None,
        "can_resume": True,
        "restarted": None,
        "verified_by": None,
        "sha256": None,
        "actions": actions[state],
        "owner": "resumable-4711",
        "stale": False,
        "episode": 0,
        "rev": 1,
        "created_at": 1_700_000_000.0,
        "updated_at": 1_700_000_000.0,
        "elapsed": 0.0,
        "warnings": [],
    }
    made |= fields
    return made | {"retries": made.get("retries", max(made["attempt"] - 1, 0))}


def failure(code: str, message: str, **fields: Any) -> dict[str, Any]:
    """Return an ``error`` of the wire."""
    return {"code": code, "category": code, "message": message, "detail": "", "retryable": True} | fields


STOPPED = failure(
    "timeout",
    "The server stopped answering. The part already on disk is kept; trying again usually helps.",
    detail="TimeoutError: no byte for 30 s on connection 2 of 4 to models.example.org:443",
)
EXPIRED = failure(
    "needs-link",
    "The link has expired. Give it a fresh one; the part already on disk is kept.",
    detail="StatusError: the server answered 403 Forbidden to GET bytes=1300000000-",
    retryable=False,
)
FULL = failure(
    "disk-full",
    "The disk is full: 1.8 GB are needed, 212 MB are free. Free some space, and the download goes on where it stopped.",
    detail="OSError: [Errno 28] No space left on device",
)
SIGN_IN = failure("auth", "The server wants to know who is asking. Sign in, or use another link.", retryable=False)
OFFLINE = failure("offline", "No server can be reached. It goes on when the network is back.")
FOLDER = failure(
    "permission", "/models cannot be written. Choose another place, or put this one right.", retryable=False
)


RETRIED = record(
    "a",
    bytes_done=3200 * MB,
    bytes_total=6900 * MB,
    bytes_resumed=2100 * MB,
    bytes_received=1100 * MB,
    breaks=[900 * MB, 2100 * MB],
    attempt=4,
    attempts=3,
    speed=21.4 * MB,
    eta=173,
)
"""The download of ``attempts``."""


def every_state(now: float | None = None) -> list[dict[str, Any]]:
    """Return downloads of three projects: each state, each kind of trouble, known and unknown sizes."""
    at = time.time() if now is None else now
    video, misc = "AnimateDiff starter", ""
    made = [
        record(
            "sd_xl_base_1.0",
            bytes_done=int(3.2 * GB),
            bytes_total=int(6.9 * GB),
            bytes_resumed=int(2.1 * GB),
            bytes_received=int(1.1 * GB),
            breaks=[int(0.9 * GB), int(2.1 * GB)],
            attempt=3,
            attempts=2,
            speed=21.4 * MB,
            eta=173,
        ),
        record(
            "control-lora-canny-rank256",
            "waiting",
            bytes_done=210 * MB,
            bytes_total=774 * MB,
            bytes_received=210 * MB,
            breaks=[210 * MB],
            attempt=1,
            attempts=1,
            no_progress=1,
            retry_at=at + 17,
            retry_delay=20,
            error=STOPPED,
            episode=1,
        ),
        record(
            "ip-adapter-plus_sdxl_vit-h",
            "complete",
            bytes_done=848 * MB,
            bytes_total=848 * MB,
            bytes_resumed=400 * MB,
            breaks=[400 * MB],
            attempt=2,
            attempts=2,
            verified_by="etag",
            sha256="9f" * 32,
        ),
        record("sdxl_vae", "verifying", bytes_done=335 * MB, bytes_total=335 * MB, bytes_received=335 * MB),
        record(
            "mm_sd_v15_v2",
            "failed",
            project_id=video,
            bytes_done=int(1.3 * GB),
            bytes_total=int(1.8 * GB),
            breaks=[int(0.4 * GB), int(1.0 * GB), int(1.3 * GB)],
            attempt=4,
            attempts=4,
            no_progress=3,
            error=EXPIRED,
            actions=["new_link", "retry_now", "cancel"],
            episode=1,
        ),
        record(
            "motion_lora_pan_left",
            "parked",
            project_id=video,
            bytes_done=64 * MB,
            bytes_total=77 * MB,
            attempt=1,
            error=FULL,
            actions=["free_space", "choose_folder", "retry_now", "cancel"],
            episode=1,
        ),
        record("no-length-stream", project_id=video, bytes_done=120 * MB, bytes_total=None, speed=21.4 * MB),
        record(
            "gated-model",
            "failed",
            project_id=video,
            bytes_total=None,
            error=SIGN_IN,
            actions=["log_in", "new_link", "retry_now", "cancel"],
        ),
        record(
            "offline",
            "parked",
            project_id=video,
            bytes_done=9 * MB,
            error=OFFLINE,
        ),
        record("paused-by-hand", "paused", project_id=misc, bytes_done=44 * MB, bytes_resumed=20 * MB),
        record("in-line", "queued", project_id=misc),
        record("given-up", "cancelled", project_id=misc, bytes_done=12 * MB),
        record("its-process-died", project_id=misc, bytes_done=31 * MB, stale=True, actions=["resume", "cancel"]),
        record(
            "begun-again",
            project_id=misc,
            bytes_done=3 * MB,
            speed=2 * MB,
            eta=48,
            restarted="the file has changed on the server",
        ),
        record(
            "old-and-stubborn",
            "waiting",
            project_id=misc,
            bytes_done=50 * MB,
            attempt=17,
            attempts=17,
            no_progress=1,
            retry_at=at + 45,
            error=STOPPED,
            breaks=[n * 3 * MB for n in range(1, 17)],
        ),
    ]
    for age, one in enumerate(made):
        one["created_at"] -= age
    return made


def attempts(now: float) -> list[dict[str, Any]]:
    """Return what ``operation_details`` says of ``RETRIED``: three attempts that ended, and one under way."""
    rows: list[dict[str, Any]] = [
        {"n": 1, "started_at": now - 300, "ended_at": now - 240, "from": 0, "to": 900 * MB, "delay": 0.8},
        {"n": 2, "started_at": now - 239, "ended_at": now - 150, "from": 900 * MB, "to": 2100 * MB, "delay": 2.4},
        {"n": 3, "started_at": now - 147, "ended_at": now - 117, "from": 2100 * MB, "to": 2100 * MB, "delay": 40.0},
        {"n": 4, "started_at": now - 105, "ended_at": None, "from": 2100 * MB, "to": 3200 * MB, "delay": None},
    ]
    errors = ["the connection broke", "the server answered 503 Service Unavailable", STOPPED["detail"], None]
    statuses = [None, 503, None, None]
    return [
        row | {"error": error, "http_status": status} for row, error, status in zip(rows, errors, statuses, strict=True)
    ]


def snapshot(
    downloads: list[dict[str, Any]], *, epoch: str = "e1", seq: int = 1, ts: float | None = None
) -> dict[str, Any]:
    """Return the acknowledgement of ``subscribe``."""
    return {
        "ok": True,
        "v": 1,
        "epoch": epoch,
        "seq": seq,
        "ts": ts or time.time(),
        "projects": [],
        "downloads": downloads,
    }
