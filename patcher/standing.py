"""How a process stands to a patch is read from what it runs, or would import: the base, the new
source already, or something else.
"""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from zdpatch.patcher import codes, inventory, overlay
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.edits import ModuleVersions, Version, read
from zdpatch.patcher.proof import Proof, says_the_new
from zdpatch.patcher.running import running
from zdpatch.patcher.structure import unexplained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

    from zdpatch.patcher.source import Patch

Standing = Literal["base", "absorbed", "superseded"]
_NOTHING: Final[Mapping[str, Sequence[bytes]]] = MappingProxyType({})


def standing(
    patch: Patch,
    known: tuple[CodeType, ...] = (),
    adoption: Adoption = NOTHING,
    active: Mapping[str, Sequence[bytes]] = _NOTHING,
    since: float = 0.0,
) -> Standing:
    """ "base": the patch can be decided here, what `adoption` names aside. "absorbed": it is shown
    of every edit that the process has it already, whatever else differs. "superseded": anything
    else, also when only some modules, or some of the edits, are there.

    A source that explains all that runs of a module tells (see `running`): one of `active` patches,
    or a file that did not change after `since` (unix seconds). Without one, every edit is proved
    from what lives, where that can be.
    """
    versions = [read(change, patch.id) for change in patch.changes]
    if _absorbed(versions, known, active, since):
        return "absorbed"
    at_base = all(_at_base(each, known, adoption.paths) for each in versions)
    return "base" if at_base else "superseded"


def _absorbed(
    versions: list[ModuleVersions],
    known: tuple[CodeType, ...],
    active: Mapping[str, Sequence[bytes]],
    since: float,
) -> bool:
    unproved: list[ModuleVersions] = []
    for each in versions:
        if sys.modules.get(each.name) is None:
            if not _would_be_new(each):
                return False
            continue
        if each.new is None:
            return False
        sources = active.get(each.name, ())
        found = running(each.name, None, sources, known, since, doubtful=False)
        if found.source is None:
            unproved.append(each)
        elif not says_the_new(each, found.source):
            return False
    return Proof.of(unproved).holds()


def _would_be_new(each: ModuleVersions) -> bool:
    """Whether an import would bring all that the patch does to a module."""
    located = overlay.locate(each.name)
    if located is None or each.new is None:
        return located is None and each.new is None
    if located.source is not None:
        return says_the_new(each, located.source)
    return _same(located.code, each.new)


def _at_base(each: ModuleVersions, known: tuple[CodeType, ...], aside: frozenset[str]) -> bool:
    """Whether the module here is (or would be) the base of the patch, the paths `aside` apart."""
    module, base = sys.modules.get(each.name), each.base
    if module is None:
        located = overlay.locate(each.name)
        if located is None or base is None:
            return located is None and base is None
        return _same(located.code, base)
    if base is None:
        return False
    found = unexplained(inventory.take(module, heap=False), base, known)
    return all(drift.path in aside for drift in found)


def _same(code: CodeType | None, side: Version) -> bool:
    return code is not None and codes.digest(code) == codes.digest(side.code)
