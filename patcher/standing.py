"""How a process stands to a patch is read from what it runs, or would import: the base, the new
source already, or something else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from zdpatch.patcher import codes, inventory, overlay
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.edits import ModuleVersions, Version, read
from zdpatch.patcher.proof import Proof

if TYPE_CHECKING:
    from types import CodeType

    from zdpatch.patcher.source import Patch

Standing = Literal["base", "absorbed", "superseded"]


def standing(
    patch: Patch, known: tuple[CodeType, ...] = (), adoption: Adoption = NOTHING
) -> Standing:
    """ "base": the patch can be decided here, what `adoption` names aside. "absorbed": it is proved
    of every edit that the process has it already. "superseded": anything else, also when only some
    modules, or some of the edits, are there.

    What functions run tells base and new apart only where code differs: values, defaults and other
    metadata are proved one by one.
    """
    versions = [read(change, patch.id) for change in patch.changes]
    at_new = all(_at(each, each.new, known) for each in versions)
    if at_new and Proof.of(versions).holds():
        return "absorbed"
    at_base = all(_at(each, each.base, known, adoption.paths) for each in versions)
    return "base" if at_base else "superseded"


def _at(
    each: ModuleVersions,
    side: Version | None,
    known: tuple[CodeType, ...],
    aside: frozenset[str] = frozenset(),
) -> bool:
    """Whether the module here is (or would be) this side of the patch, the paths `aside` apart."""
    module = sys.modules.get(each.name)
    if module is None:
        located = overlay.locate(each.name)
        if located is None or side is None:
            return located is None and side is None
        return located.code is not None and codes.digest(located.code) == codes.digest(side.code)
    if side is None:
        return False
    found = inventory.drift(inventory.take(module, heap=False), side.code, known)
    return all(drift.path in aside for drift in found)
