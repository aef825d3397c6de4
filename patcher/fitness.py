"""Whether live objects have the attributes that new code will read is seen on the objects
themselves, without running anyone's code.

A class that binds the name serves the objects which lack their own: a live class as the patch
will leave it.
"""

from __future__ import annotations

import sys
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import reach, scan
from zdpatch.patcher.holders import Side, bound_on
from zdpatch.patcher.instances import HAVE_GC
from zdpatch.patcher.names import mangled
from zdpatch.patcher.shapes import NUMBER
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zdpatch.patcher.attributes import Unfit
    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.inventory import Inventory

_PLAIN: Final = (int, str, bytes, float, bool, type(None))
_mro: Final[Callable[[Any], tuple[type, ...]]] = type.__dict__["__mro__"].__get__


def misfit(
    edit: Unfit, versions: Mapping[str, ModuleVersions], inventories: Mapping[str, Inventory]
) -> str:
    """Why live objects do not have what `edit` says they need; "" when they do."""
    holder, look = edit.holder, _Look(versions)
    if holder.kind == "object":
        value = resolved(holder.module, holder.path)
        lacking = () if value is MISSING else sorted(look.lacking(value, edit.lacking))
        if any(_holds(value, name, edit) for name in edit.altered):
            return f"{holder.path} holds the old one"
        return f"{holder.path} has no {', '.join(lacking)}" if lacking else ""
    taken = inventories.get(holder.module)
    found: list[object] = list(taken.classes.get(holder.path, ())) if taken is not None else []
    if not found:
        found = [v for v in [resolved(holder.module, holder.path)] if v is not MISSING]
    for cls in found:
        if not reach.is_a(cls, type):
            return f"nothing tells what {holder.path} makes"
        if why := _instances(cast("type", cls), edit, look):
            return why
    return ""


def _instances(cls: type, edit: Unfit, look: _Look) -> str:
    if reach.frozen() or not cls.__flags__ & HAVE_GC:
        return "live instances cannot be counted here"
    kinds = {id(each) for each in reach.family(cls)}
    live = list(scan.of(kinds))
    count = sum(1 for each in live if any(look.lacking(each, edit.lacking)))
    if count:
        return f"there are {count} live instances without it"
    count = sum(1 for each in live if any(_holds(each, n, edit) for n in edit.altered))
    return f"there are {count} live instances which hold the old one" if count else ""


def _holds(value: object, name: str, edit: Unfit) -> bool:
    """Whether an object has an attribute of its own that is none of the constants that are kept,
    and of the kinds in question.
    """
    if reach.is_a(value, ModuleType):
        own: Mapping[str, object] = reach.namespace(cast("ModuleType", value))
    else:
        own = (
            reach.class_dict(cast("type", value))
            if reach.is_a(value, type)
            else own_attributes(value) or {}
        )
    held = own.get(name, MISSING)
    if held is MISSING and (slot := reach.member(value, name)) is not None and filled(slot, value):
        held = slot.__get__(value)
    if held is MISSING or (type(held) in _PLAIN and repr(held) in edit.kept):
        return False
    return not edit.kinds or bool({*_kinds(held)} & edit.kinds)


def _kinds(value: object) -> Iterator[str]:
    """What kinds of value (see `shapes`) an object is of."""
    if reach.is_a(value, int, float, complex):
        yield NUMBER
    for cls in _mro(type(value)):
        name = reach.qualname(cls).rpartition(".")[2]
        yield from (name, name.capitalize())  # `threading.Lock` makes a `lock`


def resolved(module: str, path: str) -> object:
    """What a dotted name stands for in a module; `MISSING` where either is not here."""
    value: object = sys.modules.get(module, MISSING)
    for name in path.split("."):
        if value is MISSING:
            break
        value = attribute(value, name)
    return value


def attribute(value: object, name: str) -> object:
    """An attribute of an object, of its class for lack of its own; descriptors are not asked."""
    for space in _spaces(value):
        if name in space:
            return space[name]
    return MISSING


def _spaces(value: object) -> Iterator[Mapping[str, object]]:
    if reach.is_a(value, ModuleType):
        yield reach.namespace(cast("ModuleType", value))
    elif reach.is_a(value, type):
        yield from map(reach.class_dict, _mro(value))
    else:
        if (own := own_attributes(value)) is not None:
            yield own
        yield from map(reach.class_dict, _mro(type(value)))


def own_attributes(value: object) -> dict[str, object] | None:
    """The attributes of an instance; None when it has no dict."""
    for cls in _mro(type(value)):
        slot = reach.class_dict(cls).get("__dict__")
        if type(slot) is GetSetDescriptorType:
            found: object = slot.__get__(value)
            return cast("dict[str, object]", found) if reach.is_a(found, dict) else None
    return None


class _Look:
    """Classes as the patch will leave them."""

    def __init__(self, versions: Mapping[str, ModuleVersions]) -> None:
        old = {n: each.base.outline for n, each in versions.items() if each.base is not None}
        new = {n: each.new.outline for n, each in versions.items() if each.new is not None}
        self.old, self.new = _bound(Side(old)), _bound(Side(new))

    def lacking(self, value: object, names: frozenset[str]) -> Iterator[str]:
        """Those of `names` that the object will not have."""
        if reach.is_a(value, ModuleType):
            yield from names - reach.namespace(cast("ModuleType", value)).keys()
            return
        if reach.is_a(value, type):
            mro = _mro(value)
            yield from (n for n in names if not any(self._binds(cls, n, value) for cls in mro))
            return
        own = own_attributes(value) or {}
        mro = _mro(type(value))
        for name in names - own.keys():
            if not any(self._binds(cls, name, value) for cls in mro):
                yield name

    def _binds(self, cls: type, name: str, value: object) -> bool:
        space = reach.class_dict(cls)
        where = str(space.get("__module__")), reach.qualname(cls)
        held = space.get(name, MISSING)
        if type(held) is MemberDescriptorType and not reach.is_a(value, type):
            return filled(held, value)
        if name in self.new.get(where, ()):
            return True
        return held is not MISSING and name not in self.old.get(where, ())


def _bound(side: Side) -> dict[tuple[str, str], set[str]]:
    return {
        (module, path): {mangled(path, name) for name in bound_on(node)}
        for (module, path), node in side.classes.items()
    }


def filled(slot: MemberDescriptorType, value: object) -> bool:
    """Whether a slot of an object has something in it."""
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True
