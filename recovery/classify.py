"""Judges exceptions: every exception gets exactly one verdict."""

from __future__ import annotations

from recovery.verdict import Action, Category, Condition, Rule, UserAction, Verdict

__all__ = ["Action", "Category", "Condition", "Rule", "UserAction", "Verdict"]
