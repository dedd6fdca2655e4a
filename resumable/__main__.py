"""``python -m resumable`` and the ``resumable`` command: the one place where the library knows its user interface."""

from __future__ import annotations

import atexit
import os
import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from resumable_ui.cli import main as run

    return run()


def command() -> int:
    """Run the command line of a process that has nothing else to do, and let that process end at once after it."""
    code = main()
    if not (sys.warnoptions or sys.flags.dev_mode):  # who asks for warnings hears what the teardown complains of
        atexit.register(_end, code)
    return code


def _end(code: int) -> None:
    """End the process without taking five hundred modules apart, which takes longer than a small download.

    The interpreter has joined all threads by now and calls this before what was registered earlier (coverage, logging,
    telemetry): that still runs.
    """
    atexit.unregister(_end)
    atexit._run_exitfuncs()  # noqa: SLF001 - as old as the module, and the only way to call the others first
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            return  # the interpreter has its own words, and its own exit code, for what it cannot write
    os._exit(code)


if __name__ == "__main__":
    sys.exit(command())
