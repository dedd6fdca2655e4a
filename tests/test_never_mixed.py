"""A thousand origins whose nodes disagree, at random: what is published is of one version, whole."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from resumable.errors import DownloadError
from resumable.ports import Fetch, Response
from resumable.testing import Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, OTHER, Rig

A = CONTENT[: 12 * CHUNK + 77]
B = OTHER[: len(A)]
"""As long, and another one in every chunk."""
SEEDS = range(2000 if os.environ.get("RESUMABLE_LONG") else 150)
MONDAY, TUESDAY, WEDNESDAY = (f"{day} Nov 2023 08:49:37 GMT" for day in ("Mon, 06", "Tue, 07", "Wed, 08"))


@dataclass(frozen=True)
class Node:
    """One machine behind the link: what it has, and what it says and does."""

    content: bytes
    tag: str | None
    dated: str | None
    ranges: bool
    minds_if_range: bool
    chunked: bool


class Nodes(ScriptedTransport):
    """Each request is answered by one of the nodes that are up; from request ``change`` on by the later ones."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(A)
        self.rng = rng
        self.preserved = rng.random() < 0.3
        """Whether the new version has the date of the old one; then every node has a tag, or nothing would tell."""
        self.before = [self._node(A, tagged=0.8)] * 2
        self.after = [self._node(B, tagged=0.3)]
        if rng.random() < 0.4:
            self.after.append(self._node(rng.choice([A, B]), tagged=0.5))
        self.change = rng.randint(1, 3)
        self.asked = 0
        self.cuts = rng.random() * 0.5

    def _node(self, content: bytes, *, tagged: float) -> Node:
        rng = self.rng
        tag = f'"{content[:2].hex()}"' if self.preserved or rng.random() < tagged else None
        dated = None if rng.random() < 0.7 else TUESDAY if content is A or self.preserved else MONDAY
        return Node(content, tag, dated, rng.random() < 0.8, rng.random() < 0.3, rng.random() < 0.2)

    @asynccontextmanager
    async def fetch(self, request: Fetch) -> AsyncIterator[Response]:
        rng = self.rng
        self.asked += 1
        self.node = rng.choice(self.before if self.asked <= self.change else self.after)
        if self.asked < 60 and rng.random() < (0.9 if self.asked <= self.change else self.cuts):
            self.script.append(rng.choice([Reply(cut_after=rng.randrange(1, 6 * CHUNK)), Reply(status=503)]))
        async with super().fetch(request) as answer:
            yield answer

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        node = self.node
        self.content, self.etag, self.ranges = node.content, node.tag, node.ranges
        self.last_modified = node.dated
        if not node.minds_if_range:
            self.etag = request.headers.get("if-range")
        status, headers, body = super().honest(request)
        headers.pop("etag", None)
        headers |= {"etag": node.tag} if node.tag is not None else {}
        headers["date"] = WEDNESDAY
        if node.chunked and status == 206:
            headers.pop("content-length")
            headers["transfer-encoding"] = "chunked"
        return status, headers, body


@pytest.mark.parametrize("block", range(10))
async def test_what_is_published_is_of_one_version(block: int) -> None:
    """Nodes with and without tags, dates and ranges, of two versions; cuts, damage on the disk, new processes; with
    and without a digest.
    """
    published = 0
    for seed in list(SEEDS)[block::10]:
        rng = random.Random(seed)
        transport = Nodes(rng)
        wanted = rng.choice([None, None, A, B])
        sha256 = None if wanted is None else hashlib.sha256(wanted).hexdigest()
        rig = Rig(transport, connections=rng.choice([1, 1, 3]), sha256=sha256)
        for _ in range(40):
            try:
                result = await rig.attempt()
            except DownloadError:
                if rng.random() < 0.3:
                    await rig.engine.close()
                    if rig.store.claims and rng.random() < 0.7:
                        for index in rng.sample(sorted(rig.store.claims), min(2, len(rig.store.claims))):
                            rig.part[index * CHUNK : index * CHUNK + 1] = b"!"
                    rig.new_session()
            else:
                assert rig.published in ({A, B} if wanted is None else {wanted}), (seed, result)
                published += 1
                break
    assert published > len(SEEDS) // 20
