"""Durable recovery of any operation: classify the failure, decide, wait, try again. It knows nothing of HTTP
downloads or files.

Public names are imported from here; the modules behind them may move.
"""

from __future__ import annotations

from recovery.classify import Action, Category, Classifier, Condition, Rule, UserAction, Verdict
from recovery.clock import Clock, SystemClock
from recovery.events import GateEvent, HealthEvent, OperationEvent
from recovery.history import History
from recovery.policy import DeadlineExceeded, Decision, GiveUp, Park, Retry, RetryPolicy, decide
from recovery.states import IllegalTransition, State, transition

__all__ = [
    "Action",
    "Category",
    "Classifier",
    "Clock",
    "Condition",
    "DeadlineExceeded",
    "Decision",
    "GateEvent",
    "GiveUp",
    "HealthEvent",
    "History",
    "IllegalTransition",
    "OperationEvent",
    "Park",
    "Retry",
    "RetryPolicy",
    "Rule",
    "State",
    "SystemClock",
    "UserAction",
    "Verdict",
    "decide",
    "transition",
]
