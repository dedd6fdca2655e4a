"""The command line's grammar, as tables: what is understood, what is refused, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable_ui.arguments import Arguments, HelpAsked, UsageError
from resumable_ui.grammar import parse
from resumable_ui.inputs import parse_header, parse_header_lines, parse_sha256, parse_url
from resumable_ui.listfile import ListEntry, parse_list
from resumable_ui.orders import Order, orders_of
from resumable_ui.quantities import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from resumable_ui.serving import access_of

URL = "https://example.org/file.bin"
HEX = "0123456789abcdef" * 4


# -- quantities --------------------------------------------------------------------------------------------------------

SIZES = [
    ("0", 0),
    ("1048576", 1_048_576),
    ("10K", 10_240),
    ("10k", 10_240),
    ("10M", 10 * 1024**2),
    ("1.5G", 3 * 1024**3 // 2),
    ("2T", 2 * 1024**4),
    ("10KiB", 10_240),
    ("10MB", 10_000_000),
    ("10 mb", 10_000_000),
    ("7B", 7),
    (" 7 ", 7),
]


@pytest.mark.parametrize(("text", "expected"), SIZES)
def test_sizes_are_read_as_curl_and_wget_read_them(text: str, expected: int) -> None:
    """A bare unit counts in 1024s, a unit with B in 1000s."""
    assert expected == parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "M", "1X", "1e3", "1.2.3", "0x10", "1 0", "٣", "9" * 20, "99999999999T", "1.M"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """Signs, exponents, other alphabets and numbers beyond a file system raise ValueError."""
    with pytest.raises(ValueError, match=r"not a size|too large"):
        parse_size(text)


@pytest.mark.parametrize(("text", "expected"), [("10M", 10_485_760), ("500K/s", 512_000), ("0", None)])
def test_rates_are_sizes_per_second_and_zero_means_no_limit(text: str, expected: int | None) -> None:
    """The unit may carry /s; 0 is unlimited as it is for curl, wget and aria2."""
    assert expected == parse_rate(text)


DURATIONS = [("90", 90.0), ("0", 0.0), ("1.5", 1.5), ("90s", 90.0), ("5m", 300.0), ("2h", 7200.0), ("7d", 604_800.0)]
DURATIONS += [("1w", 604_800.0), ("1h30m", 5400.0), ("250ms", 0.25), ("1 h 5 m", 3900.0)]


@pytest.mark.parametrize(("text", "expected"), DURATIONS)
def test_durations_are_read_in_seconds_or_with_units(text: str, expected: float) -> None:
    """A bare number is seconds."""
    assert expected == pytest.approx(parse_duration(text))


@pytest.mark.parametrize("text", ["", "-1", "-1s", "h", "1y", "inf", "nan", "1h30", "7 days"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Negative, infinite and unknown units raise ValueError."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


PRINTED_SIZES = [
    (0, "0 B"),
    (-5, "0 B"),
    (999, "999 B"),
    (1000, "1 kB"),
    (63_999, "64 kB"),
    (999_499, "999 kB"),
    (999_500, "1.0 MB"),
    (21_400_000, "21.4 MB"),
    (99_960_000, "100 MB"),
    (210_000_000, "210 MB"),
    (999_600_000, "1.0 GB"),
    (3_900_000_000, "3.9 GB"),
    (2 * 10**12, "2.0 TB"),
    (3 * 10**15, "3.0 PB"),
]


@pytest.mark.parametrize(("size", "expected"), PRINTED_SIZES)
def test_sizes_are_printed_in_decimal_units(size: int, expected: str) -> None:
    """Rounding never shows 1000 of a unit."""
    assert expected == format_size(size)
    assert f"{expected}/s" == format_rate(size)


@given(st.integers(0, 2**63 - 1))
def test_no_printed_size_is_wider_than_nine_columns(size: int) -> None:
    """Columns line up: the widest are like 9223.4 PB."""
    assert len(format_size(size)) <= 9


PRINTED_DURATIONS = [
    (-3, "0.0 s"),
    (0.42, "0.4 s"),
    (0.96, "1 s"),
    (45.4, "45 s"),
    (59.6, "1 min"),
    (140, "2 min 20 s"),
    (3600, "1 h"),
    (3900, "1 h 5 min"),
    (86_399.9, "1 d"),
    (4 * 3600 + 3 * 86_400, "3 d 4 h"),
    (float("inf"), "11574074 d 1 h"),
]


@pytest.mark.parametrize(("seconds", "expected"), PRINTED_DURATIONS)
def test_durations_are_printed_with_their_two_largest_units(seconds: float, expected: str) -> None:
    """Never 60 s or 60 min, never an exception for an absurd estimate."""
    assert expected == format_duration(seconds)


# -- links, digests, headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [URL, "http://[::1]:8080/x", "HTTP://EXAMPLE.org", "https://u:p@h/x?q=1#f", " " + URL])
def test_http_links_are_taken_as_they_are(url: str) -> None:
    """Only white space around them goes."""
    assert url.strip() == parse_url(url)


BAD_URLS = [
    ("ftp://example.org/x", "ftp:// is not supported"),
    ("file:///etc/passwd", "file:// is not supported"),
    ("example.org/x", "no http:// or https://"),
    ("", "no http:// or https://"),
    ("localhost:8080/x", "no http:// or https://"),
    ("https://", "names no server"),
    ("http:///x", "names no server"),
    ("http://h:99999/x", "its port is no number"),
    ("http://[::1/x", "no IPv6 address"),
    ("http://h/a b", r"space \(write it as %20\) or a control character"),
    ("http://h/a\nHost: x", r"space \(write it as %20\) or a control character"),
]


@pytest.mark.parametrize(("url", "words"), BAD_URLS)
def test_what_cannot_be_downloaded_is_refused_in_plain_words(url: str, words: str) -> None:
    """Each refusal names its reason."""
    with pytest.raises(ValueError, match=words):
        parse_url(url)


def test_a_refused_link_does_not_show_its_secrets() -> None:
    """User info and query values may be keys; errors end up in logs, and their causes in tracebacks."""
    with pytest.raises(ValueError, match="not supported") as caught:
        parse_url("sftp://user:hunter2@example.org/x?sig=hunter2")
    assert "hunter2" not in str(caught.value)
    for url in (
        "http://user:hunter2/word@h/f",
        "https://tok:hunter2?x@h/f",
        "https://h:hunter2/f",
        "http://[hunter2/f",
    ):
        with pytest.raises(ValueError, match="not a link") as caught:
            parse_url(url)
        assert ("hunter2" in str(caught.value), caught.value.__cause__) == (False, None)


@pytest.mark.parametrize("text", [HEX, HEX.upper(), f"sha256:{HEX}", f"SHA-256={HEX}", f" {HEX}\n"])
def test_digests_are_taken_in_the_forms_people_paste(text: str) -> None:
    """Plain hex, as in a checksum file; docker's prefix; aria2's prefix."""
    assert parse_sha256(text) == HEX


@pytest.mark.parametrize("text", ["", HEX[:-1], HEX + "0", "g" * 64, f"md5:{HEX}", "d41d8cd98f00b204e9800998ecf8427e"])
def test_what_is_no_sha256_is_refused(text: str) -> None:
    """A digest of another length or kind must not be taken for one."""
    with pytest.raises(ValueError, match="not a SHA-256"):
        parse_sha256(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("A: b", ("A", "b")), ("A:b", ("A", "b")), ("Authorization: Bearer a:b", ("Authorization", "Bearer a:b"))],
)
def test_header_lines_are_split_at_the_first_colon(line: str, expected: tuple[str, str]) -> None:
    """White space around the value goes; colons in it stay."""
    assert expected == parse_header(line)


@pytest.mark.parametrize(
    "line", ["", "hunter2", ": hunter2", "a b: hunter2", "X: a\r\nY: hunter2", "Range: bytes=0-hunter2"]
)
def test_a_bad_header_is_refused_without_its_value(line: str) -> None:
    """Injection, and fields that would change which bytes an answer means, are refused; the value stays unsaid."""
    with pytest.raises(ValueError, match="header") as caught:
        parse_header(line)
    assert "hunter2" not in str(caught.value)


def test_later_header_lines_win_whatever_their_case() -> None:
    """Comments and empty lines are skipped."""
    assert parse_header_lines(["A: 1", "", "# a: 3", "a: 2"]) == {"a": "2"}


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_plain_list_of_wget_is_one_link_a_line() -> None:
    """Byte order mark, Windows line ends, comments and empty lines are no links."""
    text = "\ufeff# models\r\n\r\nhttps://a/1\r\n  \r\nhttps://a/2"
    expected = [ListEntry(line=3, urls=("https://a/1",)), ListEntry(line=5, urls=("https://a/2",))]
    assert expected == parse_list(text)


def test_a_list_of_aria2_has_mirrors_and_options() -> None:
    """Tabs separate mirrors; indented lines are options of the entry above; tuning options of aria2 change nothing."""
    text = (
        "https://a/1\thttps://b/1\n"
        "  out=sub/one.bin\n\tdir=data\n"
        f"  checksum=sha-256={HEX.upper()}\n"
        "  header=Authorization: Bearer x\n  header=X-A: 1\n"
        "  split=16\n  gid=0123\n"
        "https://a/2\n"
    )
    first = ListEntry(
        line=1,
        urls=("https://a/1", "https://b/1"),
        out="sub/one.bin",
        directory="data",
        sha256=HEX,
        headers={"Authorization": "Bearer x", "X-A": "1"},
    )
    assert [first, ListEntry(line=9, urls=("https://a/2",))] == parse_list(text)


BAD_LISTS = [
    ("  out=x\n", "line 1: an option line stands before any link"),
    ("https://a/1\nftp://a/2\n", "line 2: .*ftp:// is not supported"),
    ("https://a/1\n  out\n", "line 2: not an option"),
    ("https://a/1\n  out=../../etc/passwd\n", "line 2: .*not a file name below"),
    ("https://a/1\n  out=/etc/passwd\n", "line 2: .*not a file name below"),
    ("https://a/1\n  out=~/x\n", "line 2: .*not a file name below"),
    ("https://a/1\n  out=a\\..\\b\n", "line 2: .*not a file name below"),
    ("https://a/1\n  out=sub/\n", "line 2: .*not a file name below"),
    ("https://a/1\n  dir=/data\n", "line 2: .*not a folder below"),
    ("https://a/1\n  dir=a/../../b\n", "line 2: .*not a folder below"),
    ("https://a/1\n  dir=~/x\n", "line 2: .*not a folder below"),
    ("https://a/1\n  dir=..\\b\n", "line 2: .*not a folder below"),
    ("https://a/1\n  dir=C:\\b\n", "line 2: .*not a folder below"),
    ("https://a/1\n  dir=\n", "line 2: .*not a folder below"),
    ("https://a/1\n  checksum=md5=d41d8cd98f00b204e9800998ecf8427e\n", "line 2: checksum 'md5' is not supported"),
    ("https://a/1\n  checksum=sha-256=12\n", "line 2: not a SHA-256"),
    ("https://a/1\n  referer=https://x\n", "line 2: option 'referer' is not supported"),
    ("<html>\n", "line 1: not a link"),
]


@pytest.mark.parametrize(("text", "words"), BAD_LISTS)
def test_a_bad_list_is_refused_by_line(text: str, words: str) -> None:
    """The whole list is read before anything is fetched, and the first wrong line is named."""
    with pytest.raises(ValueError, match=words):
        parse_list(text)


# -- whole command lines -----------------------------------------------------------------------------------------------


def refused(*words: str, environ: dict[str, str] | None = None) -> str:
    """Return the one line a wrong command line is answered with."""
    with pytest.raises(UsageError) as caught:
        parse(words, environ or {})
    return str(caught.value)


def test_every_option_of_get_is_understood() -> None:
    """Options may stand between the links and after them."""
    words = f"get {URL} -d out --sha256 {HEX} --mirror https://b/x --mirror https://c/x -j 8 -c 2 --retries 0"
    words += " --retry-max-time 1h --limit-rate 10M --project p --restart --state s.db --progress log -vv --json --wait"
    expected = Arguments(
        command="get",
        urls=(URL,),
        directory="out",
        sha256=HEX,
        mirrors=("https://b/x", "https://c/x"),
        jobs=8,
        connections=2,
        retries=0,
        retry_max_time=3600.0,
        limit_rate=10_485_760,
        project="p",
        restart=True,
        state="s.db",
        progress="log",
        verbose=2,
        json=True,
        wait=True,
        headers=("A: b", "@f"),
    )
    assert expected == parse([*words.split(), "-H", "A: b", "-H", "@f"], {})


def test_links_may_stand_around_options() -> None:
    """As with curl: get A -q B."""
    assert parse(["get", "https://a/1", "-q", "https://a/2"], {}).urls == ("https://a/1", "https://a/2")


OTHERS = [
    ("status", Arguments(command="status")),
    ("status d1 d2 --watch --json", Arguments(command="status", ids=("d1", "d2"), watch=True, json=True)),
    ("status --all --project p", Arguments(command="status", every=True, project="p")),
    ("resume", Arguments(command="resume")),
    ("resume d1 --limit-rate 0", Arguments(command="resume", ids=("d1",), limit_rate=None)),
    ("resume --all -j 2", Arguments(command="resume", every=True, jobs=2)),
    ("retry --failed", Arguments(command="retry", every=True)),
    ("pause d1", Arguments(command="pause", ids=("d1",))),
    ("cancel d1 d2 --delete-part", Arguments(command="cancel", ids=("d1", "d2"), delete_part=True)),
    (f"relink d1 {URL}", Arguments(command="relink", ids=("d1",), urls=(URL,))),
    (f"verify f --sha256 {HEX}", Arguments(command="verify", file="f", sha256=HEX)),
    ("prune --older-than 30d", Arguments(command="prune", older_than=2_592_000.0)),
]


@pytest.mark.parametrize(("words", "expected"), OTHERS)
def test_every_other_command_is_understood(words: str, expected: Arguments) -> None:
    """One row a command."""
    assert expected == parse(words.split(), {})


REFUSED = [
    ("", "no command"),
    ("fetch x", "no command 'fetch'"),
    (URL, "resumable get URL"),
    ("-q get", "options stand after the command"),
    ("get", "no link"),
    (f"get {URL} {URL}2 -o x", "-o is for one file"),
    (f"get {URL} -i list -o x", "-o is for one file"),
    (f"get {URL} {URL}2 --sha256 {HEX}", "--sha256 is for one file"),
    (f"get {URL} {URL}2 --mirror {URL}3", "--mirror is for one file"),
    (f"get {URL} -o x -d y", "not allowed with"),
    (f"get {URL} -o -", "-o - cannot be resumed"),
    (f"get {URL} --limit-rate -5", "not a rate: '-5'"),
    (f"get {URL} --limit-rate=-5", "not a rate: '-5'"),
    (f"get {URL} --limit-rate -5M", "--limit-rate: no value was given, or one that begins with '-'"),
    (f"get {URL} --limit-rate fast", "not a rate: 'fast'"),
    (f"get {URL} --sha256 12", "not a SHA-256"),
    (f"get {URL} -j 0", "'0' is not a whole number from 1 to 1000"),
    (f"get {URL} -c 65", "'65' is not a whole number from 1 to 64"),
    (f"get {URL} --retries=-1", "'-1' is not a whole number from 0"),
    (f"get {URL} --retry-max-time soon", "not a duration"),
    (f"get {URL} --progress fancy", "'fancy' is none of auto, bar, log, none"),
    (f"get {URL} --restart --no-clobber", "contradict"),
    (f"get {URL} -q -v", "contradict"),
    (f"get {URL} --frobnicate", "unrecognized arguments: --frobnicate"),
    (f"get {URL} --lim 5", "unrecognized arguments: --lim"),
    ("get ftp://h/x", "ftp:// is not supported"),
    ("resume d1 --all", "not both"),
    ("retry d1 --failed", "not both"),
    ("pause", "required: ID"),
    ("relink d1", "required: NEWURL"),
    ("relink d1 gopher://x", "gopher:// is not supported"),
    ("verify", "required: FILE"),
    ("prune --older-than never", "not a duration"),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED)
def test_wrong_use_is_answered_with_one_clear_line(words: str, expected: str) -> None:
    """The line names the command and what is wrong with it."""
    line = refused(*words.split())
    assert expected in line
    assert line.startswith("resumable")
    assert "\n" not in line


@pytest.mark.parametrize(
    "command", ["get", "status", "resume", "retry", "pause", "cancel", "relink", "verify", "prune"]
)
def test_every_command_has_help(command: str) -> None:
    """Help names the command and its common options."""
    with pytest.raises(HelpAsked) as caught:
        parse([command, "--help"], {})
    text = str(caught.value)
    assert f"usage: resumable {command}" in text
    assert "--state" in text


def test_the_environment_gives_defaults_that_options_override() -> None:
    """RESUMABLE_RETRIES and RESUMABLE_PROGRESS count where the command line says nothing."""
    environ = {"RESUMABLE_RETRIES": "9", "RESUMABLE_PROGRESS": "none"}
    assert (parse(["get", URL], environ).retries, parse(["get", URL], environ).progress) == (9, "none")
    assert parse(["get", URL, "--retries", "1"], environ).retries == 1


def test_a_wrong_environment_is_named() -> None:
    """The variable is in the line, so that its owner finds it."""
    line = refused("get", URL, environ={"RESUMABLE_RETRIES": "many"})
    assert "environment variable RESUMABLE_RETRIES: 'many' is not a whole number" in line


HOSTS = [
    ("example.org", "example.org"),
    ("Example.ORG.", "example.org"),
    ("example.org:8443", "example.org"),
    ("https://example.org", "example.org"),
    ("https://example.org:8443/", "example.org"),
    ("[fd00::1]", "fd00::1"),
    ("fd00::1", "fd00::1"),
    ("10.0.0.7:80", "10.0.0.7"),
]


@pytest.mark.parametrize(("text", "name"), HOSTS)
def test_an_allowed_host_may_be_written_as_people_do(text: str, name: str) -> None:
    """With port, scheme or brackets; the Host header is compared without."""
    assert access_of(parse(["serve", "--allow-host", text], {})).hosts == frozenset({name})


@pytest.mark.parametrize("text", ["", "*", "a b", "https://example.org/path", "ftp://example.org", "user@example.org"])
def test_what_is_no_host_name_is_refused(text: str) -> None:
    """It would match nothing, and nobody would know why."""
    with pytest.raises(UsageError, match="no host name"):
        access_of(parse(["serve", "--allow-host", text], {}))


# -- orders ------------------------------------------------------------------------------------------------------------


def test_orders_join_links_lists_and_header_files() -> None:
    """Entries of a list override what the command line says for all."""
    files = {
        "list": "https://a/2\thttps://b/2\n  out=sub/two\n  dir=elsewhere\n  header=A: 3\nhttps://a/3\n",
        "secrets": "A: 2\n",
    }
    arguments = parse(["get", "https://a/1", "-d", "here", "-i", "list", "-H", "A: 1", "-H", "@secrets"], {})
    expected = [
        Order(url="https://a/1", directory="here", headers={"A": "2"}),
        Order(
            url="https://a/2",
            mirrors=("https://b/2",),
            dest="two",
            directory="here/elsewhere/sub",
            headers={"A": "3"},
        ),
        Order(url="https://a/3", directory="here", headers={"A": "2"}),
    ]
    assert expected == orders_of(arguments, files.__getitem__)


def no_such_file(name: str) -> str:
    """Stand for a file system without that file."""
    raise FileNotFoundError(2, "No such file or directory", name)


@pytest.mark.parametrize(
    ("words", "files", "expected"),
    [
        (["-i", "list"], {}, "cannot read 'list': No such file or directory"),
        (["-i", "-"], {}, "cannot read standard input"),
        (["-i", "list"], {"list": "nonsense\n"}, "'list': line 1: not a link"),
        (["-H", "@secrets"], {}, "cannot read 'secrets'"),
        (["-H", "hunter2"], {}, "not a header: it has no colon"),
    ],
)
def test_an_unusable_list_or_header_is_wrong_use(words: list[str], files: dict[str, str], expected: str) -> None:
    """Nothing is begun before all of it is understood."""
    arguments = parse(["get", "https://a/1", *words], {})
    with pytest.raises(UsageError) as caught:
        orders_of(arguments, lambda name: files[name] if name in files else no_such_file(name))
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)
