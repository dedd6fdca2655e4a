"""The tables behind the classifier: total over statuses, errnos and library exceptions, and true to the libraries."""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.process
import email.errors
import errno
import ftplib
import http.client
import http.cookiejar
import imaplib
import inspect
import ipaddress
import json
import multiprocessing
import netrc
import poplib
import re
import select
import smtplib
import socket
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
import xmlrpc.client
from importlib import import_module
from types import ModuleType

import aiohttp
import aiohttp.web
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.classify import Action, Category, Classifier, Condition, Verdict, parse_retry_after, status_verdict
from recovery.taxonomy import machine
from recovery.taxonomy.codes import eai_verdict, sqlite_verdict, tls_verdict
from recovery.taxonomy.exceptions import TYPES, type_key

CLASSIFIER = Classifier()
C, A = Category, Action


def assert_is_a_verdict(verdict: Verdict) -> None:
    """Exactly one category and one action, and words for a person."""
    assert isinstance(verdict, Verdict)
    assert verdict.category in Category
    assert verdict.action in Action
    assert verdict.message


# ---- statuses -----------------------------------------------------------------------------------------------------

# (statuses, category, action, limit): research/recovery.md section 4, without Retry-After
STATUSES: list[tuple[str, Category, Action, int | None]] = [
    ("400 405 406 411 413 414 415 417 422 426 428 431 501 505 506 508 510", C.BAD_REQUEST, A.FAIL, None),
    ("404", C.NOT_FOUND, A.FAIL, None),
    ("401 403", C.AUTH, A.REFRESH, 1),
    ("402", C.PAYMENT, A.ASK, None),
    ("407", C.PROXY, A.ASK, None),
    ("408", C.TIMEOUT, A.RETRY_FRESH, None),
    ("409", C.CONFLICT, A.RETRY, 1),
    ("410 451", C.GONE, A.FAIL, None),
    ("412", C.CHANGED, A.RESTART, 1),
    ("416", C.RANGES, A.RESYNC, 1),
    ("421", C.CONNECTION, A.RETRY_FRESH, None),
    ("423", C.LOCKED, A.RETRY, 3),
    ("425", C.SERVER, A.RETRY, None),
    ("429 509", C.THROTTLED, A.AFTER, None),
    ("500", C.SERVER, A.RETRY, 3),
    ("502 503 504", C.SERVER, A.RETRY, None),
    ("507", C.SERVER_STORAGE, A.RETRY, 2),
    ("511", C.CAPTIVE_PORTAL, A.PARK, None),
    ("520 521 522 523 524 527 530", C.SERVER, A.RETRY, None),
    ("525", C.TLS_TRANSIENT, A.RETRY, 2),
    ("526", C.TLS_PERMANENT, A.FAIL, None),
    # not in the table: by class, RFC 9110 15
    ("418 420 424 444 449 450 498 499", C.BAD_REQUEST, A.FAIL, None),
    ("511", C.CAPTIVE_PORTAL, A.PARK, None),
    ("529 598 599", C.SERVER, A.RETRY, 3),
    ("300 301 302 303 307 308 399", C.BAD_REQUEST, A.FAIL, None),
    ("100 101 103 200 204 206 299 304", C.PROTOCOL, A.RETRY, 2),
]


@pytest.mark.parametrize(
    ("statuses", "category", "action", "limit"),
    STATUSES,
    ids=[f"{row[0].split()[0]}-{row[1]}-{n}" for n, row in enumerate(STATUSES)],
)
def test_every_status_of_the_table_gets_its_verdict(
    statuses: str, category: Category, action: Action, limit: int | None
) -> None:
    """Without Retry-After the status alone decides."""
    for status in map(int, statuses.split()):
        verdict = status_verdict(status)
        assert (status, category, action, limit, None) == (
            status,
            verdict.category,
            verdict.action,
            verdict.limit,
            verdict.retry_after_s,
        )


@pytest.mark.parametrize(
    ("status", "category", "action", "kept"),
    [
        (429, C.THROTTLED, A.AFTER, 7.0),
        (503, C.THROTTLED, A.AFTER, 7.0),
        (413, C.THROTTLED, A.AFTER, 7.0),
        (403, C.THROTTLED, A.AFTER, 7.0),
        (509, C.THROTTLED, A.AFTER, 7.0),
        (500, C.SERVER, A.RETRY, 7.0),
        (502, C.SERVER, A.RETRY, 7.0),
        (408, C.TIMEOUT, A.RETRY_FRESH, 7.0),
        (404, C.NOT_FOUND, A.FAIL, None),
        (401, C.AUTH, A.REFRESH, None),
        (511, C.CAPTIVE_PORTAL, A.PARK, None),
        (301, C.BAD_REQUEST, A.FAIL, None),
    ],
)
def test_retry_after_turns_a_refusal_into_a_wait(
    status: int, category: Category, action: Action, kept: float | None
) -> None:
    """413 and 503 (RFC 9110), 429 (RFC 6585) and GitHub's 403; only what is tried again keeps the wait."""
    verdict = status_verdict(status, 7.0)
    assert (category, action, kept) == (verdict.category, verdict.action, verdict.retry_after_s)


def test_a_retry_after_of_zero_is_a_value() -> None:
    """503 with Retry-After: 0 is a throttle whose wait is over, not a 503 without the field."""
    assert (status_verdict(503, 0.0).category, status_verdict(503, 0.0).retry_after_s) == (C.THROTTLED, 0.0)


@pytest.mark.parametrize("hundred", [100, 200, 300, 400, 500])
def test_every_status_gets_exactly_one_verdict(hundred: int) -> None:
    """From 100 to 599, with and without Retry-After, and the same on an exception of the user's."""
    for status in range(hundred, hundred + 100):
        for verdict in (status_verdict(status), status_verdict(status, 3.0)):
            assert_is_a_verdict(verdict)
        theirs = type("TheirError", (RuntimeError,), {"status": status})()
        assert (status, status_verdict(status)) == (status, CLASSIFIER.classify(theirs))


@given(st.integers(), st.none() | st.floats(min_value=0, max_value=1e9))
def test_any_number_at_all_gets_a_verdict(status: int, retry_after_s: float | None) -> None:
    """What is no status is judged as an answer that is not HTTP, and nothing raises."""
    assert_is_a_verdict(status_verdict(status, retry_after_s))


# ---- Retry-After --------------------------------------------------------------------------------------------------

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (" 5 ", 5.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("9999999999", 1e9),
        ("9" * 64, 1e9),
        ("9" * 5000, 1e9),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
        ("Sunday, 06-Nov-94 08:51:37 GMT", 120.0),
        ("Sun Nov  6 08:51:37 1994", 120.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("", None),
        ("soon", None),
        ("1e3", None),
        ("0x10", None),
        ("nan", None),
        ("inf", None),
        ("5 seconds", None),
        ("٣", None),
        ("٣" * 100, None),
        ("x" * 100_000, None),
        ("1, 2", None),
    ],
    ids=lambda value: f"{str(value)[:30]}-{len(str(value))}",
)
def test_retry_after_is_seconds_or_a_date_and_nothing_else(value: str, expected: float | None) -> None:
    """RFC 9110 10.2.3 and all three date forms of 5.6.7; the past is now, garbage is nothing, the absurd is bounded."""
    assert expected == parse_retry_after(value, now=NOW)


def test_a_date_without_a_zone_is_utc_wherever_the_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The asctime form names no zone; read as local time it would be hours off."""
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert parse_retry_after("Sun Nov  6 08:51:37 1994", now=NOW) == 120.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(), st.floats(min_value=0, max_value=4e9))
def test_no_text_makes_retry_after_raise(value: str, now: float) -> None:
    """A hostile server gets None or a bounded number."""
    seconds = parse_retry_after(value, now=now)
    assert seconds is None or 0.0 <= seconds <= 1e9


@given(st.integers(min_value=0, max_value=10**40))
def test_every_count_of_seconds_is_understood(seconds: int) -> None:
    """Digits are seconds, up to the bound."""
    assert min(float(seconds), 1e9) == parse_retry_after(str(seconds), now=NOW)


# ---- numbers ------------------------------------------------------------------------------------------------------


def test_every_errno_gets_exactly_one_verdict_in_a_file_and_in_a_socket() -> None:
    """As an OSError by itself and inside aiohttp's envelope; and inside it nobody is told to choose another folder."""
    of_socket = {C.CONNECTION, C.TIMEOUT, C.DESCRIPTORS, C.MEMORY}
    for number, name in errno.errorcode.items():
        assert_is_a_verdict(CLASSIFIER.classify(OSError(number, "x")))
        assert (name, True) == (name, CLASSIFIER.classify(aiohttp.ClientOSError(number, "x")).category in of_socket)


def test_every_resolver_code_gets_exactly_one_verdict() -> None:
    """All EAI codes are about names, except the one about memory."""
    for name in (name for name in dir(socket) if name.startswith("EAI_")):
        verdict = CLASSIFIER.classify(socket.gaierror(getattr(socket, name), "x"))
        assert (name, C.MEMORY if name == "EAI_MEMORY" else C.DNS) == (name, verdict.category)


def test_an_unknown_resolver_code_may_pass() -> None:
    """None, a text or a number of another platform: temporary trouble with names."""
    assert {C.DNS} == {eai_verdict(number).category for number in (None, "x", 424_242)}


def test_an_unknown_tls_reason_may_pass() -> None:
    """Only reasons that the same two ends would produce again are final."""
    assert {A.RETRY} == {tls_verdict(reason).action for reason in (None, 7, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC")}


SQLITE_CODES = {name: getattr(sqlite3, name) for name in dir(sqlite3) if re.fullmatch(r"SQLITE_[A-Z_]+", name)}


def test_an_extended_sqlite_code_is_judged_by_its_primary_code() -> None:
    """The low byte decides, whatever SQLite adds above it, except for the three constraints that are about keys."""
    for code in range(1, 256):
        assert sqlite_verdict(code) is sqlite_verdict(code | 77 << 8)
        assert_is_a_verdict(sqlite_verdict(code))


@pytest.mark.parametrize(
    ("names", "category"),
    [
        (
            "SQLITE_BUSY SQLITE_BUSY_SNAPSHOT SQLITE_BUSY_RECOVERY SQLITE_LOCKED SQLITE_PROTOCOL SQLITE_SCHEMA",
            C.STORE_BUSY,
        ),
        ("SQLITE_FULL SQLITE_IOERR SQLITE_IOERR_FSYNC SQLITE_READONLY SQLITE_CANTOPEN SQLITE_PERM", C.STORE_FAILED),
        ("SQLITE_CORRUPT SQLITE_NOTADB SQLITE_CORRUPT_INDEX", C.STORE_CORRUPT),
        ("SQLITE_CONSTRAINT_UNIQUE SQLITE_CONSTRAINT_PRIMARYKEY SQLITE_CONSTRAINT_ROWID", C.VALIDATION),
        ("SQLITE_CONSTRAINT_CHECK SQLITE_CONSTRAINT_FOREIGNKEY SQLITE_ERROR SQLITE_MISUSE SQLITE_TOOBIG", C.VALIDATION),
        ("SQLITE_NOMEM", C.MEMORY),
    ],
    ids=str,
)
def test_the_sqlite_numbers_are_those_of_the_library(names: str, category: Category) -> None:
    """The table writes numbers; the module's own names say the same."""
    assert {category} == {sqlite_verdict(SQLITE_CODES[name]).category for name in names.split()}


def test_real_sqlite_exceptions_are_recognised() -> None:
    """A taken key, a missing value and bad SQL, as the module raises them."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (a UNIQUE, b NOT NULL)")
    database.execute("INSERT INTO t VALUES (1, 1)")
    categories = []
    for statement in ("INSERT INTO t VALUES (1, 1)", "INSERT INTO t VALUES (2, NULL)", "SELEC"):
        with pytest.raises(sqlite3.Error) as caught:
            database.execute(statement)
        categories.append(CLASSIFIER.classify(caught.value).category)
    database.close()
    assert categories == [C.VALIDATION] * 3


# ---- types --------------------------------------------------------------------------------------------------------


def modules(package: ModuleType | type) -> list[ModuleType | type]:
    """Return a package (or a class that holds its exceptions) and everything imported below it."""
    below = [module for name, module in sys.modules.items() if name.startswith(package.__name__ + ".")]
    return [package, *below]


def exception_types(*packages: ModuleType | type) -> list[type[BaseException]]:
    """Return every exception class to be found in the packages."""
    return sorted(
        {
            value
            for package in packages
            for module in modules(package)
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, BaseException)
        },
        key=lambda cls: f"{cls.__module__}.{cls.__qualname__}",
    )


LIBRARIES = (
    ftplib,
    smtplib,
    imaplib.IMAP4,
    poplib,
    xmlrpc.client,
    multiprocessing,
    http.cookiejar,
    netrc,
    ipaddress,
    select,
    urllib.request,
    email.errors,
    aiohttp,
    aiohttp.web,
    ssl,
    sqlite3,
    asyncio,
    socket,
    http.client,
    urllib.error,
    concurrent.futures,
    concurrent.futures.process,
    json,
)
EXCEPTIONS = sorted(
    {*exception_types(*LIBRARIES), *exception_types(import_module("builtins"))},
    key=lambda cls: f"{cls.__module__}.{cls.__qualname__}",
)


def bare(cls: type[BaseException]) -> BaseException:
    """Return an instance on which nothing is set, whatever its constructor would demand."""
    if issubclass(cls, BaseExceptionGroup):
        return cls("x", [TimeoutError()])
    return cls.__new__(cls)


@pytest.mark.parametrize("package", sorted({cls.__module__.partition(".")[0] for cls in EXCEPTIONS}))
def test_every_exception_class_of_the_libraries_gets_exactly_one_verdict(package: str) -> None:
    """Even an instance never initialised is judged; what is no Exception is control flow."""
    for cls in EXCEPTIONS:
        if cls.__module__.partition(".")[0] == package:
            verdict = CLASSIFIER.classify(bare(cls))
            assert_is_a_verdict(verdict)
            if not issubclass(cls, (Exception, BaseExceptionGroup)):
                assert machine.CONTROL is verdict


def test_the_libraries_were_really_searched() -> None:
    """The list holds well over a hundred classes, the trap classes among them."""
    assert len(EXCEPTIONS) > 150
    assert {
        aiohttp.ServerTimeoutError,
        aiohttp.ClientConnectorCertificateError,
        ssl.SSLEOFError,
        sqlite3.OperationalError,
        asyncio.IncompleteReadError,
        http.client.IncompleteRead,
        concurrent.futures.process.BrokenProcessPool,
        json.JSONDecodeError,
    } <= set(EXCEPTIONS)


def test_every_row_about_an_installed_library_names_a_class_it_has() -> None:
    """A renamed or misspelled class would make a row that never matches."""
    roots = {type_key(cls).partition(".")[0] for cls in EXCEPTIONS}
    known = {type_key(parent) for cls in EXCEPTIONS for parent in cls.__mro__}
    missing = {key for key in TYPES if key.partition(".")[0] in roots} - known
    assert missing == set()


# Rows that look at the instance and find nothing on a bare one.
SILENT_WHEN_BARE = {
    "builtins.OSError",
    "aiohttp.ClientResponseError",
    "botocore.ClientError",
    "httpcore.HTTPStatusError",
    "httpx.HTTPStatusError",
    "requests.HTTPError",
    "urllib.HTTPError",
}


def test_every_row_is_found_by_name_and_survives_an_exception_on_which_nothing_is_set() -> None:
    """A bare exception of that shape gets the row's verdict; only rows that need a number on it have nothing to say."""
    silent = set()
    for key in TYPES:
        package, _, name = key.partition(".")
        exc = type(name, (Exception,), {"__module__": package if package == "builtins" else f"{package}.somewhere"})()
        verdict = CLASSIFIER.classify(exc)
        assert_is_a_verdict(verdict)
        if verdict is machine.UNKNOWN:
            silent.add(key)
    assert silent == SILENT_WHEN_BARE


def test_types_made_at_run_time_are_judged_and_not_kept_for_ever() -> None:
    """Five thousand types made on the fly leave at most 4,096 behind."""
    classifier = Classifier()
    for number in range(5_000):
        classifier.classify(type(f"Made{number}", (TimeoutError,), {})())
    assert len(classifier._plans) <= 4096


def test_a_type_whose_module_is_no_name_is_judged() -> None:
    """``__module__`` may be anything at all."""
    assert C.UNKNOWN is CLASSIFIER.classify(type("Odd", (Exception,), {"__module__": None})()).category


def test_park_always_says_what_it_waits_for() -> None:
    """Every verdict that parks names one of the conditions, and every condition is waited for by one."""
    verdicts = [CLASSIFIER.classify(OSError(number, "x")) for number in errno.errorcode]
    verdicts += [status_verdict(status) for status in range(100, 600)]
    waited = {verdict.condition for verdict in verdicts if verdict.action is A.PARK}
    assert {Condition.DISK_SPACE, Condition.DESCRIPTORS, Condition.LOGIN} == waited
