"""Objects which an initialiser made that changes, or from a constant that does, are counted and
told: they keep what it gave.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.edits import BODY, DEFAULTS
from zdpatch.patcher.holders import Side
from zdpatch.patcher.instances import count
from zdpatch.patcher.makers import INITIALISERS, fillers
from zdpatch.patcher.names import dotted
from zdpatch.patcher.spread import Name, meanings
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.inventory import Inventory

_CHAINED: Final = frozenset({"super", "__init__", "__new__", "__post_init__"})


def refilled(edits: Iterable[Edit], versions: Mapping[str, ModuleVersions]) -> dict[Name, str]:
    """By class the functions, as text, of which the edits change what objects are filled with."""
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
    return {cls: f"the old {', '.join(sorted(names))}" for cls, names in found.items()}


def filled_from(changed: Iterable[Name], versions: Mapping[str, ModuleVersions]) -> dict[Name, str]:
    """By class what fills its objects from one of the names `changed`, and that name, as text."""
    names = {each for each in changed if not each[1].endswith("__doc__")}
    words = {name.rpartition(".")[2].encode() for _, name in names}
    news = [v.new.outline for v in versions.values() if v.new is not None]
    outlines = {one.name: one for one in news if any(word in one.source for word in words)}
    found: dict[Name, str] = {}
    for cls, group in fillers(Side(outlines)).items() if outlines else ():
        for function in group:
            if taken := sorted(_taken(function, names, versions)):
                found.setdefault(cls, f"{function.qualname} with the old {', '.join(taken)}")
    return found


def _taken(
    function: Function, changed: set[Name], versions: Mapping[str, ModuleVersions]
) -> Iterator[str]:
    """Those of the names of which the function makes what it stores on an object."""
    read = {
        name
        for access in function.accesses.stores
        if access.value is not None
        for part in ast.walk(access.value)
        if isinstance(part, ast.Name | ast.Attribute) and (name := dotted(part)) is not None
    }
    for name in read:
        root, _, rest = name.partition(".")
        if root == function.own:
            if (function.outline.name, f"{function.cls}.{rest}") in changed:
                yield rest
        elif root not in function.bound and changed & {
            *meanings(function.outline, "", name, versions)
        }:
            yield name


def made_before(makers: Mapping[Name, str], inventories: Mapping[str, Inventory]) -> Iterator[str]:
    """A sentence for each class of which objects live that these, the old functions, made."""
    for (module, path), maker in makers.items():
        taken = inventories.get(module)
        classes = taken.classes.get(path, []) if taken is not None else []
        made = {id(each): each for cls in classes for each in reach.family(cls) if _by(each, cls)}
        found = count(made.values())
        if found.number:
            most = "" if found.sure else "at most "
            told = "a live object was made by", "and keeps what it gave"
            if found.number > 1:
                told = f"{found.number} live objects were made by", "and keep what it gave"
            yield f"{module}:{path}: {most}{told[0]} {maker}, {told[1]}"


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
