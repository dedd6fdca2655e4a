"""Verdicts about the way to the server: time, connections, names, TLS, proxies. Data, pure."""

from __future__ import annotations

from collections.abc import Iterable

from recovery.taxonomy.buttons import ENDED, GOES_ON, OTHER_LINK, SIGN_IN
from recovery.verdict import Action, Category, Condition, UserAction, Verdict

TIMEOUT = Verdict(
    category=Category.TIMEOUT,
    action=Action.RETRY,
    code="timeout",
    message="The server did not answer in time. It may be overloaded, or the network slow; trying again usually helps.",
    user_actions=GOES_ON,
)
REQUEST_TIMEOUT = Verdict(
    category=Category.TIMEOUT,
    action=Action.RETRY_FRESH,
    code="request-timeout",
    message="The server grew tired of waiting for our request. A new connection usually helps.",
    user_actions=GOES_ON,
)
DEADLINE = Verdict(
    category=Category.DEADLINE,
    action=Action.FAIL,
    code="deadline",
    message="The time allowed for this work has run out. What is done so far is kept; retry to go on with fresh time.",
    user_actions=ENDED,
)
CONNECTION = Verdict(
    category=Category.CONNECTION,
    action=Action.RETRY,
    code="connection-lost",
    message="The connection to the server failed. The network or the server is to blame; trying again usually helps.",
    user_actions=GOES_ON,
)
DISCONNECTED = Verdict(
    category=Category.CONNECTION,
    action=Action.RETRY_FRESH,
    code="server-disconnected",
    message="The server hung up before it answered. A new connection usually helps.",
    user_actions=GOES_ON,
)
MISDIRECTED = Verdict(
    category=Category.CONNECTION,
    action=Action.RETRY_FRESH,
    code="misdirected",
    message="The request reached the wrong server behind this address. A new connection usually helps.",
    user_actions=GOES_ON,
)
NETWORK_UNREACHABLE = Verdict(
    category=Category.CONNECTION,
    action=Action.RETRY,
    code="network-unreachable",
    message="There is no way to the server's network just now. Check the network connection of this computer.",
    user_actions=GOES_ON,
)
FIREWALLED = Verdict(
    category=Category.CONNECTION,
    action=Action.RETRY,
    limit=1,
    code="connection-not-permitted",
    message="This computer does not let the program connect. Allow it in the firewall or security software, then"
    " retry.",
    user_actions=ENDED,
)
INTERRUPTED = Verdict(
    category=Category.INTERRUPTED,
    action=Action.RETRY,
    code="interrupted",
    message="The connection broke in the middle of the transfer. Trying again usually helps.",
    user_actions=GOES_ON,
)
DNS = Verdict(
    category=Category.DNS,
    action=Action.RETRY,
    code="name-lookup-failed",
    message="The server's address could not be looked up just now. Check the network connection; this often passes.",
    user_actions=GOES_ON,
)
NAME_NOT_FOUND = Verdict(
    category=Category.DNS,
    action=Action.RETRY,
    limit=1,
    code="name-not-found",
    message="No server has this name. Check the link for typing errors, and that this computer is online.",
    user_actions=OTHER_LINK,
)
OFFLINE = Verdict(
    category=Category.OFFLINE,
    action=Action.PARK,
    condition=Condition.NETWORK,
    code="offline",
    message="This computer seems to be offline. The work goes on by itself as soon as the network is back.",
    user_actions=GOES_ON,
)
TLS_TRANSIENT = Verdict(
    category=Category.TLS_TRANSIENT,
    action=Action.RETRY,
    code="tls-interrupted",
    message="The secure connection broke off. The network or the server is to blame; trying again usually helps.",
    user_actions=GOES_ON,
)
TLS_PERMANENT = Verdict(
    category=Category.TLS_PERMANENT,
    action=Action.FAIL,
    code="tls-not-trusted",
    message="The server could not prove who it is, so nothing was exchanged with it. Check this computer's clock,"
    " any proxy"
    " or virus scanner, and whether the network wants you to log in; otherwise tell the server's owner.",
    user_actions=ENDED,
)
PROXY = Verdict(
    category=Category.PROXY,
    action=Action.RETRY,
    code="proxy-unreachable",
    message="The proxy server could not be used. Check the proxy settings of this computer if this goes on.",
    user_actions=GOES_ON,
)
PROXY_LOGIN = Verdict(
    category=Category.PROXY,
    action=Action.ASK,
    code="proxy-login",
    message="The proxy server wants a name and a password. Add them to the proxy settings, then retry.",
    user_actions=(UserAction.LOG_IN, UserAction.RETRY_NOW, UserAction.CANCEL),
)
CAPTIVE_PORTAL = Verdict(
    category=Category.CAPTIVE_PORTAL,
    action=Action.PARK,
    condition=Condition.LOGIN,
    code="network-login",
    message="This network wants you to log in first. Open any web page, log in, and the work goes on.",
    user_actions=(UserAction.LOG_IN, UserAction.RETRY_NOW, UserAction.CANCEL),
)
WEB_PAGE = Verdict(
    category=Category.CAPTIVE_PORTAL,
    action=Action.RESTART,
    limit=1,
    code="web-page",
    message="A web page came instead of the file. The network may want you to log in, or the link leads to a page:"
    " open it in a browser and see.",
    user_actions=SIGN_IN,
)

_NO_NETWORK = frozenset({OFFLINE.code, NETWORK_UNREACHABLE.code})
_NO_NAME = frozenset({NAME_NOT_FOUND.code, DNS.code})


def may_be_offline(verdict: Verdict) -> bool:
    """Return whether a look at this computer's own network could say more: no address was found, or no way there."""
    return verdict.action is not Action.PARK and verdict.code in _NO_NETWORK | _NO_NAME


def offline_verdict(newest: Iterable[Verdict]) -> Verdict | None:
    """Return ``OFFLINE`` if the newest verdict of every host tried (one each) says that it cannot even be looked up.

    One exception cannot tell a mistyped name from a laptop without network (both are EAI_NONAME); several hosts
    together can. A single host counts only if it is the network itself that is unreachable.
    """
    codes = [verdict.code for verdict in newest]
    if not codes or not set(codes) <= _NO_NETWORK | _NO_NAME:
        return None
    return OFFLINE if len(codes) > 1 or codes[0] in _NO_NETWORK else None
