"""What tests may switch in a whole program: whether waits between attempts take time, and how many attempts there are.

``recovery.testing`` sets them; recoverable functions and supervisors ask. The clock they were given stays theirs.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from recovery.policy import RetryPolicy

__all__ = ["SWITCHES", "Switches"]


class Switches(Struct):
    """One for the process."""

    waits: bool = True
    """False: nobody sleeps between two attempts, or until a condition holds."""
    most_attempts: int | None = None
    """Attempts in total, in place of every policy's; None leaves the policies alone."""

    def policy(self, policy: RetryPolicy) -> RetryPolicy:
        """Return the policy as it is to be used."""
        return policy if self.most_attempts is None else replace(policy, max_attempts=self.most_attempts)

    def seconds(self, planned: float) -> float:
        """Return how long a wait of ``planned`` seconds really is."""
        return planned if self.waits else 0.0


SWITCHES = Switches()
