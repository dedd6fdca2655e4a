"""How fast does one large file come from nginx on loopback: plain, over TLS, and checked against its SHA-256?

    python -m benchmarks.large_file [--size-mib 1024] [--rounds 5] [--quick] [--json]

Ours hashes and checkpoints every byte; the peers hash nothing, but for the part with a digest, where aria2c checks
it too.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.nginx import serving
from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.samples import Leniency, Samples, figures, interleave, ratio_bar
from benchmarks.tools import LIBRARIES, PEERS, SYNCED, Cost, Tool, installed, missing, ours, run

QUESTION = "How long does one large file from nginx on loopback take?"
FEWER: Final = {
    "requests, chunk by chunk": 2,
    "pypdl -8": 2,
    "parfive -8": 2,
    "huggingface_hub": 2,
    "rclone": 3,
    "resumable -c8": 3,
}
"""Rounds of those that no bar is about: they are slow, and the order is plain after two."""
PATIENCE_S = 120.0
"""A peer that needs longer for one file is stopped, and the report says so."""


class Contest:
    """Tools that fetch the same file in turn; keeps what each run cost."""

    def __init__(self, part: str, url: str, folder: Path, digest: str, env: dict[str, str]) -> None:
        """Fetch ``url`` into ``folder``; a file with another digest ends the benchmark. ``env`` is for every tool."""
        self.part = part
        self._url = url
        self._folder = folder
        self._digest = digest
        self._env = env
        self._costs: dict[str, list[Cost]] = {}
        self.leniency = Leniency()
        self.samples: dict[str, Samples] = {}

    def once(self, tool: Tool) -> float:
        """Return the wall seconds of one run of ``tool``; raises RuntimeError where the file is wrong."""
        for stale in self._folder.iterdir():
            stale.unlink()
        out = self._folder / "big.bin"
        most_s = PATIENCE_S if tool.name in self.leniency.peers else None
        cost = run(tool.line(self._url, out), env=self._env, most_s=most_s)
        with open(out, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self._digest:
                raise RuntimeError(f"{tool.name} left a wrong file")
        self._costs.setdefault(tool.name, []).append(cost)
        return cost.wall_s

    def run(self, tools: Sequence[Tool], rounds: int) -> None:
        """Let them all run in turn."""
        say(f"{self.part}:")
        contestants: dict[str, Callable[[], float]] = {tool.name: partial(self.once, tool) for tool in tools}
        self.leniency = Leniency(frozenset(name for name in contestants if not name.startswith("resumable")))
        self.samples = interleave(contestants, rounds, fewer=FEWER, leniency=self.leniency)

    def cpu(self, name: str) -> float:
        """Return the median processor seconds of a tool."""
        return statistics.median(cost.cpu_s for cost in self._costs[name])

    def fastest(self) -> Samples:
        """Return the fastest of the peers, or of all where no peer ran."""
        return min(self._peers() or self.samples.values(), key=lambda found: found.median)

    def rival(self, *names: str) -> Samples | None:
        """Return the fastest of the peers with these names; None where none of them ran."""
        found = [peer for peer in self._peers() if peer.name in names]
        return min(found, key=lambda peer: peer.median, default=None)

    def _peers(self) -> list[Samples]:
        return [found for found in self.samples.values() if not found.name.startswith("resumable")]

    def rows(self, size_mib: int) -> list[dict[str, Cell]]:
        """Return the figures, the fastest first."""
        fastest = self.fastest()
        return [
            {
                "part": self.part,
                "tool": found.name,
                **figures(found),
                "MiB/s": size_mib / found.median,
                "CPU s/GiB": self.cpu(found.name) * 1024 / size_mib,
                "peak MB": max(cost.peak_rss for cost in self._costs[found.name]) / 1e6,
                "to fastest peer": found.ratio(fastest),
            }
            for found in sorted(self.samples.values(), key=lambda found: found.median)
        ]


def make_file(path: Path, size_mib: int) -> str:
    """Write blocks of which no two are alike; return their SHA-256 in hex."""
    block, digest = os.urandom(1 << 20), hashlib.sha256()
    with open(path, "wb") as file:
        for index in range(size_mib):
            data = index.to_bytes(8, "big") + block[8:]
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


def contests(folder: Path, size_mib: int, rounds: int) -> list[Contest]:
    """Run all parts."""
    (folder / "root").mkdir()
    digest = make_file(folder / "root" / "big.bin", size_mib)
    with serving(folder / "root") as base, serving(folder / "root", tls=folder) as secure:
        plain = _contest("plain", f"{base}/big.bin", folder, digest)
        mine = [ours(folder / "s.db"), ours(folder / "s8.db", "-c", "8", name="resumable -c8")]
        plain.run([*mine, *installed([*PEERS, SYNCED, *LIBRARIES])], rounds)
        checked = _contest("with SHA-256", f"{base}/big.bin", folder, digest)
        check = PEERS[3].plus(f"--checksum=sha-256={digest}", name="aria2c --checksum")
        checked.run([ours(folder / "d.db", "--sha256", digest), *installed([check])], rounds)
        tls = _contest("HTTPS", f"{secure}/big.bin", folder, digest, authority=folder / "ca.pem")
        rivals = [PEERS[0], PEERS[3].plus(f"--ca-certificate={folder / 'ca.pem'}")]
        tls.run([ours(folder / "t.db"), *installed(rivals)], rounds)
    return [plain, checked, tls]


def _contest(part: str, url: str, folder: Path, digest: str, *, authority: Path | None = None) -> Contest:
    out = folder / f"out-{part.split(maxsplit=1)[0].lower()}"
    out.mkdir()
    # Python reads the first, curl the second; aria2c is told on its command line.
    trust = {} if authority is None else dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(authority))
    return Contest(part, url, out, digest, trust)


_BARS: Final = (
    ("plain, to the fastest of curl, wget, aria2c -x8, axel -n8", ("curl", "wget", "aria2c -x8", "axel -n8"), 1.0),
    ("with SHA-256, to aria2c --checksum", ("aria2c --checksum",), 0.35),
    ("HTTPS, to aria2c -x8", ("aria2c -x8",), 1.0),
)
"""For each part: what is judged, against whom, and the bar."""


def bars(found: Sequence[Contest], size_mib: int) -> list[Bar]:
    """Judge the parts."""
    judged = []
    for contest, (name, rivals, limit) in zip(found, _BARS, strict=True):
        rival = contest.rival(*rivals)
        if rival is not None:
            judged.append(ratio_bar(name, contest.samples["resumable"], rival, limit=limit))
    cpu = found[0].cpu("resumable") * 1024 / size_mib
    judged.append(Bar(name="processor time with hashing", value=round(cpu, 2), limit=1.6, unit="s/GiB"))
    return judged


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(1024, 64), rounds=(5, 2))
    with tempfile.TemporaryDirectory(prefix="bench-large-") as folder:
        found = contests(Path(folder), given.size_mib, given.rounds)
    return answer(
        "large_file",
        QUESTION,
        given,
        rows=[row for contest in found for row in contest.rows(given.size_mib)],
        bars=bars(found, given.size_mib),
        caveats=[
            f"{given.size_mib} MiB, {given.rounds} interleaved rounds; a bar is the median of the ratios of each round",
            "nginx shares the processors with the tools, and the page cache is warm",
            "only ours and `curl, then sync` wait for the disk; the others may lose what they fetched with the power",
            "a peak below 36 MB is shown as 36: a process begins as a copy of this one",
            *(f"not installed: {name}" for name in missing([*PEERS, *LIBRARIES])),
            *(f"{contest.part}: {note}" for contest in found for note in contest.leniency.notes),
        ],
        extra={f"{contest.part}: {s.name}": s.values for contest in found for s in contest.samples.values()},
    )


if __name__ == "__main__":
    raise SystemExit(main())
