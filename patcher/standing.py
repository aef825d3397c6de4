"""How a process stands to a patch is read from what it runs, or would import: the base, the new
source already, or something else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from zdpatch.patcher import codes, inventory, overlay
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.diff import diff
from zdpatch.patcher.edits import ModuleVersions, Version, read
from zdpatch.patcher.newcomers import Newcomers
from zdpatch.patcher.situation import Situation
from zdpatch.patcher.stage import Stage
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from types import CodeType

    from zdpatch.patcher.source import Patch

Standing = Literal["base", "absorbed", "superseded"]


def standing(
    patch: Patch, known: tuple[CodeType, ...] = (), adoption: Adoption = NOTHING
) -> Standing:
    """ "base": the patch can be decided here, what `adoption` names aside. "absorbed": every module
    is at its new source already. "superseded": anything else, also when only some modules are at
    the base.
    """
    versions = [read(change, patch.id) for change in patch.changes]
    at_base = [_at(each, each.base, known, adoption.paths) for each in versions]
    if all(at_base):
        # modules that differ only in values are at the base by their code on both sides
        at_new = [_at(each, each.new, known) and _values_are_new(each) for each in versions]
        return "absorbed" if all(at_new) else "base"
    at_new = [_at(each, each.new, known) for each in versions]
    return "absorbed" if all(at_new) else "superseded"


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


def _values_are_new(each: ModuleVersions) -> bool:
    """Whether the module-level values that the patch changes are the new ones already."""
    module = sys.modules.get(each.name)
    if module is None or each.base is None or each.new is None:
        return True
    edits = [edit for edit in diff(each) if edit.kind == "value" and not edit.scope]
    taken = inventory.take(module, heap=False)
    stage = Stage(
        {each.name: each},
        {each.name: module},
        Situation.classes({each.name: taken}),
        {each.name: each.change.path},
        Newcomers({}, {}, {}, {}),
    )
    stage.expect(edits)
    for edit in edits:
        try:
            value = stage.value((each.name, edit.qualname))
        except Exception:  # noqa: BLE001 - a value that cannot be made again decides nothing
            return False
        if value is not None and value.changed and not same(stage.present(edit), value.new):
            return False
    return bool(edits) or bool(each.change.base != each.change.new)
