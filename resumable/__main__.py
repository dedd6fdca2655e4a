"""``python -m resumable`` and the ``resumable`` command: the one place where the library knows its user interface."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from resumable_ui.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
