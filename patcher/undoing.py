"""An undo asks less than a patch: who took the new signature from the patch goes with it, and what
new code made and nobody would miss stays as it was made, as after every undo.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.edits import BODY, METADATA, POSTPONED, SIGNATURE

if TYPE_CHECKING:
    from zdpatch.patcher.rows import Decision, Need

# closures, suspended calls and instances of what goes were born with the patch
_BORN_WITH_IT: Final[frozenset[Need]] = frozenset(
    {"no closures", "none suspended", "no instances", "no subclasses", "not held"}
)
_OF_FUNCTION: Final = METADATA | {BODY, POSTPONED}


def undone(decision: Decision) -> Decision:
    """The decision for an edit that takes a patch back out of a module imported with it."""
    edit = decision.edit
    signature = edit.kind == "function" and SIGNATURE in edit.facets
    if decision.row == "X" and signature and edit.facets <= _OF_FUNCTION:
        return replace(decision, row="A", needs=("unconsumed",))
    if decision.row == "A":
        needs = tuple(need for need in decision.needs if need not in _BORN_WITH_IT)
        return replace(decision, needs=needs)
    return decision
