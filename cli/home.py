"""Everything the operator's side keeps is under one home; two homes never see each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping


def default_home(env: Mapping[str, str] = os.environ) -> Path:
    """`ZDPATCH_HOME`, else the XDG state directory's `zdpatch`. Always absolute; may not exist."""
    if named := env.get("ZDPATCH_HOME"):
        return Path(named).expanduser().absolute()
    state = env.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "zdpatch"


def private_directory(path: Path) -> Path:
    """Make `path` (and the home above it) for this user alone. Raises ZDP-002."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            "ZDP-002",
            f"{path} cannot be used: {error.strerror}",
            next="zdpatch --home DIR ...",
        ) from error
    return path
