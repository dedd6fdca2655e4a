"""Which links are the same one: what signs a link does not tell files apart, everything else may."""

from __future__ import annotations

import asyncio

import pytest

from resumable.identity import link_of
from resumable.request import check_url
from tests.managing import Rig

LINK = "https://host/dl"

SIGNED_ANEW = [
    ("X-Amz-Signature=1&X-Amz-Date=1&X-Amz-Credential=a&id=7", "id=7&X-Amz-Signature=2&X-Amz-Date=2"),
    ("X-Goog-Signature=1&X-Goog-Expires=60", "X-Goog-Signature=2&X-Goog-Expires=90"),
    ("Expires=1&Signature=a&Key-Pair-Id=k", "Expires=2&Signature=b&Key-Pair-Id=k2"),
    ("Policy=1&Signature=a&Key-Pair-Id=k", "Policy=2&Signature=b&Key-Pair-Id=k"),
    ("AWSAccessKeyId=k&Expires=1&Signature=a", "AWSAccessKeyId=k&Expires=2&Signature=b"),
    ("sv=2024&se=1&sr=b&sp=r&sig=a", "sv=2025&se=2&sr=b&sp=r&sig=b"),
    ("x-oss-signature=1&x-oss-expires=9&x-oss-process=a", "x-oss-signature=2&x-oss-expires=8&x-oss-process=a"),
]


@pytest.mark.parametrize(("old", "new"), SIGNED_ANEW)
def test_a_link_signed_anew_is_the_same_link(old: str, new: str) -> None:
    """By the families of parameters that nothing but signing uses."""
    assert link_of(f"{LINK}?{old}") == link_of(f"{LINK}?{new}")


@pytest.mark.parametrize(
    "name", ["token", "e", "exp", "verify", "st", "sr", "sp", "sig", "se", "hmac", "expires", "signature", "policy"]
)
def test_a_parameter_that_may_name_the_file_tells_links_apart(name: str) -> None:
    """A share link's token is the file; alone, the short names of Azure and CloudFront mean anything."""
    assert link_of(f"{LINK}?{name}=AAA") != link_of(f"{LINK}?{name}=BBB")


def test_what_identifies_a_link_is_not_shown_in_it() -> None:
    """The store keeps it, and a token is a secret all the same."""
    assert "c4n4ry" not in link_of("https://user:c4n4ry@host/dl?token=c4n4ry&X-Amz-Signature=c4n4ry")


async def _share(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a site of share links does: one path, and the token is the file."""
    head = await reader.readuntil(b"\r\n\r\n")
    token = head.split(b" ", 2)[1].rpartition(b"=")[2]
    named = b'Content-Disposition: attachment; filename="%s.bin"' % token
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n\r\n" % (len(token), named))
    writer.write(token)
    await writer.drain()
    writer.close()


async def test_two_share_links_are_two_downloads(rig: Rig) -> None:
    """Into one folder, at once: each caller gets the file of its own token."""
    async with await asyncio.start_server(_share, "127.0.0.1") as server, rig.manager() as manager:
        host, port = server.sockets[0].getsockname()
        links = [f"http://{host}:{port}/dl?token={token}" for token in ("AAA", "BBB")]
        results = await asyncio.gather(*(manager.start(link, directory=rig.folder) for link in links))
    found = {result.path.name: result.path.read_bytes() for result in results}
    assert found == {"AAA.bin": b"AAA", "BBB.bin": b"BBB"}


@pytest.mark.parametrize("url", ["https://host:c4n4ry/f", "https://tok:c4n4ry?x@host/f", "http://[c4n4ry/f"])
def test_a_bad_link_is_named_without_its_secrets(url: str) -> None:
    """Neither in the words nor in what is chained to them, which tracebacks print."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are what is looked at
        check_url(url)
    shown = [str(caught.value), repr(caught.value.__cause__)]
    assert [text for text in shown if "c4n4ry" in text] == []
    assert caught.value.__suppress_context__
