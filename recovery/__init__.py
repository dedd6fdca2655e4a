"""Durable recovery of any operation: classify the failure, decide, wait, try again. It knows nothing of HTTP
downloads or files.

Public names are imported from here; the modules behind them may move. Each is loaded when it is first used, so that
importing the package costs no event loop and no database.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for True; importing it from typing would cost 10 ms
if TYPE_CHECKING:
    from recovery.classify import Action, Category, Classifier, Condition, Rule, UserAction, Verdict
    from recovery.clock import Clock, SystemClock
    from recovery.compensation import GaveUp
    from recovery.control import Attempt, Control
    from recovery.database import Database
    from recovery.decorator import RecoverableOptions, recoverable
    from recovery.endings import (
        AttemptTimedOut,
        CrashLooping,
        LeaseHeld,
        OperationCancelled,
        OperationDeferred,
        OperationEnded,
        OperationPaused,
    )
    from recovery.events import GateEvent, HealthEvent, OperationEvent
    from recovery.history import History
    from recovery.invalid import InvalidInput
    from recovery.journal import JOURNAL, Journal
    from recovery.lifecycle import Fenced
    from recovery.observers import observe
    from recovery.policy import DeadlineExceeded, Decision, GiveUp, Park, Retry, RetryPolicy, decide
    from recovery.recipe import recipe_of
    from recovery.records import Operation, OperationSpec
    from recovery.restore import restore_point, settle_restore_points
    from recovery.states import IllegalTransition, State, transition
    from recovery.steps import RunningOperation, RunningSyncOperation, current_operation, current_sync_operation
    from recovery.supervisor import Supervisor
    from recovery.supervisors import close_state_files
    from recovery.unfinished import resume_unfinished

_WHERE = {
    "classify": "Action Category Classifier Condition Rule UserAction Verdict",
    "clock": "Clock SystemClock",
    "compensation": "GaveUp",
    "control": "Attempt Control",
    "database": "Database",
    "decorator": "RecoverableOptions recoverable",
    "endings": "AttemptTimedOut CrashLooping LeaseHeld OperationCancelled OperationDeferred OperationEnded"
    " OperationPaused",
    "events": "GateEvent HealthEvent OperationEvent",
    "history": "History",
    "invalid": "InvalidInput",
    "journal": "JOURNAL Journal",
    "lifecycle": "Fenced",
    "observers": "observe",
    "policy": "DeadlineExceeded Decision GiveUp Park Retry RetryPolicy decide",
    "recipe": "recipe_of",
    "records": "Operation OperationSpec",
    "restore": "restore_point settle_restore_points",
    "states": "IllegalTransition State transition",
    "steps": "RunningOperation RunningSyncOperation current_operation current_sync_operation",
    "supervisor": "Supervisor",
    "supervisors": "close_state_files",
    "unfinished": "resume_unfinished",
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names.split()}

__all__ = [
    "JOURNAL",
    "Action",
    "Attempt",
    "AttemptTimedOut",
    "Category",
    "Classifier",
    "Clock",
    "Condition",
    "Control",
    "CrashLooping",
    "Database",
    "DeadlineExceeded",
    "Decision",
    "Fenced",
    "GateEvent",
    "GaveUp",
    "GiveUp",
    "HealthEvent",
    "History",
    "IllegalTransition",
    "InvalidInput",
    "Journal",
    "LeaseHeld",
    "Operation",
    "OperationCancelled",
    "OperationDeferred",
    "OperationEnded",
    "OperationEvent",
    "OperationPaused",
    "OperationSpec",
    "Park",
    "RecoverableOptions",
    "Retry",
    "RetryPolicy",
    "Rule",
    "RunningOperation",
    "RunningSyncOperation",
    "State",
    "Supervisor",
    "SystemClock",
    "UserAction",
    "Verdict",
    "close_state_files",
    "current_operation",
    "current_sync_operation",
    "decide",
    "observe",
    "recipe_of",
    "recoverable",
    "restore_point",
    "resume_unfinished",
    "settle_restore_points",
    "transition",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"recovery.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public surface."""
    return sorted(__all__)
