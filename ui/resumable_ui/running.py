"""One command from its arguments to its end: event loop, manager, and the edge where every exception becomes a line."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import ssl
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from recovery.events import HealthEvent
from resumable.errors import DownloadError
from resumable.events import DownloadEvent
from resumable.redact import one_line, redact_text
from resumable.requestlog import REQUESTS
from resumable_ui.arguments import Arguments, UsageError
from resumable_ui.console import Console, cannot_print
from resumable_ui.exitcodes import FAULT, MACHINE, USAGE, exit_code
from resumable_ui.output import LineWriter
from resumable_ui.runner import Ended, Runner

if TYPE_CHECKING:
    from resumable.manager import DownloadManager
    from resumable.ports import Transport
    from resumable.preconnect import Preconnect

_OBJECTS_MADE = 20_000
"""After so many more objects the collector looks for cycles. At Python's 700 it took a tenth of the processor time of a
thousand small files, and found next to nothing.
"""

MakeManager = Callable[..., "DownloadManager"]


def run_command(
    arguments: Arguments,
    console: Console,
    *,
    make_manager: MakeManager | None = None,
    preconnect: Preconnect | None = None,
) -> Ended:
    """Run a checked command line and print everything; never raises. ``preconnect`` is used by downloads, and closed
    by whoever made it.
    """
    _log_to(console.notes, arguments.verbose)

    def unwritable(error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            console.notes.line(f"resumable: {cannot_print(error)}")

    console.results.on_error = unwritable
    try:
        make = make_manager or _manager_type()
        gc.freeze()
        gc.set_threshold(_OBJECTS_MADE)
        gc.enable()
        ended = _run(arguments, console, make, preconnect)
    except UsageError as error:
        console.notes.line(str(error))
        ended = Ended(USAGE)
    except (DownloadError, OSError, ValueError, LookupError) as error:
        console.notes.line(f"resumable {arguments.command}: {one_line(_words(error))}")
        ended = Ended(USAGE if isinstance(error, (ValueError, LookupError)) else exit_code(error))
    except Exception as error:  # noqa: BLE001 - the process's edge: nobody is helped by a traceback they did not ask for
        words = redact_text(str(error))
        console.notes.line(
            f"resumable {arguments.command}: a fault of this program ({type(error).__name__}: {words}); "
            "please report it with what -vv shows"
        )
        if arguments.verbose > 1:
            console.notes.line("\n".join(map(redact_text, traceback.format_exc().rstrip().split("\n"))))
        ended = Ended(FAULT)
    if ended.stopped_by is None:
        console.close()
    return _writable(ended, console)


def _run(arguments: Arguments, console: Console, make_manager: MakeManager, preconnect: Preconnect | None) -> Ended:
    noted: set[str] = set()

    def note_health(event: HealthEvent) -> None:
        # Degraded and mended come with the same reason.
        if event.reason and event.reason not in noted and not arguments.quiet:
            noted.add(event.reason)
            console.notes.line(f"warning: {one_line(event.reason)}")

    if arguments.command == "serve":
        serve = _serve_type(redis=arguments.redis is not None)
        with asyncio.Runner(loop_factory=_loop_factory()) as loop:
            return loop.run(serve(arguments, console, make_manager, note_health))

    if arguments.command not in {"get", "resume", "retry"}:
        return asyncio.run(_look_or_steer(arguments, console, make_manager, note_health))

    from resumable_ui.get import Get, settings

    if arguments.command == "get":
        begin = Get(arguments).begin
    else:
        from resumable_ui.control import Resume

        begin = Resume(arguments).begin
    runner = Runner(arguments, console)

    @asynccontextmanager
    async def open_manager(on_event: Callable[[DownloadEvent], None]) -> AsyncIterator[DownloadManager]:
        async with AsyncExitStack() as closing:
            given = settings(arguments)
            if preconnect is not None:
                given["transport"] = await closing.enter_async_context(_transport(preconnect))
            yield await closing.enter_async_context(make_manager(**given, on_event=on_event, on_health=note_health))

    with asyncio.Runner(loop_factory=_loop_factory()) as loop:
        return loop.run(runner.run(open_manager, begin))


@asynccontextmanager
async def _transport(preconnect: Preconnect) -> AsyncIterator[Transport]:
    from resumable.preconnect import SPARE_S
    from resumable.transport import AiohttpTransport

    # By then it has been used, or the download waits for something else: a server has better uses for a connection.
    asyncio.get_running_loop().call_later(SPARE_S, preconnect.close)
    transport = AiohttpTransport(preconnect=preconnect)
    try:
        yield transport
    finally:
        await transport.close()


async def _look_or_steer(
    arguments: Arguments, console: Console, make_manager: MakeManager, note_health: Callable[[HealthEvent], None]
) -> Ended:
    async with make_manager(state=arguments.state, on_health=note_health) as manager:
        if arguments.command == "status":
            from resumable_ui.status import Status

            return Ended(await Status(manager, arguments, console).run())
        from resumable_ui.control import STEERING

        return Ended(await STEERING[arguments.command](manager, arguments, console))


_UNUSED: Final = ("aio_pika", "aioredis", "kafka", "kombu", "requests", "valkey", "websocket", "zmq")
"""What python-socketio imports where it is installed, for uses that are not ours: half of the hub's start-up time."""


def _serve_type(*, redis: bool) -> Callable[..., Coroutine[Any, Any, Ended]]:
    """The web server, loaded only now; raises UsageError where its extra is not installed."""
    hidden = [name for name in (*_UNUSED, *(() if redis else ("redis",))) if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: as if it were not installed
    try:
        from resumable_ui.serving import serve
    except ModuleNotFoundError as error:
        if error.name not in {"socketio", "engineio"}:
            raise
        install = "pip install 'resumable-downloads[web]' (in a clone: pip install '.[web]')"
        msg = f"resumable serve: needs python-socketio: {install}"
        raise UsageError(msg) from None
    finally:
        for name in hidden:
            del sys.modules[name]
    return serve


def _manager_type() -> MakeManager:
    """The real one, with its HTTP stack and database, loaded only now."""
    with _certificates_unread():
        from resumable.manager import DownloadManager

    return DownloadManager


@contextmanager
def _certificates_unread() -> Iterator[None]:
    """Let aiohttp be imported without reading this machine's certificates, a third of the time that a command takes.

    Its module keeps two contexts, one for whoever brings none and one that verifies nothing; our transport makes its
    own at the first ``https`` link. Were the first ever used, it would trust nobody. Another thread reads all the same.
    """
    real = ssl.SSLContext.set_default_verify_paths  # ``load_default_certs`` calls it too
    importing = threading.get_ident()

    def read_elsewhere(context: ssl.SSLContext) -> None:
        if threading.get_ident() != importing:
            real(context)

    ssl.SSLContext.set_default_verify_paths = read_elsewhere  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ssl.SSLContext.set_default_verify_paths = real  # type: ignore[method-assign]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the ``speed`` extra), the standard loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _writable(ended: Ended, console: Console) -> Ended:
    """Everything went well, but nobody could be told: that is a failure too."""
    error = console.results.error
    if error is None or ended.stopped_by is not None:
        return ended
    if isinstance(error, BrokenPipeError):
        return Ended(128 + signal.SIGPIPE, signal.SIGPIPE)
    return Ended(ended.code or MACHINE)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)


class _NotesHandler(logging.Handler):
    """Log records as notes, so that they neither block the loop nor tear a progress line; without secrets, whoever they
    are from.
    """

    def __init__(self, notes: LineWriter) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.line("\n".join(map(redact_text, self.format(record).split("\n"))))


class _WithFacts(logging.Formatter):
    """The message of a record and the facts that came with it (``extra``), which say what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == REQUESTS:
            return record.getMessage()
        facts = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        return super().format(record) + "".join(f" {name}={value}" for name, value in facts.items())


_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _log_to(notes: LineWriter, verbose: int) -> None:
    """Send log records to stderr: each request and all warnings with ``-v``, all that is ours with ``-vv``."""
    handler: Any = _NotesHandler(notes) if verbose else logging.NullHandler()
    handler.setFormatter(_WithFacts("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("resumable", "recovery", "resumable_ui"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose > 1 else logging.WARNING)
    logging.getLogger(REQUESTS).setLevel(logging.DEBUG if verbose else logging.WARNING)
