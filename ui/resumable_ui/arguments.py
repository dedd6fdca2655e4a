"""What the ``resumable`` command was asked to do, as one checked record; ``grammar`` makes it of words. Pure."""

from __future__ import annotations

from msgspec import Struct


class Arguments(Struct, frozen=True, kw_only=True):
    """A checked command line: rates in bytes per second, times in seconds. Links and headers may hold secrets."""

    command: str
    state: str | None = None
    """State file; None for the default."""
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    # get
    urls: tuple[str, ...] = ()
    out: str | None = None
    directory: str | None = None
    lists: tuple[str, ...] = ()
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    """``Name: value``, or ``@FILE``; not yet checked."""
    restart: bool = False
    no_clobber: bool = False
    project: str = ""
    # whatever runs downloads: get, resume, retry
    jobs: int = 4
    connections: int = 4
    retries: int | None = None
    retry_max_time: float | None = None
    stall_timeout: float = 30.0
    limit_rate: int | None = None
    wait: bool = False
    progress: str = "auto"
    # the others
    ids: tuple[str, ...] = ()
    every: bool = False
    """``--all`` of status and resume, ``--failed`` of retry."""
    watch: bool = False
    delete_part: bool = False
    file: str = ""
    older_than: float = 604_800.0
    # serve
    host: str = "127.0.0.1"
    port: int = 8710
    token: str | None = None
    viewer_token: str | None = None
    no_auth: bool = False
    allow_hosts: tuple[str, ...] = ()
    prefix: str = ""
    redis: str | None = None


class UsageError(Exception):
    """The command line cannot be used; the message is one line."""


class HelpAsked(Exception):  # noqa: N818 - not an error: the text is the result
    """``--help`` of a command: ``args[0]`` is what to print."""
