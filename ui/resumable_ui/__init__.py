"""The user-facing parts: the ``resumable`` command, and what a person or a program sees of a download."""
