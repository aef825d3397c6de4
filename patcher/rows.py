"""A decision is one row of the published table for one edit, with its reason and the remedy.

Rows: A in place, Q needs the consistency rule, M needs a migration hook, R worker replacement, X
refuse. A row A may have conditions, which the plan checks in the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from zdpatch.patcher.errors import Verdict

if TYPE_CHECKING:
    from zdpatch.patcher.edits import Edit

Need = Literal[
    "unconsumed", "plain class", "not made", "no instances", "no closures", "no subclasses",
    "objects fit", "none suspended", "not held", "not shared", "branch known", "nothing kept",
    "kept by its decorators", "hints unread",
]  # fmt: skip
REPLACE: Final = "replace the worker: zdpatch cannot do this in place"
MIGRATE: Final = "needs a migration of live state; until then replace the worker"
IDENTITY: Final = frozenset(
    {"__hash__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
)


@dataclass(frozen=True, eq=False)
class Decision:
    """The row of one edit; a row A holds only while every need is met in the process."""

    edit: Edit
    row: str
    reason: str
    remedy: str = ""
    needs: tuple[Need, ...] = ()
    code: str = "ZDP-202"

    @property
    def otherwise(self) -> str:
        """The row when a need is not met."""
        migrate = {"none suspended", "not shared"} & {*self.needs}
        if migrate or self.edit.kind in {"unfit", "effect"}:
            return "M"
        return "X" if {"not held", "no subclasses"} <= {*self.needs} else "R"

    @property
    def verdict(self) -> Verdict:
        reason = self.reason
        if self.row == "A" and self.needs:
            reason += f" (checked in the process: {', '.join(self.needs)})"
        return Verdict(
            self.edit.shown, self.edit.line, self.edit.kind, self.row, reason, self.remedy
        )
