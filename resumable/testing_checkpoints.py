"""A checkpoint store in memory, for tests, fenced like the real one; public as ``resumable.testing``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resumable.errors import LeaseLost
from resumable.model import Checkpoint, Finished, Saved
from resumable.validators import Representation

__all__ = ["MemoryCheckpoints"]


class MemoryCheckpoints:
    """A ``CheckpointStore`` whose rows a test may look at and change. ``generation`` None lets every generation
    write.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.representation: Representation | None = None
        self.chunk_size = 0
        self.link = ""
        self.equals: tuple[str, ...] = ()
        """What ``relink`` was told; see ``Saved.equals``."""
        self.claims: dict[int, Checkpoint] = {}
        self.finished: Finished | None = None
        self.name: Path | None = None
        self.generation: int | None = None
        self.commits = 0

    async def load(self, download_id: str) -> Saved | None:  # noqa: ARG002 - one download only
        """Return the claims, None before the first ``begin``."""
        if self.representation is None:
            return None
        return Saved(
            representation=self.representation,
            chunk_size=self.chunk_size,
            checkpoints=dict(self.claims),
            link=self.link,
            equals=self.equals,
        )

    async def begin(
        self,
        download_id: str,  # noqa: ARG002
        generation: int,
        representation: Representation,
        chunk_size: int,
        link: str = "",
    ) -> None:
        """Bind to a representation and forget all claims."""
        self._fence(generation)
        self.link = link
        self.representation, self.chunk_size = representation, chunk_size
        self.claims.clear()

    async def commit(self, download_id: str, generation: int, checkpoints: Sequence[Checkpoint]) -> None:  # noqa: ARG002
        """Keep the claims."""
        self._fence(generation)
        self.commits += 1
        self.claims.update({checkpoint.index: checkpoint for checkpoint in checkpoints})

    async def forget(self, download_id: str, generation: int, indexes: Sequence[int]) -> None:  # noqa: ARG002
        """Withdraw claims."""
        self._fence(generation)
        for index in indexes:
            self.claims.pop(index, None)

    async def finish(self, download_id: str, generation: int, finished: Finished) -> None:  # noqa: ARG002
        """Keep the receipt."""
        self._fence(generation)
        self.finished = finished
        self.claims.clear()

    async def named(self, download_id: str, generation: int, dest: Path) -> None:  # noqa: ARG002
        """Keep the name."""
        self._fence(generation)
        self.name = dest

    def _fence(self, generation: int) -> None:
        if self.generation is not None and generation != self.generation:
            raise LeaseLost("another process has taken this download over")
