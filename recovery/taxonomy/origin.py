"""Verdicts about what the server said: refusals, waits, faults, another file than before. Data, pure."""

from __future__ import annotations

from recovery.taxonomy.buttons import ENDED, GOES_ON, OTHER_LINK, SIGN_IN
from recovery.verdict import Action, Category, UserAction, Verdict

BAD_REQUEST = Verdict(
    category=Category.BAD_REQUEST,
    action=Action.FAIL,
    code="bad-request",
    message="The server refuses this request as it is, and would again. Check the link.",
    user_actions=OTHER_LINK,
)
BAD_LINK = Verdict(
    category=Category.BAD_REQUEST,
    action=Action.FAIL,
    code="bad-link",
    message="This link cannot be followed: it is not a complete web address, or it leads in circles. Check it.",
    user_actions=OTHER_LINK,
)
AUTH = Verdict(
    category=Category.AUTH,
    action=Action.REFRESH,
    limit=1,
    code="not-allowed",
    message="The server does not allow this: the link may have expired, or it wants you to log in or accept its terms.",
    user_actions=SIGN_IN,
)
CREDENTIALS = Verdict(
    category=Category.AUTH,
    action=Action.ASK,
    code="no-credentials",
    message="No valid name and password (or key) for this server are set up on this computer. Log in, then retry.",
    user_actions=(UserAction.LOG_IN, UserAction.RETRY_NOW, UserAction.CANCEL),
)
NEEDS_LINK = Verdict(
    category=Category.NEEDS_LINK,
    action=Action.ASK,
    code="needs-link",
    message="The link has expired. Give a new link to the same file: everything received so far is kept.",
    user_actions=(UserAction.NEW_LINK, UserAction.CANCEL),
)
PAYMENT = Verdict(
    category=Category.PAYMENT,
    action=Action.ASK,
    code="payment-required",
    message="The server wants to be paid for this. Settle that with its owner, then retry.",
    user_actions=SIGN_IN,
)
NOT_FOUND = Verdict(
    category=Category.NOT_FOUND,
    action=Action.FAIL,
    code="not-found",
    message="The server has nothing under this link. Check the link, or give another one.",
    user_actions=OTHER_LINK,
)
GONE = Verdict(
    category=Category.GONE,
    action=Action.FAIL,
    code="gone",
    message="The server's owner has removed this for good. Another source is needed.",
    user_actions=OTHER_LINK,
)
LEGAL = Verdict(
    category=Category.GONE,
    action=Action.FAIL,
    code="legally-blocked",
    message="The server may not hand this out here for legal reasons. Retrying will not change that.",
    user_actions=OTHER_LINK,
)
CONFLICT = Verdict(
    category=Category.CONFLICT,
    action=Action.RETRY,
    limit=1,
    code="conflict",
    message="The server is in a state that clashes with this request. If a retry does not help, look at it on the"
    " server.",
    user_actions=ENDED,
)
LOCKED = Verdict(
    category=Category.LOCKED,
    action=Action.RETRY,
    limit=3,
    code="locked",
    message="Somebody else has locked this on the server. Wait until it is released.",
    user_actions=GOES_ON,
)
THROTTLED = Verdict(
    category=Category.THROTTLED,
    action=Action.AFTER,
    code="throttled",
    message="The server is busy and asked us to wait. The wait is its decision; nothing is wrong here.",
    user_actions=GOES_ON,
)
TOO_EARLY = Verdict(
    category=Category.SERVER,
    action=Action.RETRY,
    code="too-early",
    message="The server was not ready for this request yet. Trying again usually helps.",
    user_actions=GOES_ON,
)
SERVER_ERROR = Verdict(
    category=Category.SERVER,
    action=Action.RETRY,
    limit=3,
    code="server-error",
    message="The server failed while it worked on this request. The fault is the server's; try later if it goes on.",
    user_actions=GOES_ON,
)
SERVER_UNAVAILABLE = Verdict(
    category=Category.SERVER,
    action=Action.RETRY,
    code="server-unavailable",
    message="The server is overloaded or under repair. The fault is the server's; this usually passes.",
    user_actions=GOES_ON,
)
SERVER_STORAGE = Verdict(
    category=Category.SERVER_STORAGE,
    action=Action.RETRY,
    limit=2,
    code="server-storage-full",
    message="The server's own storage is full. Only its owner can change that; try much later.",
    user_actions=GOES_ON,
)
ORIGIN_TLS = Verdict(
    category=Category.TLS_TRANSIENT,
    action=Action.RETRY,
    limit=2,
    code="origin-tls-failed",
    message="The service in front of the server could not connect to it securely. The fault is theirs; try later.",
    user_actions=GOES_ON,
)
CHANGED = Verdict(
    category=Category.CHANGED,
    action=Action.RESTART,
    limit=1,
    code="changed",
    message="The file on the server is another one than when this began, so what was kept no longer fits it.",
    user_actions=OTHER_LINK,
)
CHANGED_PINNED = Verdict(
    category=Category.CHANGED,
    action=Action.FAIL,
    code="changed-pinned",
    message="The file on the server has changed, and a certain version was asked for. Find a source that has that"
    " version.",
    user_actions=OTHER_LINK,
)
RANGE_REFUSED = Verdict(
    category=Category.RANGES,
    action=Action.RESYNC,
    limit=1,
    code="range-refused",
    message="The server refused the part of the file we asked for, although it should exist.",
    user_actions=OTHER_LINK,
)
RANGE_BEYOND = Verdict(
    category=Category.RANGES,
    action=Action.RESTART,
    limit=1,
    code="range-beyond-end",
    message="The file on the server is shorter than what is already here, so it is another file now.",
    user_actions=OTHER_LINK,
)
RANGES_IGNORED = Verdict(
    category=Category.RANGES,
    action=Action.RESTART,
    limit=1,
    code="ranges-ignored",
    message="This server cannot continue a broken transfer; it always sends the file from the start.",
    user_actions=OTHER_LINK,
)
PROTOCOL = Verdict(
    category=Category.PROTOCOL,
    action=Action.RESTART,
    limit=1,
    code="protocol-fault",
    message="The server's answer breaks the rules of the web, so none of it was used. The server or a proxy is to"
    " blame.",
    user_actions=OTHER_LINK,
)
GARBLED = Verdict(
    category=Category.PROTOCOL,
    action=Action.RETRY,
    limit=2,
    code="garbled-answer",
    message="The server's answer was not proper HTTP, so none of it was used. The server or a proxy is to blame.",
    user_actions=OTHER_LINK,
)
REMOTE_DATA = Verdict(
    category=Category.REMOTE_DATA,
    action=Action.RETRY,
    limit=1,
    code="unreadable-answer",
    message="The server's answer could not be read; it may have been cut off. If a retry does not help, the fault"
    " is theirs.",
    user_actions=ENDED,
)
