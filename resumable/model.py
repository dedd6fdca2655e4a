"""Frozen records that the parts of ``resumable`` hand to each other. No behaviour beyond arithmetic on their own
fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from resumable.validators import Representation

MIB = 1 << 20


class Durability(StrEnum):
    """What a checkpoint outlives."""

    PROCESS = "process"
    """kill -9 and crashes of the program; after a power cut the audit finds what did not reach the disk."""
    POWER = "power"
    """Also a power cut: the data is synced (fdatasync) before each checkpoint row."""


class Options(Struct, frozen=True, kw_only=True):
    """How a download runs. Times are seconds, sizes bytes, rates bytes per second; None means no limit."""

    connections: int = 4
    """Most connections at once for one file; fewer when the origin tolerates fewer."""
    chunk_size: int | None = None
    """Bytes per chunk; None chooses 1 MiB, doubled until a file has at most 8,192 chunks, 16 MiB at most."""
    checkpoint_interval_s: float = 0.25
    durability: Durability = Durability.PROCESS
    connect_timeout_s: float = 20.0
    stall_timeout_s: float = 30.0
    """Silence on a connection after which it is dropped and its bytes are asked for again."""
    min_rate: int = 1024
    """A connection slower than this over ``stall_timeout_s`` counts as stalled; 0 turns the floor off."""
    limit_rate: int | None = None
    """Cap of this download, bytes per second, over all its connections."""
    wait_for_space: bool = True
    """Park when the disk is full and go on when space returns; False raises DiskFull."""
    no_clobber: bool = False
    """A file that already stands at the destination is the result, and nothing is transferred; where none is named, one
    that has the name that the link gives, or the answer. One that comes to stand there meanwhile, also by another
    download of the same manager, is kept, and the download gets a numbered name beside it.
    """
    restart: bool = False
    """Forget what is kept and begin at byte zero."""
    max_redirects: int = 10
    max_bytes: int | None = None
    """Refuse a representation larger than this."""
    max_range: int | None = None
    """Ask for at most this much in one request, for servers that slow down long answers; a chunk is the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRequest:
    """What was asked for. ``url``, ``mirrors`` and ``headers`` may hold secrets: never log, store or raise them as
    they are.
    """

    url: str = field(repr=False)
    directory: Path
    """Absolute directory below which the file is put."""
    filename: str | None
    """Name inside ``directory``; None takes it from the answer (``Content-Disposition``) or the URL."""
    mirrors: tuple[str, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sha256: str | None = None
    """Expected SHA-256 of the whole file, 64 lower-case hex digits."""
    project: str = ""
    options: Options = field(default_factory=Options)

    dest: Path | None = field(init=False, repr=False, compare=False)
    """Absolute path of the finished file, None while the name is not known."""

    def __post_init__(self) -> None:
        """Put ``dest`` together, once: a download asks for it a dozen times."""
        object.__setattr__(self, "dest", None if self.filename is None else self.directory / self.filename)


class Checkpoint(Struct, frozen=True):
    """The claim that the first ``length`` bytes of chunk ``index`` are in the part file and have SHA-256 ``digest``.

    The digest has 32 bytes, or none in a claim on bytes that nobody has vouched for; such a claim is never stored.
    """

    index: int
    length: int
    digest: bytes


class Saved(Struct, frozen=True, kw_only=True):
    """What the store knows of a download from former runs: claims to be audited, not facts."""

    representation: Representation
    chunk_size: int
    checkpoints: Mapping[int, Checkpoint]
    link: str = ""
    """Identity of the link whose answer ``representation`` describes; "" where a former version did not write it."""
    equals: tuple[str, ...] = ()
    """Identities of the links that a person has given for the same file: mirrors, and what ``relink`` was told."""
    received_before: int = 0
    """Bytes on the wire in former runs, for the books."""


class Finished(Struct, frozen=True, kw_only=True):
    """What the store keeps of a published file: enough to recognise it, and to verify it chunk by chunk later."""

    path: Path
    size: int
    sha256: str | None
    representation: Representation
    chunk_size: int
    digests: bytes
    """The SHA-256 of every chunk, 32 bytes each, in order."""
    verified_by: str
    bytes_received: int = 0
    links: tuple[str, ...] = ()
    """What identifies the links it may have come from, without secrets: it is no other link's file."""


class Result(Struct, frozen=True, kw_only=True):
    """A finished download."""

    path: Path
    size: int
    sha256: str | None
    """SHA-256 of the whole file in hex; None where nobody stated one and the file has several chunks (their digests
    were checked).
    """
    bytes_resumed: int
    """Bytes that former runs had left and that passed the audit."""
    bytes_received: int
    """Bytes on the wire in this run."""
    attempts: int
    elapsed: float
    """Seconds from the first attempt of this run to publication; waiting for a slot is not among them."""
    verified_by: str
    """What proves that the content is of one version: ``digest`` (stated by caller or origin), ``etag``,
    ``last-modified``, ``overlap`` (bytes beside each break were fetched twice), or ``length`` alone; ``exists`` where
    ``no_clobber`` kept what was there, and nothing does.
    """
    download_id: str = ""
    warnings: tuple[str, ...] = ()


class There(Struct, frozen=True, kw_only=True):
    """A file that needs no transfer."""

    path: Path
    size: int
    sha256: str | None
    verified_by: str
    note: str

    def result(self, download_id: str, *, elapsed: float) -> Result:
        """Return it as the result of a download; ``elapsed`` in seconds."""
        return Result(
            path=self.path,
            size=self.size,
            sha256=self.sha256,
            bytes_resumed=self.size,
            bytes_received=0,
            attempts=0,
            elapsed=elapsed,
            verified_by=self.verified_by,
            download_id=download_id,
        )
