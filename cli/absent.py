"""An application of which no process can be found is told from its journal: what it wants, and how
its processes went.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zdpatch.agent.identity import own_key
from zdpatch.agent.readonly import Wishes, read_wishes
from zdpatch.cli.books import kept
from zdpatch.cli.output import count
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from zdpatch.cli.select import Selector


@dataclass(frozen=True, slots=True)
class Absent:
    """One such application. `error`: why its journal cannot be read."""

    app: str
    wishes: Wishes = field(default_factory=Wishes)
    error: str = ""

    @property
    def wrong(self) -> bool:
        """Whether processes of it did not leave as one does that is stopped."""
        return bool(self.wishes.ended or self.wishes.living or self.error)

    def words(self) -> str:
        """It, for people."""
        nobody = f"no process of {self.app} can be found"
        if self.error:
            return f"{nobody}, and its journal says nothing: {self.error}"
        patches = ", ".join(f"{name} ({state})" for name, state in self.wishes.patches)
        parts = [f"{nobody}, and its journal has {patches}"]
        if self.wishes.ended:
            number = count(self.wishes.ended, "process", "processes")
            parts.append(f"{number} ended without a word")
        if self.wishes.living:
            number = count(self.wishes.living, "process", "processes")
            parts.append(f"{number} may run, or have just started")
        return "; ".join(parts)

    def json(self) -> dict[str, object]:
        """It, for machines."""
        return {
            "app": self.app,
            "patches": [{"id": name, "state": state} for name, state in self.wishes.patches],
            "ended": self.wishes.ended,
            "living": self.wishes.living,
            "error": self.error,
        }


def absent(home: Path, selector: Selector, found: Collection[str]) -> list[Absent]:
    """The applications that a selector means and that are not `found`, if they want a patch."""
    here, result = own_key(), list[Absent]()
    for app, directory in sorted(kept(home).items()):
        if app in found or not selector.means_app(app):
            continue
        try:
            wishes = read_wishes(directory, here)
        except OperatorError as error:
            result.append(Absent(app, error=error.cause))
            continue
        if wishes.patches:
            result.append(Absent(app, wishes))
    return result
