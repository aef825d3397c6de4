"""Objects which an initialiser made that changes are counted and told: they keep what it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.edits import BODY, DEFAULTS
from zdpatch.patcher.holders import Side
from zdpatch.patcher.instances import count
from zdpatch.patcher.makers import INITIALISERS, fillers
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.spread import Name

_CHAINED: Final = frozenset({"super", "__init__", "__new__", "__post_init__"})


def refilled(edits: Iterable[Edit], versions: Mapping[str, ModuleVersions]) -> dict[Name, set[str]]:
    """Names of functions by class, of which the edits change what objects are filled with."""
    changed = {
        (edit.module, edit.qualname)
        for edit in edits
        if (edit.kind == "function" and edit.facets & {BODY, DEFAULTS})
        or (edit.kind in {"added", "removed"} and edit.qualname.rpartition(".")[2] in INITIALISERS)
    }
    found: dict[Name, set[str]] = {}
    touched = [v for v in versions.values() if v.change.base != v.change.new] if changed else []
    for side in ([v.base for v in touched], [v.new for v in touched]):
        outlines = {each.outline.name: each.outline for each in side if each is not None}
        for cls, group in fillers(Side(outlines)).items():
            if names := {f.qualname for f in group if f.where in changed}:
                found.setdefault(cls, set()).update(names)
    return found


def made_before(
    refills: Mapping[Name, set[str]], inventories: Mapping[str, Inventory]
) -> Iterator[str]:
    """A sentence for each class of which objects live that the old functions made."""
    for (module, path), names in refills.items():
        taken = inventories.get(module)
        classes = taken.classes.get(path, []) if taken is not None else []
        made = {id(each): each for cls in classes for each in reach.family(cls) if _by(each, cls)}
        found = count(made.values())
        if found.number:
            objects = "a live object" if found.number == 1 else f"{found.number} live objects"
            most = "" if found.sure else "at most "
            functions = ", ".join(sorted(names))
            verb = "was" if found.number == 1 else "were"
            yield (
                f"{module}:{path}: {most}{objects} {verb} made by the old {functions}, "
                "and keep what it gave"
            )


def _by(cls: type, owner: type) -> bool:
    """Whether objects of a class may have been made by the initialisers of `owner`, one of its
    bases: no class in between has one that calls no other.
    """
    for each in mro(cls):
        if each is owner:
            return True
        own = reach.class_dict(each).get("__init__")
        names = {name for f in reach.inner_functions(own) for name in f.__code__.co_names}
        if own is not None and not names & _CHAINED:
            return False
    return False
