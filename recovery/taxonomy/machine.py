"""Verdicts about this computer, the data, our own store and the program itself. Data, pure."""

from __future__ import annotations

from recovery.taxonomy.buttons import ENDED, GOES_ON, OTHER_LINK, OTHER_PLACE
from recovery.verdict import Action, Category, Condition, UserAction, Verdict

CONTROL = Verdict(
    category=Category.CONTROL,
    action=Action.PROPAGATE,
    code="stopped",
    message="The work was stopped on request. What is done so far is kept.",
    user_actions=(UserAction.RESUME, UserAction.CANCEL),
)
STOPPED_INSIDE = Verdict(
    category=Category.CONTROL,
    action=Action.PROPAGATE,
    code="stopped-inside",
    message="Something that this work was waiting for was stopped. What is done so far is kept.",
    user_actions=ENDED,
)
"""On a failure that was raised from a cancellation: never tried again by itself, and no pause that somebody wants."""
LOST_RACE = Verdict(
    category=Category.LOST_RACE,
    action=Action.PROPAGATE,
    code="running-elsewhere",
    message="Another process on this computer is already doing this work, so this one stepped back. Nothing is lost.",
)

# ---- this computer ----

DISK_FULL = Verdict(
    category=Category.DISK_FULL,
    action=Action.PARK,
    condition=Condition.DISK_SPACE,
    code="disk-full",
    message="The disk of this computer is full. Free some space, and the work goes on where it stopped.",
    user_actions=(UserAction.FREE_SPACE, UserAction.CHOOSE_FOLDER, UserAction.RETRY_NOW, UserAction.CANCEL),
)
FILE_TOO_LARGE = Verdict(
    category=Category.FILE_TOO_LARGE,
    action=Action.ASK,
    code="file-too-large",
    message="The file is larger than this disk allows (FAT32 disks and USB sticks take at most 4 GB). Choose"
    " another folder.",
    user_actions=(UserAction.CHOOSE_FOLDER, UserAction.CANCEL),
)
PERMISSION = Verdict(
    category=Category.PERMISSION,
    action=Action.ASK,
    code="cannot-write-here",
    message="This computer cannot use the chosen place: it is missing, protected, or something else is in the way."
    " Choose another folder, or repair this one.",
    user_actions=OTHER_PLACE,
)
TRANSIENT_FILE = Verdict(
    category=Category.TRANSIENT_FILE,
    action=Action.RETRY,
    limit=5,
    code="file-in-use",
    message="Another program is using the file just now. Close it if this goes on.",
    user_actions=GOES_ON,
)
DESCRIPTORS = Verdict(
    category=Category.DESCRIPTORS,
    action=Action.PARK,
    condition=Condition.DESCRIPTORS,
    code="too-many-open",
    message="This computer has too many files and connections open at once. The work goes on when some are closed.",
    user_actions=GOES_ON,
)
ADDRESS_IN_USE = Verdict(
    category=Category.DESCRIPTORS,
    action=Action.RETRY,
    code="address-in-use",
    message="Another program on this computer uses the network port that is needed. Close it, or choose another port.",
    user_actions=GOES_ON,
)
"""Its end is not a condition that can be looked for, and the other program may run for ever: the budget ends this."""
DEVICE = Verdict(
    category=Category.DEVICE,
    action=Action.RESYNC,
    limit=1,
    code="device-failed",
    message="The disk of this computer reported an error. If it happens again, the disk or its cable may be failing:"
    " save your data and choose another folder.",
    user_actions=OTHER_PLACE,
)
MEMORY = Verdict(
    category=Category.MEMORY,
    action=Action.RETRY,
    limit=1,
    code="out-of-memory",
    message="This computer ran out of memory. Close other programs, then retry.",
    user_actions=ENDED,
)
VALIDATION = Verdict(
    category=Category.VALIDATION,
    action=Action.FAIL,
    code="bug-or-bad-input",
    message="The program was given something it cannot work with, or has a bug. Retrying will not help; please"
    " report it.",
    user_actions=ENDED,
)
INVALID_INPUT = Verdict(
    category=Category.VALIDATION,
    action=Action.ASK,
    code="invalid-input",
    message="What was given does not have the form it must have. Correct it, then retry.",
    user_actions=ENDED,
)

# ---- the data ----

DIGEST = Verdict(
    category=Category.DIGEST,
    action=Action.RESYNC,
    limit=2,
    code="chunk-damaged",
    message="A part of the file was damaged on its way or on the disk, and was thrown away. It has to be fetched"
    " again.",
    user_actions=OTHER_LINK,
)
FINAL_DIGEST = Verdict(
    category=Category.FINAL_DIGEST,
    action=Action.ASK,
    code="digest-mismatch",
    message="The whole file arrived, but it is not the file that was promised. Either the expected digest is"
    " wrong or the"
    " source has changed; the file is kept aside and must not be trusted.",
    user_actions=OTHER_LINK,
)

# ---- our own store ----
# The store handles these itself and the operation goes on. The limits are for a program whose own database raises them.

STORE_BUSY = Verdict(
    category=Category.STORE_BUSY,
    action=Action.DEGRADE,
    code="store-busy",
    message="The database is in use by another program. This usually passes in a moment.",
    user_actions=GOES_ON,
)
STORE_FAILED = Verdict(
    category=Category.STORE_FAILED,
    action=Action.DEGRADE,
    limit=1,
    code="store-failed",
    message="The database cannot be written: its disk is full, protected or failing. Check the disk of this computer.",
    user_actions=(UserAction.FREE_SPACE, UserAction.RETRY_NOW, UserAction.CANCEL),
)
STORE_CORRUPT = Verdict(
    category=Category.STORE_CORRUPT,
    action=Action.DEGRADE,
    limit=0,
    code="store-corrupt",
    message="The database file is damaged. It has to be set aside and begun anew; finished files are not touched.",
    user_actions=ENDED,
)

# ---- the rest ----

GATE = Verdict(
    category=Category.GATE,
    action=Action.AFTER,
    code="host-resting",
    message="This server has had trouble a moment ago, so it is left alone for a while and then tried again gently.",
    user_actions=GOES_ON,
)
UNKNOWN = Verdict(
    category=Category.UNKNOWN,
    action=Action.RETRY,
    limit=1,
    code="unexpected",
    message="Something unexpected went wrong in the program. If a retry does not help, please report it.",
    user_actions=ENDED,
)
