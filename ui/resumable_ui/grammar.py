"""The grammar of the ``resumable`` command: words in, one checked record out.

Pure: reads no file, no clock and no environment of its own. The commands read what ``-i`` and ``-H @FILE`` name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

from resumable_ui.arguments import Arguments, HelpAsked, UsageError
from resumable_ui.inputs import parse_sha256, parse_url
from resumable_ui.quantities import parse_duration, parse_rate

T = TypeVar("T")

_ID: Final = "as status prints it; its beginning is enough, and so is the path of the file"
PROGRESS_MODES: Final = ("auto", "bar", "log", "none")


class _Parser(argparse.ArgumentParser):
    """argparse that raises one line in place of printing several and exiting."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("expected one argument", "no value was given, or one that begins with '-'")
        msg = f"{self.prog}: {message} (see {self.prog} --help)"
        raise UsageError(msg)

    def print_help(self, file: object = None) -> None:  # noqa: ARG002 - argparse's signature
        raise HelpAsked(self.format_help())


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Arguments:
    """Return the checked command line; raise UsageError with one line, or HelpAsked with the text asked for."""
    if not argv:
        msg = "resumable: no command; begin with: resumable get URL (see resumable --help)"
        raise UsageError(msg)
    name, rest = argv[0], argv[1:]
    build = _COMMANDS.get(name)
    if build is None:
        raise UsageError(_not_a_command(name))
    parser = _Parser(prog=f"resumable {name}", allow_abbrev=False, argument_default=argparse.SUPPRESS)
    build(parser)
    _add_common(parser)
    values = vars(parser.parse_intermixed_args(rest))
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    arguments = Arguments(command=name, **{**_from_environment(parser, environ), **found})
    _check(parser, arguments)
    return arguments


def _not_a_command(word: str) -> str:
    if "://" in word:
        return "resumable: a link needs a command before it: resumable get URL"
    if word.startswith("-"):
        option = word.partition("=")[0]
        return f"resumable: options stand after the command: resumable get {option} ... (see resumable --help)"
    return f"resumable: no command {word[:40]!r} (there are {', '.join(_COMMANDS)})"


def _from_environment(parser: _Parser, environ: Mapping[str, str]) -> dict[str, Any]:
    """Defaults that the environment states; a wrong value there is a wrong use like any other."""
    found: dict[str, Any] = {}
    for name, key, check in (
        ("RESUMABLE_RETRIES", "retries", _whole_number(0, 1_000_000)),
        ("RESUMABLE_PROGRESS", "progress", _progress_mode),
        ("RESUMABLE_TOKEN", "token", str),
    ):
        value = environ.get(name)
        if value:
            try:
                found[key] = check(value)
            except argparse.ArgumentTypeError as error:
                parser.error(f"environment variable {name}: {error}")
    return found


def _check(parser: _Parser, arguments: Arguments) -> None:
    """Refuse combinations that mean two things at once."""
    several = len(arguments.urls) > 1 or bool(arguments.lists)
    if arguments.command == "get":
        if not arguments.urls and not arguments.lists:
            parser.error("no link (give URL... or -i LIST)")
        for option, given in (
            ("-o", arguments.out is not None),
            ("--sha256", arguments.sha256 is not None),
            ("--mirror", bool(arguments.mirrors)),
        ):
            if given and several:
                parser.error(f"{option} is for one file, and several links are given")
        if arguments.out == "-":
            parser.error("-o - cannot be resumed or checked before it is handed on: name a file")
        if arguments.out == "":
            parser.error("-o needs a file name")
        if arguments.restart and arguments.no_clobber:
            parser.error("--restart and --no-clobber contradict each other")
    if arguments.command in {"resume", "retry"} and arguments.ids and arguments.every:
        parser.error("name downloads or say all of them, not both")
    for option, token in (("--token", arguments.token), ("--viewer-token", arguments.viewer_token)):
        if token is not None and arguments.command == "serve":
            _check_token(parser, option, token)
    if arguments.quiet and arguments.verbose:
        parser.error("-q and -v contradict each other")


def _check_token(parser: _Parser, option: str, token: str) -> None:
    if not (8 <= len(token) <= 200 and token.isascii() and token.isprintable()):
        parser.error(f"{option} must have 8 to 200 plain characters")


def _checked(parse_text: Callable[[str], T]) -> Callable[[str], T]:
    """Let argparse show the sentence of a ValueError, which it would replace by its own."""

    def convert(text: str) -> T:
        try:
            return parse_text(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        msg = f"{text[:20]!r} is not a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(msg)

    return convert


def _progress_mode(text: str) -> str:
    if text in PROGRESS_MODES:
        return text
    msg = f"{text[:20]!r} is none of {', '.join(PROGRESS_MODES)}"
    raise argparse.ArgumentTypeError(msg)


def _add_common(parser: _Parser) -> None:
    group = parser.add_argument_group("in every command")
    group.add_argument(
        "--state", metavar="FILE", help="state file (default: $RESUMABLE_STATE or the user's state directory)"
    )
    group.add_argument("--json", action="store_true", help="newline-delimited JSON on stdout, one object a line")
    group.add_argument("-q", "--quiet", action="store_true", help="on stderr only errors; results still go to stdout")
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        help="also every request, answer and broken connection; twice: also what goes on inside, for bug reports",
    )


def _add_running(parser: _Parser) -> None:
    group = parser.add_argument_group("how it runs")
    whole = _whole_number
    group.add_argument("-j", "--jobs", type=whole(1, 1000), metavar="N", help="downloads at once (default 4)")
    group.add_argument(
        "-c", "--connections", type=whole(1, 64), metavar="N", help="connections for each file, at the most (default 4)"
    )
    group.add_argument(
        "--retries",
        type=whole(0, 1_000_000),
        metavar="N",
        help="give up after N retries in a row that bring no new byte; waits that the server asks for (Retry-After) "
        "count as well (default 3, such waits not counted)",
    )
    group.add_argument(
        "--retry-max-time",
        type=_checked(parse_duration),
        metavar="TIME",
        help="give up after this long in all: 90, 5m, 1h30m (default 24h)",
    )
    group.add_argument(
        "--stall-timeout",
        type=_checked(parse_duration),
        metavar="TIME",
        help="drop a connection that sends nothing for this long, and ask again (default 30s)",
    )
    group.add_argument(
        "--limit-rate",
        type=_checked(parse_rate),
        metavar="RATE",
        help="bytes per second for all downloads together: 500K, 10M (1024s, as in curl)",
    )
    group.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        help="wait for room when the disk is full (default: stop, say what to free, exit 6)",
    )
    group.add_argument(
        "--progress",
        type=_progress_mode,
        metavar="WHEN",
        help="auto, bar, log or none; auto is a bar on a terminal and log lines elsewhere",
    )


def _build_get(parser: _Parser) -> None:
    parser.description = "Download files. Run it again and it continues; a finished file is success without transfer."
    parser.epilog = (
        "Arguments are visible to other users of this machine (ps): keep secrets out of them with -H @FILE, and put "
        "signed links into a list: -i LIST or -i - ."
    )
    url = _checked(parse_url)
    parser.add_argument("urls", nargs="*", type=url, metavar="URL", help="http:// or https:// links")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "-o",
        "--output",
        dest="out",
        metavar="FILE",
        help="name of the finished file (for one link); another file of that name is replaced",
    )
    place.add_argument(
        "-d",
        "--dir",
        dest="directory",
        metavar="DIR",
        help="folder for the files, made where there is none (default: here); nothing is replaced: a file whose name "
        "is taken is called NAME.1.ext",
    )
    parser.add_argument(
        "-i",
        "--input-file",
        dest="lists",
        action="append",
        metavar="LIST",
        help="links from a file or - for stdin: one a line; tab-separated links are mirrors; indented lines below are "
        "options: out=, dir=, checksum=sha-256=HEX, header=",
    )
    parser.add_argument(
        "--sha256", type=_checked(parse_sha256), metavar="HEX", help="SHA-256 that the file must have (for one link)"
    )
    parser.add_argument(
        "--mirror",
        dest="mirrors",
        action="append",
        type=url,
        metavar="URL",
        help="another link to the same file; may be repeated",
    )
    parser.add_argument(
        "-H",
        "--header",
        dest="headers",
        action="append",
        metavar="LINE",
        help="request header, 'Name: value', or @FILE with one a line; may be repeated",
    )
    parser.add_argument("--restart", action="store_true", help="give up what is kept: begin at byte zero and attempt 1")
    parser.add_argument(
        "--no-clobber",
        action="store_true",
        help="a file that is already there counts as done, whatever is in it (but --sha256 is checked)",
    )
    parser.add_argument("--project", metavar="NAME", help="group downloads under a name, for status and the page")
    _add_running(parser)


def _build_status(parser: _Parser) -> None:
    parser.description = "Show what is known; with an ID, everything about that one."
    parser.add_argument("ids", nargs="*", metavar="ID", help=_ID)
    parser.add_argument("--watch", action="store_true", help="go on showing it as it changes, until Ctrl-C")
    parser.add_argument("--all", dest="every", action="store_true", help="also finished ones beyond the newest 10")
    parser.add_argument("--project", metavar="NAME", help="only this project")


def _build_resume(parser: _Parser) -> None:
    parser.description = "Continue what was interrupted or paused. Without ID: the only one there is."
    parser.add_argument("ids", nargs="*", metavar="ID", help=_ID)
    parser.add_argument("--all", dest="every", action="store_true", help="all that is unfinished")
    _add_running(parser)


def _build_retry(parser: _Parser) -> None:
    parser.description = (
        "Try again now, with all retries new. One that waits in another process is woken there. Without ID: the only "
        "one that failed."
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help=_ID)
    parser.add_argument("--failed", dest="every", action="store_true", help="all that failed")
    _add_running(parser)


def _build_pause(parser: _Parser) -> None:
    parser.description = "Stop downloads, also those of another process, and keep what they have."
    parser.add_argument("ids", nargs="+", metavar="ID", help=_ID)


def _build_cancel(parser: _Parser) -> None:
    parser.description = (
        "Stop downloads for good, also those of another process. The part file stays, unless --delete-part."
    )
    parser.add_argument("ids", nargs="+", metavar="ID", help=_ID)
    parser.add_argument("--delete-part", action="store_true", help="delete the part file too")


def _build_relink(parser: _Parser) -> None:
    parser.description = "Give a download a fresh link; what it has is kept if the file behind the link is the same."
    parser.add_argument("ids", nargs=1, metavar="ID", help=_ID)
    parser.add_argument("urls", nargs=1, type=_checked(parse_url), metavar="NEWURL", help="http:// or https:// link")


def _build_verify(parser: _Parser) -> None:
    parser.description = (
        "Read a file and compare it with its digest: the one given, or what is known from its download."
    )
    parser.add_argument("file", metavar="FILE", help="a finished file")
    parser.add_argument(
        "--sha256",
        type=_checked(parse_sha256),
        metavar="HEX",
        help="SHA-256 that it must have (default: what its download knows)",
    )


def _build_serve(parser: _Parser) -> None:
    parser.description = (
        "Show and steer all downloads on a web page, whichever process runs them; start new ones there."
    )
    parser.epilog = (
        "The address printed holds a token: whoever has it may steer. Arguments are visible to other users of this "
        "machine (ps): set $RESUMABLE_TOKEN rather than --token. Behind a reverse proxy give --allow-host NAME."
    )
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=_whole_number(0, 65535), metavar="N", help="default 8710; 0 takes any free one")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--token", metavar="TOKEN", help="what clients must know (default: a random one, printed once)")
    who.add_argument("--no-auth", action="store_true", help="let every user of this machine in")
    parser.add_argument("--viewer-token", metavar="TOKEN", help="another one, for those who may look but not act")
    parser.add_argument(
        "--allow-host",
        dest="allow_hosts",
        action="append",
        metavar="NAME",
        help="also answer to this host name, such as a proxy's",
    )
    parser.add_argument("--prefix", type=_prefix, metavar="/PATH", help="serve below this path, for a shared host")
    parser.add_argument(
        "--root", dest="directory", metavar="DIR", help="new downloads go below this folder (default: here)"
    )
    parser.add_argument("--redis", metavar="URL", help="hear of other processes sooner through a Redis server")
    parser.add_argument("--resume", dest="every", action="store_true", help="first continue all that is unfinished")
    _add_running(parser)


def _prefix(text: str) -> str:
    path = text.strip("/")
    if all(part and part not in {".", ".."} and part.isprintable() for part in path.split("/")) or not path:
        return f"/{path}" if path else ""
    msg = f"{text[:40]!r} is not a path"
    raise argparse.ArgumentTypeError(msg)


def _build_prune(parser: _Parser) -> None:
    parser.description = (
        "Forget downloads that ended long ago: complete, cancelled, or failed with nothing kept. One that failed and "
        "can go on from what it has stays until it is complete or cancelled. Files are never touched."
    )
    parser.add_argument(
        "--older-than", type=_checked(parse_duration), metavar="TIME", help="ended longer ago than this (default 7d)"
    )


_COMMANDS: Final[dict[str, Callable[[_Parser], None]]] = {
    "get": _build_get,
    "status": _build_status,
    "resume": _build_resume,
    "retry": _build_retry,
    "pause": _build_pause,
    "cancel": _build_cancel,
    "relink": _build_relink,
    "verify": _build_verify,
    "prune": _build_prune,
    "serve": _build_serve,
}
