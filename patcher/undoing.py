"""An undo asks less than a patch: what new code made stays as it was made, as after every undo, and
who took the new signature from the patch goes with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.edits import BODY, METADATA, POSTPONED

if TYPE_CHECKING:
    from zdpatch.patcher.rows import Decision, Need

# what the process must show for the steps themselves to be right
_KEPT: Final[frozenset[Need]] = frozenset({"plain class", "branch known"})
_OF_FUNCTION: Final = METADATA | {BODY, POSTPONED}


def undone(decision: Decision) -> Decision:
    """The decision for an edit that takes a patch back out of a module imported with it."""
    edit = decision.edit
    function = edit.kind == "function" and edit.facets <= _OF_FUNCTION
    gone = edit.kind == "removed" and edit.old[-1].kind == "function" and decision.row == "R"
    if decision.row == "A" or function or gone:
        needs = tuple(need for need in decision.needs if need in _KEPT)
        return replace(decision, row="A", needs=needs)
    return decision
