"""Which proxy the environment asks for, and logins from netrc."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from resumable.credentials import basic
from resumable.netrc_file import netrc_authorization
from resumable.proxies import proxy_for
from resumable.redirects import parse_url

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "http://h/", None),
        ({"HTTP_PROXY": PROXY}, "http://h/", PROXY),
        ({"HTTP_PROXY": PROXY}, "https://h/", None),
        ({"HTTPS_PROXY": PROXY}, "https://h/", PROXY),
        ({"ALL_PROXY": PROXY}, "https://h/", PROXY),
        ({"http_proxy": "http://lower:1", "HTTP_PROXY": PROXY}, "http://h/", "http://lower:1"),
        ({"https_proxy": "", "ALL_PROXY": PROXY}, "https://h/", None),
        ({"https_proxy": "proxy:3128"}, "https://h/", PROXY),
        ({"https_proxy": " http://proxy:3128/ignored "}, "https://h/", PROXY),
        ({"https_proxy": "https://proxy"}, "https://h/", "https://proxy"),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://h/", None),
        ({"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, "http://h/", PROXY),
    ],
)
def test_a_proxy_is_taken_from_the_environment(environ: dict[str, str], url: str, proxy: str | None) -> None:
    """Lower case wins, an empty value means none, and a CGI header cannot pose as one (httpoxy)."""
    found = proxy_for(parse_url(url), environ)
    assert (None if found is None else str(found.url)) == proxy


@pytest.mark.parametrize("setting", ["socks5://proxy:1080", "ftp://proxy", "http://", "http://proxy:x", "::::"])
def test_a_proxy_that_cannot_be_used_is_an_error(setting: str) -> None:
    """Never a direct connection: it could be what the proxy is there to prevent."""
    with pytest.raises(ValueError, match="not an http or https address"):
        proxy_for(parse_url("https://h/"), {"https_proxy": setting})


def test_a_proxys_login_is_kept_apart_from_its_address() -> None:
    """The address goes into error texts and pool keys."""
    found = proxy_for(parse_url("http://h/"), {"http_proxy": "http://me:hunt%40er@proxy:3128"})
    assert found is not None
    assert (str(found.url), found.authorization) == (PROXY, basic("me", "hunt@er"))
    assert "Basic" not in repr(found)


@pytest.mark.parametrize(
    ("no_proxy", "url", "bypassed"),
    [
        ("*", "http://h/", True),
        ("h", "http://h/", True),
        ("H", "http://h/", True),
        ("h", "http://sub.h/", True),
        (".h", "http://sub.h/", True),
        ("*.h", "http://sub.h/", True),
        (".h", "http://h/", True),
        ("h", "http://notah/", False),
        ("h:80", "http://h/", True),
        ("h:80", "http://h:81/", False),
        ("a, b ,h", "http://h/", True),
        ("a b h", "http://h/", True),
        ("h", "http://h./", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://h/", False),
        ("127.0.0.1", "http://127.0.0.1:99/", True),
        ("[::1]", "http://[::1]/", True),
        ("[::1]:80", "http://[::1]:81/", False),
        ("::1", "http://[::1]/", True),
        ("fe80::/10", "http://[fe80::1]/", True),
        ("", "http://h/", False),
        (", ,", "http://h/", False),
        (".", "http://h/", False),
    ],
)
def test_no_proxy_is_read_as_curl_reads_it(no_proxy: str, url: str, *, bypassed: bool) -> None:
    """Names with all below them, ports, addresses and networks."""
    found = proxy_for(parse_url(url), {"http_proxy": PROXY, "NO_PROXY": no_proxy})
    assert (found is None) is bypassed


@pytest.mark.parametrize(
    ("text", "authorization"),
    [
        ("machine h login me password pw", basic("me", "pw")),
        ("machine other login me password pw", None),
        ("default login me password pw", None),
        ("machine default login me password pw", None),
        ("machine h account acc password pw", basic("acc", "pw")),
        ("machine h login me", basic("me", "")),
        ("machine h login me password hunter2 nonsense", None),
        ("\xff\xfe", None),
        ("", None),
    ],
)
def test_netrc_gives_the_login_of_a_named_machine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, authorization: str | None
) -> None:
    """No default entry, no crash on a broken file, and no password in the log about it."""
    path = tmp_path / "netrc"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        assert netrc_authorization("h", {"NETRC": str(path)}) == authorization
    assert "hunter2" not in caplog.text


def test_without_a_netrc_file_there_is_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where NETRC points nowhere, nor at home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert netrc_authorization("h", {"NETRC": str(tmp_path / "missing")}) is None
    assert netrc_authorization("h", {}) is None
    home = tmp_path / ".netrc"
    home.write_text("machine h login me password pw")
    home.chmod(0o600)
    assert netrc_authorization("h", {}) == basic("me", "pw")
