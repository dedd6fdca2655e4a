"""Durable recovery of any operation: classify the failure, decide, wait, try again. It knows nothing of HTTP
downloads or files.

Public names are imported from here; the modules behind them may move.
"""

from __future__ import annotations

from recovery.classify import Action, Category, Condition, Rule, UserAction, Verdict
from recovery.clock import Clock, SystemClock
from recovery.events import GateEvent, HealthEvent, OperationEvent
from recovery.history import History
from recovery.states import IllegalTransition, State, transition

__all__ = [
    "Action",
    "Category",
    "Clock",
    "Condition",
    "GateEvent",
    "HealthEvent",
    "History",
    "IllegalTransition",
    "OperationEvent",
    "Rule",
    "State",
    "SystemClock",
    "UserAction",
    "Verdict",
    "transition",
]
