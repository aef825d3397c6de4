"""Everything the operator's side keeps is under one home; two homes never see each other."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zdpatch.agent.config import default_home
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Generator


def given_home() -> Path:
    """The home that the environment names: the very one that an agent started there would use.

    Raises ZDP-002.
    """
    with _explained("the home"):
        return default_home(os.environ)


def absolute(text: str) -> Path:
    """`text` as a path that does not depend on where this process is. Raises ZDP-002."""
    with _explained(text):
        return Path(text).expanduser().absolute()


@contextmanager
def _explained(what: str) -> Generator[None]:
    """The directory in which a command was started may be gone, and a user without a home."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OperatorError(
            "ZDP-002",
            f"{what} cannot be found from the current directory: {words}",
            next="cd, or  zdpatch --home /DIR ...",
        ) from error


def private_directory(path: Path) -> Path:
    """Make `path`, and what is missing above it, for this user alone. Raises ZDP-002."""
    try:
        # one by one: with `parents` the mode would be that of the last one only
        for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            "ZDP-002",
            f"{path} cannot be used: {error.strerror}",
            next="zdpatch --home DIR ...",
        ) from error
    return path
