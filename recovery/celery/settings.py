"""How a Celery application has to be set so that no long task is lost, as one object; and what is wrong with another.

What each value prevents was measured with Celery 5.7 (``docs/celery.md`` says how). Pure: reads mappings, changes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

__all__ = ["RECOMMENDED", "TASK_OPTIONS", "WorkerSettings", "dangers"]

TASK_OPTIONS: Final[Mapping[str, Any]] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "acks_on_failure": True,
    "acks_on_timeout": True,
    "max_retries": None,
    # We say STARTED ourselves, once we know that the message is no copy of one that has ended: Celery would say so over
    # the result of that one.
    "track_started": False,
}
"""Options that every task made here has by itself, whatever the application says."""


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """Settings of a whole application. Times are seconds."""

    acks_late: bool = True
    """Acknowledge a message when its task has ended. Early, it is lost with the child that runs it."""
    reject_on_worker_lost: bool = True
    """Without it a late message is acknowledged all the same when its child is killed: FAILURE, and nothing runs."""
    prefetch_multiplier: int = 1
    """Messages a child keeps for later cannot be run by a worker that is free."""
    visibility_timeout_s: int = 3_600
    """After so long Redis and SQS hand an unacknowledged message to another worker. Ours are not run twice by that (the
    lease refuses the second); tasks of others are."""
    soft_shutdown_s: float = 30.0
    """What a cold shutdown (SIGQUIT) leaves running tasks before it stops them."""
    cancel_on_connection_loss: bool = False
    """True stops every late task when the broker goes away. A leased task may go on: the copy that the broker sends
    again when it is back finds the lease held."""
    track_started: bool = True

    def to_celery(self) -> dict[str, Any]:
        """Return the settings under Celery's names."""
        visibility = {"visibility_timeout": self.visibility_timeout_s}
        return {
            "task_acks_late": self.acks_late,
            "task_reject_on_worker_lost": self.reject_on_worker_lost,
            "task_track_started": self.track_started,
            "worker_prefetch_multiplier": self.prefetch_multiplier,
            "worker_soft_shutdown_timeout": self.soft_shutdown_s,
            "worker_cancel_long_running_tasks_on_connection_loss": self.cancel_on_connection_loss,
            "broker_connection_retry_on_startup": True,
            "broker_transport_options": visibility,
            # Celery wants the same number here too, or the shorter one counts (celery#5935).
            "result_backend_transport_options": visibility,
            "visibility_timeout": self.visibility_timeout_s,
        }


RECOMMENDED: Final = WorkerSettings()

_SHORTEST_VISIBILITY_S = 600


def dangers(conf: Mapping[str, Any]) -> list[str]:
    """Return a plain sentence for each setting of ``conf`` (Celery's names) with which work can be lost or done twice.

    Only what concerns a whole application: our own tasks carry ``TASK_OPTIONS`` themselves.
    """
    found = []
    late, requeue = conf.get("task_acks_late"), conf.get("task_reject_on_worker_lost")
    if not late:
        found.append(
            "task_acks_late is off: a task of yours that runs when its process is killed is lost."
            " Tasks of resumable and recovery are not concerned."
        )
    elif not requeue:
        found.append(
            "task_reject_on_worker_lost is off: when a process is killed, its task is acknowledged as failed"
            " although task_acks_late is on."
        )
    prefetch = conf.get("worker_prefetch_multiplier")
    if prefetch != 1:
        found.append(
            f"worker_prefetch_multiplier is {prefetch}: messages wait behind a long download while other processes"
            " are free. Set it to 1."
        )
    visibility = (conf.get("broker_transport_options") or {}).get("visibility_timeout")
    if visibility is not None and visibility < _SHORTEST_VISIBILITY_S:
        found.append(
            f"the broker's visibility_timeout is {visibility} s: every task that takes longer is sent to a second"
            f" worker. Tasks of resumable and recovery refuse to run twice; yours may not. Set it to"
            f" {RECOMMENDED.visibility_timeout_s}."
        )
    if conf.get("worker_cancel_long_running_tasks_on_connection_loss"):
        found.append(
            "worker_cancel_long_running_tasks_on_connection_loss is on: a short loss of the broker stops every running"
            " download (it continues at the same byte, but later than it could)."
        )
    return found
