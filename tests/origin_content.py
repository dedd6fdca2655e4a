"""Content of any size whose every byte follows from its offset: nothing is stored, and misplaced bytes are seen."""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache

UNIT = 1 << 20
_CELL = 4096
_STAMP = 8
_PERIOD = 1_048_573  # prime: cells repeat their pattern only after 4 GiB, and each has its own stamp besides
_WORD = (1 << 64) - 1


class Content:
    """``size`` bytes that depend on ``seed`` and the offset only: another size with the same seed begins the same.

    Each 4 KiB cell begins with a stamp of its number; the rest is a slice of a random pattern that moves with the cell.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        """Describe the content; nothing is generated yet."""
        self.size = size
        self.seed = seed
        self._units: OrderedDict[int, bytes] = OrderedDict()

    @property
    def tag(self) -> str:
        """A name for exactly these bytes, as an ETag wants one."""
        return f"s{self.seed}-{self.size:x}"

    @property
    def modified(self) -> int:
        """When it was last modified, epoch seconds; another seed, another time."""
        return 1_600_000_000 + 60 * self.seed

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``, as far as they exist."""
        return b"".join(self.views(start, stop))

    def views(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes ``[start, stop)`` in large views, without a copy."""
        stop = min(stop, self.size)
        while start < stop:
            index, offset = divmod(start, UNIT)
            view = memoryview(self._unit(index))[offset : offset + stop - start]
            yield view
            start += len(view)

    def sha256(self) -> str:
        """Return the digest of the whole content in hex."""
        digest = hashlib.sha256()
        for view in self.views(0, self.size):
            digest.update(view)
        return digest.hexdigest()

    def _unit(self, index: int) -> bytes:
        unit = self._units.get(index)
        if unit is None:
            unit = self._units[index] = self._make(index)
            if len(self._units) > 64:
                # Threads share this; whoever loses the race finds it gone already.
                self._units.pop(next(iter(self._units), index), None)
        return unit

    def _make(self, index: int) -> bytes:
        pattern = _pattern(self.seed)
        pieces: list[bytes] = []
        for cell in range(index * UNIT // _CELL, (index + 1) * UNIT // _CELL):
            stamp = (cell * 0x9E3779B97F4A7C15 + self.seed * 0xD1B54A32D192ED03 + 1) & _WORD
            at = cell * 769 % _PERIOD
            pieces += (stamp.to_bytes(_STAMP, "little"), pattern[at : at + _CELL - _STAMP])
        return b"".join(pieces)


class FixedContent(Content):
    """Given bytes."""

    def __init__(self, data: bytes) -> None:
        """Serve ``data``."""
        super().__init__(len(data))
        self._data = data

    @property
    def tag(self) -> str:
        """A digest of the bytes."""
        return hashlib.sha256(self._data).hexdigest()[:16]

    def views(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes ``[start, stop)``."""
        view = memoryview(self._data)[start:stop]
        if view:
            yield view


@lru_cache(maxsize=16)
def _pattern(seed: int) -> bytes:
    return random.Random(seed).randbytes(_PERIOD + _CELL)
