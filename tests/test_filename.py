"""A name that an origin suggests becomes one harmless path component, or nothing."""

from __future__ import annotations

import ntpath
import sys
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resumable.filename import LONGEST_NAME, name_from, numbered, safe_name

SAFE: list[tuple[str, str, str | None]] = [
    ("an ordinary name", "model.safetensors", "model.safetensors"),
    ("blanks inside stay", "my model (1).bin", "my model (1).bin"),
    ("other scripts stay", "模型 模.bin", "模型 模.bin"),
    ("a path of POSIX", "../../evil", "evil"),
    ("an absolute path", "/etc/passwd", "passwd"),
    ("a path of Windows", "C:\\Windows\\evil.exe", "evil.exe"),
    ("mixed separators", "..\\../a\\..\\evil", "evil"),
    ("encoded separators (CVE-2025-11563)", "..%2f..%2Fevil", "evil"),
    ("an encoded backslash", "..%5Cevil", "evil"),
    ("encoded twice stays one component", "..%252fevil", "%2fevil"),
    ("a drive", "C:evil.exe", "evil.exe"),
    ("two drives", "C:D:evil.exe", "evil.exe"),
    ("an alternate data stream", "a.txt:hidden.exe", "a.txt_hidden.exe"),
    ("a UNC path", "\\\\server\\share\\evil", "evil"),
    ("a device path", "\\\\.\\PhysicalDrive0", "PhysicalDrive0"),
    ("a hidden file", ".bashrc", "bashrc"),
    ("a hidden file behind blanks and dots", " . .bashrc", "bashrc"),
    ("trailing dots and blanks, which Windows drops", "a.txt. . ", "a.txt"),
    ("what Windows forbids", 'a<b>c"d|e?f*g', "a_b_c_d_e_f_g"),
    ("an escape sequence for terminals", "\x1b]0;owned\x07a.bin", "]0;owneda.bin"),
    ("an encoded escape", "%1b[2Ja.bin", "[2Ja.bin"),
    ("NUL before a false suffix", "a.exe\0.txt", "a.exe.txt"),
    ("an encoded NUL", "a%00b", "ab"),
    ("line breaks", "a\r\nb\u2028c\u2029d\x85e", "abcde"),
    ("the right-to-left override that disguises a suffix", "cod\u202egpj.exe", "codgpj.exe"),
    ("isolates, marks, zero-width characters", "a\u2066b\u2069\u200bc\u200d\ufeffd", "abcd"),
    ("dots parted by an unseen character", ".\u200b.", None),
    ("a device of Windows", "NUL", "_NUL"),
    ("a device with a suffix", "con.tar.gz", "_con.tar.gz"),
    ("a device with a blank", "aux .txt", "_aux .txt"),
    ("a device with a superscript", "COM¹.log", "_COM¹.log"),
    ("what only begins like a device", "console.log", "console.log"),
    ("decomposed text is composed", "e\u0301.bin", "é.bin"),
    ("text that composes once the unseen is gone", "e\u200b\u0301.bin", "é.bin"),
    ("bytes of Latin-1, as aiohttp hands them over", "caf\udce9.bin", "café.bin"),
    ("bytes of UTF-8, as aiohttp may hand them over", "caf\udcc3\udca9.bin", "café.bin"),
    ("encoded bytes of Latin-1", "caf%E9.bin", "café.bin"),
    ("lone surrogates that are no bytes", "a\ud800b\udfffc", "abc"),
    ("a percent sign that is none", "100%.bin", "100%.bin"),
    ("a name that is a path", "dir/", None),
    ("only dots", "..", None),
    ("only one", ".", None),
    ("only blanks", " \t\u00a0", None),
    ("only controls", "\x00\x1b", None),
    ("only a drive", "C:", None),
    ("empty", "", None),
    ("too long: the suffix stays", "a" * 300 + ".safetensors", "a" * 188 + ".safetensors"),
    ("too long: a double suffix stays", "a" * 300 + ".tar.gz", "a" * 193 + ".tar.gz"),
    ("too long: characters are not cut", "é" * 150 + ".bin", "é" * 98 + ".bin"),
    ("too long: no blank is left before the suffix", "a" * 195 + "  " + "b" * 50 + ".bin", "a" * 195 + ".bin"),
    ("too long: what is too long for a suffix is none", "a." + "b" * 300, "a." + "b" * 198),
    ("very long", "x/" + "a" * 100_000, "a" * 200),
    ("a part file's", "x.part", "x.part_"),
    ("a part file's, in capitals", "x.PART", "x.PART_"),
    ("a part file's once it is cut", "a" * 195 + ".part" + "b" * 50, "a" * 195 + ".par_"),
]


@pytest.mark.parametrize(("why", "raw", "expected"), SAFE, ids=[row[0] for row in SAFE])
def test_a_suggested_name_is_made_harmless(why: str, raw: str, expected: str | None) -> None:
    """The hostile names that real servers and attackers send, and ordinary ones untouched."""
    assert expected == safe_name(raw), why


HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("./\\:%25fFcC \0\x1b\u202e\u200b~-é\u0301\udce9\ud800nulNUL"),
        st.characters(exclude_categories=()),
    ),
    max_size=300,
)


def _reserved_on_windows(name: str) -> bool:
    if sys.version_info >= (3, 13):
        return ntpath.isreserved(name)
    return PureWindowsPath(name).is_reserved()


@given(HOSTILE)
@example("%2e%2e%2f%2e%2e")
@example("a" * 199 + "é")
@example(".\u0301")
def test_every_name_stays_inside_its_folder(raw: str) -> None:
    """Whatever comes in, what comes out is one visible component on POSIX and on Windows, and short enough."""
    name = safe_name(raw)
    if name is None:
        return
    assert name == PurePosixPath(name).name
    assert name == PureWindowsPath(name).name
    assert PureWindowsPath(name).drive == ""
    assert not _reserved_on_windows(name)
    assert name == name.strip()
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert name == unicodedata.normalize("NFC", name)
    assert len(name.encode()) <= LONGEST_NAME
    assert not {unicodedata.category(char) for char in name} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(HOSTILE.filter(lambda raw: "%" not in raw))
def test_a_safe_name_stays_as_it_is(raw: str) -> None:
    """What is stored and read back is not changed again."""
    name = safe_name(raw)
    assert name is None or name == safe_name(name)


def cd(value: str) -> dict[str, str]:
    """Return headers with this Content-Disposition."""
    return {"content-disposition": value}


NAMES: list[tuple[str, str, dict[str, str], str]] = [
    ("the URL's path", "https://h/dir/model.bin?x=1#y", {}, "model.bin"),
    ("the URL's path, encoded", "https://h/my%20model.bin", {}, "my model.bin"),
    ("no path", "https://h", {}, "download"),
    ("a path that ends in a slash", "https://h/dir/", {}, "download"),
    ("no path but a query", "https://h?file=/etc/passwd", {}, "download"),
    ("a slash in the query is no path", "https://h/get?u=https://x/evil.exe", {}, "get"),
    ("garbage that urlsplit refuses", "http://[::1/model.bin", {}, "model.bin"),
    ("nothing at all", "", {}, "download"),
    ("a token", "https://h/x", cd("attachment; filename=a.bin"), "a.bin"),
    ("a quoted string", "https://h/x", cd('attachment; filename="a b.bin"'), "a b.bin"),
    ("a semicolon inside the quotes", "https://h/x", cd('attachment; filename="a;b.bin"; x=y'), "a;b.bin"),
    ("an escaped quote", "https://h/x", cd('attachment; filename="a\\"b.bin"'), "a_b.bin"),
    ("an unescaped path of Windows", "https://h/x", cd('attachment; filename="C:\\dir\\a.bin"'), "a.bin"),
    ("inline names too", "https://h/x", cd("inline; FileName = a.bin ; size=5"), "a.bin"),
    (
        "filename* goes first",
        "https://h/x",
        cd("attachment; filename=\"e.bin\"; filename*=UTF-8''%e2%82%ac.bin"),
        "€.bin",
    ),
    (
        "filename* goes first, whatever the order",
        "https://h/x",
        cd("attachment; filename*=utf-8'en'a.bin; filename=b.bin"),
        "a.bin",
    ),
    ("filename* in Latin-1", "https://h/x", cd("attachment; filename*=iso-8859-1''caf%e9.bin"), "café.bin"),
    (
        "filename* in another charset is not read",
        "https://h/x",
        cd("attachment; filename*=utf-16''a; filename=b.bin"),
        "b.bin",
    ),
    ("filename* that is not UTF-8", "https://h/x", cd("attachment; filename*=UTF-8''%ff.bin; filename=b.bin"), "b.bin"),
    ("filename* with a broken escape", "https://h/x", cd("attachment; filename*=UTF-8''a%2; filename=b.bin"), "b.bin"),
    ("filename* that is not ASCII", "https://h/x", cd("attachment; filename*=UTF-8''é; filename=b.bin"), "b.bin"),
    ("filename* without its quotes", "https://h/x", cd("attachment; filename*=a.bin; filename=b.bin"), "b.bin"),
    ("filename* that leaves nothing", "https://h/x", cd("attachment; filename*=UTF-8''..; filename=b.bin"), "b.bin"),
    ("of two the first counts", "https://h/x", cd("attachment; filename=a.bin; filename=b.bin"), "a.bin"),
    ("a name inside another parameter is none", "https://h/x.bin", cd('attachment; note="; filename=evil"'), "x.bin"),
    ("no disposition type", "https://h/x", cd("filename=a.bin"), "a.bin"),
    ("cut off inside the quotes", "https://h/x", cd('attachment; filename="a.bin'), "a.bin"),
    ("cut off inside an escape", "https://h/x", cd('attachment; filename="a.bin\\'), "a.bin"),
    ("an empty name", "https://h/x.bin", cd('attachment; filename=""'), "x.bin"),
    ("a hostile name", "https://h/x", cd('attachment; filename="../../.bashrc"'), "bashrc"),
    ("a hostile filename*", "https://h/x", cd("attachment; filename*=UTF-8''..%2f..%2f.ssh%2fconfig"), "config"),
    ("nothing but a type", "https://h/x.bin", cd("attachment"), "x.bin"),
]


@pytest.mark.parametrize(("why", "url", "headers", "expected"), NAMES, ids=[row[0] for row in NAMES])
def test_an_answer_names_its_file(why: str, url: str, headers: dict[str, str], expected: str) -> None:
    """Content-Disposition, then the URL, then a plain word."""
    assert expected == name_from(url, headers), why


@given(HOSTILE, HOSTILE)
def test_there_is_always_a_name(url: str, value: str) -> None:
    """No header and no URL makes it raise, and the result is always safe."""
    name = name_from(url, cd(value))
    assert name
    assert name == PureWindowsPath(name).name


@pytest.mark.parametrize(
    ("name", "n", "expected"),
    [
        ("model.bin", 1, "model.1.bin"),
        ("model.tar.gz", 2, "model.2.tar.gz"),
        ("model.TAR.XZ", 2, "model.2.TAR.XZ"),
        ("model", 3, "model.3"),
        ("model.", 1, "model..1"),
        (".tar.gz", 1, ".tar.1.gz"),
        ("v1.2 final", 1, "v1.2 final.1"),
        ("a" * 200, 12, "a" * 197 + ".12"),
        ("a" * 196 + ".bin", 1, "a" * 194 + ".1.bin"),
    ],
)
def test_a_taken_name_gets_a_number_before_its_suffix(name: str, n: int, expected: str) -> None:
    """The suffix keeps telling what the file is, and the length stays within bounds."""
    assert expected == numbered(name, n)
