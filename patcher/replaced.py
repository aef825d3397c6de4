"""Where something else than the base is bound: what it wraps is found, what was there put back.

Nothing is overwritten in silence: each path is named by the operator, and by the plan.
"""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, reach
from zdpatch.patcher.drift import Drift, is_mock
from zdpatch.patcher.names import mangled
from zdpatch.patcher.slots import MISSING, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import Edit, Version
    from zdpatch.patcher.inventory import Inventory

_LOOKED_AT: Final = 200  # objects behind one wrapper


def touches(edit: Edit, path: str) -> bool:
    """Whether an edit changes the thing at `path`, something in it, or the class that it is in."""
    inside = edit.path == path or edit.path.startswith(f"{path}.")
    return inside or (path.startswith(f"{edit.path}.") and edit.kind != "function")


def wrapped(found: Drift, taken: Inventory, base: Version) -> bool:
    """Whether what is bound at the path calls, or may call, the very function of the base."""
    bound = _bound(found, taken)
    originals = {id(each) for each in _originals(found, taken, base)}
    if bound is MISSING or is_mock(bound):
        return False
    return bool(originals) and any(id(each) in originals for each in _behind(bound))


def _behind(bound: object) -> Iterator[object]:
    """What an object holds, and what that holds; not the modules and classes they belong to."""
    seen = {id(bound)}
    pending = [bound]
    while pending and len(seen) < _LOOKED_AT:
        one = pending.pop(0)
        yield one
        for held in _held(one):
            ends = reach.is_a(held, type, ModuleType)
            if not ends and id(held) not in seen:
                seen.add(id(held))
                pending.append(held)


def _held(one: object) -> Iterable[object]:
    if type(one) is not FunctionType:
        return gc.get_referents(one)
    return (*(one.__closure__ or ()), *one.__dict__.values(), *(one.__defaults__ or ()))


def restored(found: Drift, taken: Inventory, base: Version) -> Step | str:
    """The step that puts back what the base has at the path; or why that cannot be done."""
    if found.kind != "replaced":
        return "only something that was put in its place can be replaced"
    qualname = _qualname(found)
    originals = [*_originals(found, taken, base), *taken.classes.get(qualname, [])]
    if len(originals) != 1:
        return "what it replaced is gone" if not originals else "there are several of what it was"
    scope, _, name = qualname.rpartition(".")
    if not scope:
        present = taken.namespace.get(name, MISSING)
        return Step("item", taken.namespace, name, originals[0], present, found.path)
    owners = taken.classes.get(scope, [])
    if len(owners) != 1:
        return f"there are {len(owners)} classes {scope}"
    own = mangled(scope, name)
    present = reach.class_dict(owners[0]).get(own, MISSING)
    return Step("class", owners[0], own, originals[0], present, found.path)


def _originals(found: Drift, taken: Inventory, base: Version) -> list[FunctionType]:
    """Live functions that run what the base has at the path."""
    qualname = _qualname(found)
    wanted = {codes.digest(code) for code in base.flat.get(qualname, ())}
    live = taken.functions.get(qualname, [])
    same = (each for each in live if codes.digest(each.code) in wanted)
    # a slot gives the function itself, not a method
    return [each.function for each in same]  # pyright: ignore[reportReturnType]


def _bound(found: Drift, taken: Inventory) -> object:
    scope, _, name = _qualname(found).rpartition(".")
    if not scope:
        return taken.namespace.get(name, MISSING)
    owners = taken.classes.get(scope, [])
    space: Mapping[str, object] = reach.class_dict(owners[0]) if len(owners) == 1 else {}
    return space.get(mangled(scope, name), MISSING)


def _qualname(found: Drift) -> str:
    return found.path.partition(":")[2]
