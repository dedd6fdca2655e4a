"""Where the state file is when nobody says: ``$RESUMABLE_STATE``, else under the platform's user state directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def default_state_path(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path:
    """Return the path of the state file (XDG Base Directory on Unix, Application Support on macOS, %LOCALAPPDATA% on
    Windows).
    """
    chosen = environ.get("RESUMABLE_STATE")
    if chosen:
        return Path(chosen).expanduser()
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "resumable" / "state.db"
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "resumable" / "state.db"
    state = environ.get("XDG_STATE_HOME")
    # The specification: a relative path must be ignored.
    root = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    return root / "resumable" / "state.db"
