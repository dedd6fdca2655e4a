"""The sets of buttons that go with verdicts, the most helpful first. Data, pure."""

from __future__ import annotations

from recovery.verdict import UserAction

GOES_ON = (UserAction.RETRY_NOW, UserAction.PAUSE, UserAction.CANCEL)
ENDED = (UserAction.RETRY_NOW, UserAction.CANCEL)
OTHER_LINK = (UserAction.NEW_LINK, UserAction.RETRY_NOW, UserAction.CANCEL)
SIGN_IN = (UserAction.LOG_IN, UserAction.NEW_LINK, UserAction.RETRY_NOW, UserAction.CANCEL)
OTHER_PLACE = (UserAction.CHOOSE_FOLDER, UserAction.RETRY_NOW, UserAction.CANCEL)
