"""The handle of somebody who joined a download of this process with a digest that its first caller does not know.

The digest is the joiner's own business: the file is read once more for him when it is there, and a wrong one fails him
alone, not whoever began the download, whose file is what the origin has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from resumable.events import DownloadEvent, DownloadView
from resumable.handle import DownloadHandle
from resumable.model import DownloadRequest, Result
from resumable.verify import as_promised

__all__ = ["JoinedHandle"]


class JoinedHandle(DownloadHandle):
    """Another's handle, awaited for a result that has a certain digest; steering it steers the one download."""

    def __init__(self, first: DownloadHandle, sha256: str) -> None:
        """Join ``first``; ``sha256`` is 64 lower-case hex digits."""
        # Nothing of its own runs: DownloadHandle's __init__ would start it.
        self._first = first
        self._sha256 = sha256
        self._checked: tuple[Result, Result] | None = None

    @property
    def download_id(self) -> str:
        """The id that the store, the events and the command line use."""
        return self._first.download_id

    @property
    def request(self) -> DownloadRequest:
        """What the first caller asked for."""
        return self._first.request

    @property
    def done(self) -> bool:
        """Whether nothing of it runs or waits in this process."""
        return self._first.done

    @property
    def ended(self) -> bool:
        """Whether the download has ended; the digest may still have to be computed."""
        return self._first.ended

    @property
    def held(self) -> bool:
        """Whether it was paused here."""
        return self._first.held

    @property
    def view(self) -> DownloadView:
        """How it stands right now."""
        return self._first.view

    async def _wait(self) -> Result:
        result = await self._first
        if self._checked is None or self._checked[0] is not result:
            self._checked = result, await as_promised(result, self._sha256, url=self.view.url)
        return self._checked[1]

    async def events(self) -> AsyncIterator[DownloadEvent]:
        """Yield what happens from now on, until it ends."""
        async for event in self._first.events():
            yield event

    async def pause(self) -> None:
        """Pause the download, for everybody."""
        await self._first.pause()

    async def resume(self) -> None:
        """Go on, for everybody."""
        await self._first.resume()

    async def cancel(self, *, delete_part: bool = False) -> None:
        """Cancel the download, for everybody."""
        await self._first.cancel(delete_part=delete_part)

    def retry_now(self) -> None:
        """End a wait at once, or begin again after a failure."""
        self._first.retry_now()
