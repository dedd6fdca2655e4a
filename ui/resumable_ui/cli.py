"""The ``resumable`` command: from words to an exit code. What is slow to import waits for a command that needs it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from resumable import __version__
from resumable_ui.signals import die_of, interrupts_kill

LAST_WORDS_S = 0.5
"""How long a sleeping reader may keep the last lines of a command that a signal ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code, or ends the process by the signal that interrupted it."""
    interrupts_kill()
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] in (["-h"], ["--help"], ["help"]):
        from resumable_ui.helptext import HELP

        return _print(HELP)
    if words[:1] in (["-V"], ["--version"]):
        return _print(f"resumable {__version__}\n")
    return _run(words)


def _run(words: Sequence[str]) -> int:
    # What is imported now stays to the end: collections that look at it find nothing, for a tenth of the start-up time.
    gc.disable()
    from resumable_ui.arguments import HelpAsked, UsageError
    from resumable_ui.console import open_console
    from resumable_ui.grammar import parse

    console = open_console(os.environ)
    try:
        arguments = parse(words, os.environ)
    except HelpAsked as asked:
        return _print(str(asked))
    except UsageError as error:
        console.notes.line(str(error))
        console.close()
        return 2

    from resumable_ui.beforehand import preconnect

    begun = preconnect(arguments, os.environ)
    try:
        from resumable_ui.running import run_command

        ended = run_command(arguments, console, preconnect=begun)
    finally:
        if begun is not None:
            begun.close()
    if ended.stopped_by is not None:
        console.close(LAST_WORDS_S)
        die_of(ended.stopped_by)
    return ended.code


def _print(text: str) -> int:
    """Print what was asked for; a reader that has seen enough is no failure."""
    if sys.stdout is not None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
        except OSError as error:
            from resumable_ui.console import cannot_print
            from resumable_ui.exitcodes import MACHINE

            _forget_stdout()
            print(f"resumable: {cannot_print(error)}", file=sys.stderr)
            return MACHINE
    return 0


def _forget_stdout() -> None:
    # The interpreter flushes once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
