"""An application of which no process can be found is told from its journal: what it wants, and how
its processes went.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.agent.config import is_app
from zdpatch.agent.home import JOURNAL
from zdpatch.agent.identity import own_key
from zdpatch.cli.output import count
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from zdpatch.cli.select import Selector


@dataclass(frozen=True, slots=True)
class Absent:
    """One such application: its patches as (id, state), its processes that `ended` without a word
    or may be `living`. `error`: why its journal cannot be read.
    """

    app: str
    patches: tuple[tuple[str, str], ...] = ()
    ended: int = 0
    living: int = 0
    error: str = ""

    @property
    def wrong(self) -> bool:
        """Whether processes of it did not leave as one does that is stopped."""
        return bool(self.ended or self.living or self.error)

    def words(self) -> str:
        """It, for people."""
        nobody = f"no process of {self.app} can be found"
        if self.error:
            return f"{nobody}, and its journal says nothing: {self.error}"
        patches = ", ".join(f"{name} ({state})" for name, state in self.patches)
        parts = [f"{nobody}, and its journal has {patches}"]
        if self.ended:
            number = count(self.ended, "process", "processes")
            parts.append(f"{number} ended without a word")
        if self.living:
            number = count(self.living, "process", "processes")
            parts.append(f"{number} may run, or have just started")
        return "; ".join(parts)

    def json(self) -> dict[str, object]:
        """It, for machines."""
        return {
            "app": self.app,
            "patches": [{"id": name, "state": state} for name, state in self.patches],
            "ended": self.ended,
            "living": self.living,
            "error": self.error,
        }


def absent(home: Path, selector: Selector, found: Collection[str]) -> list[Absent]:
    """The applications that a selector means and that are not `found`, if they want a patch."""
    result: list[Absent] = []
    meant = {app: path for app, path in kept(home).items() if selector.means_app(app)}
    for app, directory in sorted(meant.items()):
        if app in found:
            continue
        # most homes have no such application, and need no database for that
        from zdpatch.agent.readonly import read_wishes  # noqa: PLC0415

        try:
            wishes = read_wishes(directory, own_key())
        except OperatorError as error:
            result.append(Absent(app, error=error.cause))
            continue
        if wishes.patches:
            result.append(Absent(app, wishes.patches, wishes.ended, wishes.living))
    return result


def kept(home: Path) -> dict[str, Path]:
    """The folder of each application whose journal this user may read."""
    try:
        with os.scandir(home / "apps") as entries:
            names = [entry.name for entry in entries if is_app(entry.name)]
    except OSError:
        return {}  # nothing was ever written, or the folder is the service's alone
    folders = {name: home / "apps" / name for name in names}
    return {name: path for name, path in folders.items() if os.access(path / JOURNAL, os.R_OK)}
